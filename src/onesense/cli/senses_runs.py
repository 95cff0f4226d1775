"""Going on with a run of ``onesense senses measure``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onesense.engine.stages import Stages
    from onesense.model.language_model import LanguageModel
    from onesense.sae.dictionary import Dictionary
    from onesense.senses.measure import Measured
    from onesense.store.run_folder import RunFolder

_NOT_STORED = ("text", "check", "force")


def measured_again(
    model: LanguageModel, dictionary: Dictionary, folder: Path, text: str | None, stages: Stages
) -> Measured:
    """A finished measurement with its text, space and judge; nothing that is there is measured again.

    Args:
        model: The model that was measured.
        dictionary: Its dictionary.
        folder: The run folder.
        text: The text that was read; a run keeps what it was, not where it lies.
        stages: Told about progress.

    Raises:
        NotFoundError: No run is there.
        IncompatibleError: The run is of another model, dictionary or text, or no run of senses.
    """
    from onesense.errors import IncompatibleError
    from onesense.senses.measure import MeasureSettings, measure_senses
    from onesense.store.run_folder import RunFolder

    run = RunFolder.open(folder)
    if run.command != "senses measure":
        raise IncompatibleError(
            f"{folder} was made by `onesense {run.command}`.",
            hint="Give the folder that `onesense senses measure` wrote.",
        )
    stored = {
        field.name: run.configuration[field.name]
        for field in fields(MeasureSettings)
        if field.name not in _NOT_STORED and field.name in run.configuration
    }
    stored["others"] = tuple(stored.get("others", ()))
    checked = run.configuration.get("self_check")
    settings = MeasureSettings(
        **stored, text=text, check=checked != "left out", force=checked == "failed, forced"
    )
    return measure_senses(model, dictionary, folder, settings, stages=stages)


def dictionaries_of(runs: Sequence[RunFolder], paths: Sequence[Path]) -> list[Dictionary]:
    """The dictionaries that some runs measured.

    Args:
        runs: Runs of ``onesense senses measure``.
        paths: Their folders, one for each run; none where they are releases or still lie where they were.

    Raises:
        ConfigurationError: Another number of folders than of runs.
        NotFoundError: There is no such dictionary.
    """
    from onesense.errors import ConfigurationError
    from onesense.sae.load import load_dictionary, load_labelled

    if paths and len(paths) != len(runs):
        raise ConfigurationError(
            f"{len(paths)} folders of dictionaries were given for {len(runs)} runs.",
            hint="Give --sae-path for each --senses, in the same order, or leave it out.",
        )
    if paths:
        return [load_dictionary(path=path) for path in paths]
    return [load_labelled(str(run.configuration.get("dictionary", ""))) for run in runs]
