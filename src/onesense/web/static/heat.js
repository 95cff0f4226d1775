// Tokens with their activation: the value of the one under the pointer, the finger or the arrow keys.

import { element, number, token, visible } from "./elements.js";

export function heatLine(tokens, activations, largest, label, peak = -1) {
  const spans = tokens.map((text, at) => {
    const value = activations[at];
    const level = value > 0 && largest > 0 ? ` h${Math.min(5, Math.max(1, Math.ceil((5 * value) / largest)))}` : "";
    return element(
      "span",
      { class: `t${level}${at === peak ? " peak" : ""}`, "data-a": value > 0 ? value : null, title: value > 0 ? `${token(text)}: ${number(value, 4)}` : null },
      visible(text).replaceAll("\n", "⏎"),
    );
  });
  return element("p", { class: "heat", tabindex: "0", "aria-label": label }, spans);
}

// Shows values in `output` for every heat line inside `place`, also those that come later.
export function watch(place, output) {
  const tell = (span) => {
    place.querySelector(".held")?.classList.remove("held");
    span.classList.add("held");
    output.textContent = `${token(span.textContent)}: ${number(Number(span.dataset.a ?? 0), 4)}`;
  };
  for (const kind of ["pointerover", "click"]) {
    place.addEventListener(kind, (event) => {
      const span = event.target.closest(".heat .t");
      if (span) tell(span);
    });
  }
  place.addEventListener("keydown", (event) => {
    const line = event.target.closest(".heat");
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!line || !by) return;
    event.preventDefault();
    event.stopPropagation();
    const spans = [...line.querySelectorAll(".t")];
    const held = spans.findIndex((one) => one.classList.contains("held"));
    tell(spans[Math.max(0, Math.min(spans.length - 1, held + by))]);
  });
}
