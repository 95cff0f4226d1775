// The edits of the draft as cards: operation, amount as slider and number, unit, where, dose; and undo.

import * as draft from "./draft.js";
import { SHARES, converted, dose, facts, range, whyNot } from "./edit_facts.js";
import { drawing, element, number, visible } from "./elements.js";

const UNITS = { raw: "activation", max: "× largest", norm: "× mean norm" };
const WINDOWS = { all: "everywhere", prompt: "in the prompt", generation: "in what is generated" };
const MOST_PAST = 100;
const past = [];
let lastTag = "";

// What is sent to the server: only what is on, and only what it knows.
export function wanted(list = draft.edits()) {
  return list.filter((one) => one.on !== false).map((one) => ({
    dictionary: one.dictionary,
    feature: one.feature,
    operation: one.operation ?? "direction_add",
    value: one.operation === "ablate" ? null : Number(one.value),
    unit: SHARES.has(one.operation) ? "raw" : (one.unit ?? "raw"),
    window: one.window ?? "all",
    first: one.first ?? null,
    last: one.window === "generation" ? null : (one.last ?? null),
    special: Boolean(one.special),
  }));
}

// Keeps the draft as it is now for undo; many small changes of one control are one step.
export function remember(tag = "") {
  if (tag && tag === lastTag) return;
  lastTag = tag;
  past.push(draft.edits());
  if (past.length > MOST_PAST) past.shift();
}

export function undo() {
  lastTag = "";
  if (past.length) draft.keep(past.pop());
}

export const undoable = () => past.length > 0;

function select(id, label, names, chosen) {
  const options = Object.entries(names).map(([name, words]) => element("option", { value: name, selected: name === chosen }, words));
  return element("select", { id, "aria-label": label }, options);
}

function meter() {
  const bar = drawing("rect", { class: "amount", x: 0, y: 1, height: 4, width: 0 });
  const shown = drawing(
    "svg",
    { class: "meter", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    drawing("rect", { class: "track", x: 0, y: 1, height: 4, width: 100 }),
    bar,
    drawing("line", { class: "one", x1: 50, x2: 50, y1: 0, y2: 6 }),
  );
  const show = (value) => {
    bar.setAttribute("width", Math.min(100, 50 * (value ?? 0)));
    shown.classList.toggle("strong", value > 1);
  };
  return { shown, show };
}

function tell(edit, found) {
  const value = dose(edit, found);
  if (value === null) return edit.operation === "project_out" ? "Dose: told once a text is made" : "Dose: not known yet; told once a text is made";
  const most = edit.operation === "direction_add" ? "" : "at most ";
  return `Dose: ${most}${number(value, 2)} of the mean norm${value > 1 ? ". Above 1 text tends to break down" : ""}`;
}

function controls(edit, at, operations) {
  const id = `edit-${at}`;
  const of = `of feature ${edit.feature}`;
  const names = Object.fromEntries(Object.keys(operations).map((name) => [name, name.replaceAll("_", " ")]));
  return {
    on: element("input", { type: "checkbox", checked: edit.on !== false, id: `${id}-on` }),
    operation: select(`${id}-operation`, `What is done, ${of}`, names, edit.operation),
    window: select(`${id}-window`, `Where, ${of}`, WINDOWS, edit.window ?? "all"),
    slider: element("input", { type: "range", id: `${id}-slider`, "aria-describedby": `${id}-dose`, "aria-label": `Amount ${of}` }),
    box: element("input", { type: "number", step: "any", id: `${id}-value`, "aria-label": `Amount ${of} as a number`, value: edit.value }),
    unit: select(`${id}-unit`, `Unit ${of}`, UNITS, edit.unit ?? "raw"),
    first: element("input", { type: "number", min: 1, max: 100000, id: `${id}-first`, value: edit.first ?? "" }),
    last: element("input", { type: "number", min: 1, max: 100000, id: `${id}-last`, value: edit.last ?? "" }),
    special: element("input", { type: "checkbox", checked: Boolean(edit.special), id: `${id}-special` }),
    remove: element("button", { type: "button", class: "plain", id: `${id}-remove`, "aria-label": `Take out feature ${edit.feature}` }, "✕"),
    told: element("p", { class: "small dose", id: `${id}-dose` }, "…"),
    means: element("p", { class: "small quiet means" }),
    why: element("p", { class: "small quiet why" }),
  };
}

function layOut(edit, at, part, bar) {
  const id = `edit-${at}`;
  const name = `Feature ${edit.feature}`;
  const field = (words, control) => element("span", { class: "field-inline" }, element("label", { for: control.id }, words), control);
  const more = Boolean(edit.first || edit.last || edit.special);
  return element(
    "fieldset",
    { class: `panel edit${edit.on === false ? " off" : ""}` },
    element("legend", { class: "unseen" }, name),
    element(
      "div",
      { class: "name" },
      part.on,
      element("label", { for: `${id}-on`, class: "unseen" }, `${name} is edited`),
      element("strong", {}, edit.run ? element("a", { href: `/runs/${encodeURIComponent(edit.run)}/features/${edit.feature}` }, name) : name),
      element("span", { class: "quiet small hook" }, visible(edit.hook_point ?? "")),
      edit.on === false ? element("span", { class: "badge" }, "off") : null,
      part.remove,
    ),
    element("p", { class: "label" }, element("bdi", {}, visible(edit.label ?? ""))),
    element("div", { class: "what" }, part.operation, part.window),
    part.means,
    element("div", { class: "how-much" }, part.slider, part.box, part.unit),
    part.why,
    element("div", { class: "strength" }, bar.shown, part.told),
    element(
      "details",
      { class: "more", open: more },
      element("summary", {}, "More"),
      element("div", { class: "row" }, field("First positions", part.first), field("Last of the prompt", part.last), element("span", { class: "field-inline" }, part.special, element("label", { for: `${id}-special` }, "special tokens too"))),
    ),
  );
}

function card(start, at, operations, changed) {
  let edit = { operation: "direction_add", unit: "raw", window: "all", ...start };
  let found = null;
  let failed = "";
  const part = controls(edit, at, operations);
  const bar = meter();

  function show() {
    const bare = SHARES.has(edit.operation);
    const [low, high, step] = range(edit, found ?? {});
    Object.assign(part.slider, { min: Math.min(low, edit.value), max: Math.max(high, edit.value), step, value: edit.value });
    if (document.activeElement !== part.box) part.box.value = edit.value;
    part.slider.hidden = part.box.hidden = edit.operation === "ablate";
    part.unit.hidden = bare;
    part.means.textContent = operations[edit.operation] ?? "";
    const reasons = found && !bare ? ["max", "norm"].map((unit) => [unit, whyNot(unit, found)]) : [];
    for (const [unit, why] of reasons) part.unit.querySelector(`[value=${unit}]`).disabled = Boolean(why) && unit !== edit.unit;
    part.why.textContent = reasons.map(([, why]) => why).join(" ");
    part.last.disabled = edit.window === "generation";
    bar.show(found ? dose(edit, found) : null);
    part.told.classList.toggle("strong", Boolean(found) && dose(edit, found) > 1);
    part.told.textContent = failed || (found ? tell(edit, found) : "…");
  }
  function set(change, rebuild = false) {
    const list = draft.edits();
    if (!list[at]) return;
    remember(rebuild ? "" : `${at}.${Object.keys(change)}`);
    edit = { ...edit, ...change };
    list[at] = edit;
    draft.keep(list);
    show();
    changed(rebuild);
  }
  const positive = (box) => (box.valueAsNumber >= 1 ? Math.floor(box.valueAsNumber) : null);
  part.slider.addEventListener("input", () => set({ value: part.slider.valueAsNumber }));
  part.box.addEventListener("input", () => Number.isFinite(part.box.valueAsNumber) && set({ value: part.box.valueAsNumber }));
  part.unit.addEventListener("change", () => set({ unit: part.unit.value, value: converted(edit.value, edit.unit, part.unit.value, found ?? {}) }));
  part.operation.addEventListener("change", () => set(changedOperation(edit, part.operation.value)));
  part.window.addEventListener("change", () => set({ window: part.window.value }));
  part.first.addEventListener("change", () => set({ first: positive(part.first) }));
  part.last.addEventListener("change", () => set({ last: positive(part.last) }));
  part.special.addEventListener("change", () => set({ special: part.special.checked }));
  part.on.addEventListener("change", () => set({ on: part.on.checked }, true));
  part.remove.addEventListener("click", () => {
    remember();
    draft.keep(draft.edits().filter((_, place) => place !== at));
    changed(true);
  });
  facts(edit)
    .then((one) => (found = one), (error) => (failed = visible(`${error.message} ${error.hint ?? ""}`)))
    .then(show);
  show();
  return { box: layOut(edit, at, part, bar), show };
}

function changedOperation(edit, operation) {
  const usual = { scale: 0, ablate: 0, project_out: 1 };
  if (operation in usual) return { operation, unit: "raw", value: usual[operation] };
  // From a factor to an amount: the factor means nothing in a unit, so it starts at a mild one.
  return SHARES.has(edit.operation) ? { operation, unit: "norm", value: 0.5 } : { operation };
}

// Draws the cards into a place; `changed` is told of every change. Gives what draws their numbers anew.
export function showEdits(place, operations, changed) {
  const list = draft.edits();
  const held = place.contains(document.activeElement) ? document.activeElement.id : "";
  const again = (rebuild) => {
    if (rebuild) showEdits(place, operations, changed);
    changed();
  };
  const cards = list.map((edit, at) => card(edit, at, operations, again));
  place.replaceChildren(
    ...(list.length ? cards.map((one) => one.box) : [element("p", { class: "empty" }, "No edit yet. Find a feature below, or press “Steer” on a feature’s page.")]),
  );
  place.classList.toggle("many", list.length > 8);
  if (held) (document.getElementById(held) ?? place.querySelector("button") ?? document.getElementById("find"))?.focus();
  return () => cards.forEach((one) => one.show());
}
