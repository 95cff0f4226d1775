// The table while typing, and the keys. Without this the form and the links do the same.

import { say } from "./elements.js";

const form = document.getElementById("asking");
const results = document.getElementById("results");
let asking = new AbortController();
let timer = 0;

function address() {
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    const usual = (name === "sort" && value === "match") || (name === "order" && value === "desc");
    if (value !== "" && !usual) asked.append(name, value);
  }
  const query = asked.toString();
  return form.getAttribute("action") + (query ? `?${query}` : "");
}

async function show(target, { remember = true } = {}) {
  asking.abort();
  asking = new AbortController();
  results.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(target, { signal: asking.signal, headers: { accept: "text/html" } });
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = parsed.getElementById("results") ?? parsed.getElementById("main");
    results.replaceChildren(...fresh.childNodes);
    if (remember) history.replaceState(null, "", target);
  } catch (error) {
    if (error.name === "AbortError") return;
    say(results, { message: "The server does not answer.", hint: "Start `onesense serve` again." });
  }
  results.removeAttribute("aria-busy");
}

form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => show(address()), 150);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  const words = form.elements.q.value.trim();
  if (/^\d+$/.test(words)) location.assign(`${form.getAttribute("action")}/${words}`);
  else show(address());
});

const rows = () => [...results.querySelectorAll("tbody th a")];

function step(by) {
  const links = rows();
  if (!links.length) return;
  const now = links.indexOf(document.activeElement);
  links[Math.max(0, Math.min(links.length - 1, now + by))].focus();
}

addEventListener("keydown", (event) => {
  const writing = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (writing) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "ArrowDown" && event.target.id === "q") step(1);
    return;
  }
  const turn = { n: "next", p: "prev" }[event.key];
  if (event.key === "/") {
    event.preventDefault();
    form.elements.q.focus();
  } else if (event.key === "j" || event.key === "ArrowDown") {
    event.preventDefault();
    step(1);
  } else if (event.key === "k" || event.key === "ArrowUp") {
    event.preventDefault();
    step(-1);
  } else if (turn) {
    results.querySelector(`[rel=${turn}]`)?.click();
  }
});
