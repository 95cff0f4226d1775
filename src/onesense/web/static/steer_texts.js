// Texts with and without the recipe, as they come: side by side, and at several strengths.

import { learn } from "./edit_facts.js";
import { element, number, say, visible } from "./elements.js";
import { follow } from "./requests.js";

const at = (id) => document.getElementById(id);
let working = null;

class Panel {
  constructor(title, prompt, css) {
    this.prompt = prompt;
    this.made = "";
    this.ended = false;
    this.text = element("p", { class: "text" }, element("span", { class: "prompt" }, visible(prompt)));
    this.foot = element("p", { class: "small quiet foot" });
    this.box = element("div", { class: `panel ${css}` }, element("h4", {}, title), this.text, this.foot);
  }

  add({ text, ended }) {
    this.made += text;
    this.ended ||= ended;
  }

  // What both texts share is quiet; what differs is marked, once it is sure that it does.
  show(other) {
    const common = shared(this.made, other.made);
    const undecided = common === other.made.length && !other.ended;
    this.text.replaceChildren(
      element("span", { class: "prompt" }, visible(this.prompt)),
      element("span", { class: "same" }, visible(this.made.slice(0, common))),
      element("span", { class: undecided ? "same" : "differs" }, visible(this.made.slice(common))),
    );
  }

  finish({ text, ending }) {
    this.made = text;
    this.ended = true;
    this.foot.textContent = ending === "stop" ? "The model ended it here." : ending === "cancelled" ? "Stopped here." : "";
  }

  breakOff(words) {
    if (!this.ended) this.foot.textContent = words;
  }
}

// Length of the common beginning, no character cut in two.
function shared(one, other) {
  let common = 0;
  while (common < one.length && one[common] === other[common]) common += 1;
  return /[\uD800-\uDBFF]/.test(one[common - 1] ?? "") ? common - 1 : common;
}

function tellState(words) {
  at("state").textContent = words;
}

export function stop() {
  working?.abort();
}

function again(action) {
  at("told").append(element("p", {}, element("button", { type: "button", onclick: action }, "Again")));
}

// Asks, draws what comes, and gives what was made; null where it did not come to an end.
async function ask(address, body, panels, onPiece, retry) {
  working?.abort();
  const mine = new AbortController();
  working = mine;
  at("told").replaceChildren();
  at("stop").disabled = false;
  tellState("Asking …");
  let made = null;
  const on = (name, data) => {
    if (working !== mine) return;
    if (name === "place") tellState(`Number ${data.place} in line`);
    if (name === "started") tellState("Reading the prompt …");
    if (name === "piece") {
      tellState("Writing …");
      onPiece(data);
    }
    if (name === "done") made = data;
    if (name === "failed") say(at("told"), data);
    if (name === "cancelled") {
      panels.forEach((one) => one.breakOff("Ended here."));
      say(at("told"), { message: "This was ended from the list of work.", hint: "What was written is kept." });
      again(retry);
    }
  };
  try {
    await follow(address, { body, signal: mine.signal, on });
    if (working === mine) tellState(made ? "Done" : "");
  } catch (error) {
    if (working !== mine) return null;
    if (error.name === "AbortError") {
      panels.forEach((one) => one.breakOff("Stopped here."));
      tellState("Stopped; what was written is kept");
      return null;
    }
    panels.forEach((one) => one.breakOff("It broke off here."));
    tellState("");
    say(at("told"), error);
    again(retry);
  } finally {
    if (working === mine) {
      at("stop").disabled = true;
      working = null;
    }
  }
  return made;
}

function doseOf(doses) {
  const found = doses.map((one) => one.relative).filter((one) => one !== null);
  return found.length ? Math.max(...found) : null;
}

function tellDoses({ doses, warnings }) {
  const lines = doses
    .filter((one) => one.relative !== null)
    .map((one) => element("li", {}, `${one.hook_point}: dose ${number(one.relative, 2)} of the mean norm, at most ${number(one.largest, 2)}, at ${one.positions} positions`));
  at("told").append(
    ...(lines.length ? [element("ul", { class: "doses small quiet" }, lines)] : []),
    ...warnings.map((one) => element("p", { class: "warning" }, visible(one))),
  );
}

function tellWithoutEdits() {
  at("told").append(element("p", { class: "warning" }, "No edit is on, so nothing is steered: both texts are the model’s own."));
}

export async function write(body, show) {
  const pairs = Array.from({ length: body.samples }, (_, sample) => {
    const one = { unsteered: new Panel("Unsteered", body.prompt, "unsteered"), steered: new Panel("Steered", body.prompt, "steered") };
    one.box = element("section", { class: "pair", "aria-label": `Sample ${sample + 1}` }, element("h3", {}, `Sample ${sample + 1}`), one.unsteered.box, one.steered.box);
    return one;
  });
  const showPair = (pair) => {
    pair.steered.show(pair.unsteered);
    pair.unsteered.show(pair.steered);
  };
  at("texts").replaceChildren(...pairs.map((one) => one.box));
  const panels = pairs.flatMap((one) => [one.unsteered, one.steered]);
  const onPiece = (piece) => {
    const pair = pairs[piece.sample];
    pair[piece.steered ? "steered" : "unsteered"].add(piece);
    showPair(pair);
  };
  const made = await ask("/api/steer", body, panels, onPiece, () => write(body, show));
  if (!made) return;
  pairs.forEach((pair, sample) => {
    pair.steered.finish(made.steered[sample]);
    pair.unsteered.finish(made.unsteered[sample]);
    showPair(pair);
  });
  if (!body.edits.length) return tellWithoutEdits();
  tellDoses(made);
  learn(made.doses);
  show();
}

export async function sweep(body, show) {
  const plain = Array.from({ length: body.samples }, (_, sample) => new Panel(`Sample ${sample + 1}`, body.prompt, "unsteered"));
  const steps = body.coefficients.map((by) => {
    const cells = plain.map((_, sample) => new Panel(`Sample ${sample + 1}`, body.prompt, "steered"));
    const dose = element("span", { class: "small quiet" });
    return { cells, dose, box: row(`× ${number(by)}`, dose, cells) };
  });
  at("texts").replaceChildren(row("Unsteered", null, plain), ...steps.map((one) => one.box));
  const showSample = (sample) => {
    plain[sample].show(plain[sample]);
    for (const { cells } of steps) cells[sample].show(plain[sample]);
  };
  const onPiece = (piece) => {
    (piece.steered ? steps[piece.step].cells : plain)[piece.sample].add(piece);
    showSample(piece.sample);
  };
  const panels = [...plain, ...steps.flatMap((one) => one.cells)];
  const made = await ask("/api/sweep", body, panels, onPiece, () => sweep(body, show));
  if (!made) return;
  made.steps.forEach((step, place) => {
    step.samples.forEach((one, sample) => steps[place].cells[sample].finish(one));
    const dose = doseOf(step.doses);
    steps[place].dose.textContent = dose === null ? "nothing changed" : `dose ${number(dose, 2)}${dose > 1 ? ", strong" : ""}`;
    steps[place].dose.classList.toggle("strong", dose > 1);
  });
  made.unsteered.forEach((one, sample) => plain[sample].finish(one));
  plain.forEach((_, sample) => showSample(sample));
  learn(made.steps.flatMap((one) => one.doses));
  show();
}

function row(title, told, panels) {
  return element("section", { class: "step", "aria-label": title }, element("h3", {}, title, " ", told), element("div", { class: "cells" }, panels.map((one) => one.box)));
}
