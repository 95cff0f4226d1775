"""``onesense senses split``: a feature with several senses becomes several features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from onesense.senses.sense_table import SenseTable
    from onesense.senses.split.labelled import LabelledFeature
    from onesense.senses.split.result import Split

_SHOWN = 8


def split_command(
    run_folder: Annotated[
        Path,
        typer.Option(
            "--run-folder", help="What `onesense senses measure` wrote.", envvar="ONESENSE_RUN_FOLDER"
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder of the new dictionary; must be new or empty.")],
    features: Annotated[
        str | None, typer.Option("--features", help="Only these, such as 12,480; else the most polysemantic.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="How many features to try to split.")] = 200,
    text: options.Text = None,
    sae_release: options.SaeRelease = None,
    sae_id: options.SaeId = None,
    sae_path: options.SaePath = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    quiet: options.Quiet = False,
) -> None:
    """Give each sense of a feature a feature of its own; only where the dictionary gets no worse."""
    from onesense.cli.choice import choose
    from onesense.cli.console import Bars, note
    from onesense.cli.senses_runs import measured_again
    from onesense.config import load_settings
    from onesense.model.load import load_model
    from onesense.senses.measure import FEATURES
    from onesense.senses.split.result import SplitSettings
    from onesense.senses.split.split import split_features
    from onesense.senses.split.split_map import write_split
    from onesense.store.atomic import require_new_folder
    from onesense.store.run_folder import RunFolder
    from onesense.text.corpus import read_documents

    run = RunFolder.open(run_folder)
    require_new_folder(to)
    settings = load_settings(sae_release=sae_release, sae_id=sae_id, device=device, device_map=device_map)
    model = load_model(
        str(run.configuration.get("model", "demo")),
        dtype="float32",
        device=settings.device,
        device_map=settings.device_map,
    )
    dictionary = choose(settings, positional_model=model.name, sae_path=sae_path).load()
    stages = Bars(quiet=quiet)
    measured = measured_again(model, dictionary, run_folder, text, stages)
    labelled = _chosen(measured.tables[FEATURES], features, most)
    note(f"{len(labelled)} features are tried.")
    work = measured.measurement
    split = split_features(
        model,
        dictionary,
        labelled,
        work.activity,
        work.ruler.space,
        work.ruler.judge,
        read_documents(text, field=work.settings.text_field),
        SplitSettings(
            tokens=work.settings.tokens, context_size=work.settings.context_size, seed=work.settings.seed
        ),
        stages=stages,
    )
    folder = write_split(split, to)
    _show(split)
    note(f"Dictionary: {folder}")


def _chosen(table: SenseTable, features: str | None, most: int) -> list[LabelledFeature]:
    import numpy as np

    from onesense.errors import ConfigurationError
    from onesense.senses.split.labelled import LabelledFeature

    if features is None:
        several = np.flatnonzero(table.number > 1)
        chosen = several[np.argsort(-table.effective[several], kind="stable")][:most].tolist()
        if not chosen:
            raise ConfigurationError(
                "No feature has more than one sense in this run.", hint="There is nothing to split."
            )
    else:
        try:
            chosen = [int(word) for word in features.split(",")]
        except ValueError as error:
            raise ConfigurationError(
                f"{features!r} is no list of features.", hint="Give numbers: --features 12,480."
            ) from error
        outside = [one for one in chosen if not 0 <= one < len(table.number)]
        if outside:
            raise ConfigurationError(
                f"There is no feature {outside[0]}.", hint=f"They go from 0 to {len(table.number) - 1}."
            )
    labelled = []
    for feature in chosen:
        there = table.label[feature] >= 0
        labelled.append(LabelledFeature(feature, table.position[feature][there], table.label[feature][there]))
    return labelled


def _show(split: Split) -> None:
    from onesense.cli.console import results

    results.print(
        f"{len(split.accepted)} features became {sum(map(len, split.children.values()))}; "
        f"{len(split.refused)} stay as they are."
    )
    before, after = split.before, split.after
    results.print(
        f"On held-out text: FVU {before.fvu:.4f} -> {after.fvu:.4f}, L0 {before.l0:.1f} -> {after.l0:.1f}, "
        f"cross-entropy {before.cross_entropy:.4f} -> {after.cross_entropy:.4f} nats"
    )
    reasons: dict[str, int] = {}
    for one in split.refused:
        reasons[one.reason.sentence] = reasons.get(one.reason.sentence, 0) + 1
    for sentence, count in sorted(reasons.items(), key=lambda item: -item[1]):
        results.print(f"  {count:4d}  {sentence}", markup=False)
    for parent, children in list(split.children.items())[:_SHOWN]:
        results.print(f"  {parent} -> {', '.join(map(str, children))}")
