"""A tuning step with and without its kept prefix, and what finding costs by prompts and by features.

``python -m benchmarks.debias`` measures on the demo model in float32; ``--whole`` also times ``onesense debias demo``
from start to end.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.timing import Ratio, Side, interleave, report
from onesense.debias.attribution import contrast_attributions
from onesense.debias.contrasts import fact_contrasts, occupation_contrasts
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.objective import Objective
from onesense.debias.selection import Feature
from onesense.debias.tunable import Tunable
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.sae.dictionary import Dictionary, Origin
from onesense.sae.load import load_dictionary

LAYERS = (9, 15, 21)
FEATURES = 50
KEPT, WHOLE = "a step, prefix kept", "a step, whole model"
WIDE, DENSE = "eight times the features", "eight times the features, all firing"
WIDTHS = (4_608, 36_864)
OUT_OF_REACH = 1e30
MOST_SECONDS, MOST_MEGABYTES = 600, 4_000


def dictionaries() -> list[Dictionary]:
    """Those of the demo model."""
    return [load_dictionary(release="demo", sae_id=f"blocks.{layer}.hook_resid_post") for layer in LAYERS]


def step_sides(model: LanguageModel) -> list[Side]:
    """The same step of the same tuning, two ways."""
    ready = dictionaries()
    features = [Feature(place % len(ready), 40 * place) for place in range(FEATURES)]
    passages = calibration_requests(model, passages=8, tokens=48)
    sides = []
    for name, resume in ((KEPT, True), (WHOLE, False)):
        tunable = Tunable(
            model, ready, features, torch.full((FEATURES,), -0.3), torch.ones(FEATURES), thresholds=False
        )
        objective = Objective(
            model,
            [occupation_contrasts()],
            fact_contrasts(),
            passages,
            start=LAYERS[0] + 1,
            seed=0,
            resume=resume,
        )
        sides.append(Side(name, partial(objective.backward, 0, tunable.edited, facts=0.3, kl=20.0)))
    return sides


def widened(dictionary: Dictionary, width: int, *, firing: bool) -> Dictionary:
    """The dictionary with its features repeated until there are so many.

    Args:
        dictionary: A dictionary with thresholds.
        width: Features wanted.
        firing: Whether the copies fire too. A dictionary that is trained wider is as sparse as a narrow one; with
            copies that fire it has as many times the latents at every token.
    """
    times = width // dictionary.d_sae
    tensors = {
        name: tensor if name == "b_dec" else torch.cat([tensor] * times, dim=1 if name == "W_enc" else 0)
        for name, tensor in dictionary.tensors().items()
    }
    if not firing:
        tensors["threshold"][dictionary.d_sae :] = OUT_OF_REACH
    return replace(dictionary, **tensors, origin=Origin())  # type: ignore[arg-type]


def find_sides(model: LanguageModel, prompts: int) -> list[Side]:
    """Attributions of few and of twice as many prompts, with a dictionary and with ones eight times as wide."""
    dictionary = dictionaries()[1]
    contrasts = occupation_contrasts()[: 2 * prompts]
    few = contrasts[:prompts]
    wide = {
        name: widened(dictionary, WIDTHS[1], firing=firing) for name, firing in ((WIDE, False), (DENSE, True))
    }
    return [
        Side("prompts", partial(contrast_attributions, model, [dictionary], few)),
        Side("twice the prompts", partial(contrast_attributions, model, [dictionary], contrasts)),
        *(Side(name, partial(contrast_attributions, model, [one], few)) for name, one in wide.items()),
    ]


def whole_run() -> dict[str, float]:
    """Seconds and peak megabytes of the command."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "onesense", "debias", "demo", "--quiet"]
        subprocess.run([*command, "--run-folder", str(Path(folder) / "run")], check=True)
        seconds = time.perf_counter() - start
    return {
        "debias_seconds": seconds,
        "debias_megabytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.debias", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--whole", action="store_true", help="also time the whole command")
    options = parser.parse_args(arguments)
    prompts, rounds = (16, 1) if options.quick else (64, 3)
    model = load_model("demo", dtype="float32", device="cpu")
    seconds = interleave([*step_sides(model), *find_sides(model, prompts)], rounds=rounds)
    extra = whole_run() if options.whole else {}
    notes = []
    if extra:
        notes.append(
            f"onesense debias demo: {extra['debias_seconds']:.0f} s (wanted: at most {MOST_SECONDS}), "
            f"{extra['debias_megabytes']:.0f} MB (wanted: at most {MOST_MEGABYTES})"
        )
    report(
        f"debias: demo model, float32; {prompts} prompts; {WIDTHS[0]:,} and {WIDTHS[1]:,} features",
        seconds,
        [
            Ratio("step_kept_over_whole", KEPT, WHOLE, "at most", 0.6),
            Ratio("twice_the_prompts", "twice the prompts", "prompts", "at most", 2.2),
            Ratio("eight_times_the_features", WIDE, "prompts", "at most", 1.5),
            Ratio("eight_times_the_features_all_firing", DENSE, "prompts", "at most", 1.5),
        ],
        notes=notes,
        extra=extra,
    )


if __name__ == "__main__":
    main()
