// The page of steering: the edits of the draft, features to add, and the form that makes texts.

import * as draft from "./draft.js";
import { remember, showEdits, undo, undoable, wanted } from "./editor.js";
import { element, say, visible } from "./elements.js";
import { read } from "./requests.js";
import { keeping } from "./steer_keep.js";
import { stop, sweep, write } from "./steer_texts.js";

const FORM = "onesense-steer";
const SEEN = "onesense-offered";
const PRESSED = "onesense-steer-pressed";
const FIELDS = ["prompt", "samples", "max_new_tokens", "temperature", "seed", "top_k", "top_p", "min_p", "repetition_penalty", "coefficients"];
const at = (id) => document.getElementById(id);
const place = at("edits");
let showNumbers = () => {};
let lastWasSweep = false;
if (place) begin();

function begin() {
  const operations = JSON.parse(place.dataset.operations);
  const marks = () => {
    at("undo").disabled = !undoable();
    at("clear").disabled = draft.edits().length === 0;
  };
  const refresh = () => {
    showNumbers = showEdits(place, operations, marks);
    marks();
  };
  restore();
  const taken = offer(JSON.parse(place.dataset.offered), refresh);
  refresh();
  addEventListener("storage", (event) => event.key === "onesense-draft" && refresh());
  at("undo").addEventListener("click", () => { undo(); refresh(); });
  at("clear").addEventListener("click", () => { remember(); draft.keep([]); refresh(); });
  finding(refresh);
  making();
  keeping(asked, refresh);
  if (pressed() && taken) at("making").requestSubmit();
}

// Whether "Steer" was pressed on a feature's page just now: then a text is what is wanted. An address alone writes none.
function pressed() {
  try {
    const found = sessionStorage.getItem(PRESSED) !== null;
    sessionStorage.removeItem(PRESSED);
    return found;
  } catch {
    return false;
  }
}

// Edits of the address go into the draft the first time; later they are offered. Whether they are in it now.
function offer(offered, refresh) {
  if (!offered.length) return false;
  let seen = [];
  try {
    seen = JSON.parse(sessionStorage.getItem(SEEN) ?? "[]");
    sessionStorage.setItem(SEEN, JSON.stringify([...seen.slice(-50), location.search]));
  } catch {
    // storage is switched off: the address counts every time
  }
  const same = (one, other) => ["dictionary", "feature", "operation"].every((name) => one[name] === other[name]);
  const put = () => {
    remember();
    for (const edit of offered) draft.add(edit);
    return true;
  };
  if (!seen.includes(location.search)) return put();
  if (offered.every((one) => draft.edits().some((other) => same(one, other)))) return true;
  const names = offered.length === 1 ? `feature ${offered[0].feature}` : `${offered.length} edits`;
  at("offered").replaceChildren(
    element("div", { class: "panel row spread" }, element("span", {}, `This address has ${names}.`), element("button", { type: "button", onclick: () => { put(); at("offered").replaceChildren(); refresh(); } }, "Add")),
  );
  return false;
}

function restore() {
  let kept = {};
  try {
    kept = JSON.parse(sessionStorage.getItem(FORM) ?? "{}");
  } catch {
    // storage is switched off: the form as it came
  }
  const given = new URLSearchParams(location.search);
  for (const name of FIELDS) if (typeof kept[name] === "string" && !given.has(name)) at(name).value = kept[name];
  at("greedy").checked = kept.greedy === true;
  greed();
  at("making").addEventListener("input", () => {
    greed();
    const values = Object.fromEntries(FIELDS.map((name) => [name, at(name).value]));
    try {
      sessionStorage.setItem(FORM, JSON.stringify({ ...values, greedy: at("greedy").checked }));
    } catch {
      // storage is switched off: it lives as long as the page
    }
  });
}

function greed() {
  for (const name of ["temperature", "top_k", "top_p", "min_p"]) at(name).disabled = at("greedy").checked;
}

function finding(refresh) {
  let asking = new AbortController();
  const find = async () => {
    asking.abort();
    asking = new AbortController();
    const words = at("find").value.trim();
    if (!words) return at("found").replaceChildren();
    const key = at("dictionary").value;
    const query = new URLSearchParams({ dictionary: key, limit: 6, q: words });
    try {
      const { features } = await read(`/api/features/search?${query}`, asking.signal);
      at("found").replaceChildren(
        ...features.map((one) => element("li", {}, element("button", { type: "button", onclick: () => put(key, one.feature) }, element("strong", {}, `${one.feature}`), " ", element("bdi", { class: "quiet" }, visible(one.label))))),
      );
      if (!features.length) at("found").replaceChildren(element("li", { class: "quiet small" }, "No feature has these words. Try fewer, or a number."));
    } catch (error) {
      if (error.name !== "AbortError") say(at("found"), error);
    }
  };
  at("adding").addEventListener("submit", (event) => {
    event.preventDefault();
    at("found").querySelector("button")?.click();
  });
  at("find").addEventListener("input", find);
  at("dictionary").addEventListener("change", find);
  async function put(key, feature) {
    try {
      const { row_norm, max_activation, mean_norm, ...edit } = await read(`/api/edits/describe?${new URLSearchParams({ dictionary: key, feature })}`);
      remember();
      draft.add({ ...edit, operation: "direction_add", value: 0.5, unit: "norm", window: "all", on: true });
      at("find").value = "";
      at("found").replaceChildren();
      refresh();
      at("find").focus();
    } catch (error) {
      say(at("found"), error);
    }
  }
}

function coefficients() {
  const words = at("coefficients").value.replaceAll("−", "-").split(/[\s,;]+/).filter(Boolean);
  const numbers = words.map(Number);
  const bad = words.find((_, place) => !Number.isFinite(numbers[place]));
  if (bad) throw { message: `“${visible(bad)}” is not a number.`, hint: "A sweep goes over numbers such as 0, 0.5, 1, 2." };
  if (!numbers.length || numbers.length > 12) throw { message: "A sweep takes 1 to 12 numbers.", hint: "For example 0, 0.5, 1, 2." };
  return numbers;
}

// What is asked for; as a sweep where `repeated` and the last texts were one.
function asked(repeated = false) {
  const value = (id) => (at(id).value === "" || at(id).disabled ? null : Number(at(id).value));
  const body = {
    edits: wanted(),
    prompt: at("prompt").value,
    samples: value("samples") ?? 1,
    max_new_tokens: value("max_new_tokens") ?? 40,
    seed: value("seed") ?? 0,
    sampling: {
      do_sample: !at("greedy").checked,
      temperature: value("temperature") ?? 1,
      top_k: value("top_k"),
      top_p: value("top_p"),
      min_p: value("min_p"),
      repetition_penalty: value("repetition_penalty") ?? 1,
    },
  };
  return repeated && lastWasSweep && body.edits.length ? { ...body, coefficients: coefficients() } : body;
}

function making() {
  at("making").addEventListener("submit", (event) => {
    event.preventDefault();
    lastWasSweep = false;
    write(asked(), () => showNumbers());
  });
  at("sweep").addEventListener("click", () => {
    if (!at("making").reportValidity()) return;
    try {
      const body = { ...asked(), coefficients: coefficients() };
      if (!body.edits.length) throw { message: "A sweep needs an edit that is on.", hint: "Add a feature first." };
      lastWasSweep = true;
      sweep(body, () => showNumbers());
    } catch (error) {
      say(at("told"), error);
    }
  });
  at("stop").addEventListener("click", stop);
  addEventListener("pagehide", stop);
  at("new-seed").addEventListener("click", () => {
    at("seed").value = Math.floor(Math.random() * 2 ** 31);
    at("seed").dispatchEvent(new Event("input", { bubbles: true }));
  });
  at("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("making").requestSubmit();
  });
}
