// Dark, light, or the setting of the system.

const KEPT = "botwire.theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };

export function setUpTheme(button) {
  function show(theme) {
    document.documentElement.dataset.theme = theme;
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
    button.setAttribute("aria-label", `Theme: ${theme}`);
    button.title = `Theme: ${theme}`;
  }
  let theme = localStorage.getItem(KEPT);
  theme = theme in NEXT ? theme : "auto";
  show(theme);
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    localStorage.setItem(KEPT, theme);
    show(theme);
  });
}
