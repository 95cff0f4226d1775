// What is kept of steering: a link, the command, the Python, recipes.

import * as draft from "./draft.js";
import { remember, wanted } from "./editor.js";
import { copy, element, say, visible } from "./elements.js";
import { follow, read } from "./requests.js";

const MOST_IN_LINK = 50;
const at = (id) => document.getElementById(id);

// The last event of a piece of work; what failed is thrown.
async function result(address, body, told) {
  let made = null;
  let failed = null;
  await follow(address, {
    body,
    on: (name, data) => {
      if (name === "place") told(`Number ${data.place} in line …`);
      if (name === "done") made = data;
      if (name === "failed") failed = data;
    },
  });
  if (failed) throw failed;
  if (!made) throw { message: "This was ended from the list of work.", hint: "Ask again." };
  return made;
}

async function link(asked, button) {
  const { edits, prompt, seed } = asked;
  if (edits.length > MOST_IN_LINK) {
    return say(at("kept"), { message: `A link holds ${MOST_IN_LINK} edits, and ${edits.length} are on.`, hint: "Save a recipe instead." });
  }
  const query = new URLSearchParams();
  for (const one of edits) query.append("edit", `${one.dictionary}/${one.feature}:${one.operation}:${one.value ?? ""}:${one.unit}:${one.window}`);
  query.append("prompt", prompt);
  query.append("seed", seed);
  const address = `${location.origin}/steer?${query}`;
  const lost = edits.some((one) => one.first || one.last || one.special);
  show("Link", address, lost ? "Positions and special tokens under “More” are not part of a link." : "");
  await copy(address, button);
}

function show(title, text, note) {
  const button = element("button", { type: "button", onclick: () => copy(text, button) }, "Copy");
  at("kept").replaceChildren(
    element("div", { class: "row spread" }, element("h3", {}, title), button),
    element("pre", { class: "scroll code panel", tabindex: 0, role: "region", "aria-label": title }, visible(text)),
    note ? element("p", { class: "small quiet" }, note) : "",
  );
}

async function code(kind, asked, button) {
  const words = (told) => at("kept").replaceChildren(element("p", { class: "quiet" }, told));
  words("Writing it …");
  try {
    const made = await result("/api/steer/code", asked(true), words);
    const note = kind === "command" && made.recipe ? `Flags cannot say these edits, so they were saved as the recipe “${visible(made.recipe.title)}”.` : "";
    show(kind === "command" ? "Command" : "Python", made[kind], note);
    await copy(made[kind], button);
  } catch (error) {
    say(at("kept"), error);
  }
}

async function save(event) {
  event.preventDefault();
  const told = (words) => at("saved").replaceChildren(element("p", { class: "quiet" }, words));
  const edits = wanted();
  if (!edits.length) return say(at("saved"), { message: "There is no edit to save.", hint: "Add a feature first, or turn an edit on." });
  told("Saving …");
  try {
    const { id, title } = await result("/api/recipes", { name: at("recipe-name").value, edits }, told);
    const name = encodeURIComponent(id);
    at("recipe-name").value = "";
    at("saved").replaceChildren(
      element("p", {}, "Saved as “", element("bdi", {}, visible(title)), "”."),
      element(
        "p",
        { class: "row" },
        element("a", { class: "button", href: `/tune?recipe=${name}` }, "Tune"),
        element("button", { type: "button", onclick: (pressed) => audit(pressed.target, id) }, "Audit"),
        element("a", { class: "button", href: `/api/recipes/${name}`, download: `${id}.json` }, "Download"),
      ),
      element("div", { id: "audit" }),
    );
  } catch (error) {
    say(at("saved"), error);
  }
}

// The audit's own module is asked for when it is wanted.
async function audit(button, recipe) {
  button.disabled = true;
  try {
    const { startAudit } = await import("./audit_start.js");
    await startAudit(at("audit"), { recipe, suite: "quick" });
  } catch (error) {
    say(at("audit"), { message: "The audit could not be started here.", hint: error.hint || "Run `onesense audit` with the recipe instead." });
  }
  button.disabled = false;
}

async function load(event, refresh) {
  event.preventDefault();
  try {
    const { offered } = await read(`/steer.json?recipe=${encodeURIComponent(at("load").value)}`);
    remember();
    draft.keep(offered);
    at("saved").replaceChildren(element("p", { class: "quiet" }, `Loaded ${offered.length} edits in place of those that were here; “Undo” brings them back.`));
    refresh();
  } catch (error) {
    say(at("saved"), error);
  }
}

export function keeping(asked, refresh) {
  at("copy-link").addEventListener("click", (event) => link(asked(), event.target));
  for (const kind of ["command", "python"]) {
    at(`copy-${kind}`).addEventListener("click", (event) => at("making").reportValidity() && code(kind, asked, event.target));
  }
  at("saving").addEventListener("submit", save);
  at("loading")?.addEventListener("submit", (event) => load(event, refresh));
}
