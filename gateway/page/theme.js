// Dark or light: what the system prefers, until the user chooses.

const KEY = "theme";

/** `painted()` is called after each change. */
export function theme(button, painted) {
  const preferred = matchMedia("(prefers-color-scheme: light)");
  const apply = (name) => {
    document.documentElement.dataset.theme = name;
    painted();
  };
  const system = () => (preferred.matches ? "light" : "dark");
  apply(localStorage.getItem(KEY) ?? system());
  preferred.addEventListener("change", () => {
    if (!localStorage.getItem(KEY)) apply(system());
  });
  button.addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    localStorage.setItem(KEY, next);
    apply(next);
  });
}
