"""Does it take features? The same learning with few edits on features, neurons, residual basis and random directions.

``python -m benchmarks.bases`` tunes with 10, 25 and 50 units of each on the demo model, brings all to one KL, and
compares them on held-out occupations, on gender facts and on WinoBias (`ONESENSE_DATA`). About 40 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import GenderFacts
from onesense.bias.benchmarks.occupations import Occupations
from onesense.bias.benchmarks.winobias import WinoBias
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.debias_run import DebiasRun, recipe_file
from onesense.debias.find import FindSettings
from onesense.debias.learned_bases import BASES, kept_basis
from onesense.debias.objective import Objective
from onesense.debias.proof.prove import prove
from onesense.debias.proof.settings import ProofSettings
from onesense.debias.proof.variants import LEARNED
from onesense.debias.results import Proof
from onesense.debias.settings import DebiasSettings
from onesense.debias.stored_evidence import write_found
from onesense.debias.tune import TuneSettings
from onesense.engine.stages import Silent
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.sae.dictionary import Dictionary
from onesense.sae.load import load_dictionary
from onesense.steer.recipe import Recipe, read_recipe

LAYERS = (9, 15, 21)
FEATURES = "features"


def tuned(
    model: LanguageModel,
    name: str,
    units: Sequence[Dictionary],
    numbers: Sequence[int],
    folder: Path,
    options: argparse.Namespace,
    objectives: dict[int, Objective],
    senses: Sequence[str] = (),
) -> dict[int, Recipe]:
    """A recipe for each number of units; finding is done once."""
    # A basis is dense, and both signs of a direction are units: the screen by density does not apply to it.
    find = FindSettings() if name not in BASES else FindSettings(max_density=1.0, sentences=0)
    recipes, found = {}, None
    for number in numbers:
        settings = DebiasSettings(
            budgets=(options.budget,),
            choose=options.budget,
            max_features=number,
            find=find,
            tune=TuneSettings(steps=options.steps),
            seed=options.seed,
            senses=tuple(senses),
        )
        run = DebiasRun(model, units, folder / f"{name.replace(' ', '-')}-{number}", settings, Silent())
        if run.start in objectives:
            run.objective = objectives[run.start]
        kept = run.run.path / recipe_file(options.budget)
        if kept.exists():
            recipes[number] = read_recipe(kept)  # what was tuned before needs no evidence again
        else:
            if found is not None and not run.run.has_result("evidence"):
                write_found(run.run, found)
            found = run.find()
            recipes[number] = run.recipe(options.budget, found)
            objectives[run.start] = run.objective
        print(f"{name}: {number} units tuned", flush=True)
    return recipes


def compared(
    model: LanguageModel, number: int, recipes: Mapping[str, dict[int, Recipe]], folder: Path, budget: float
) -> Proof:
    """All bases with so many units, brought to one KL."""
    return prove(
        model,
        recipes[FEATURES][number],
        folder / f"proof-{number}",
        dictionaries={},
        densities={},
        learned={name: by_number[number] for name, by_number in recipes.items() if name != FEATURES},
        settings=ProofSettings(
            target_kl=budget,
            kinds=(LEARNED,),
            benchmarks=[Occupations(Split.HELD_OUT), GenderFacts(Split.GUARD), WinoBias("test")],
            calibration=calibration_requests(model, passages=12, tokens=48),
        ),
    )


def show(number: int, proof: Proof) -> list[dict[str, object]]:
    """Print what each basis reaches, and give it as rows."""
    rows: list[dict[str, object]] = []
    for control in proof.controls:
        for metric in control.metrics:
            gone, behind = metric.reduction, metric.behind
            ahead = (
                f"  features ahead by {behind.value:+.2f} [{behind.low:+.2f}, {behind.high:+.2f}]"
                if behind
                else ""
            )
            print(
                f"{number:3d} {control.name:18s} KL {control.kl:.4f}  {metric.benchmark} · {metric.metric}: "
                f"{metric.value:.3f}, {gone.value:+.2f} [{gone.low:+.2f}, {gone.high:+.2f}] gone{ahead}"
            )
            rows.append(
                {
                    "units": number,
                    "basis": control.name,
                    "edits": control.edits,
                    "benchmark": metric.benchmark,
                    "metric": metric.metric,
                    "value": metric.value,
                    "gone": gone.value,
                }
            )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune, compare, end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bases", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 units, 3 steps")
    parser.add_argument("--folder", type=Path, help="keep the work here, and go on with it")
    parser.add_argument("--units", default="10,25,50")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--budget", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    numbers = [10] if options.quick else [int(number) for number in options.units.split(",")]
    options.steps = 3 if options.quick else options.steps
    model = load_model("demo", dtype="float32", device=options.device)
    own = [load_dictionary(release="demo", sae_id=f"blocks.{layer}.hook_resid_post") for layer in LAYERS]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        units = {FEATURES: own}
        for name, basis in BASES.items():
            place = folder / "bases" / name.replace(" ", "-")
            units[name] = [kept_basis(basis(model, like, options.seed), place, like) for like in own]
        objectives: dict[int, Objective] = {}
        recipes = {
            name: tuned(model, name, mine, numbers, folder, options, objectives)
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
