"""Recipes: the file, its hash, and what it was made for."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import ConfigurationError, FormatError, HookPointError, IncompatibleError, NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.apply import applied
from onesense.steer.edit import Edit, Operation, Unit
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import (
    DictionaryReference,
    ModelReference,
    Part,
    Recipe,
    make_recipe,
    read_recipe,
    write_recipe,
)
from onesense.steer.where import Where
from tiny_models import tiny_hf

MakeDictionary = Callable[..., Dictionary]
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
EDITS = st.builds(
    Edit,
    feature=st.integers(0, 10**6),
    operation=st.sampled_from([Operation.ADD, Operation.CLAMP, Operation.DIRECTION_ADD]),
    value=NUMBERS,
    unit=st.sampled_from(Unit),
    where=st.builds(
        Where, special=st.booleans(), include=st.lists(st.text(max_size=5), max_size=2).map(tuple)
    ),
)
PARTS = st.builds(
    Part,
    hook_point=st.integers(0, 99).map(lambda layer: f"blocks.{layer}.hook_resid_post"),
    dictionary=st.builds(DictionaryReference, release=st.text(), sae_id=st.text(), fingerprint=DIGESTS),
    edits=st.lists(EDITS, max_size=3).map(tuple),
    stack=st.booleans(),
    mean_norm=st.one_of(st.none(), st.floats(0.1, 1e6)),
    max_activation=st.dictionaries(st.integers(0, 10**6), NUMBERS, max_size=3),
)
RECIPES = st.builds(
    Recipe,
    model=st.builds(ModelReference, name=st.text(), fingerprint=DIGESTS),
    parts=st.lists(PARTS, max_size=2).map(tuple),
    note=st.text(),
)


@pytest.fixture
def recipe(tiny_llama: LanguageModel, dictionary: Dictionary, make_dictionary: MakeDictionary) -> Recipe:
    """Edits at two hook points."""
    late = make_dictionary("blocks.2.hook_resid_post", seed=3)
    groups = [
        EditGroup(
            dictionary,
            [
                Edit.plain(3, 9.0),
                Edit(feature=4, operation=Operation.CLAMP, value=2.0, unit=Unit.MAX),
                Edit(feature=5, operation=Operation.DIRECTION_ADD, value=0.5, unit=Unit.NORM),
            ],
            mean_norm=12.5,
            max_activation={4: 3.5, 40: 1.0},
        ),
        EditGroup(late, [Edit(feature=9, operation=Operation.ABLATE)]),
    ]
    return make_recipe(tiny_llama, groups, note="calmer")


@given(recipe=RECIPES)
def test_a_recipe_goes_through_json_unchanged(recipe: Recipe) -> None:
    text = json.dumps(recipe.to_json())
    again = Recipe.from_json(json.loads(text))
    assert again == recipe
    assert again.content_hash == recipe.content_hash


def test_a_recipe_goes_through_a_file_unchanged(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "calmer.json"
    write_recipe(recipe, path)
    assert read_recipe(path) == recipe
    first = path.read_bytes()
    write_recipe(read_recipe(path), path)
    assert path.read_bytes() == first


def test_it_carries_what_its_units_need_and_nothing_else(recipe: Recipe) -> None:
    assert recipe.parts[0].mean_norm == 12.5
    assert recipe.parts[0].max_activation == {4: 3.5}


def test_a_changed_copy_has_a_hash_of_its_own(recipe: Recipe) -> None:
    before = recipe.content_hash
    changed = recipe.model_copy(update={"note": recipe.note + " and more"})
    assert changed.content_hash != before
    assert Recipe.from_json(changed.to_json()) == changed


def test_the_hash_does_not_depend_on_the_order_of_keys(recipe: Recipe) -> None:
    value = recipe.to_json()
    turned = dict(reversed(value.items()))
    assert Recipe.from_json(turned).content_hash == recipe.content_hash


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["parts"][0]["edits"][0].update(value=10.0),
        lambda value: value["parts"][0]["edits"][0].update(feature=7),
        lambda value: value["model"].update(name="another"),
        lambda value: value["parts"].pop(),
    ],
)
def test_a_changed_file_is_refused_until_its_hash_is_taken_out(
    recipe: Recipe, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    value = json.loads(json.dumps(recipe.to_json()))
    change(value)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(value))
    with pytest.raises(FormatError, match="content hash") as caught:
        read_recipe(path)
    assert "content_hash" in str(caught.value.hint)
    del value["content_hash"]
    path.write_text(json.dumps(value))
    assert read_recipe(path) != recipe


def test_a_newer_schema_is_refused_by_name(recipe: Recipe) -> None:
    with pytest.raises(IncompatibleError, match="newer"):
        Recipe.from_json(recipe.to_json() | {"schema_version": 99, "unheard_of": 1})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": 3}', '{"model": {"name": "x"}}', "\x00"])
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(FormatError):
        read_recipe(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_recipe(tmp_path / "none.json")


def test_a_value_that_is_no_number_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_json()).replace("9.0", "NaN"))
    with pytest.raises(FormatError):
        read_recipe(path)


def test_a_hook_point_that_does_not_map_is_refused() -> None:
    with pytest.raises(HookPointError, match="does not map"):
        Part(hook_point="blocks.1.hook_nowhere", dictionary=DictionaryReference(fingerprint="0" * 64))


def test_it_edits_as_the_edits_that_it_was_made_of(
    tiny_llama: LanguageModel, dictionary: Dictionary, make_dictionary: MakeDictionary, recipe: Recipe
) -> None:
    late = make_dictionary("blocks.2.hook_resid_post", seed=3)
    given_ones = {dictionary.origin.fingerprint: dictionary, "blocks.2.hook_resid_post": late}
    groups = recipe.groups(tiny_llama, given_ones)
    assert [group.edits for group in groups] == [part.edits for part in recipe.parts]
    ids = torch.tensor([[256, 5, 6, 7]])
    with torch.no_grad():
        plain = tiny_llama.hf(ids).logits
        with applied(tiny_llama, groups, warn=False) as report:
            edited = tiny_llama.hf(ids).logits
    assert (edited - plain).abs().max() > 1e-2
    assert set(report.firings.counts.values()) == {1}


def test_another_model_is_refused_unless_forced(
    other_llama: LanguageModel, dictionary: Dictionary, recipe: Recipe
) -> None:
    given_ones = {"blocks.1.hook_resid_post": dictionary, "blocks.2.hook_resid_post": dictionary}
    with pytest.raises(IncompatibleError, match="other weights") as caught:
        recipe.groups(other_llama, given_ones)
    assert "--force" in str(caught.value.hint)
    assert len(recipe.groups(other_llama, given_ones, force=True)) == 2


def test_another_dictionary_is_refused_unless_forced(
    tiny_llama: LanguageModel, dictionary: Dictionary, make_dictionary: MakeDictionary, recipe: Recipe
) -> None:
    wrong = make_dictionary("blocks.2.hook_resid_post", seed=4)
    given_ones = {"blocks.1.hook_resid_post": dictionary, "blocks.2.hook_resid_post": wrong}
    with pytest.raises(IncompatibleError, match="another dictionary"):
        recipe.groups(tiny_llama, given_ones)
    assert recipe.groups(tiny_llama, given_ones, force=True)[1].dictionary is wrong


def test_a_dictionary_that_was_only_in_memory_must_be_given(
    tiny_llama: LanguageModel, recipe: Recipe
) -> None:
    with pytest.raises(ConfigurationError, match="in memory"):
        recipe.groups(tiny_llama)


def test_a_recipe_made_in_bfloat16_fits_the_same_weights_in_float32(
    tiny_llama: LanguageModel, dictionary: Dictionary
) -> None:
    coarser = copy.deepcopy(tiny_llama.hf).to(torch.bfloat16)
    half = LanguageModel.from_hf(coarser, tiny_llama.tokenizer, "half")
    recipe = make_recipe(half, [EditGroup(dictionary, [Edit.plain(0, 1.0)])])
    recipe.check_model(tiny_llama)
    other = LanguageModel.from_hf(tiny_hf("llama", seed=9), tiny_llama.tokenizer, "other")
    with pytest.raises(IncompatibleError, match="other weights"):
        recipe.check_model(other)
