// Starts an audit, shows how far it is, and where its report lies.
// startAudit(place, {recipe}) audits a recipe by its id, startAudit(place, {run}) the model of a run as it is.

import { element, say, visible } from "./elements.js";
import { change, follow } from "./requests.js";

function panel() {
  const state = element("p", { role: "status" }, "Asking …");
  const bar = element("progress", { "aria-label": "Audit" });
  const end = element("button", { type: "button", disabled: true }, "End the audit");
  return { state, bar, end, whole: element("div", { class: "panel" }, state, bar, end) };
}

function tell({ state, bar }, name, data) {
  if (name === "place") state.textContent = `Number ${data.place} in line`;
  if (name === "started") state.textContent = "Loading the model …";
  if (name !== "progress") return;
  const many = data.total ? `: ${data.done.toLocaleString("en")} of ${data.total.toLocaleString("en")} ${data.unit}` : "";
  state.textContent = visible(`${data.title}${many}`);
  if (data.total) {
    bar.max = data.total;
    bar.value = data.done;
  } else bar.removeAttribute("value");
}

function finished(place, data) {
  const notes = (data.notes ?? []).map((one) => element("p", { class: "small quiet" }, visible(one)));
  const report = element("a", { href: data.address, class: "button primary" }, "Read the report");
  place.replaceChildren(element("p", {}, "The audit is done. "), element("p", {}, report), ...notes);
  report.focus();
}

export async function startAudit(place, { recipe = null, run = null, suite = "quick" }) {
  const shown = panel();
  place.replaceChildren(shown.whole);
  try {
    const { job } = await change("/api/audits", { recipe, run, suite });
    const address = `/api/work/${encodeURIComponent(job)}`;
    shown.end.disabled = false;
    shown.end.addEventListener("click", async () => {
      shown.end.disabled = true;
      shown.state.textContent = "Ending …";
      try {
        await change(address, undefined, { method: "DELETE" });
      } catch (error) {
        say(place, error);
      }
    });
    await follow(`${address}/events`, {
      on: (name, data) => {
        tell(shown, name, data);
        if (name === "done") finished(place, data);
        if (name === "failed") say(place, data);
        if (name === "cancelled") {
          place.replaceChildren(element("p", { role: "status" }, "Ended. The same audit goes on where it stopped."));
        }
      },
    });
  } catch (error) {
    say(place, error);
  }
}
