"""``onesense study``: how are senses and gender bias related?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onesense.cli import options

_STUDY = "Study"


def study_command(
    senses: Annotated[
        list[Path],
        typer.Option(
            "--senses",
            help="Run folder of `onesense senses measure`; repeat for dictionaries of other widths.",
            rich_help_panel=_STUDY,
        ),
    ],
    sae_path: Annotated[
        list[Path] | None,
        typer.Option(
            "--sae-path",
            help="Folder of the dictionary of each run, in the same order, where it lies elsewhere now.",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    group_sizes: Annotated[
        str,
        typer.Option(
            "--groups",
            help="Units of the groups compared at equal KL; none for no groups.",
            rich_help_panel=_STUDY,
        ),
    ] = "10,25,50",
    draws: Annotated[
        int, typer.Option("--draws", help="Bootstrap draws of the intervals.", rich_help_panel=_STUDY)
    ] = 2000,
    text: options.Text = None,
    run_folder: options.RunFolderOption = None,
    seed: options.Seed = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    quiet: options.Quiet = False,
) -> None:
    """Relate the senses of features and neurons to the gender bias that they carry: a page, a figure, a table."""
    from onesense.cli.console import Bars, note, results
    from onesense.cli.senses_runs import dictionaries_of, measured_again
    from onesense.config import load_settings
    from onesense.model.load import load_model
    from onesense.report import study_wording
    from onesense.report.study_files import write_study_files
    from onesense.store.progress import RecordedStages
    from onesense.store.run_folder import RunFolder
    from onesense.study.study import StudySettings, study
    from onesense.study.units import studied_sets

    settings = load_settings(run_folder=run_folder, seed=seed, device=device, device_map=device_map)
    wanted = StudySettings(group_sizes=_sizes(group_sizes), draws=draws, seed=settings.seed)
    runs = [RunFolder.open(one) for one in senses]
    dictionaries = dictionaries_of(runs, sae_path or [])
    model = load_model(
        str(runs[0].configuration.get("model", "demo")),
        dtype="float32",
        device=settings.device,
        device_map=settings.device_map,
    )
    stages = Bars(quiet=quiet)
    measured = [
        measured_again(model, dictionary, run.path, text, stages)
        for dictionary, run in zip(dictionaries, runs, strict=True)
    ]
    folder = settings.run_folder or Path("onesense-runs") / "study"
    found = study(model, studied_sets(measured), folder, wanted, stages=RecordedStages(stages, folder))
    results.print(study_wording.headline(found.result), markup=False)
    for line in (*study_wording.details(found.result), *study_wording.group_findings(found.result)):
        results.print(f"- {line}", markup=False)
    for path in write_study_files(found):
        note(f"Written: {path}")


def _sizes(text: str) -> tuple[int, ...]:
    from onesense.errors import ConfigurationError

    if text == "none":
        return ()
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} are no sizes of groups.", hint="Give numbers, such as 10,25,50, or none."
        ) from error
