"""What debias says that it takes is what it takes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from benchmarks.wide import random_directions
from onesense.bias.audit import AuditSettings
from onesense.debias.debias_memory import estimate_debias_memory
from onesense.debias.find import FindSettings
from onesense.debias.settings import DebiasSettings
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from peak_memory import run_measured

_SMALL_RUN = """
from onesense.bias.audit import AuditSettings
from onesense.debias.debias import debias
from onesense.debias.debias_memory import estimate_debias_memory
from onesense.debias.find import FindSettings
from onesense.debias.settings import DebiasSettings
from onesense.debias.tune import TuneSettings
from onesense.model.load import load_model
from onesense.sae.load import load_dictionary

settings = DebiasSettings(
    budgets=(0.01,),
    max_features=4,
    find=FindSettings(templates=1, people_templates=1, passages=16, sentences=0),
    tune=TuneSettings(steps=1),
    tuning_passages=16,
    pairs=4,
    audit=AuditSettings(benchmarks=("gender-facts-held-out",), draws=100),
    controls="none",
    prompts=(),
)
model, dictionary = load_model("demo", device="cpu"), load_dictionary(path=sys.argv[1])
print(estimate_debias_memory(model, [dictionary], settings), file=sys.stderr)
debias(model, [dictionary], sys.argv[2], settings=settings)
"""
QUICK = DebiasSettings(audit=AuditSettings(suite="quick"))


def test_the_estimate_is_held_to(demo_model: LanguageModel, tmp_path: Path) -> None:
    """A dictionary wide enough that it, and what is found of it, count."""
    point = HookPoint(21, "hook_resid_post")
    write_saelens(random_directions(demo_model, point, 16_384), tmp_path / "wide")
    said, taken = run_measured([str(tmp_path / "wide"), str(tmp_path / "run")], _SMALL_RUN)
    found = re.search(r"about ([\d.]+) GB of memory", said)
    assert found, said
    assert 0.6 < taken / float(found[1]) < 1.15


def test_more_takes_more(demo_model: LanguageModel) -> None:
    ids = [f"blocks.{block}.hook_resid_post" for block in (15, 21)]
    one, other = (load_dictionary(release="demo", sae_id=name) for name in ids)
    plain = estimate_debias_memory(demo_model, [other], QUICK)
    both = estimate_debias_memory(demo_model, [one, other], QUICK)
    assert both.dictionaries == 2 * plain.dictionaries
    assert both.findings == 2 * plain.findings
    assert both.activations > plain.activations  # gradients go back to the earlier block
    more = replace(QUICK, find=FindSettings(templates=24, people_templates=8, passages=384))
    assert estimate_debias_memory(demo_model, [other], more).findings > plain.findings
    longer = replace(QUICK, calibration_passages=200, audit=AuditSettings(suite="standard"))
    assert estimate_debias_memory(demo_model, [other], longer).activations > plain.activations
