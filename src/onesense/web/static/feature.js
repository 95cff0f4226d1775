// A feature's page: what is asked for once it is there, one's own text, and the keys.

import * as draft from "./draft.js";
import { drawing, element, number, percent, say, token, visible } from "./elements.js";
import { heatLine, watch } from "./heat.js";
import { follow, read } from "./requests.js";

const leaving = new AbortController();
addEventListener("pagehide", () => leaving.abort());

async function fill(id, show) {
  const place = document.getElementById(id);
  if (!place) return;
  try {
    show(place, await read(place.dataset.address, leaving.signal));
  } catch (error) {
    if (error.name !== "AbortError") say(place, error);
  }
}

function showLogits(place, { edges, counts }) {
  const [width, height] = [320, 90];
  const most = Math.sqrt(Math.max(...counts));
  const [low, high] = [edges[0], edges.at(-1)];
  const across = (value) => (width * (value - low)) / (high - low || 1);
  const bars = counts.map((count, at) => {
    const tall = (height * Math.sqrt(count)) / most;
    return drawing(
      "rect",
      { class: "bar", x: across(edges[at]), y: height - tall, width: Math.max(0.5, across(edges[at + 1]) - across(edges[at]) - 0.5), height: tall },
      drawing("title", {}, `${number(edges[at])} to ${number(edges[at + 1])}: ${count}`),
    );
  });
  const label = `Histogram of the logits of ${counts.reduce((a, b) => a + b, 0)} tokens, from ${number(low)} to ${number(high)}.`;
  place.replaceChildren(
    drawing(
      "svg",
      { class: "histogram", viewBox: `0 0 ${width} ${height + 16}`, role: "img", "aria-label": label },
      bars,
      drawing("line", { class: "base", x1: 0, x2: width, y1: height, y2: height }),
      drawing("text", { x: 0, y: height + 13 }, number(low)),
      drawing("text", { x: width, y: height + 13, "text-anchor": "end" }, number(high)),
    ),
  );
}

function showNearest(place, { nearest }) {
  const items = nearest.map((one) =>
    element(
      "li",
      {},
      element("p", {}, element("a", { href: `/runs/${place.dataset.run}/features/${one.feature}` }, `${one.feature}`), ` cosine ${number(one.cosine, 2)}, density ${percent(one.density)}`),
      element("p", { class: "quiet" }, element("bdi", {}, visible(one.explanation || one.promoted.map(token).join(" ")))),
    ),
  );
  place.replaceChildren(items.length ? element("ol", { class: "near" }, items) : element("p", { class: "quiet" }, "There are no others."));
}

function showSenses(place, { senses }) {
  if (!senses.length) {
    place.replaceChildren(element("p", { class: "quiet" }, "Too few contexts to say how many senses it has."));
    return;
  }
  const largest = Math.max(...senses.flatMap((one) => one.shown.flat()).map((token) => token.activation ?? 0));
  const parts = senses.map((one, at) =>
    element(
      "details",
      { open: at < 3 },
      element("summary", {}, `Sense ${at + 1}`, element("span", { class: "quiet" }, `, ${percent(one.share)} of the activation: `), one.tokens.map((text) => [element("span", { class: "token" }, token(text)), " "])),
      element(
        "ol",
        { class: "texts" },
        one.shown.map((tokens) => {
          const peak = tokens.findIndex((token) => token.peak);
          const heights = tokens.map((token) => token.activation ?? 0);
          const label = `Context of sense ${at + 1}, strongest ${number(heights[peak])}`;
          return element("li", {}, element("span", { class: "height" }, number(heights[peak])), heatLine(tokens.map((token) => token.text), heights, largest, label, peak));
        }),
      ),
    ),
  );
  const told = senses.length === 1 ? "One sense." : `${senses.length} senses.`;
  place.replaceChildren(element("p", {}, told), ...parts);
}

fill("logits", showLogits);
fill("nearest", showNearest);
fill("senses", showSenses);

const main = document.getElementById("main");
const value = document.getElementById("value");
if (value) watch(main, value);
document.getElementById("longer")?.addEventListener("click", (event) => {
  const long = main.querySelector(".contexts").classList.toggle("long");
  event.target.setAttribute("aria-pressed", String(long));
  event.target.textContent = long ? "Shorter" : "Longer";
});

const add = document.getElementById("add");
add.addEventListener("click", () => {
  const before = draft.edits();
  draft.add(JSON.parse(add.dataset.edit));
  document.getElementById("added").replaceChildren(
    "In the recipe, turned off for now; ",
    element("a", { href: "/steer" }, "set how much"),
    ", or ",
    element("button", { type: "button", class: "plain", onclick: () => { draft.keep(before); document.getElementById("added").textContent = "Taken out again."; } }, "undo"),
  );
});

document.getElementById("steer").addEventListener("click", () => {
  try {
    sessionStorage.setItem("onesense-steer-pressed", "1");
  } catch {
    // storage is switched off: the text waits for its button
  }
});

const own = document.getElementById("own");
const result = document.getElementById("own-result");
let asking = new AbortController();

own.addEventListener("submit", async (event) => {
  event.preventDefault();
  asking.abort();
  asking = new AbortController();
  const text = document.getElementById("own-text").value;
  if (!text.trim()) return say(result, { message: "There is no text yet.", hint: "Write a sentence first." });
  const others = (document.getElementById("own-others").value.match(/\d+/g) ?? []).map(Number).slice(0, 15);
  const features = [...new Set([Number(own.dataset.feature), ...others])];
  result.replaceChildren(element("p", { class: "quiet" }, "Reading …"));
  try {
    await follow("/api/activations", {
      body: { run: own.dataset.run, features, text },
      signal: AbortSignal.any([asking.signal, leaving.signal]),
      on: (name, data) => {
        if (name === "place") result.replaceChildren(element("p", { class: "quiet" }, `Number ${data.place} in line …`));
        if (name === "failed") say(result, data);
        if (name === "done") showOwn(data);
      },
    });
  } catch (error) {
    if (error.name !== "AbortError") say(result, error);
  }
});

function showOwn({ tokens, special, features, cut }) {
  const lines = features.map(({ feature, activations }) => {
    const counted = activations.map((one, at) => (special[at] ? 0 : one));
    const largest = Math.max(...counted);
    const told = largest > 0 ? `largest ${number(largest, 4)}` : "does not fire";
    return element("li", {}, element("span", { class: "height" }, `${feature}`), element("div", {}, heatLine(tokens, counted, largest, `Feature ${feature}: ${told}`), element("p", { class: "small quiet" }, told)));
  });
  result.replaceChildren(element("ol", { class: "texts" }, lines), cut ? element("p", { class: "warning" }, "The text is longer than the model reads; the rest was left out.") : "");
}

document.getElementById("own-text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) own.requestSubmit();
});

addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, .heat") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") main.querySelector("[rel=prev]")?.click();
  else if (event.key === "ArrowRight") main.querySelector("[rel=next]")?.click();
  else if (event.key === "s") document.getElementById("steer").click();
  else if (event.key === "r") add.click();
});
