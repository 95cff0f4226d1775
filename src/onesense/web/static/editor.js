// The edits of the draft as cards: operation, amount as slider and number, unit, window, dose.

import * as draft from "./draft.js";
import { element, number, visible } from "./elements.js";
import { read } from "./requests.js";

const SHARES = new Set(["scale", "ablate", "project_out"]);
const known = new Map();
let before = null;

export function describeEdit(edit) {
  const key = `${edit.dictionary}/${edit.feature}`;
  if (!known.has(key)) {
    known.set(key, read(`/api/edits/describe?dictionary=${encodeURIComponent(edit.dictionary)}&feature=${edit.feature}`).catch(() => ({})));
  }
  return known.get(key);
}

// What is sent to the server: only what is on, and only what it knows.
export function wanted(list = draft.edits()) {
  return list.filter((one) => one.on !== false).map(({ dictionary, feature, operation, value, unit, window, first, last, special }) => ({
    dictionary,
    feature,
    operation,
    value: operation === "ablate" ? null : Number(value),
    unit: SHARES.has(operation) ? "raw" : unit,
    window: window ?? "all",
    first: first ?? null,
    last: last ?? null,
    special: Boolean(special),
  }));
}

function range(edit, facts) {
  if (edit.operation === "scale") return [-2, 4, 0.05];
  if (edit.operation === "project_out") return [0, 2, 0.05];
  const signed = edit.operation === "direction_add" || edit.operation === "add";
  if (edit.unit === "norm") return [signed ? -2 : 0, 2, 0.05];
  if (edit.unit === "max") return [signed ? -4 : 0, 4, 0.05];
  const most = facts.mean_norm && facts.row_norm ? (2 * facts.mean_norm) / facts.row_norm : facts.max_activation ? 4 * facts.max_activation : 100;
  const top = Number(most.toPrecision(2));
  return [signed ? -top : 0, top, Number((top / 100).toPrecision(1))];
}

// Norm of what is added, as a share of the stream's mean norm; null where it is not known.
export function dose(edit, facts) {
  if (!facts.row_norm) return null;
  const unit = { raw: 1, max: facts.max_activation, norm: facts.mean_norm ? facts.mean_norm / facts.row_norm : null }[edit.unit ?? "raw"];
  const share = facts.mean_norm ? facts.row_norm / facts.mean_norm : null;
  const value = Number(edit.value);
  if (edit.unit === "norm" && !SHARES.has(edit.operation)) return Math.abs(value);
  if (share === null) return null;
  if (edit.operation === "scale" || edit.operation === "ablate") {
    return facts.max_activation ? Math.abs((edit.operation === "ablate" ? 0 : value) - 1) * facts.max_activation * share : null;
  }
  return edit.operation === "project_out" || unit === null || unit === undefined ? null : Math.abs(value * unit * share);
}

function options(names, chosen) {
  return names.map((name) => element("option", { value: name, selected: name === chosen }, name.replaceAll("_", " ")));
}

function card(edit, at, operations, changed) {
  const id = `edit-${at}`;
  const told = element("p", { class: "small quiet dose", id: `${id}-dose` }, "…");
  const slider = element("input", { type: "range", id: `${id}-value`, "aria-describedby": `${id}-dose`, "aria-label": `Amount for feature ${edit.feature}`, min: -1, max: 1, step: "any" });
  const box = element("input", { type: "number", step: "any", "aria-label": `Amount for feature ${edit.feature}, as a number`, value: edit.value });
  const unit = element("select", { "aria-label": `Unit for feature ${edit.feature}` }, options(["raw", "max", "norm"], edit.unit));
  const operation = element("select", { "aria-label": `What is done to feature ${edit.feature}` }, options(Object.keys(operations), edit.operation));
  const window = element("select", { "aria-label": `Where feature ${edit.feature} is edited` }, options(["all", "prompt", "generation"], edit.window));
  const on = element("input", { type: "checkbox", checked: edit.on !== false, id: `${id}-on` });
  const means = element("p", { class: "small quiet means" }, operations[edit.operation]);
  let facts = {};

  const set = (part, rebuild = false) => {
    const list = draft.edits();
    list[at] = { ...list[at], ...part };
    edit = list[at];
    draft.keep(list);
    show();
    if (rebuild) changed();
  };
  function show() {
    const [low, high, step] = range(edit, facts);
    slider.min = Math.min(low, edit.value);
    slider.max = Math.max(high, edit.value);
    slider.step = step;
    slider.value = edit.value;
    if (document.activeElement !== box) box.value = edit.value;
    const bare = SHARES.has(edit.operation);
    unit.disabled = bare;
    unit.options[1].disabled = !facts.max_activation;
    slider.hidden = box.hidden = edit.operation === "ablate";
    means.textContent = operations[edit.operation];
    const found = dose(edit, facts);
    const atMost = edit.operation === "direction_add" ? "" : "at most ";
    told.classList.toggle("strong", found > 1);
    told.textContent = found === null ? "Dose: known once a text is made" : `Dose: ${atMost}${number(found, 2)} of the stream’s norm${found > 1 ? ": strong, text may break" : ""}`;
  }
  slider.addEventListener("input", () => set({ value: Number(slider.value) }));
  box.addEventListener("input", () => Number.isFinite(box.valueAsNumber) && set({ value: box.valueAsNumber }));
  unit.addEventListener("change", () => set({ unit: unit.value, value: unit.value === "raw" ? edit.value : Math.max(-2, Math.min(2, edit.value)) }));
  operation.addEventListener("change", () => set({ operation: operation.value, unit: SHARES.has(operation.value) ? "raw" : edit.unit, value: operation.value === "scale" ? 0 : operation.value === "project_out" ? 1 : edit.value }));
  window.addEventListener("change", () => set({ window: window.value }));
  on.addEventListener("change", () => set({ on: on.checked }, true));
  describeEdit(edit).then((found) => {
    facts = found;
    show();
  });
  show();
  const address = edit.run ? `/runs/${edit.run}/features/${edit.feature}` : null;
  return element(
    "fieldset",
    { class: `panel edit${edit.on === false ? " off" : ""}` },
    element(
      "div",
      { class: "name" },
      element("span", {}, on, " ", element("label", { for: `${id}-on`, class: "unseen" }, `Feature ${edit.feature} on`), element("strong", {}, address ? element("a", { href: address }, `Feature ${edit.feature}`) : `Feature ${edit.feature}`), element("span", { class: "quiet small" }, ` ${visible(edit.hook_point ?? "")}`)),
      element("button", { type: "button", class: "plain", "aria-label": `Take out feature ${edit.feature}`, onclick: () => { remember(); draft.keep(draft.edits().filter((_, place) => place !== at)); changed(); } }, "✕"),
    ),
    element("p", { class: "label" }, element("bdi", {}, visible(edit.label ?? ""))),
    element("div", { class: "what" }, operation, window),
    element("div", { class: "controls" }, slider, box, unit),
    means,
    told,
  );
}

export function remember() {
  before = draft.edits();
}

export function undo() {
  if (before) draft.keep(before);
  before = null;
}

export const undoable = () => before !== null;

export function showEdits(place, operations) {
  const changed = () => {
    showEdits(place, operations);
    place.dispatchEvent(new CustomEvent("changed"));
  };
  const list = draft.edits();
  place.replaceChildren(
    ...(list.length
      ? list.map((edit, at) => card(edit, at, operations, changed))
      : [element("p", { class: "empty" }, "No edit yet. Add a feature below, or press “Steer” on a feature’s page.")]),
  );
}
