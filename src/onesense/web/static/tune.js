// Tuning by hand: sliders, the quick audit after each change, undo, save.

import * as draft from "./draft.js";
import { wanted as sendable } from "./editor.js";
import { element, say, visible } from "./elements.js";
import { read } from "./requests.js";
import { adding, saving } from "./tune_keep.js";
import { Measuring } from "./tune_measure.js";
import { card, largest, place } from "./tune_sliders.js";
import { Tuning, nameOf, whole } from "./tune_state.js";

const at = (id) => document.getElementById(id);
const FIRST_SHOWN = 40;

// The draft's edits: those with one factor and nothing else become sliders, all others stay as they are.
function withDraft(data) {
  const edits = draft.edits().filter((one) => one.on !== false);
  const own = edits.filter((one) => one.model === data.model || data.dictionaries.some((other) => other.key === one.dictionary));
  const sliders = new Map(data.sliders.map((one) => [nameOf(one), one]));
  const fixed = [];
  for (const one of own) {
    const siblings = own.filter((other) => nameOf(other) === nameOf(one));
    const factors = siblings.filter((other) => other.operation === "scale");
    if (factors.length !== 1) {
      fixed.push({ ...one, words: `${String(one.operation ?? "direction_add").replaceAll("_", " ")} ${one.value ?? ""}` });
      sliders.delete(nameOf(one));
    } else if (one.operation === "scale") {
      const known = sliders.get(nameOf(one)) ?? whole({ dictionary: one.dictionary, hook_point: one.hook_point, feature: one.feature, run: one.run ?? "", explanation: one.label ?? "" });
      const also = siblings.filter((other) => other !== one).map((other) => `${other.operation} ${other.value ?? ""}`);
      sliders.set(nameOf(one), { ...known, factor: Number(one.value), edited: true, also });
    }
  }
  return { ...data, sliders: [...sliders.values()], fixed, edits: sendable(own) };
}

async function load() {
  const query = new URLSearchParams(location.search);
  const isDraft = at("tuning").dataset.draft === "1";
  if (isDraft) query.set("model", draft.edits().find((one) => one.model)?.model ?? "");
  const data = await read(`/tune.json?${query}`);
  return isDraft ? withDraft(data) : { ...data, edits: [] };
}

function begin(data) {
  const recipe = data.recipe?.id ?? null;
  const tuning = new Tuning(recipe ?? "draft", data.recipe?.hash ?? "", data.sliders);
  const body = (factors = tuning.sent()) => ({ recipe, edits: data.edits, factors });
  const measuring = new Measuring(tuning, body, data.recipe?.run ? "Automatic" : "As it began");
  const isOther = tuning.restore();
  const most = largest(data.sliders);
  const cards = [];
  let showsAll = false;

  function append(one) {
    const made = card(tuning, one, most);
    cards.push(made);
    return made;
  }
  const ordered = [...tuning.sliders.values()].sort((a, b) => (b.bias ?? 0) - (a.bias ?? 0));
  at("sliders").replaceChildren(...ordered.map((one) => append(one).item));

  function filter() {
    const words = at("filter-words").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const where = at("filter-place").value;
    const which = at("filter-which").value;
    const fits = cards.filter(
      ({ one, name, text }) =>
        (!where || one.dictionary === where) &&
        words.every((word) => text.includes(word)) &&
        (which === "all" || (which === "edited" && tuning.value(name) !== 1) || (which === "changed" && tuning.changed(name)) || (which === "others" && !one.edited)),
    );
    const shown = new Set(showsAll ? fits : fits.slice(0, FIRST_SHOWN));
    for (const one of cards) one.item.hidden = !shown.has(one);
    at("count").textContent = `${shown.size} of ${cards.length} features`;
    at("more").hidden = shown.size === fits.length;
    at("more").textContent = `Show ${fits.length - shown.size} more`;
    at("none-fit").hidden = fits.length > 0;
  }

  function refresh() {
    for (const one of cards) one.show();
    at("undo").disabled = tuning.past.length === 0;
    at("redo").disabled = tuning.future.length === 0;
    const count = tuning.factors.size;
    at("unsaved").textContent = count ? `${count} factor${count === 1 ? "" : "s"} changed, kept in this browser` : "Nothing changed";
  }
  tuning.listeners.push(refresh, () => measuring.later());

  controls(tuning, cards, filter);
  at("more").addEventListener("click", () => {
    showsAll = true;
    filter();
  });
  for (const id of ["filter-words", "filter-place", "filter-which"]) at(id).addEventListener("input", filter);
  at("filter-place").append(...data.dictionaries.map((one) => element("option", { value: one.key }, visible(place(one.hook_point)))));
  tuning.other = () => toldOfTab(tuning);
  if (isOther) at("told").replaceChildren(element("p", { class: "warning" }, "The recipe is another one since you tuned it here; your factors were kept."));
  showFixed(data.fixed);
  adding(data.dictionaries, (one) => {
    const isNew = tuning.add(one);
    if (isNew) at("sliders").prepend(append(one).item);
    cards.find((other) => other.name === nameOf(one)).show();
    filter();
    return isNew;
  });
  saving(body);
  refresh();
  filter();
  measuring.now();
}

function controls(tuning, cards, filter) {
  const all = (to) => tuning.set(cards.map(({ name, one }) => [name, to(tuning.value(name), one)]));
  const edited = (to) => all((now, one) => (one.edited || now !== 1 ? to(now, one) : now));
  at("all-off").addEventListener("click", () => edited(() => 0));
  at("all-half").addEventListener("click", () => edited((now, one) => (1 + one.factor) / 2));
  at("all-start").addEventListener("click", () => all((now, one) => one.factor));
  at("all-none").addEventListener("click", () => all(() => 1));
  at("undo").addEventListener("click", () => tuning.undo());
  at("redo").addEventListener("click", () => tuning.redo());
  addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target.matches("input:not([type=range], [type=number]), textarea")) return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || event.shiftKey) tuning.redo();
    else tuning.undo();
    filter();
  });
}

function showFixed(fixed) {
  at("fixed").hidden = fixed.length === 0;
  at("fixed-count").textContent = `${fixed.length} other edit${fixed.length === 1 ? " stays as it is" : "s stay as they are"}`;
  at("fixed-list").replaceChildren(
    ...fixed.map((one) => element("li", {}, element("strong", {}, String(one.feature)), " ", element("span", { class: "quiet small" }, visible(place(one.hook_point ?? ""))), " ", visible(one.words))),
  );
}

function toldOfTab(tuning) {
  const take = element("button", { type: "button" }, "Take those");
  take.addEventListener("click", () => {
    tuning.takeOther();
    location.reload();
  });
  const stay = element("button", { type: "button" }, "Stay with these");
  stay.addEventListener("click", () => {
    tuning.keep();
    at("told").replaceChildren();
  });
  at("told").replaceChildren(element("div", { class: "warning row", role: "alert" }, "This recipe was changed in another tab, too.", take, stay));
}

load().then(begin, (error) => say(at("told"), error));
