// The page of a run: progress while a command writes to it, and an audit of its model.

import { startAudit } from "./audit_start.js";
import { copyOnClick, keepFresh } from "./run_progress.js";

copyOnClick();
const place = document.getElementById("run");
keepFresh(place, `/runs/${encodeURIComponent(place.dataset.run)}.json`, (data) => [data.run]);

const button = document.getElementById("audit");
button?.addEventListener("click", async () => {
  button.disabled = true;
  const suite = document.getElementById("suite").value;
  await startAudit(document.getElementById("audit-place"), { run: button.dataset.modelRun, suite });
  button.disabled = false;
});
