// A card for each feature: who it is, what it carries, its factor as a slider and as a number.

import { element, number, token, visible } from "./elements.js";
import { nameOf } from "./tune_state.js";

const LEAST = -2;
const MOST = 4;
const CARRIES = [
  ["bias", "bias", "Standard deviation over neutral prompts of what it adds to “she” against “he”, nats"],
  ["fact", "facts", "What it adds to the margin of gender facts, nats"],
  ["kl", "KL", "KL per token of ordinary text that turning it off would make, nats"],
];

export const place = (hookPoint) => hookPoint.replace(/^blocks\.(\d+)\.hook_/, "block $1 ").replace("resid_post", "").trim();
const tidy = (value) => String(Number(value.toFixed(4)));

function meters(one, most) {
  if (one.bias === null) return element("p", { class: "small quiet carries" }, "What it carries was not measured.");
  return element(
    "dl",
    { class: "carries small" },
    CARRIES.map(([key, title, meaning]) => {
      const bar = element("span", { class: "amount" });
      bar.style.setProperty("--share", most[key] > 0 ? Math.min(1, Math.abs(one[key] ?? 0) / most[key]) : 0);
      return element("div", { title: meaning }, element("dt", {}, title), element("dd", {}, element("span", { class: "bar", "aria-hidden": "true" }, bar), number(one[key], 2)));
    }),
  );
}

function words(one) {
  const tokens = one.promoted.map((text) => [element("span", { class: "token" }, token(text)), " "]);
  if (one.explanation) return [element("bdi", { class: "said", title: visible(one.explanation) }, visible(one.explanation))];
  return tokens.length ? tokens : [element("span", { class: "quiet" }, "no words known")];
}

function head(one) {
  const id = String(one.feature);
  const link = one.run ? element("a", { href: `/runs/${encodeURIComponent(one.run)}/features/${id}` }, id) : element("strong", {}, id);
  return element(
    "p",
    { class: "who" },
    element("span", { class: "unseen" }, "Feature "),
    link,
    " ",
    element("span", { class: "quiet small" }, visible(place(one.hook_point))),
    " ",
    one.toward_women !== null && one.toward_women < 0 ? element("span", { class: "badge", title: "What it adds goes against the stereotype" }, "against the stereotype") : null,
    " ",
    ...words(one),
    ...(one.also ?? []).map((also) => element("span", { class: "badge", title: "This other edit of the feature stays as it is" }, `and ${visible(also)}`)),
  );
}

// The card, and show(): brings its controls to the state.
export function card(tuning, one, most) {
  const name = nameOf(one);
  const label = `Factor of feature ${one.feature} at ${visible(one.hook_point)}`;
  const low = Math.min(0, one.factor);
  const high = Math.max(2, one.factor);
  const range = element("input", { type: "range", min: low, max: high, step: 0.01, "aria-label": label });
  const box = element("input", { type: "number", min: Math.min(LEAST, one.factor), max: Math.max(MOST, one.factor), step: "any", "aria-label": `${label}, as a number` });
  const back = element("button", { type: "button", class: "plain back", "aria-label": `Back to ${tidy(one.factor)}, feature ${one.feature}`, title: `Back to ${tidy(one.factor)}` }, "↺");
  const marks = element("span", { class: "marks", "aria-hidden": "true" });
  for (const [at, kind] of one.edited ? [[1, "one"], [one.factor, "start"]] : [[1, "one"]]) {
    const mark = element("span", { class: `mark ${kind}` });
    mark.style.setProperty("--at", (at - low) / (high - low));
    marks.append(mark);
  }
  const item = element("li", { class: "slider", "data-name": name }, head(one), meters(one, most), element("div", { class: "set" }, element("div", { class: "track" }, range, marks), box, back));

  range.addEventListener("input", () => (box.value = range.value));
  range.addEventListener("change", () => tuning.set([[name, Number(range.value)]]));
  box.addEventListener("change", () => {
    const wanted = box.valueAsNumber;
    if (Number.isFinite(wanted)) tuning.set([[name, Math.max(Number(box.min), Math.min(Number(box.max), wanted))]]);
    box.value = tidy(tuning.value(name));
  });
  back.addEventListener("click", () => {
    tuning.set([[name, one.factor]]);
    range.focus();
  });

  function show() {
    const now = tuning.value(name);
    range.min = Math.min(low, now);
    range.max = Math.max(high, now);
    range.value = now;
    range.setAttribute("aria-valuetext", `${tidy(now)}${tuning.changed(name) ? `, began as ${tidy(one.factor)}` : ""}`);
    box.value = tidy(now);
    back.disabled = !tuning.changed(name);
    item.classList.toggle("changed", tuning.changed(name));
  }

  const text = [one.feature, one.hook_point, one.explanation, ...one.promoted].join(" ").toLowerCase();
  return { item, show, name, one, text };
}

export function largest(sliders) {
  return Object.fromEntries(CARRIES.map(([key]) => [key, Math.max(0, ...sliders.map((one) => Math.abs(one[key] ?? 0)))]));
}
