"""What every page may use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from onesense.web.feature_tables import FeatureTables
from onesense.web.opened_runs import OpenedRuns
from onesense.web.resident import Resident
from onesense.web.run_sizes import RunSizes
from onesense.web.work import WorkQueue
from onesense.web.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Service:
    """What every page may use.

    Attributes:
        workspace: Runs, dictionaries, recipes.
        resident: Models and dictionaries in memory.
        queue: Everything that runs the model goes through it.
        tables: Tables of features in memory.
        opened: Results of runs.
        sizes: How large runs are.
    """

    workspace: Workspace
    resident: Resident
    queue: WorkQueue
    tables: FeatureTables = field(default_factory=FeatureTables)
    opened: OpenedRuns = field(default_factory=OpenedRuns)
    sizes: RunSizes = field(default_factory=RunSizes)


def service(request: Request) -> Service:
    """What pages may use; see ``Uses``."""
    found: Service = request.app.state.service
    return found


Uses = Annotated[Service, Depends(service)]
"""Annotation of a page's parameter that gives it the ``Service``."""
