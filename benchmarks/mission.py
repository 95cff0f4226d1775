"""Does it help to reduce polysemanticity first? The demo four ways, at equal KL and equal number of edits.

``python -m benchmarks.mission --senses RUN --split DICTIONARY`` tunes the same number of units in four ways: features
as they are, only those with one sense, those of the dictionary after ``onesense senses split``, and neurons, and
compares them on held-out occupations, on gender facts and on WinoBias (`ONESENSE_DATA`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bases import FEATURES, compared, show, tuned
from onesense.debias.learned_bases import BASES, kept_basis
from onesense.debias.objective import Objective
from onesense.model.load import load_model
from onesense.sae.load import load_dictionary

NEURONS = "neurons"


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune, compare, end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mission", description=__doc__)
    parser.add_argument("--senses", action="append", default=[], help="run folder of senses measure; repeat")
    parser.add_argument("--split", action="append", type=Path, default=[], help="split dictionary; repeat")
    parser.add_argument("--layers", default="15", help="depths of the demo's dictionaries")
    parser.add_argument("--folder", type=Path, help="keep the work here, and go on with it")
    parser.add_argument("--units", default="25")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--budget", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    numbers = [int(number) for number in options.units.split(",")]
    model = load_model("demo", dtype="float32", device=options.device)
    layers = [int(layer) for layer in options.layers.split(",")]
    own = [load_dictionary(release="demo", sae_id=f"blocks.{layer}.hook_resid_post") for layer in layers]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        units = {FEATURES: own}
        if options.senses:
            units["one sense"] = own
        if options.split:
            split = [load_dictionary(path=path) for path in options.split]
            replaced = {one.hook_point.name: one for one in split}
            units["split"] = [replaced.get(one.hook_point.name, one) for one in own]
        place = folder / "bases" / NEURONS
        units[NEURONS] = [kept_basis(BASES[NEURONS](model, like, options.seed), place, like) for like in own]
        objectives: dict[int, Objective] = {}
        recipes = {
            name: tuned(
                model,
                name,
                mine,
                numbers,
                folder,
                options,
                objectives,
                senses=options.senses if name == "one sense" else (),
            )
            for name, mine in units.items()
        }
        rows = [
            row
            for number in numbers
            for row in show(number, compared(model, number, recipes, folder, options.budget))
        ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
