"""How many senses each unit of a model has, in a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from onesense.engine.executor import Executor
from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError
from onesense.model.dtype import resolve_dtype
from onesense.model.language_model import LanguageModel
from onesense.sae.check import self_check
from onesense.sae.dictionary import Dictionary
from onesense.senses.activity import Activity, Floats, collect_activity, rates_among, read_text
from onesense.senses.judge import SMALLEST_SET, halved_sizes
from onesense.senses.partition import THRESHOLD, Senses
from onesense.senses.ruler import Ruler, fit_ruler
from onesense.senses.sampling import sample_all
from onesense.senses.sense_table import SenseTable, sense_table
from onesense.senses.unit_sets import (
    UnitSet,
    feature_units,
    neuron_point,
    neuron_units,
    residual_units,
    usable_rows,
)
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import read_documents, text_identity
from onesense.text.windows import iter_windows

FEATURES = "features"
NEURONS = "neurons"
RESIDUAL_BASIS = "residual basis"

_THRESHOLD_WINDOWS = 128
_UNITS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """What is measured, and on what.

    Attributes:
        text: See ``read_documents``; None for the packaged sample.
        text_field: Column that holds the text.
        tokens: How many tokens are read at most.
        context_size: Tokens of a window, its BOS included.
        contexts: Contexts of each unit.
        others: What stands beside the features, at matched firing rate: ``neurons``, ``residual basis``.
        threshold: How much a set of contexts must look like a union to count as several senses.
        seed: Of everything that is drawn.
        dtype: Of the model while it reads; see ``resolve_dtype``.
        check: Whether to check the dictionary against the model first.
        force: Go on, and mark the run, where that check fails.

    Raises:
        ConfigurationError: Too few contexts, tokens, or an unknown set.
    """

    text: str | None = None
    text_field: str = "text"
    tokens: int = 250_000
    context_size: int = 128
    contexts: int = 128
    others: tuple[str, ...] = (NEURONS, RESIDUAL_BASIS)
    threshold: float = THRESHOLD
    seed: int = 0
    dtype: str = "auto"
    check: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        if self.contexts < 2 * SMALLEST_SET or self.tokens < 1:
            raise ConfigurationError(
                f"{self.contexts} contexts of each unit from {self.tokens} tokens are too few to tell senses apart.",
                hint=f"Take {2 * SMALLEST_SET} contexts or more; 128 from 250,000 tokens are usual.",
            )
        if not 0 < self.threshold < 1:
            raise ConfigurationError(
                f"The threshold is {self.threshold}; it is a share between 0 and 1.",
                hint=f"{THRESHOLD} is usual.",
            )
        unknown = [one for one in self.others if one not in (NEURONS, RESIDUAL_BASIS)]
        if unknown:
            raise ConfigurationError(
                f"There are no units called {unknown[0]!r}.", hint=f"Choose: {NEURONS}, {RESIDUAL_BASIS}."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of contexts for which the judge is fitted: halved down to the smallest."""
        return halved_sizes(self.contexts)


class SenseMeasurement:
    """See ``measure_senses``.

    Attributes:
        run: The run folder.
        settings: What was asked for.
        unit_sets: The sets that are measured, the dictionary's features first.
        activity: The text as the model read it.
        samples: Contexts of each unit, by name of its set.
    """

    def __init__(
        self, run: RunFolder, settings: MeasureSettings, unit_sets: Sequence[UnitSet], activity: Activity
    ) -> None:
        self.run, self.settings, self.activity = run, settings, activity
        self.unit_sets = tuple(unit_sets)
        self.samples = {
            one.name: sample_all(activity.firings[one.name], settings.contexts, seed=settings.seed)
            for one in unit_sets
        }

    @cached_property
    def ruler(self) -> Ruler:
        """What senses are measured with, learned from the dictionary's features."""
        features = self.unit_sets[0]
        return fit_ruler(
            self.activity,
            features.name,
            _directions(features, range(features.n_units)),
            self.samples[features.name],
            sizes=self.settings.sizes,
            seed=self.settings.seed,
        )

    def senses_of(self, one: UnitSet, units: Sequence[int]) -> list[Senses | None]:
        """The senses of some units of a set; None where it has too few contexts, or one document only."""
        return self.ruler.senses(
            [self.samples[one.name][unit] for unit in units],
            _directions(one, units),
            threshold=self.settings.threshold,
        )

    def table(self, one: UnitSet, stages: Stages) -> SenseTable:
        """The senses of all units of a set, from the run folder where they are there."""
        name = result_name(one.name)
        if self.run.has_result(name):
            return SenseTable.from_tensors(self.run.read_result(name))
        found: list[Senses | None] = []
        with stages.stage(f"Senses of {one.name}", "units") as progress:
            for start in range(0, one.n_units, _UNITS_AT_ONCE):
                units = range(start, min(start + _UNITS_AT_ONCE, one.n_units))
                found += self.senses_of(one, units)
                progress(len(found), one.n_units)
        table = sense_table(
            self.activity,
            self.activity.firings[one.name],
            self.samples[one.name],
            found,
            self.settings.contexts,
        )
        self.run.write_result(name, table.to_tensors())
        return table


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What was measured.

    Attributes:
        measurement: With text, contexts, space and judge.
        tables: The senses, by name of the set.
    """

    measurement: SenseMeasurement
    tables: dict[str, SenseTable]

    @property
    def run(self) -> RunFolder:
        """The run folder."""
        return self.measurement.run


def result_name(unit_set: str) -> str:
    """Name of a set's table among the results of its run."""
    return f"senses/{unit_set.replace(' ', '-')}"


def measure_senses(
    model: LanguageModel,
    dictionary: Dictionary,
    run_folder: Path | str,
    settings: MeasureSettings | None = None,
    *,
    stages: Stages | None = None,
    executor: Executor | None = None,
) -> Measured:
    """Count the senses of a dictionary's features, and of neurons and the residual basis beside them.

    The text is read once; contexts of each unit are drawn by activation, placed in a space that is learned from the
    features themselves, and parted into as many senses as a judge of such contexts says. An interrupted call
    goes on where it stopped.

    Args:
        model: The model.
        dictionary: A dictionary in its residual stream.
        run_folder: Where results go.
        settings: What is measured, and on what.
        stages: Told about progress.
        executor: Where text is read; None: here. Results do not depend on it.

    Raises:
        ConfigurationError: The dictionary reads another place than the stream, or the text is too short.
        SelfCheckError: The dictionary does not fit the model, and ``force`` is off.
        IncompatibleError: The folder holds another run.
        LockedError: Another process writes there.
        NumericalError: NaN or infinity.
    """
    settings, stages = settings or MeasureSettings(), stages or Silent()
    features = feature_units(dictionary)
    checked = None
    if settings.check and model.tokenizer is not None:
        with stages.stage("Checking the dictionary", "tokens"):
            checked = self_check(model, dictionary, None, force=settings.force).passed
    run = RunFolder.create_or_resume(
        run_folder,
        command="senses measure",
        configuration=_configuration(model, dictionary, settings, checked),
        provenance=provenance(
            model={"fingerprint": model.fingerprint, "name": model.name},
            dictionary={"fingerprint": dictionary.origin.fingerprint, "name": dictionary.origin.label},
            text=text_identity(settings.text),
            seeds=settings.seed,
        ),
    )
    with run.lock():
        reader = model.copy_as(resolve_dtype(settings.dtype, model.device))
        unit_sets = [features, *_others(reader, dictionary, settings)]
        activity = collect_activity(
            reader,
            dictionary.hook_point,
            unit_sets,
            read_documents(settings.text, field=settings.text_field),
            run,
            tokens=settings.tokens,
            context_size=settings.context_size,
            stages=stages,
            executor=executor,
        )
        measurement = SenseMeasurement(run, settings, unit_sets, activity)
        return Measured(measurement, {one.name: measurement.table(one, stages) for one in unit_sets})


def open_measured(run: RunFolder) -> tuple[Activity, dict[str, SenseTable]]:
    """Text and senses of a finished run, without a model.

    Raises:
        NotFoundError: The run holds no measured senses.
        FormatError: A file is damaged.
    """
    names = [FEATURES, *(one for one in run.configuration.get("others", []))]
    tables = {name: SenseTable.from_tensors(run.read_result(result_name(name))) for name in names}
    return read_text(run), tables


def _directions(one: UnitSet, units: Sequence[int]) -> Floats:
    """What they write, of norm 1, [units, d_model]."""
    return np.asarray(one.directions[list(units)].cpu().numpy(), np.float32)


def _configuration(
    model: LanguageModel, dictionary: Dictionary, settings: MeasureSettings, checked: bool | None
) -> dict[str, object]:
    chosen = asdict(settings)
    for name in ("check", "force", "text"):
        del chosen[name]
    return {
        **chosen,
        "model": model.name,
        "dictionary": dictionary.origin.label,
        "hook_point": dictionary.hook_point.name,
        "dtype": str(resolve_dtype(settings.dtype, model.device)).removeprefix("torch."),
        "self_check": "left out" if checked is None else "passed" if checked else "failed, forced",
    }


def _others(model: LanguageModel, dictionary: Dictionary, settings: MeasureSettings) -> list[UnitSet]:
    if not settings.others:
        return []
    documents = read_documents(settings.text, field=settings.text_field)
    windows = list(
        islice(iter_windows(model, documents, context_size=settings.context_size), _THRESHOLD_WINDOWS)
    )
    point, made = dictionary.hook_point, []
    at = neuron_point(point.layer)
    rows = usable_rows(model, [point, at] if NEURONS in settings.others else [point], windows)
    # Those that a release records are of another text.
    densities = rates_among(dictionary.to(device=model.device), rows[point])
    if NEURONS in settings.others:
        made.append(neuron_units(model, point.layer, rows[at], densities, seed=settings.seed))
    if RESIDUAL_BASIS in settings.others:
        made.append(residual_units(point, rows[point], densities, seed=settings.seed))
    return made
