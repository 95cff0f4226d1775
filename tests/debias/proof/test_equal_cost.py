"""KL from the first edited block on is the KL of the whole; variants meet the target or say that they do not."""

from __future__ import annotations

from typing import Any

import pytest

from onesense.bias.scoring.requests import Request
from onesense.debias import divergence
from onesense.debias.controls.calibrate import divergence_of
from onesense.debias.divergence import KlMeter
from onesense.debias.proof.equal_cost import at_equal_cost
from onesense.debias.proof.variants import Variant, by_fingerprint, recipe_variant, sanity_variants
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import Edits
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.where import Where
from tiny_dictionaries import random_dictionary


def _variant(model: LanguageModel, tuned: Any) -> Variant:
    return recipe_variant(model, tuned.recipe, by_fingerprint(tuned.dictionaries.values()))


def test_the_meter_agrees_with_the_scorer(
    tiny_llama: LanguageModel, tuned: Any, requests: list[Request]
) -> None:
    texts = [*requests, Request("x" * 300), requests[0]]  # one too long, one twice
    meter = KlMeter(tiny_llama, texts)
    variant = _variant(tiny_llama, tuned)
    late = list(variant.group(0.7))[1:]
    for edits in (variant.group(1.0), variant.group(0.3), late, variant.group(1.0)):
        assert meter.measure(edits) == pytest.approx(divergence_of(tiny_llama, texts, edits), abs=1e-6)
        assert meter.measure(edits) > 1e-4
    assert meter.measure([]) == 0


def test_base_log_probabilities_need_not_be_kept(
    tiny_llama: LanguageModel, tuned: Any, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = _variant(tiny_llama, tuned).group(1.0)
    kept = KlMeter(tiny_llama, requests).measure(edits)
    monkeypatch.setattr(divergence, "KEPT_BYTES", 0)
    meter = KlMeter(tiny_llama, requests)
    assert meter.measure(edits) == kept
    assert meter.measure(edits) == kept


def test_edits_at_the_prompt_s_end_are_measured_text_by_text(
    tiny_llama: LanguageModel, requests: list[Request]
) -> None:
    dictionary = random_dictionary(d_in=32)
    last = Edit(feature=3, operation=Operation.DIRECTION_ADD, value=4.0, where=Where(last=1))
    edits = [EditGroup(dictionary, [last])]
    found = KlMeter(tiny_llama, requests).measure(edits)
    assert found == pytest.approx(divergence_of(tiny_llama, requests, edits), abs=1e-6)


def test_the_harness_alone_costs_exactly_nothing(
    tiny_llama: LanguageModel, tuned: Any, requests: list[Request]
) -> None:
    groups = tuned.recipe.groups(tiny_llama, by_fingerprint(tuned.dictionaries.values()))
    identity, rebuilt = sanity_variants(tiny_llama, groups)
    meter = KlMeter(tiny_llama, requests)
    assert at_equal_cost(identity, meter, 0.01).kl == 0
    found = at_equal_cost(rebuilt, meter, 0.01)
    assert found.strength == 1
    assert found.kl > 0
    assert not found.reached


@pytest.mark.parametrize("share", [0.2, 1.0, 1.2])
def test_a_recipe_is_weakened_or_strengthened_to_a_target(
    tiny_llama: LanguageModel, tuned: Any, requests: list[Request], share: float
) -> None:
    variant, meter = _variant(tiny_llama, tuned), KlMeter(tiny_llama, requests)
    target = share * meter.measure(variant.group(1.0))
    found = at_equal_cost(variant, meter, target)
    assert found.reached
    assert found.kl == pytest.approx(target, rel=0.05)
    assert (found.strength > 1) == (share > 1)
    assert found.kl == pytest.approx(meter.measure(variant.group(found.strength)))


def test_an_erasure_is_whole_at_one(requests: list[Request]) -> None:
    asked: list[float] = []

    class Meter:
        def measure(self, edits: float) -> float:
            asked.append(edits)
            return 0.01 * edits

    def group(strength: float) -> Edits:
        return strength  # type: ignore[return-value]

    meter: Any = Meter()
    found = at_equal_cost(Variant("weak", "erasure", 1, group), meter, 0.02)
    assert (found.strength, found.kl, found.reached) == (1.0, 0.01, False)
    assert asked == [1.0]
    stronger = at_equal_cost(Variant("weak", "random", 1, group, highest=3.0), meter, 0.02)
    assert stronger.reached
    assert stronger.strength == pytest.approx(2.0, rel=0.05)
    spent = at_equal_cost(Variant("weak", "random", 1, group, highest=3.0), meter, 0.2)
    assert (spent.strength, spent.reached) == (3.0, False)


def test_texts_that_do_not_fit_are_told(tiny_llama: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="context"):
        KlMeter(tiny_llama, [Request("x" * 300)])
