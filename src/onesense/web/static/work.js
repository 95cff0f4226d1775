// The list of work, kept fresh.

import { say } from "./elements.js";
import { change } from "./requests.js";

const place = document.getElementById("jobs");

async function refresh() {
  const page = await fetch("/work", { headers: { accept: "text/html" } }).catch(() => null);
  if (page?.ok) {
    const parsed = new DOMParser().parseFromString(await page.text(), "text/html");
    const held = document.activeElement?.dataset?.cancel;
    place.replaceChildren(...parsed.getElementById("jobs").childNodes);
    if (held) place.querySelector(`[data-cancel="${CSS.escape(held)}"]`)?.focus();
  }
}

place.addEventListener("click", async (event) => {
  const name = event.target.dataset?.cancel;
  if (!name) return;
  event.target.disabled = true;
  try {
    await change(`/api/work/${encodeURIComponent(name)}`, undefined, { method: "DELETE" });
    await refresh();
  } catch (error) {
    say(place, error);
  }
});

setInterval(() => {
  if (place.querySelector("[data-cancel]") && !document.hidden) refresh();
}, 1000);
