// Sliders, the quick audit after each change, undo, save.

import { drawing, element, number, percent, say } from "./elements.js";
import { follow } from "./requests.js";

const at = (id) => document.getElementById(id);
const tuning = at("tuning");
const recipe = tuning.dataset.recipe;
const KEY = `onesense-tuning-${recipe}`;
const cards = new Map([...tuning.querySelectorAll(".slider")].map((card) => [`${card.dataset.dictionary}/${card.dataset.feature}`, card]));
const start = new Map([...cards].map(([name, card]) => [name, Number(card.dataset.start)]));
let factors = new Map();
const past = [];
const future = [];
let measuring = new AbortController();
let timer = 0;
let began = null;

try {
  const kept = Object.entries(JSON.parse(localStorage.getItem(KEY) ?? "{}"));
  factors = new Map(kept.filter(([name, value]) => cards.has(name) && Number.isFinite(value)));
} catch {
  // nothing was kept
}

const value = (name) => factors.get(name) ?? start.get(name);
const body = (from) => ({
  recipe,
  factors: [...from].map(([name, factor]) => ({ dictionary: name.split("/")[0], feature: Number(name.split("/")[1]), factor })),
});

function show() {
  for (const [name, card] of cards) {
    const [range, box] = card.querySelectorAll("input");
    const now = value(name);
    range.min = Math.min(range.min, now);
    range.max = Math.max(range.max, now);
    range.value = now;
    if (document.activeElement !== box) box.value = Number(now.toFixed(3));
    card.classList.toggle("changed", now !== start.get(name));
  }
  at("undo").disabled = past.length === 0;
  at("redo").disabled = future.length === 0;
  try {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(factors)));
  } catch {
    // storage is switched off
  }
}

function become(next, { remember = true } = {}) {
  if (remember) {
    past.push(factors);
    future.length = 0;
  }
  factors = next;
  show();
  tuning.classList.add("stale");
  clearTimeout(timer);
  timer = setTimeout(measure, 250);
}

const ROWS = [
  ["spread", "Bias: spread over occupations", 1.25, (v) => `${percent(v)} of the unedited model’s`],
  ["slope", "Bias: follows the share of women", 1.25, (v) => `${percent(v)} of the unedited model’s`],
  ["facts", "Gender facts kept", 1.25, (v) => `${percent(v)} of the margin`],
  ["kl", "KL on ordinary text", 0.03, (v) => `${number(v, 2)} nats a token`],
];

function bars(now) {
  at("bars").replaceChildren(
    ...ROWS.map(([name, title, most, words]) => {
      const one = now[name];
      const reach = Math.max(most, one.high ?? 0, began?.[name].value ?? 0);
      const across = (v) => `${Math.max(0, Math.min(100, (100 * v) / reach))}%`;
      const line = (css, x) => drawing("line", { class: css, x1: across(x), x2: across(x), y1: 0, y2: 20 });
      return element(
        "div",
        { class: "measure" },
        element("p", { class: "said" }, element("span", {}, title), element("strong", {}, words(one.value))),
        drawing(
          "svg",
          { height: 20, role: "img", "aria-label": `${title}: ${words(one.value)}, 95 % interval ${number(one.low)} to ${number(one.high)}` },
          drawing("rect", { class: "track", y: 4, width: "100%", height: 12 }),
          drawing("rect", { class: "bar", y: 4, width: across(one.value), height: 12 }),
          name === "kl" ? null : line("one", 1),
          began ? line("start", began[name].value) : null,
          drawing("line", { class: "whisker", x1: across(one.low), x2: across(one.high), y1: 10, y2: 10 }),
        ),
        element("p", { class: "small quiet said" }, `95 %: ${number(one.low, 2)} to ${number(one.high, 2)}`),
      );
    }),
  );
}

async function ask(from) {
  let found = null;
  await follow("/api/tune/measure", {
    body: body(from),
    signal: measuring.signal,
    on: (name, data) => {
      if (name === "place") at("state").textContent = data.place > 1 ? `Number ${data.place} in line` : "";
      if (name === "started") at("state").textContent = "Measuring …";
      if (name === "failed") say(at("problem"), data);
      if (name === "done") found = data;
    },
  });
  return found;
}

async function measure() {
  measuring.abort();
  measuring = new AbortController();
  at("problem").replaceChildren();
  try {
    began ??= await ask(new Map());
    const found = began && factors.size ? await ask(factors) : began;
    if (!found) return;
    bars(found);
    at("state").textContent = "Measured";
    tuning.classList.remove("stale");
  } catch (error) {
    if (error.name !== "AbortError") {
      at("state").textContent = "";
      say(at("problem"), error);
    }
  }
}

function set(name, factor) {
  const next = new Map(factors);
  if (factor === start.get(name)) next.delete(name);
  else next.set(name, factor);
  become(next);
}

for (const [name, card] of cards) {
  const [range, box] = card.querySelectorAll("input");
  range.addEventListener("change", () => set(name, Number(range.value)));
  range.addEventListener("input", () => (box.value = range.value));
  box.addEventListener("change", () => Number.isFinite(box.valueAsNumber) && set(name, Math.max(-10, Math.min(10, box.valueAsNumber))));
}
for (const button of tuning.querySelectorAll("[data-all]")) {
  button.addEventListener("click", () => {
    const to = { start: (first) => first, half: (first) => (1 + first) / 2, none: () => 1 }[button.dataset.all];
    become(new Map([...start].map(([name, first]) => [name, to(first)]).filter(([name, factor]) => factor !== start.get(name))));
  });
}

function back(from, to) {
  if (!from.length) return;
  to.push(factors);
  become(from.pop(), { remember: false });
}
at("undo").addEventListener("click", () => back(past, future));
at("redo").addEventListener("click", () => back(future, past));
addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || event.target.matches("#name")) return;
  event.preventDefault();
  if (event.shiftKey) back(future, past);
  else back(past, future);
});
addEventListener("pagehide", () => measuring.abort());

at("save").addEventListener("click", async () => {
  try {
    await follow("/api/recipes/tuned", {
      body: { ...body(factors), name: at("name").value },
      on: (name, data) => {
        if (name === "failed") say(at("saved"), data);
        if (name === "done") saved(data);
      },
    });
  } catch (error) {
    say(at("saved"), error);
  }
});

function saved({ id, title }) {
  const audit = element("button", { type: "button" }, "Audit it on held-out data");
  audit.addEventListener("click", async () => {
    const { startAudit } = await import("./audit_start.js");
    startAudit(at("audit"), { recipe: id, suite: "quick" });
  });
  at("saved").replaceChildren(element("p", {}, `Saved as ${title}. `, element("a", { href: `/steer?recipe=${id}` }, "Steer with it"), " · ", element("a", { href: `/api/recipes/${id}`, download: true }, "Download")), audit);
}

show();
measure();
