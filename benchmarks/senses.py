"""What measuring senses costs beside the contexts pass, and for eight times the features on the same text.

``python -m benchmarks.senses`` measures on the demo model and the packaged sample, each width in a process of its own:
seconds of the processor, since a side takes minutes in which other work comes and goes, and the peak of memory.
``--firing`` adds a dictionary whose further features fire too, so that there are eight times the contexts; it takes
several times as long as the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.debias import WIDTHS, dictionaries, widened
from benchmarks.memory import in_child, peak_megabytes
from benchmarks.timing import Ratio, report
from onesense.features.contexts import ContextSettings, collect_contexts
from onesense.model.dtype import resolve_dtype
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.sae.dictionary import Dictionary
from onesense.senses.measure import FEATURES, MeasureSettings, measure_senses
from onesense.senses.picture import draw_senses
from onesense.senses.sense_catalog import write_sense_catalog
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import read_documents

NARROW, WIDE, FIRING = (
    f"{WIDTHS[0]:,} features",
    f"{WIDTHS[1]:,} features, as sparse",
    f"{WIDTHS[1]:,} features, all firing",
)
FIGURES = {NARROW: "narrow", WIDE: "wide", FIRING: "wide_all_firing"}
PASS_LIMIT, WIDTH_LIMIT, MEMORY_LIMIT = 2, 1.5, 1.5


class Cost(NamedTuple):
    """What one dictionary takes.

    Attributes:
        measure: Seconds of the processor for ``senses measure``.
        contexts_pass: The same for the contexts pass over the same text.
        megabytes: Peak memory of loading, measuring and writing.
        contexts: Contexts of features that were placed and judged.
    """

    measure: float
    contexts_pass: float
    megabytes: float
    contexts: int


def dictionary_of(name: str) -> Dictionary:
    """The demo's in the middle, or that one widened."""
    middle = dictionaries()[1]
    return middle if name == NARROW else widened(middle, WIDTHS[1], firing=name == FIRING)


def measure(model: LanguageModel, dictionary: Dictionary, settings: MeasureSettings) -> int:
    """All that ``onesense senses measure`` does; contexts of features that were placed and judged."""
    with tempfile.TemporaryDirectory() as folder:
        measured = measure_senses(model, dictionary, Path(folder) / "run", settings)
        write_sense_catalog(measured, model)
        draw_senses(measured.tables, Path(folder) / "senses.png", "Senses")
        return int((measured.tables[FEATURES].position >= 0).sum())


def contexts_pass(model: LanguageModel, dictionary: Dictionary, settings: MeasureSettings) -> None:
    """The contexts pass of ``onesense extract`` over the same text."""
    chosen = ContextSettings(context_size=settings.context_size, max_tokens=settings.tokens)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create_or_resume(
            Path(folder) / "run", command="extract", configuration={}, provenance={}
        )
        reader = model.copy_as(resolve_dtype(settings.dtype, model.device))
        with run.lock():
            collect_contexts(reader, dictionary, read_documents(None), run, settings=chosen)


def cost(name: str, settings: MeasureSettings) -> Cost:
    """Measure, then make the contexts pass; call it in a process of its own."""
    model, dictionary = load_model("demo", dtype="float32", device="cpu"), dictionary_of(name)
    start = time.process_time()
    contexts = measure(model, dictionary, settings)
    seconds, megabytes = time.process_time() - start, peak_megabytes()
    # Compiles what the contexts pass compiles.
    contexts_pass(model, dictionary, replace(settings, tokens=300))
    start = time.process_time()
    contexts_pass(model, dictionary, settings)
    return Cost(seconds, time.process_time() - start, megabytes, contexts)


def show(costs: Mapping[str, Cost], settings: MeasureSettings) -> None:
    """Print times, ratios and memory; the first dictionary is what the others are compared with."""
    seconds: dict[str, list[float]] = {}
    ratios = []
    for name, one in costs.items():
        measured, contexts = f"senses measure, {name}", f"contexts pass, {name}"
        seconds |= {contexts: [one.contexts_pass], measured: [one.measure]}
        figure = f"measure_over_contexts_pass_{FIGURES[name]}"
        ratios.append(Ratio(figure, measured, contexts, "at most", PASS_LIMIT))
    base = costs[NARROW]
    for name, one in costs.items():
        if name != NARROW:
            # Linear in the contexts; with as many of them a wider dictionary may still cost more at each token.
            limit = max(WIDTH_LIMIT, one.contexts / base.contexts)
            ratios.append(
                Ratio(
                    f"{FIGURES[name]}_over_{FIGURES[NARROW]}",
                    f"senses measure, {name}",
                    f"senses measure, {NARROW}",
                    "at most",
                    limit,
                )
            )
    report(
        f"senses: demo model, {settings.tokens:,} tokens of the packaged sample, {settings.contexts} contexts of each "
        "unit; seconds of the processor",
        seconds,
        ratios,
        notes=[
            f"{name}: {one.contexts:,} contexts, at most {one.megabytes:.0f} MB, "
            f"{one.megabytes / base.megabytes:.2f} times (wanted: at most {MEMORY_LIMIT})"
            for name, one in costs.items()
        ],
        extra={f"megabytes_{FIGURES[name]}": one.megabytes for name, one in costs.items()},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.senses", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little text, few contexts")
    parser.add_argument("--firing", action="store_true", help="also with further features that fire")
    parser.add_argument("--tokens", type=int, help="tokens of the sample to read")
    options = parser.parse_args(arguments)
    tokens = options.tokens or (4_000 if options.quick else 20_000)
    settings = MeasureSettings(tokens=tokens, contexts=16 if options.quick else 64, check=False)
    names = [NARROW, WIDE, *([FIRING] if options.firing else [])]
    show({name: in_child(cost, name, settings) for name in names}, settings)


if __name__ == "__main__":
    main()
