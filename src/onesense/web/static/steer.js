// Texts with and without the recipe, side by side, as they come.

import * as draft from "./draft.js";
import { remember, showEdits, undo, undoable, wanted } from "./editor.js";
import { copy, element, number, say, visible } from "./elements.js";
import { follow, read } from "./requests.js";

const at = (id) => document.getElementById(id);
const place = at("edits");
if (place) begin();

function begin() {
  const operations = JSON.parse(place.dataset.operations);
  const offered = JSON.parse(place.dataset.offered);
  const seen = sessionStorage.getItem("onesense-offered");
  if (offered.length && seen !== location.search) {
    for (const edit of offered) draft.add(edit);
    sessionStorage.setItem("onesense-offered", location.search);
  }
  const refresh = () => {
    showEdits(place, operations);
    at("undo").disabled = !undoable();
  };
  refresh();
  place.addEventListener("changed", refresh);
  addEventListener("storage", refresh);
  at("undo").addEventListener("click", () => { undo(); refresh(); });
  at("clear").addEventListener("click", () => { remember(); draft.keep([]); refresh(); });
  finding(refresh);
  making();
  keeping();
}

function finding(refresh) {
  let asking = new AbortController();
  at("adding").addEventListener("submit", (event) => event.preventDefault());
  at("find").addEventListener("input", async () => {
    asking.abort();
    asking = new AbortController();
    const words = at("find").value.trim();
    if (!words) return at("found").replaceChildren();
    const key = at("dictionary").value;
    try {
      const { features } = await read(`/api/features/search?dictionary=${encodeURIComponent(key)}&limit=6&q=${encodeURIComponent(words)}`, asking.signal);
      at("found").replaceChildren(
        ...features.map((one) => element("li", {}, element("button", { type: "button", onclick: () => put(key, one.feature) }, `${one.feature} `, element("bdi", { class: "quiet" }, visible(one.label))))),
      );
      if (!features.length) at("found").replaceChildren(element("li", { class: "quiet small" }, "No feature is like that."));
    } catch (error) {
      if (error.name !== "AbortError") say(at("found"), error);
    }
  });
  async function put(key, feature) {
    const facts = await read(`/api/edits/describe?dictionary=${encodeURIComponent(key)}&feature=${feature}`);
    const { row_norm, max_activation, mean_norm, ...edit } = facts;
    remember();
    draft.add({ ...edit, operation: "direction_add", value: 0.5, unit: "norm", window: "all", on: true });
    at("find").value = "";
    at("found").replaceChildren();
    refresh();
  }
}

function asked() {
  const value = (id) => (at(id).value === "" ? null : Number(at(id).value));
  const temperature = value("temperature") ?? 1;
  return {
    edits: wanted(),
    prompt: at("prompt").value,
    samples: value("samples") ?? 1,
    max_new_tokens: value("max_new_tokens") ?? 40,
    seed: value("seed") ?? 0,
    sampling: {
      do_sample: temperature > 0,
      temperature: temperature > 0 ? temperature : 1,
      top_k: value("top_k"),
      top_p: value("top_p"),
      min_p: value("min_p"),
      repetition_penalty: value("repetition_penalty") ?? 1,
    },
  };
}

function textPanel(title, prompt, css) {
  const text = element("p", { class: "text" }, element("span", { class: "prompt" }, visible(prompt)));
  return { box: element("div", { class: `panel ${css}` }, element("h3", {}, title), text), text, made: "" };
}

let working = null;

async function run(address, body, panels, pick) {
  working?.abort();
  working = new AbortController();
  const mine = working;
  at("told").replaceChildren();
  at("texts").replaceChildren(...panels.map((one) => one.box));
  at("stop").disabled = false;
  at("state").textContent = "Loading the model …";
  try {
    let done = null;
    await follow(address, {
      body,
      signal: mine.signal,
      on: (name, data) => {
        if (name === "place") at("state").textContent = `Number ${data.place} in line`;
        if (name === "started") at("state").textContent = "Writing …";
        if (name === "piece") {
          const panel = pick(data);
          panel.made += data.text;
          panel.text.append(visible(data.text));
        }
        if (name === "failed") say(at("told"), data);
        if (name === "done") done = data;
        if (name === "cancelled") at("state").textContent = "Ended.";
      },
    });
    at("state").textContent = done ? "Done." : "";
    return done;
  } catch (error) {
    if (error.name === "AbortError") {
      if (working === mine) at("state").textContent = "Stopped; what was written is kept.";
    } else {
      at("state").textContent = "";
      say(at("told"), error);
    }
    return null;
  } finally {
    if (working === mine) at("stop").disabled = true;
  }
}

function tellDoses(doses, warnings) {
  const lines = doses.filter((one) => one.relative !== null).map((one) => `${one.hook_point}: dose ${number(one.relative, 2)} of the mean norm, at most ${number(one.largest, 2)}, at ${one.positions} positions`);
  at("told").replaceChildren(
    ...(lines.length ? [element("p", { class: "small quiet" }, lines.join("; "))] : []),
    ...warnings.map((one) => element("p", { class: "warning" }, visible(one))),
  );
}

// The part that both texts share is quiet; what differs is underlined too.
function compare(steered, unsteered, prompt) {
  let common = 0;
  while (common < steered.made.length && steered.made[common] === unsteered.made[common]) common += 1;
  for (const one of [steered, unsteered]) {
    one.text.replaceChildren(
      element("span", { class: "prompt" }, visible(prompt)),
      element("span", { class: "same" }, visible(one.made.slice(0, common))),
      element("span", { class: "differs" }, visible(one.made.slice(common))),
    );
  }
}

function making() {
  at("making").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = asked();
    const pairs = Array.from({ length: body.samples }, (_, sample) => [
      textPanel(`Steered, sample ${sample + 1}`, body.prompt, "steered"),
      textPanel(`Unsteered, sample ${sample + 1}`, body.prompt, "unsteered"),
    ]);
    const done = await run("/api/steer", body, pairs.flat(), (piece) => pairs[piece.sample][piece.steered ? 0 : 1]);
    if (!done) return;
    tellDoses(done.doses, done.warnings);
    for (const [steered, unsteered] of pairs) compare(steered, unsteered, body.prompt);
    if (!body.edits.length) at("told").append(element("p", { class: "warning" }, "The recipe has no edit that is on: both texts are the model’s own."));
  });
  at("sweep").addEventListener("click", async () => {
    const coefficients = (at("coefficients").value.match(/[-+]?\d*\.?\d+(e[-+]?\d+)?/gi) ?? []).map(Number).slice(0, 12);
    const body = { ...asked(), coefficients };
    if (!coefficients.length) return say(at("told"), { message: "A sweep needs coefficients.", hint: "For example 0, 0.5, 1, 2." });
    if (!body.edits.length) return say(at("told"), { message: "A sweep needs an edit that is on.", hint: "Add a feature first." });
    const cells = coefficients.map((by) => Array.from({ length: body.samples }, (_, sample) => textPanel(`× ${number(by)}, sample ${sample + 1}`, body.prompt, "steered")));
    const plain = Array.from({ length: body.samples }, (_, sample) => textPanel(`Unsteered, sample ${sample + 1}`, body.prompt, "unsteered"));
    const done = await run("/api/sweep", body, [...cells.flat(), ...plain], (piece) => (piece.steered ? cells[piece.step] : plain)[piece.sample]);
    done?.steps.forEach((step, place) => {
      const dose = step.doses.map((one) => one.relative).filter((one) => one !== null);
      if (dose.length) cells[place].forEach((one) => one.box.firstChild.append(`, dose ${number(Math.max(...dose), 2)}`));
    });
  });
  at("stop").addEventListener("click", () => working?.abort());
  addEventListener("pagehide", () => working?.abort());
  at("new-seed").addEventListener("click", () => { at("seed").value = Math.floor(Math.random() * 2 ** 31); });
}

function keeping() {
  at("copy-link").addEventListener("click", (event) => {
    const query = new URLSearchParams();
    for (const one of wanted()) query.append("edit", `${one.dictionary}/${one.feature}:${one.operation}:${one.value ?? ""}:${one.unit}:${one.window}`);
    query.append("prompt", at("prompt").value);
    copy(`${location.origin}/steer?${query}`, event.target);
  });
  for (const kind of ["command", "python"]) {
    at(`copy-${kind}`).addEventListener("click", async (event) => {
      try {
        await follow("/api/steer/code", { body: asked(), on: (name, data) => {
          if (name === "done") copy(data[kind], event.target);
          if (name === "failed") say(at("told"), data);
        } });
      } catch (error) {
        say(at("told"), error);
      }
    });
  }
  at("save").addEventListener("click", async () => {
    try {
      await follow("/api/recipes", { body: { name: at("recipe-name").value, edits: wanted() }, on: (name, data) => {
        if (name === "failed") say(at("saved"), data);
        if (name === "done") at("saved").replaceChildren("Saved. ", element("a", { href: `/tune?recipe=${data.id}` }, "Tune and audit it"), " · ", element("a", { href: `/api/recipes/${data.id}`, download: true }, "Download"));
      } });
    } catch (error) {
      say(at("saved"), error);
    }
  });
}
