// ReDoc over this coordinator's own document, in the colours of the other pages.
(() => {
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function theme() {
    const fonts = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", mono = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace";
    return {
      colors: {
        primary: { main: ink("--accent") }, success: { main: ink("--good") }, warning: { main: ink("--warn") }, error: { main: ink("--bad") },
        text: { primary: ink("--ink"), secondary: ink("--soft") }, border: { dark: ink("--line"), light: ink("--line") },
        responses: { success: { color: ink("--good") }, error: { color: ink("--bad") }, redirect: { color: ink("--warn") }, info: { color: ink("--accent") } },
      },
      typography: { fontFamily: fonts, fontSize: "15px", headings: { fontFamily: fonts }, code: { fontFamily: mono, color: ink("--ink"), backgroundColor: ink("--back") }, links: { color: ink("--accent"), hover: ink("--accent"), visited: ink("--accent") } },
      sidebar: { backgroundColor: ink("--back"), textColor: ink("--ink"), activeTextColor: ink("--accent") },
      schema: { nestedBackground: ink("--back"), linesColor: ink("--line"), typeNameColor: ink("--soft"), typeTitleColor: ink("--soft"), requireLabelColor: ink("--bad") },
      rightPanel: { backgroundColor: "#161b22", textColor: "#e8ecf2" },
    };
  }

  // It leaps from second- to fifth-level headings: screen readers are told the third.
  const level = () => document.querySelectorAll("#api h5").forEach((heading) => heading.setAttribute("aria-level", "3"));

  isDark.addEventListener("change", () => location.reload());
  Redoc.init("/openapi.json", { scrollYOffset: ".bar", theme: theme() }, document.getElementById("api"), level);
})();
