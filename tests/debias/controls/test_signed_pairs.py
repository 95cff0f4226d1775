"""A linear coordinate as a pair of features: exact, bit-equal at share 1, the same after a round trip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.controls.activations import LabelledActivations
from onesense.debias.controls.erasures import leace
from onesense.debias.controls.signed_pairs import both_signs, identity, scaled, signed_pairs, stored
from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import applied
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import make_recipe, read_recipe, write_recipe

POINT = HookPoint(1, "hook_resid_post")
FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2")


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000), coordinates=st.integers(1, 6), share=st.floats(-1, 2), centred=st.booleans()
)
def test_scaling_both_signs_takes_the_oblique_coordinate_away(
    seed: int, coordinates: int, share: float, centred: bool
) -> None:
    readers, writers = _random(32, coordinates, seed=seed), _random(coordinates, 32, seed=seed + 1)
    mean = _random(32, seed=seed + 2) if centred else None
    dictionary = signed_pairs(POINT, readers, writers, mean=mean)
    hidden = _random(9, 32, seed=seed + 3) * 3
    latents = dictionary.encode(hidden)
    new = hidden + (share * latents - latents) @ dictionary.W_dec
    shifted = hidden if mean is None else hidden - mean
    torch.testing.assert_close(
        new, hidden - (1 - share) * (shifted @ readers) @ writers, atol=1e-3, rtol=1e-4
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_share_one_is_bit_equal(family: str, tiny_model: Callable[[str], LanguageModel]) -> None:
    model = tiny_model(family)
    dictionary = signed_pairs(POINT, torch.eye(32), torch.eye(32), mean=_random(32, seed=1))
    ids = torch.tensor([[256, 5, 6, 7, 8, 9]])
    with torch.no_grad():
        plain = model.hf(ids).logits
        group = scaled(dictionary, range(64), 1.0)
        with applied(model, [group], warn=False) as report:
            edited = model.hf(ids).logits
    assert torch.equal(plain.view(torch.int32), edited.view(torch.int32))
    assert report.positions == 0


def test_identity_keeps_the_features_and_changes_nothing(tiny_llama: LanguageModel) -> None:
    dictionary = signed_pairs(POINT, torch.eye(32), torch.eye(32))
    edits = [Edit(feature=3, operation=Operation.CLAMP, value=4.0), Edit(feature=8, value=2.0)]
    group = EditGroup(dictionary, edits, hook_point=HookPoint(0, "hook_resid_post"), mean_norm=3.0)
    kept = identity(group)
    assert [edit.feature for edit in kept.edits] == [3, 8]
    assert kept.point == group.point
    scores = ModelScorer(tiny_llama, [None, [group], [kept]]).score([Request("The nurse said that she")])
    assert scores[2] == scores[0]
    assert scores[1] != scores[0]


def test_a_whole_basis_reconstructs_the_activation() -> None:
    dictionary = signed_pairs(POINT, torch.eye(32), torch.eye(32), mean=_random(32, seed=1))
    hidden = _random(9, 32, seed=2)
    torch.testing.assert_close(dictionary.reconstruct(hidden), hidden)


def test_a_stored_control_is_the_same_in_a_recipe(
    tiny_llama: LanguageModel, data: LabelledActivations, tmp_path: Path
) -> None:
    group = leace(data).group(0.7)
    written = stored(group, tmp_path / "leace")
    assert written.dictionary.origin.fingerprint == group.dictionary.origin.fingerprint
    recipe = make_recipe(tiny_llama, [written], note="LEACE")
    write_recipe(recipe, tmp_path / "recipe.json")
    requests = [Request("The nurse said that she was tired.")]
    read = read_recipe(tmp_path / "recipe.json")
    before, after = ModelScorer(tiny_llama, [[group], read]).score(requests)
    assert before == after
    assert read.groups(tiny_llama)[0].dictionary.origin.model_name == "tiny"


def test_a_folder_that_is_not_empty_is_refused(data: LabelledActivations, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists already"):
        stored(leace(data).group(), tmp_path)


def test_a_dictionary_that_would_not_be_the_same_on_disk_is_refused(
    data: LabelledActivations, tmp_path: Path
) -> None:
    half = leace(data).dictionary.to(dtype=torch.bfloat16)
    with pytest.raises(ConfigurationError, match="float32"):
        stored(scaled(half, [0], 0.5), tmp_path / "half")


def test_features_of_coordinates() -> None:
    assert both_signs([0, 5]) == [0, 1, 10, 11]


def test_shapes_and_means_that_do_not_fit_are_refused() -> None:
    with pytest.raises(IncompatibleError, match="writers"):
        signed_pairs(POINT, torch.eye(32), torch.eye(16))
    with pytest.raises(IncompatibleError, match="mean"):
        signed_pairs(POINT, torch.eye(32), torch.eye(32), mean=torch.zeros(16))
    with pytest.raises(NumericalError):
        signed_pairs(POINT, torch.eye(32), torch.eye(32), mean=torch.full((32,), torch.nan))
