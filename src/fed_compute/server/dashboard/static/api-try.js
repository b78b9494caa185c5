// Swagger UI over this coordinator's own document. Nothing is sent elsewhere: no validator, no fonts, no figures.
(() => {
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const shade = () => document.documentElement.classList.toggle("dark-mode", isDark.matches);
  shade();
  isDark.addEventListener("change", shade);
  SwaggerUIBundle({ url: "/openapi.json", dom_id: "#api", validatorUrl: null, deepLinking: true, filter: true, docExpansion: "list", defaultModelsExpandDepth: 0, displayRequestDuration: true });
})();
