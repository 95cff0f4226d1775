"""All ground truth in one call: read a text, make unions, plant senses, compare widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError
from onesense.model.dtype import resolve_dtype
from onesense.model.language_model import LanguageModel
from onesense.model.unembedding import unembedding
from onesense.sae.dictionary import Dictionary
from onesense.senses.activity import Activity, collect_activity
from onesense.senses.measure import FEATURES
from onesense.senses.unit_sets import UnitSet, feature_units
from onesense.senses.validation.growing_widths import WidthSettings, growing_widths
from onesense.senses.validation.planted import PlantedSettings, planted_test
from onesense.senses.validation.union_test import UnionSettings, union_test
from onesense.senses.validation.validation import Validation
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import read_documents, text_identity

UNION, PLANTED, WIDTHS = "union", "planted", "widths"


@dataclass(frozen=True, slots=True)
class ValidateSettings:
    """What is validated.

    Attributes:
        tests: Some of ``union``, ``planted`` and ``widths``.
        text: See ``read_documents``; None for the packaged sample.
        text_field: Column that holds the text.
        tokens: How many tokens are read at most.
        context_size: Tokens of a window.
        contexts: Of each set, unit or feature.
        pairs: Pairs of the union test.
        seed: Of everything that is drawn.
        dtype: Of the model while it reads.

    Raises:
        ConfigurationError: An unknown test, or none.
    """

    tests: tuple[str, ...] = (UNION, PLANTED)
    text: str | None = None
    text_field: str = "text"
    tokens: int = 250_000
    context_size: int = 128
    contexts: int = 128
    pairs: int = 600
    seed: int = 0
    dtype: str = "auto"

    def __post_init__(self) -> None:
        unknown = [one for one in self.tests if one not in (UNION, PLANTED, WIDTHS)]
        if unknown or not self.tests:
            raise ConfigurationError(
                f"There is no test {unknown[0]!r}." if unknown else "No test was named.",
                hint=f"Choose: {UNION}, {PLANTED}, {WIDTHS}.",
            )


def validate_senses(
    model: LanguageModel,
    dictionary: Dictionary,
    others: Sequence[Dictionary],
    run_folder: Path | str,
    settings: ValidateSettings | None = None,
    *,
    read: Activity | None = None,
    stages: Stages | None = None,
) -> Validation:
    """Test the measure of senses on ground truth that needs no judge.

    Args:
        model: The model.
        dictionary: A dictionary in its residual stream.
        others: Dictionaries of other widths at the same hook point, for ``widths``.
        run_folder: Where the text as the model read it is kept; a later call goes on with it.
        settings: Which tests.
        read: A text that was read with the features of the dictionary already; the union test then reads no other.
        stages: Told about progress.

    Raises:
        ConfigurationError: Too little text, two dictionaries of one width, or ``widths`` with one dictionary.
        IncompatibleError: The folder holds another run, or a dictionary does not fit.
        NumericalError: NaN or infinity.
    """
    settings, stages = settings or ValidateSettings(), stages or Silent()
    unit_sets = _unit_sets(dictionary, others if WIDTHS in settings.tests else ())
    activity = read
    if WIDTHS in settings.tests or (UNION in settings.tests and read is None):
        activity = _activity(model, dictionary, unit_sets, run_folder, settings, stages)
    union = widths = planted = None
    if activity is not None and UNION in settings.tests:
        with stages.stage("Unions of two features", "tests") as progress:
            wanted = UnionSettings(pairs=settings.pairs, contexts=settings.contexts, seed=settings.seed)
            union = union_test(activity, unit_sets[0], wanted, unembedding=unembedding(model))
            progress(1, 1)
    if activity is not None and WIDTHS in settings.tests:
        with stages.stage("Growing widths", "tests") as progress:
            sized = WidthSettings(contexts=settings.contexts, seed=settings.seed)
            widths = growing_widths(activity, unit_sets, unit_sets[0].name, sized)
            progress(1, 1)
    if PLANTED in settings.tests:
        with stages.stage("Planted senses", "tests") as progress:
            planted = planted_test(PlantedSettings(contexts=settings.contexts, seed=settings.seed))
            progress(1, 1)
    return Validation(union=union, planted=planted, widths=widths)


def _unit_sets(dictionary: Dictionary, others: Sequence[Dictionary]) -> list[UnitSet]:
    found = [feature_units(dictionary, FEATURES)]
    for one in others:
        found.append(feature_units(one, f"{FEATURES}, {one.d_sae:,} wide"))
    widths = [one.n_units for one in found]
    if len(set(widths)) < len(widths):
        raise ConfigurationError(
            f"Dictionaries of the same width cannot be told apart: {', '.join(map(str, sorted(widths)))}.",
            hint="Compare dictionaries of different widths.",
        )
    return found


def _activity(
    model: LanguageModel,
    dictionary: Dictionary,
    unit_sets: Sequence[UnitSet],
    run_folder: Path | str,
    settings: ValidateSettings,
    stages: Stages,
) -> Activity:
    read = ("tokens", "context_size", "text_field")
    dtype = resolve_dtype(settings.dtype, model.device)
    run = RunFolder.create_or_resume(
        run_folder,
        command="senses validate",
        configuration={
            **{name: value for name, value in asdict(settings).items() if name in read},
            "model": model.name,
            "dictionaries": [one.dictionary.origin.label for one in unit_sets],
            "hook_point": dictionary.hook_point.name,
            "dtype": str(dtype).removeprefix("torch."),
        },
        provenance=provenance(
            model={"fingerprint": model.fingerprint, "name": model.name},
            dictionary={one.name: one.dictionary.origin.fingerprint for one in unit_sets},
            text=text_identity(settings.text),
            seeds=settings.seed,
        ),
    )
    with run.lock():
        return collect_activity(
            model.copy_as(dtype),
            dictionary.hook_point,
            unit_sets,
            read_documents(settings.text, field=settings.text_field),
            run,
            tokens=settings.tokens,
            context_size=settings.context_size,
            stages=stages,
        )
