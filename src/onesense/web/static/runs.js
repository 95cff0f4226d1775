// The list of runs, kept fresh while something runs.

const place = document.getElementById("runs");

async function refresh() {
  const page = await fetch("/", { headers: { accept: "text/html" } }).catch(() => null);
  if (!page?.ok || !place) return;
  const fresh = new DOMParser().parseFromString(await page.text(), "text/html").getElementById("runs");
  if (fresh && !place.contains(document.activeElement)) place.replaceChildren(...fresh.childNodes);
}

setInterval(() => {
  if (place?.querySelector("[data-state=running]") && !document.hidden) refresh();
}, 2000);
