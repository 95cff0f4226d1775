"""The runs: what there is, and what is running."""

from __future__ import annotations

from onesense.web.pages import Pages, View
from onesense.web.service import Uses

pages = Pages()


@pages.page("/", "runs.html.j2")
def runs(uses: Uses) -> View:
    """Every run."""
    listed = [
        {
            "id": known.id,
            "name": known.path.name,
            "command": known.command,
            "model": known.fact("model"),
            "problem": known.problem,
        }
        for known in uses.workspace.runs()
    ]
    return View("Runs", {"runs": listed})
