// Asks for the quick audit after each change: a new change ends the measurement before.

import { element, say, visible } from "./elements.js";
import { follow } from "./requests.js";
import { bars, spoken } from "./tune_bars.js";

const WAIT_MS = 250;
const at = (id) => document.getElementById(id);

export class Measuring {
  // body(factors): what is sent; began: what the first recipe is called.
  constructor(tuning, body, began) {
    this.tuning = tuning;
    this.body = body;
    this.began = began;
    this.known = new Map();
    this.running = new AbortController();
    this.timer = 0;
    this.shown = null;
    addEventListener("pagehide", () => this.running.abort());
  }

  later() {
    this.running.abort();
    clearTimeout(this.timer);
    at("audit-panel").classList.add("stale");
    this.timer = setTimeout(() => this.now(), WAIT_MS);
  }

  async now() {
    this.running.abort();
    const mine = (this.running = new AbortController());
    const since = performance.now();
    at("problem").replaceChildren();
    try {
      const base = await this.#ask([], mine.signal);
      if (base && !this.shown) this.#draw(base, null);
      const wanted = this.tuning.sent();
      const yours = wanted.length ? await this.#ask(wanted, mine.signal) : base;
      if (mine.signal.aborted) return;
      if (!yours) throw { message: "This measurement was ended from the list of work.", hint: "Change a slider, or press “Measure again”." };
      this.#draw(base, yours);
      at("state").textContent = `Measured in ${((performance.now() - since) / 1000).toFixed(1)} s`;
      at("spoken").textContent = `Yours: ${spoken(yours.measures)}`;
      at("audit-panel").classList.remove("stale");
    } catch (error) {
      if (error.name === "AbortError" || mine.signal.aborted) return;
      at("state").textContent = "Not measured";
      say(at("problem"), error);
      at("problem").append(element("button", { type: "button", onclick: () => this.now() }, "Measure again"));
    }
  }

  #draw(base, yours) {
    this.shown = yours;
    at("bars").replaceChildren(...bars(base?.measures, yours?.measures, this.began));
    const { occupations, facts, passages, tokens } = (yours ?? base).sizes;
    at("sizes").textContent = `${occupations} occupations in one sentence, ${facts} gender facts, ${passages} passages with ${tokens} tokens.`;
  }

  // The last event's data; null where somebody ended it.
  async #ask(factors, signal) {
    const body = this.body(factors);
    if (!body.recipe && !body.edits.length && !factors.length) return NOTHING;
    const key = JSON.stringify(body);
    if (this.known.has(key)) return this.known.get(key);
    let made = null;
    let failed = null;
    await follow("/api/tune/measure", {
      body,
      signal,
      on: (name, data) => {
        if (name === "place") at("state").textContent = `Number ${data.place} in line`;
        if (name === "started") at("state").textContent = "Measuring …";
        if (name === "progress") at("state").textContent = `${visible(data.title)} …`;
        if (name === "done") made = data;
        if (name === "failed") failed = data;
      },
    });
    if (failed) throw failed;
    if (made) this.known.set(key, made);
    return made;
  }
}

const same = (value) => ({ value, low: null, high: null });
const NOTHING = {
  measures: { spread: same(1), slope: same(1), facts: same(1), kl: same(0) },
  sizes: { occupations: 0, facts: 0, passages: 0, tokens: 0 },
};
