"""The packaged dictionaries are what docs/demo-dictionaries.md says they are."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest

from onesense.model.language_model import LanguageModel
from onesense.sae.check import self_check
from onesense.sae.evaluate import cross_entropy
from onesense.sae.load import demo_ids, load_dictionary
from onesense.text.corpus import read_documents

IDS = ("blocks.15.hook_resid_post", "blocks.21.hook_resid_post", "blocks.9.hook_resid_post")
PAGE = Path(__file__).parents[2] / "docs" / "demo-dictionaries.md"


def test_three_depths_are_packaged() -> None:
    assert demo_ids() == IDS


@pytest.mark.parametrize("sae_id", IDS)
def test_it_fits_the_demo_model_and_keeps_what_it_does(sae_id: str, demo_model: LanguageModel) -> None:
    dictionary = load_dictionary(release="demo", sae_id=sae_id)
    assert dictionary.hook_point.name == sae_id
    assert dictionary.d_sae >= 8 * 576
    check = self_check(demo_model, dictionary)
    assert check.passed
    losses = cross_entropy(demo_model, dictionary, islice(read_documents(), 40), tokens=3000)
    assert losses.recovered > 0.9
    assert losses.ablated > losses.spliced > losses.clean

    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{sae_id}`"))
    _, _, l0, fvu, recovered, *_ = (cell.strip() for cell in row.split("|"))
    assert float(l0) == pytest.approx(dictionary.origin.expected_l0, abs=0.1)
    assert float(fvu) == pytest.approx(dictionary.origin.expected_fvu, abs=0.001)
    assert float(recovered) == pytest.approx(losses.recovered, abs=0.03)


def test_ten_features_of_each_are_shown() -> None:
    sections = PAGE.read_text().split("\n## ")[1:]
    assert len(sections) == 3
    for section in sections:
        assert len(re.findall(r"^\*\*\d+: ", section, re.MULTILINE)) >= 10
