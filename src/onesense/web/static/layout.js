// On every page: the theme, the line of work, the recipe in the making.

import * as draft from "./draft.js";
import { read } from "./requests.js";

const root = document.documentElement;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("onesense-theme", root.dataset.theme);
  } catch {
    // storage is switched off: until the next page
  }
});

const link = document.getElementById("draft-link");
function showDraft(list) {
  link.hidden = list.length === 0;
  link.textContent = `Recipe: ${list.length} edit${list.length === 1 ? "" : "s"}`;
}
showDraft(draft.edits());
draft.onChange(showDraft);

const line = document.getElementById("line-of-work");
async function showLine() {
  if (!document.hidden) {
    try {
      const { jobs } = await read("/work.json");
      const running = jobs.filter((job) => job.state === "running").length;
      const waiting = jobs.filter((job) => job.state === "waiting").length;
      const told = running + waiting ? `Work: ${running} runs, ${waiting} wait` : "Work";
      if (line.textContent !== told) line.textContent = told;
    } catch {
      line.textContent = "Work: no answer";
    }
  }
  setTimeout(showLine, 4000);
}
showLine();
