"""What measuring senses costs beside the contexts pass, and for eight times the features on the same text.

``python -m benchmarks.senses`` measures on the demo model and the packaged sample; times are seconds of the processor,
and memory is the peak of a process of its own for each width. ``--firing`` also times a dictionary whose further
features fire too, so that there are eight times the contexts; it takes about five times as long.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.debias import WIDTHS, dictionaries, widened
from benchmarks.memory import in_child, peak_megabytes
from benchmarks.timing import Ratio, Side, interleave, report
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
MEMORY_LIMIT = 1.5


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


def measure_megabytes(name: str, settings: MeasureSettings) -> float:
    """Peak memory of a process that loads, measures and writes; call it in one of its own."""
    measure(load_model("demo", dtype="float32", device="cpu"), dictionary_of(name), settings)
    return peak_megabytes()


def sides(
    model: LanguageModel, names: Sequence[str], settings: MeasureSettings, contexts: dict[str, int]
) -> list[Side]:
    """For each dictionary its contexts pass and its measurement, which notes how many contexts there were."""

    def counted(name: str, dictionary: Dictionary) -> Callable[[], None]:
        def run() -> None:
            contexts[name] = measure(model, dictionary, settings)

        return run

    found = []
    for name in names:
        dictionary = dictionary_of(name)
        found += [
            Side(f"contexts pass, {name}", partial(contexts_pass, model, dictionary, settings)),
            Side(f"senses measure, {name}", counted(name, dictionary)),
        ]
    return found


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
    model = load_model("demo", dtype="float32", device="cpu")
    # Compiles what the contexts pass compiles.
    contexts_pass(model, dictionary_of(NARROW), MeasureSettings(tokens=500))
    contexts: dict[str, int] = {}
    seconds = interleave(
        sides(model, names, settings, contexts), rounds=1, warm_up=False, clock=time.process_time
    )
    del model
    megabytes = {name: in_child(measure_megabytes, name, settings) for name in names}
    measured = {name: f"senses measure, {name}" for name in names}
    ratios = [
        Ratio("measure_over_contexts_pass", measured[NARROW], f"contexts pass, {NARROW}", "at most", 2),
        Ratio("measure_over_contexts_pass_wide", measured[WIDE], f"contexts pass, {WIDE}", "at most", 2),
        Ratio("eight_times_the_features", measured[WIDE], measured[NARROW], "at most", 1.5),
    ]
    if options.firing:
        more = contexts[FIRING] / contexts[NARROW]
        ratios.append(
            Ratio("eight_times_the_features_all_firing", measured[FIRING], measured[NARROW], "at most", more)
        )
    report(
        f"senses: demo model, {tokens:,} tokens of the packaged sample, {settings.contexts} contexts of each unit; "
        "seconds of the processor",
        seconds,
        ratios,
        notes=[
            f"{name}: {contexts[name]:,} contexts, at most {megabytes[name]:.0f} MB, "
            f"{megabytes[name] / megabytes[NARROW]:.2f} times (wanted: at most {MEMORY_LIMIT})"
            for name in names
        ],
        extra={
            "senses_megabytes": megabytes[NARROW],
            "senses_memory_growth": megabytes[WIDE] / megabytes[NARROW],
        },
    )


if __name__ == "__main__":
    main()
