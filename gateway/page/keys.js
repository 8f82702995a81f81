// Keys for the whole page. They rest while something is typed or a dialog is open.

const TYPING = "input:not([type=range]), select, textarea, [contenteditable]";
const OPENING = "button, summary, a, [role=radio]"; // what the space bar and Enter press

/** `keys`: by KeyboardEvent.key, what to do; false means that there was nothing to do. */
export function keys(bindings) {
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.closest(TYPING) || document.querySelector("dialog[open]")) return;
    if ((key === " " || key === "Enter") && target.closest(OPENING)) return;
    const act = Object.hasOwn(bindings, key) ? bindings[key] : undefined;
    if (act && act() !== false) event.preventDefault();
  });
}
