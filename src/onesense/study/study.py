"""How are the number of senses of a unit and the gender bias that it carries related? Answered in a run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onesense.bias.benchmark import Benchmark
from onesense.debias.find import FindSettings
from onesense.debias.proof.benchmarks import proof_benchmarks, require_held_out
from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.study.bins import Bin, binned
from onesense.study.effects import unit_tables
from onesense.study.groups import Comparison, GroupSettings, compare_groups
from onesense.study.relation import Relation, corrected, relations
from onesense.study.units import StudiedSet, UnitTable
from onesense.text.corpus import text_identity


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What is looked at.

    Attributes:
        find: Prompts and text on which the effect of each unit is measured; its screens are not used.
        group_sizes: Units of the groups that are compared; empty for no such comparison.
        group_kl: KL that groups are brought to, nats per token; less where ablating them whole does less.
        benchmarks: Held-out and guard benchmarks for the groups; None for those that come with the package.
        draws: Bootstrap draws of units.
        group_draws: Bootstrap draws of clusters of held-out items.
        seed: Of everything that is drawn.

    Raises:
        ConfigurationError: A number out of range, or a benchmark that is not held out.
    """

    find: FindSettings = field(default_factory=lambda: FindSettings(passages=192))
    group_sizes: tuple[int, ...] = (10, 25, 50)
    group_kl: float = 0.005
    benchmarks: tuple[Benchmark, ...] | None = None
    draws: int = 1000
    group_draws: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.group_draws < 1 or self.seed < 0:
            raise ConfigurationError(
                f"{self.draws} and {self.group_draws} bootstrap draws with seed {self.seed} cannot be drawn.",
                hint="Take at least one draw, and a seed of 0 or more.",
            )
        if any(size < 1 for size in self.group_sizes) or len(set(self.group_sizes)) < len(self.group_sizes):
            raise ConfigurationError(
                f"Groups of {', '.join(map(str, self.group_sizes))} units cannot be compared.",
                hint="Give different sizes of 1 or more, such as 10, 25 and 50.",
            )
        if not 0 < self.group_kl < float("inf"):
            raise ConfigurationError(
                f"The KL of the groups is {self.group_kl}; it must be a number above 0.",
                hint="0.005 nats per token is usual.",
            )
        require_held_out(self.held_out())

    def held_out(self) -> tuple[Benchmark, ...]:
        """The benchmarks."""
        return tuple(proof_benchmarks(quick=True)) if self.benchmarks is None else self.benchmarks


@dataclass(frozen=True, slots=True)
class SetSummary:
    """A set of units in short.

    Attributes:
        name: Its name.
        hook_point: Where its units are read.
        dictionary: Label of the dictionary; empty for units that need none.
        units: How many there are.
        known: How many have a number of senses.
        polysemantic: Share of those with more than one.
        effective: Their mean effective number.
        with_bias: How many of them carry any bias.
        bins: The figure's numbers.
    """

    name: str
    hook_point: str
    dictionary: str
    units: int
    known: int
    polysemantic: float
    effective: float
    with_bias: int
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Everything that a study says, as plain values that are written, read and shown.

    Attributes:
        model: Name of the model.
        sets: The sets.
        relations: Every outcome against every measure of senses, set by set.
        groups: Units with one sense against units with several, at equal KL.
        settings: What was asked for.
        notes: What a reader must know.
    """

    model: str
    sets: tuple[SetSummary, ...]
    relations: tuple[Relation, ...]
    groups: tuple[Comparison, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """What ``study`` gives.

    Attributes:
        run: The run folder.
        result: What it says.
        units: Every unit, set by set.
    """

    run: RunFolder
    result: StudyResult
    units: tuple[UnitTable, ...]


def study(
    model: LanguageModel,
    sets: Sequence[StudiedSet],
    run_folder: Path | str,
    settings: StudySettings | None = None,
    *,
    stages: Stages | None = None,
) -> Study:
    """Relate the senses of units to the gender bias that they carry.

    What units do is looked at on the find and tune splits and ordinary text; held-out data is used for the groups
    alone. An interrupted call goes on where it stopped and ends in the same numbers.

    Args:
        model: The model, in float32 where small effects are to be exact.
        sets: Units whose senses were measured; see ``studied_sets``.
        run_folder: Where results go; made if it does not exist.
        settings: What is looked at.
        stages: Told about progress.

    Raises:
        ConfigurationError: There are no units, or two sets have one name.
        HookPointError: A set is neither in the residual stream nor neurons.
        IncompatibleError: A set does not fit the model, or the folder holds another run.
        NumericalError: NaN.
        LockedError: Another process writes there.
    """
    settings, stages = settings or StudySettings(), stages or Silent()
    names = [one.name for one in sets]
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(
            f"The sets of units are {', '.join(names) or 'none'}: there must be one at least, each with its own name.",
            hint="Give each set its own name.",
        )
    run = _run_folder(model, sets, run_folder, settings)
    with run.lock():
        tables = unit_tables(model, sets, run, settings.find, stages)
        found: list[Relation] = []
        with stages.stage("Relations", "sets") as progress:
            for number, units in enumerate(tables):
                found += relations(units, draws=settings.draws, seed=settings.seed)
                progress(number + 1, len(tables))
        groups, notes = compare_groups(
            model,
            tables,
            {one.name: one.units.dictionary for one in sets},
            run,
            GroupSettings(
                settings.group_sizes,
                settings.group_kl,
                settings.held_out(),
                settings.group_draws,
                settings.seed,
            ),
            stages,
        )
    result = StudyResult(
        model=model.name,
        sets=tuple(_summary(one, units, settings) for one, units in zip(sets, tables, strict=True)),
        relations=tuple(corrected(found)),
        groups=tuple(groups),
        settings=_described(settings),
        notes=tuple(notes),
    )
    return Study(run, result, tuple(tables))


def _summary(one: StudiedSet, units: UnitTable, settings: StudySettings) -> SetSummary:
    known = one.senses.known
    origin = one.units.dictionary.origin
    return SetSummary(
        name=one.name,
        hook_point=one.units.dictionary.hook_point.name,
        dictionary=origin.label if origin.release or origin.path else "",
        units=one.units.n_units,
        known=int(known.sum()),
        polysemantic=one.senses.share_polysemantic(),
        effective=float(units.effective[known].mean()) if known.any() else float("nan"),
        with_bias=int((units.bias[known] > 0).sum()),
        bins=tuple(binned(units, draws=settings.draws, seed=settings.seed)),
    )


def _run_folder(
    model: LanguageModel, sets: Sequence[StudiedSet], path: Path | str, settings: StudySettings
) -> RunFolder:
    return RunFolder.create_or_resume(
        path,
        command="study",
        configuration={
            "model": model.name,
            "dtype": str(model.dtype).removeprefix("torch."),
            "sets": {one.name: _identity(one) for one in sets},
            **_described(settings),
        },
        provenance=provenance(
            model={"fingerprint": model.fingerprint, "name": model.name},
            text=text_identity(settings.find.text),
            seeds=settings.seed,
        ),
    )


def _identity(one: StudiedSet) -> str:
    """Hash of a dictionary and of the senses of its units: other ones make another study."""
    digest = hashlib.sha256(one.units.dictionary.origin.fingerprint.encode())
    for name, array in sorted(one.senses.to_tensors().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _described(settings: StudySettings) -> dict[str, Any]:
    """The settings that decide the numbers, as JSON values."""
    find = asdict(settings.find)
    looked_at = ("templates", "people_templates", "passages", "passage_tokens", "seed")
    return {
        **{f"find_{name}": find[name] for name in looked_at},
        "group_sizes": list(settings.group_sizes),
        "group_kl": settings.group_kl,
        "benchmarks": [one.key for one in settings.held_out()],
        "draws": settings.draws,
        "group_draws": settings.group_draws,
        "seed": settings.seed,
    }
