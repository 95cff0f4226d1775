// The table of features: found while somebody types, kept in the address, moved through with keys.

import { say } from "./elements.js";
import { readPage } from "./requests.js";

const form = document.getElementById("query");
const results = document.getElementById("results");
const said = document.getElementById("said");
const TYPING_MS = 180;

let asking = null;
let typed = null;
let typing = false;

// The address of what the form asks, without fields that ask nothing.
function asked() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "" && name !== "go") query.set(name, value);
  const text = query.toString();
  return text ? `${location.pathname}?${text}` : location.pathname;
}

function fill(from) {
  for (const field of from.elements) {
    const own = field.id ? document.getElementById(field.id) : form.elements[field.name];
    if (!own || field.type === "submit" || field.type === "button") continue;
    if (field.type === "checkbox") own.checked = field.checked;
    else if (own !== document.activeElement || own.value.trim() !== field.value.trim()) own.value = field.value;
  }
}

async function show(address, { remember = "push", filled = true, focus } = {}) {
  asking?.abort();
  clearTimeout(typed);
  const mine = (asking = new AbortController());
  results.setAttribute("aria-busy", "true");
  try {
    const page = await readPage(address, mine.signal);
    if (remember === "push") history.pushState(null, "", address);
    if (remember === "replace") history.replaceState(null, "", address);
    said.replaceChildren();
    results.replaceChildren(...page.getElementById("results").childNodes);
    document.getElementById("count").textContent = page.getElementById("count").textContent;
    document.getElementById("csv").href = page.getElementById("csv").href;
    document.getElementById("as-json").href = page.getElementById("as-json").href;
    if (filled) fill(page.getElementById("query"));
    focus?.();
  } catch (error) {
    if (error.name === "AbortError") return;
    say(said, error);
  }
  if (asking === mine) results.removeAttribute("aria-busy");
}

function ask() {
  const remember = typing ? "replace" : "push";
  typing = true;
  show(asked(), { remember, filled: false });
}

form.addEventListener("input", (event) => {
  if (event.target.validity && !event.target.validity.valid) return;
  clearTimeout(typed);
  typed = setTimeout(ask, event.target.type === "search" || event.target.type === "number" ? TYPING_MS : 0);
});
form.addEventListener("change", () => (typing = false));
form.addEventListener("submit", (event) => {
  const number = /^\s*[0-9]{1,9}\s*$/.test(form.elements.q.value);
  if (number) return; // the server leads to the feature
  event.preventDefault();
  typing = false;
  show(asked(), { filled: false });
});

addEventListener("popstate", () => {
  typing = false;
  show(location.pathname + location.search, { remember: "no" });
});

results.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (link?.matches("[data-turn]") && plain) {
    event.preventDefault();
    turn(link);
    return;
  }
  const row = event.target.closest("tbody tr");
  if (row && !link && plain && getSelection().isCollapsed) row.querySelector("a").click();
});

// Follows a link that changes the table; the focus stays on it, or goes to the first row.
function turn(link) {
  const key = link.dataset.key;
  show(link.href, {
    focus() {
      const again = key ? results.querySelector(`a[data-key="${key}"]`) : null;
      if (again) again.focus();
      else (results.querySelector("tbody a") ?? form.elements.q).focus();
      if (results.getBoundingClientRect().top < 0) results.scrollIntoView();
    },
  });
}

const KEYS = "onesense-feature-keys";
const dialog = document.getElementById("keys");
const keysOn = document.getElementById("keys-on");
const opener = document.getElementById("keys-open");
opener.hidden = false;
opener.addEventListener("click", () => dialog.showModal());
try {
  keysOn.checked = localStorage.getItem(KEYS) !== "off";
} catch {
  // storage is switched off: the keys are on
}
keysOn.addEventListener("change", () => {
  try {
    localStorage.setItem(KEYS, keysOn.checked ? "on" : "off");
  } catch {
    // storage is switched off: until the next page
  }
});

function step(by) {
  const links = [...results.querySelectorAll("tbody th a")];
  const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
  const to = at < 0 ? 0 : at + by;
  if (to < 0) form.elements.q.focus();
  else links[Math.min(to, links.length - 1)]?.focus();
}

const ACTIONS = {
  "/": () => form.elements.q.select(),
  "?": () => dialog.showModal(),
  j: () => step(1),
  k: () => step(-1),
  n: () => follow("next"),
  p: () => follow("previous"),
};

function follow(key) {
  const link = results.querySelector(`a[data-key="${key}"]`);
  if (link) turn(link);
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || dialog.open) return;
  const inRow = event.target.closest("tbody tr");
  const inSearch = event.target === form.elements.q;
  if (event.key === "ArrowDown" && (inRow || inSearch)) event.preventDefault(), step(1);
  else if (event.key === "ArrowUp" && inRow) event.preventDefault(), step(-1);
  else if (keysOn.checked && ACTIONS[event.key] && !event.target.closest("input, select, textarea")) {
    event.preventDefault();
    ACTIONS[event.key]();
  }
});
