// The factors that were set, undo and redo, and what this browser keeps of them.

const MOST_PAST = 200;

export const nameOf = (one) => `${one.dictionary}/${one.feature}`;

// Sliders: {dictionary, hook_point, feature, factor, edited, also, explanation, promoted, bias, fact, kl, run}
export class Tuning {
  constructor(key, hash, sliders) {
    this.key = `onesense-tuning-${key}`;
    this.hash = hash;
    this.sliders = new Map(sliders.map((one) => [nameOf(one), one]));
    this.factors = new Map();
    this.added = [];
    this.past = [];
    this.future = [];
    this.listeners = [];
    this.other = () => {};
    addEventListener("storage", (event) => {
      if (event.key === this.key && event.newValue !== this.written) this.other();
    });
  }

  start(name) {
    return this.sliders.get(name).factor;
  }

  value(name) {
    return this.factors.get(name) ?? this.start(name);
  }

  changed(name) {
    return this.factors.has(name);
  }

  // What is sent to the server: only what differs from the beginning.
  sent() {
    return [...this.factors].sort().map(([name, factor]) => {
      const { dictionary, feature } = this.sliders.get(name);
      return { dictionary, feature, factor };
    });
  }

  // Brings back what was kept; says whether the recipe is another one since.
  restore() {
    const kept = this.#kept();
    if (!kept) return false;
    this.#take(kept);
    return this.factors.size > 0 && kept.hash !== this.hash;
  }

  // What another tab kept takes the place of what is here; undo brings this back.
  takeOther() {
    const kept = this.#kept();
    if (!kept) return;
    this.past.push(this.factors);
    this.#take(kept);
    for (const listener of this.listeners) listener();
  }

  add(slider) {
    const name = nameOf(slider);
    if (this.sliders.has(name)) return false;
    this.sliders.set(name, slider);
    this.added.push(slider);
    return true;
  }

  set(changes, { remember = true } = {}) {
    const next = new Map(this.factors);
    for (const [name, factor] of changes) {
      if (factor === this.start(name)) next.delete(name);
      else next.set(name, factor);
    }
    this.#become(next, remember);
  }

  undo() {
    if (this.past.length) {
      this.future.push(this.factors);
      this.#become(this.past.pop(), false);
    }
  }

  redo() {
    if (this.future.length) {
      this.past.push(this.factors);
      this.#become(this.future.pop(), false);
    }
  }

  #become(next, remember) {
    if (remember) {
      this.past.push(this.factors);
      if (this.past.length > MOST_PAST) this.past.shift();
      this.future = [];
    }
    this.factors = next;
    this.keep();
    for (const listener of this.listeners) listener();
  }

  keep() {
    const used = this.added.filter((one) => this.factors.has(nameOf(one)));
    this.written = JSON.stringify({ hash: this.hash, factors: Object.fromEntries(this.factors), added: used });
    try {
      if (this.factors.size) localStorage.setItem(this.key, this.written);
      else localStorage.removeItem(this.key);
    } catch {
      // storage is switched off: what is set lives as long as the page
    }
  }

  #kept() {
    try {
      const kept = JSON.parse(localStorage.getItem(this.key) ?? "{}");
      return { hash: kept.hash, factors: Object.entries(kept.factors ?? {}), added: Array.isArray(kept.added) ? kept.added : [] };
    } catch {
      return null;
    }
  }

  #take({ factors, added }) {
    for (const one of added) if (one && typeof one.dictionary === "string" && Number.isInteger(one.feature)) this.add(whole(one));
    this.factors = new Map(factors.filter(([name, factor]) => this.sliders.has(name) && Number.isFinite(factor)));
  }
}

// A slider of a feature that nothing more is known of than this.
export function whole(one) {
  return { hook_point: "", factor: 1, edited: false, also: [], explanation: "", promoted: [], bias: null, toward_women: null, fact: null, kl: null, run: "", ...one };
}
