// The Pareto front: a point that is looked at shows its numbers, and opens its recipe.

import { drawing, element } from "./elements.js";

const plot = document.querySelector(".front-plot");
const table = document.querySelector("table.points");

function rowOf(point) {
  const wanted = point.getAttribute("href");
  return [...table.querySelectorAll("tbody tr")].find((row) => row.querySelector("a")?.getAttribute("href") === wanted);
}

function tell(point, place) {
  const row = rowOf(point);
  if (!row) return;
  for (const other of plot.querySelectorAll("a")) other.classList.toggle("told", other === point);
  for (const other of table.querySelectorAll("tbody tr")) other.classList.toggle("told", other === row);
  const names = [...table.querySelectorAll("thead th")].map((one) => one.textContent);
  const numbers = [...row.children].slice(1, -1).map((cell, index) =>
    element("div", {}, element("dt", {}, names[index + 1]), element("dd", {}, cell.textContent)),
  );
  place.replaceChildren(
    element("h3", {}, `Recipe ${row.children[0].textContent}`),
    element("dl", {}, numbers),
    element("a", { class: "button", href: point.getAttribute("href") }, "Open this recipe"),
  );
}

if (plot && table) {
  const points = [...plot.querySelectorAll("a")];
  const place = element("div", { class: "panel front-told", id: "front-told" });
  plot.after(place);
  let touched = null;
  for (const point of points) {
    // A dot is small for a finger, and there is nothing between it and its name.
    const dot = point.querySelector(".point, .chosen");
    const reach = { class: "reach", cx: dot.getAttribute("cx"), cy: dot.getAttribute("cy"), r: "16" };
    point.append(drawing("circle", reach));
    point.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "touch") tell(point, place);
    });
    point.addEventListener("focus", () => tell(point, place));
    // A finger cannot hover: its first touch shows the numbers, the button below or a second one opens.
    point.addEventListener("pointerdown", (event) => {
      touched = event.pointerType === "touch" && !point.classList.contains("told") ? point : null;
    });
    point.addEventListener("click", (event) => {
      if (touched !== point) return;
      event.preventDefault();
      touched = null;
      tell(point, place);
    });
  }
  const chosen = points.find((point) => point.querySelector(".chosen")) ?? points[0];
  if (chosen) tell(chosen, place);
  else place.remove();
}
