// The quick audit as bars: the unedited model, the recipe that it began with, yours; each with its 95 % interval.

import { drawing, element, number } from "./elements.js";

const share = (value) => `${Math.round(100 * value)} %`.replace("-", "−");
const nats = (value) => (Math.abs(value) < 1 ? String(Number(value.toFixed(4))) : number(value, 3));
const MEASURES = [
  { key: "spread", title: "Bias: spread over occupations", better: "less is better", words: share, least: 1.1, unedited: 1 },
  { key: "slope", title: "Bias: follows the share of women", better: "less is better", words: share, least: 1.1, unedited: 1 },
  { key: "facts", title: "Gender facts: margin kept", better: "more is better", words: share, least: 1.1, unedited: 1 },
  { key: "kl", title: "KL on ordinary text, nats per token", better: "less is better", words: nats, least: 0.02, unedited: 0 },
];

function bar(one, reach, least, kind) {
  const across = (value) => `${(100 * Math.max(0, Math.min(1, (value - least) / (reach - least)))).toFixed(2)}%`;
  const width = (from, to) => `${(100 * Math.max(0, Math.min(1, (to - from) / (reach - least)))).toFixed(2)}%`;
  const from = Math.min(0, one.value);
  const to = Math.max(0, one.value);
  const parts = [
    drawing("rect", { class: "ground", y: 3, width: "100%", height: 10, rx: 2 }),
    drawing("rect", { class: `bar ${kind}`, x: across(from), y: 3, width: width(from, to), height: 10, rx: 2 }),
  ];
  if (Number.isFinite(one.low) && one.high > one.low) {
    const line = (x1, x2, y1, y2) => drawing("line", { class: "whisker", x1: across(x1), x2: across(x2), y1, y2 });
    parts.push(line(one.low, one.high, 8, 8), line(one.low, one.low, 4, 12), line(one.high, one.high, 4, 12));
  }
  return drawing("svg", { height: 16, width: "100%", "aria-hidden": "true", focusable: "false" }, parts);
}

function row(label, one, words, reach, least, kind) {
  const interval = one.low === null || one.high === null || one.low === one.high ? "" : `${words(one.low).replace(" %", "")} to ${words(one.high)}`;
  return element(
    "tr",
    { class: kind },
    element("th", { scope: "row" }, label),
    element("td", { class: "drawn" }, bar(one, reach, least, kind)),
    element("td", { class: "number" }, element("strong", {}, words(one.value)), interval ? element("span", { class: "quiet interval" }, interval) : null),
  );
}

// base and yours: {spread: {value, low, high}, …}; either may be missing.
export function bars(base, yours, began) {
  return MEASURES.map(({ key, title, better, words, least, unedited }) => {
    const still = { value: unedited, low: null, high: null };
    const shown = [["Unedited", still, "unedited"]];
    if (base) shown.push([began, base[key], "start"]);
    if (yours) shown.push(["Yours", yours[key], "yours"]);
    const values = shown.flatMap(([, one]) => [one.value, one.low, one.high]).filter(Number.isFinite);
    const reach = Math.max(least, ...values);
    const lowest = Math.min(0, ...values);
    return element(
      "table",
      { class: "measure", "data-measure": key },
      element("caption", {}, element("strong", {}, title), ` · ${better}`),
      element("colgroup", {}, ["who", "drawn", "told"].map((name) => element("col", { class: name }))),
      element("thead", { class: "unseen" }, element("tr", {}, ["Model", "Bar", "Value and 95 % interval"].map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, shown.map(([label, one, kind]) => row(label, one, words, reach, lowest, kind))),
    );
  });
}

// One sentence for those who listen.
export function spoken(yours) {
  const said = ([key, name]) => `${name} ${MEASURES.find((one) => one.key === key).words(yours[key].value)}`;
  return [["spread", "spread"], ["slope", "slope"], ["facts", "facts"], ["kl", "KL"]].map(said).join(", ");
}
