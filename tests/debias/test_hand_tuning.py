"""Factors set by hand: what is written is what is meant, and what is unclear is asked about."""

from __future__ import annotations

import pytest

from onesense.debias.hand_tuning import Setting, parse_setting, with_factors
from onesense.errors import ConfigurationError, NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Edit, Operation
from onesense.steer.recipe import DictionaryReference, ModelReference, Part, Recipe
from onesense.steer.where import Where, Window
from small_recipes import dictionary_at

EARLY, LATE = dictionary_at("blocks.0.hook_resid_post"), dictionary_at("blocks.1.hook_resid_post")


def _empty(model: LanguageModel) -> Recipe:
    return Recipe(model=ModelReference.of(model))


def _factors(recipe: Recipe) -> dict[tuple[str, int], float]:
    return {(part.hook_point, edit.feature): edit.amount for part in recipe.parts for edit in part.edits}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("460=0.3", Setting(None, 460, 0.3)),
        (" 15/460=-1 ", Setting("15", 460, -1.0)),
        ("blocks.15.hook_resid_post/7=1e-2", Setting("blocks.15.hook_resid_post", 7, 0.01)),
    ],
)
def test_settings_are_read(text: str, wanted: Setting) -> None:
    assert parse_setting(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "460", "460=", "=0.3", "460=low", "a/b=1", "4.5=1", "460=0.3=1", "460=1e"]
)
def test_what_sets_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="does not set a feature"):
        parse_setting(text)


def test_the_last_factor_counts_and_1_takes_a_feature_out(tiny_llama: LanguageModel) -> None:
    settings = [parse_setting(text) for text in ("0/3=0.5", "1/4=0", "0/3=0.2", "1/5=2", "1/5=1")]
    recipe = with_factors(_empty(tiny_llama), settings, [EARLY, LATE])
    assert _factors(recipe) == {
        ("blocks.0.hook_resid_post", 3): 0.2,
        ("blocks.1.hook_resid_post", 4): 0.0,
    }


def test_a_recipe_goes_on_with_its_own_dictionary(tiny_llama: LanguageModel) -> None:
    first = with_factors(_empty(tiny_llama), [parse_setting("3=0.5"), parse_setting("4=0.7")], [EARLY])
    again = with_factors(first, [parse_setting("3=0.1")], [])
    assert _factors(again) == {("blocks.0.hook_resid_post", 3): 0.1, ("blocks.0.hook_resid_post", 4): 0.7}
    assert again.content_hash != first.content_hash


def test_other_edits_of_the_feature_go_and_those_of_others_stay(tiny_llama: LanguageModel) -> None:
    edits = (
        Edit(feature=3, operation=Operation.CLAMP, value=2.0),
        Edit(feature=9, operation=Operation.CAP, value=1.0),
    )
    part = with_factors(_empty(tiny_llama), [parse_setting("1=0")], [EARLY]).parts[0]
    recipe = _empty(tiny_llama).model_copy(update={"parts": (part.model_copy(update={"edits": edits}),)})
    tuned = with_factors(recipe, [parse_setting("3=0.4")], [])
    assert [(edit.feature, edit.operation) for edit in tuned.parts[0].edits] == [(9, "cap"), (3, "scale")]


def test_nothing_left_is_an_empty_recipe(tiny_llama: LanguageModel) -> None:
    recipe = with_factors(_empty(tiny_llama), [parse_setting("3=0.5"), parse_setting("3=1")], [EARLY])
    assert recipe.parts == ()


def test_what_is_unclear_or_not_there_is_told(tiny_llama: LanguageModel) -> None:
    empty = _empty(tiny_llama)
    with pytest.raises(ConfigurationError, match="of which dictionary"):
        with_factors(empty, [parse_setting("3=0.5")], [EARLY, LATE])
    with pytest.raises(NotFoundError, match="No dictionary reads '7'"):
        with_factors(empty, [parse_setting("7/3=0.5")], [EARLY, LATE])
    with pytest.raises(NotFoundError, match="no feature 48"):
        with_factors(empty, [parse_setting("48=0.5")], [EARLY])


def test_parts_are_plain(tiny_llama: LanguageModel) -> None:
    recipe = with_factors(_empty(tiny_llama), [parse_setting("3=0.5")], [EARLY])
    assert isinstance(recipe.parts[0], Part)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_what_else_is_done_to_a_feature_can_stay(tiny_llama: LanguageModel) -> None:
    inside = Where(window=Window.PROMPT)
    edits = (
        Edit(feature=3, operation=Operation.SCALE, value=0.5, where=inside),
        Edit(feature=3, operation=Operation.ADD, value=-0.1),
        Edit(feature=4, operation=Operation.CLAMP, value=2.0),
    )
    part = Part(
        hook_point=EARLY.hook_point.name,
        dictionary=DictionaryReference.of(EARLY),
        edits=edits,
        stack=True,
    )
    recipe = _empty(tiny_llama).model_copy(update={"parts": (part,)})

    def after(*texts: str) -> tuple[Edit, ...]:
        settings = [parse_setting(text) for text in texts]
        (made,) = with_factors(recipe, settings, [EARLY], keep_others=True).parts
        assert made.stack
        return made.edits

    assert after("3=0.2") == (edits[0].model_copy(update={"value": 0.2}), *edits[1:])
    assert after("3=1") == edits[1:]
    fresh = Edit(feature=4, operation=Operation.SCALE, value=0.0)
    assert after("4=0") == (*edits[:2], fresh, edits[2])
    assert after("3=0.2", "3=0.5") == edits


def test_a_second_edit_of_a_feature_makes_a_stack(tiny_llama: LanguageModel) -> None:
    clamp = Edit(feature=4, operation=Operation.CLAMP, value=2.0)
    reference = DictionaryReference.of(EARLY)
    part = Part(hook_point=EARLY.hook_point.name, dictionary=reference, edits=(clamp,))
    recipe = _empty(tiny_llama).model_copy(update={"parts": (part,)})
    (apart,) = with_factors(recipe, [parse_setting("5=0")], [EARLY], keep_others=True).parts
    (stacked,) = with_factors(recipe, [parse_setting("4=0")], [EARLY], keep_others=True).parts
    assert (apart.stack, stacked.stack) == (False, True)


def test_which_of_two_factors_is_meant_is_asked(tiny_llama: LanguageModel) -> None:
    windows = (Window.PROMPT, Window.GENERATION)
    edits = tuple(
        Edit(feature=3, operation=Operation.SCALE, value=0.5, where=Where(window=one)) for one in windows
    )
    reference = DictionaryReference.of(EARLY)
    part = Part(hook_point=EARLY.hook_point.name, dictionary=reference, edits=edits, stack=True)
    recipe = _empty(tiny_llama).model_copy(update={"parts": (part,)})
    with pytest.raises(ConfigurationError, match="several factors"):
        with_factors(recipe, [parse_setting("3=0.2")], [EARLY], keep_others=True)
