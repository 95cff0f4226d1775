// Progress of runs that commands write: the numbers as they come, the whole part anew where a state changed.

import { copy, visible } from "./elements.js";
import { read } from "./requests.js";

const WHILE_RUNNING_MS = 2000;
const AT_REST_MS = 10000;

function tell(run) {
  const place = document.querySelector(`[data-progress="${CSS.escape(run.id)}"]`);
  if (!place || !run.progress) return;
  const { title, done, total, unit } = run.progress;
  const bar = place.querySelector("progress");
  place.querySelector(".doing").textContent = visible(title || "At work");
  place.querySelector(".how-far").textContent = total
    ? `${done.toLocaleString("en")} of ${total.toLocaleString("en")} ${visible(unit)}`
    : "";
  if (total) {
    bar.max = total;
    bar.value = done;
  } else bar.removeAttribute("value");
}

// What has to be drawn anew: which runs there are, in which state, and where they lead.
const shape = (runs) =>
  JSON.stringify(runs.map((run) => [run.id, run.name, run.state, run.sizes, run.links, run.problem, Boolean(run.progress)]));

async function drawAnew(place) {
  const page = await fetch(location.pathname, { headers: { accept: "text/html" } });
  if (!page.ok) return;
  const fresh = new DOMParser().parseFromString(await page.text(), "text/html").getElementById(place.id);
  if (!fresh) return;
  const held = place.contains(document.activeElement) ? document.activeElement : null;
  if (held?.matches("input")) return; // somebody types
  const address = held?.getAttribute("href");
  place.replaceChildren(...fresh.childNodes);
  if (address) place.querySelector(`a[href="${CSS.escape(address)}"]`)?.focus();
}

// Keeps a part of the page fresh: of(data) gives the runs in the page's JSON.
export function keepFresh(place, address, of) {
  let before = null;
  let running = Number(place.dataset.running);
  async function look() {
    if (!document.hidden) {
      try {
        const data = await read(address);
        const runs = of(data);
        const now = shape(runs);
        // The first look may come after a change that the page does not show yet.
        const changed = before === null ? data.running !== running : now !== before;
        if (changed) await drawAnew(place);
        before = now;
        running = data.running;
        runs.forEach(tell);
      } catch {
        // the server is away, or the run is: the next look tells
      }
    }
    setTimeout(look, running ? WHILE_RUNNING_MS : AT_REST_MS);
  }
  look();
}

export function copyOnClick() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (button) copy(button.dataset.copy, button);
  });
}
