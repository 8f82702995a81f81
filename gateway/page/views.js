// What is in sight: the messages beside the chart on a desk, one thing at a time on a phone.

const $ = (id) => document.getElementById(id);
const KEY = "messages";
const narrow = matchMedia("(max-width: 720px)");

let opened = () => {};

function log(open) {
  $("log").hidden = !open;
  $("log-toggle").setAttribute("aria-expanded", open);
  if (open) opened();
}

/** Show "watch", "chart" or "log" where there is room for one of them only. */
function show(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll(".views button")) {
    if (button.dataset.view === name) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  if (narrow.matches) log(name === "log");
}

function toggleLog() {
  if (narrow.matches) return show(document.body.dataset.view === "log" ? "chart" : "log");
  const open = $("log").hidden;
  localStorage.setItem(KEY, open);
  return log(open);
}

/** `whenOpened()` is called when the messages come into sight. */
function begin(whenOpened) {
  opened = whenOpened;
  const fit = () => {
    if (narrow.matches) show(document.body.dataset.view);
    else log(localStorage.getItem(KEY) === "true");
  };
  narrow.addEventListener("change", fit);
  $("log-toggle").addEventListener("click", toggleLog);
  for (const button of document.querySelectorAll(".views button")) {
    button.addEventListener("click", () => show(button.dataset.view));
  }
  fit();
}

export const views = { begin, show, toggleLog };
