// The button of a run's page that audits its model.

import { startAudit } from "./audit_start.js";

const button = document.getElementById("audit");
button?.addEventListener("click", () => {
  button.disabled = true;
  startAudit(document.getElementById("audit-place"), { run: button.dataset.run }).finally(() => (button.disabled = false));
});
