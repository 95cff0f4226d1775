// Starts an audit, shows how far it is, and where its report lies.

import { element, say, visible } from "./elements.js";
import { change, follow } from "./requests.js";

export async function startAudit(place, { recipe = null, run = null, suite = "quick" }) {
  const state = element("p", { class: "quiet" }, "Asking …");
  const bar = element("progress", { "aria-label": "Audit" });
  const end = element("button", { type: "button" }, "End the audit");
  place.replaceChildren(element("div", { class: "panel", role: "status" }, state, bar, end));
  try {
    const { job } = await change("/api/audits", { recipe, run, suite });
    end.addEventListener("click", () => change(`/api/work/${encodeURIComponent(job)}`, undefined, { method: "DELETE" }).catch((error) => say(place, error)));
    await follow(`/api/work/${encodeURIComponent(job)}/events`, {
      on: (name, data) => {
        if (name === "place") state.textContent = `Number ${data.place} in line`;
        if (name === "started") state.textContent = "Loading the model …";
        if (name === "progress") {
          const many = data.total ? `: ${data.done.toLocaleString("en")} of ${data.total.toLocaleString("en")} ${data.unit}` : "";
          state.textContent = `${data.title}${many}`;
          if (data.total) {
            bar.max = data.total;
            bar.value = data.done;
          } else bar.removeAttribute("value");
        }
        if (name === "failed") say(place, data);
        if (name === "cancelled") place.replaceChildren(element("p", { class: "quiet" }, "Ended. The same audit goes on where it stopped."));
        if (name === "done") {
          const notes = (data.notes ?? []).map((one) => element("p", { class: "small quiet" }, visible(one)));
          place.replaceChildren(element("p", {}, "Done: ", element("a", { href: data.address, class: "button primary" }, "Read the report")), ...notes);
        }
      },
    });
  } catch (error) {
    say(place, error);
  }
}
