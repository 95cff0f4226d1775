// The list of runs, kept fresh.

import { copyOnClick, keepFresh } from "./run_progress.js";

copyOnClick();
keepFresh(document.getElementById("runs"), "/index.json", (data) => data.sections.flatMap((section) => section.runs));
