// Adding a feature, and what becomes of a tuned recipe: saved, steered with, audited, as commands.

import { copy, element, say, visible } from "./elements.js";
import { follow, read } from "./requests.js";
import { place } from "./tune_sliders.js";
import { whole } from "./tune_state.js";

const at = (id) => document.getElementById(id);

export function adding(dictionaries, add) {
  const choice = at("add-place");
  choice.replaceChildren(...dictionaries.map((one) => element("option", { value: one.key }, visible(place(one.hook_point)))));
  at("adding").addEventListener("submit", async (event) => {
    event.preventDefault();
    const words = at("add-words").value.trim();
    const dictionary = dictionaries.find((one) => one.key === choice.value);
    if (!words || !dictionary) return;
    try {
      const found = await matches(dictionary, words);
      at("added").replaceChildren(
        found.length
          ? element("ul", { class: "matches" }, found.map((one) => match(dictionary, one, add)))
          : element("p", { class: "quiet" }, dictionary.run ? "No feature has these words. Try others, or its number." : "There is no `onesense extract` run of this dictionary: give the feature’s number."),
      );
    } catch (error) {
      say(at("added"), error);
    }
  });
}

async function matches(dictionary, words) {
  const query = new URLSearchParams({ dictionary: dictionary.key });
  if (/^\d{1,9}$/.test(words)) {
    query.set("feature", words);
    return [await read(`/api/edits/describe?${query}`)];
  }
  query.set("q", words);
  return (await read(`/api/features/search?${query}`)).features;
}

function match(dictionary, { feature, label }, add) {
  const button = element("button", { type: "button", "aria-label": `Add feature ${feature}` }, "Add");
  const found = whole({ dictionary: dictionary.key, hook_point: dictionary.hook_point, feature, run: dictionary.run, explanation: label ?? "" });
  button.addEventListener("click", () => {
    button.replaceWith(element("span", { class: "quiet" }, add(found) ? "Added" : "Is there already"));
  });
  return element("li", {}, element("strong", {}, String(feature)), " ", element("bdi", {}, visible(label ?? "")), " ", button);
}

export function saving(body) {
  at("saving").addEventListener("submit", async (event) => {
    event.preventDefault();
    const told = (words) => at("saved").replaceChildren(element("p", { class: "quiet" }, words));
    let made = null;
    let failed = null;
    told("Saving …");
    try {
      await follow("/api/recipes/tuned", {
        body: { ...body(), name: at("name").value },
        on: (name, data) => {
          if (name === "place") told(`Number ${data.place} in line …`);
          if (name === "done") made = data;
          if (name === "failed") failed = data;
        },
      });
      if (failed) throw failed;
      if (!made) throw { message: "This was ended from the list of work.", hint: "Save again." };
      show(made);
    } catch (error) {
      say(at("saved"), error);
    }
  });
}

function show(made) {
  const id = encodeURIComponent(made.id);
  const audit = element("button", { type: "button", class: "primary" }, "Audit it on held-out data");
  const auditing = element("div");
  audit.addEventListener("click", async () => {
    audit.disabled = true;
    try {
      const { startAudit } = await import("/static/audit_start.js");
      await startAudit(auditing, { recipe: made.id, suite: "quick" });
    } catch {
      say(auditing, { message: "The audit could not be started here.", hint: "The command below does the same." });
    }
    audit.disabled = false;
  });
  at("name").value = "";
  at("saved").replaceChildren(
    element("p", {}, "Saved as “", element("bdi", {}, visible(made.title)), `”, ${made.edits} edits.`),
    element("p", { class: "row" }, audit, element("a", { class: "button", href: `/steer?recipe=${id}` }, "Steer with it"), element("a", { class: "button", href: `/api/recipes/${id}`, download: `${made.id}.json` }, "Download")),
    auditing,
    ...[["The same from the command line", made.tune_command], ["The audit from the command line", made.audit_command]].filter(([, line]) => line).map(([title, line]) => command(title, line)),
  );
}

function command(title, line) {
  const button = element("button", { type: "button", class: "plain" }, "Copy");
  button.addEventListener("click", () => copy(line, button));
  return element("div", { class: "command" }, element("p", { class: "row spread small quiet" }, title, button), element("pre", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, visible(line)));
}
