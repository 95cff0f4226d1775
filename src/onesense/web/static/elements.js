// Building the page: text is always text, never HTML.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function drawing(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Control and direction characters show as a mark, so that no text can rearrange the page.
export function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}]/gu, (one) => (one === "\n" || one === "\t" ? one : "�"));
}

// A token whose spaces and line breaks can be seen.
export function token(text) {
  return visible(text).replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·") || "∅";
}

export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const shown = Math.abs(value) < 1e4 ? Number(value.toPrecision(digits)).toString() : Math.round(value).toLocaleString("en");
  return shown.replace("-", "−");
}

export function percent(value, digits = 2) {
  return value === null || value === undefined ? "–" : `${number(100 * value, digits)} %`;
}

// Says an error where people look, and to those who listen.
export function say(place, error) {
  const hint = error.hint ? element("p", { class: "hint" }, visible(error.hint)) : null;
  place.replaceChildren(
    element("div", { class: "problem", role: "alert" }, element("p", {}, visible(error.message)), hint),
  );
}

export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select and copy it by hand";
  }
  setTimeout(() => (button.textContent = before), 1500);
}
