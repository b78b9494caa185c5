// Swagger UI over this coordinator's own document. Nothing is sent elsewhere: no validator, no fonts, no figures.
(() => {
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const shade = () => document.documentElement.classList.toggle("dark-mode", isDark.matches);
  shade();
  isDark.addEventListener("change", shade);
  // For screen readers: its groups come right below the title, and what stands before them is part of the page too.
  function outline() {
    document.querySelectorAll("#api h3.opblock-tag, #api .models h4").forEach((heading) => heading.setAttribute("aria-level", "2"));
    for (const [part, name] of [[".information-container", "About"], [".scheme-container", "Keys"], [".filter-container", "Filter"]]) {
      const found = document.querySelector(`#api ${part}`);
      found?.setAttribute("role", "region");
      found?.setAttribute("aria-label", name);
    }
  }

  SwaggerUIBundle({
    url: "/openapi.json", dom_id: "#api", validatorUrl: null, filter: true, docExpansion: "list", defaultModelsExpandDepth: 0, displayRequestDuration: true, onComplete: outline,
    deepLinking: false, // its links lie within buttons, which no keyboard can tell apart; /redoc has an address for each call
  });
})();
