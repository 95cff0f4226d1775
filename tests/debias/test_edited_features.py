"""Where edited features fire, and what a recipe does without each of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from onesense.bias.benchmark import Split
from onesense.bias.scoring import passes
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias import feature_contexts as feature_contexts_module
from onesense.debias import leave_one_out as leave_one_out_module
from onesense.debias.contrasts import occupation_contrasts
from onesense.debias.controls.calibrate import divergence_of
from onesense.debias.controls.documents import calibration_requests, fitting_documents
from onesense.debias.divergence import KlMeter
from onesense.debias.edited_features import recipe_amounts
from onesense.debias.feature_contexts import feature_contexts
from onesense.debias.leave_one_out import LeaveOneOut, leave_one_out, without
from onesense.debias.results import EditEffect, FeatureContext
from onesense.debias.tune_measures import TuneMeter
from onesense.engine.stages import Silent
from onesense.errors import IncompatibleError
from onesense.model.capture import capture
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text, pad_batch
from onesense.sae.dictionary import Dictionary
from onesense.steer.apply import prepare
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import DictionaryReference, ModelReference, Part, Recipe
from onesense.store.seal import keep_json, kept_json
from small_recipes import dictionary_at

POINTS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
SILENT_FEATURE = 9


@pytest.fixture(scope="module")
def dictionaries() -> list[Dictionary]:
    made = [dictionary_at(point, seed=seed) for seed, point in enumerate(POINTS)]
    b_enc = made[1].b_enc.clone()
    b_enc[SILENT_FEATURE] = -1e6
    return [made[0], replace(made[1], b_enc=b_enc, origin=replace(made[1].origin, fingerprint=""))]


def _collected(
    model: LanguageModel, dictionaries: list[Dictionary], folder: Path, features: list[tuple[str, int]]
) -> dict[tuple[str, int], tuple[FeatureContext, ...]]:
    return feature_contexts(model, dictionaries, features, folder, source=None, stages=Silent())


FEATURES = [(POINTS[1], 12), (POINTS[0], 3), (POINTS[1], SILENT_FEATURE), (POINTS[0], 40)]


def test_contexts_are_where_the_latent_is_highest(
    tiny_llama: LanguageModel, dictionaries: list[Dictionary], tmp_path: Path
) -> None:
    found = _collected(tiny_llama, dictionaries, tmp_path / "run", FEATURES)
    assert set(found) == set(FEATURES)
    assert found[POINTS[1], SILENT_FEATURE] == ()
    highest = _highest_by_document(tiny_llama, dictionaries[0])
    for feature in (3, 40):
        contexts = found[POINTS[0], feature]
        for context in contexts:
            assert len(context.tokens) == len(context.activations) <= 24
            assert max(context.activations) == context.activations[context.peak] > 0
        peaks = [context.activations[context.peak] for context in contexts]
        assert peaks == pytest.approx(sorted(highest[:, feature].tolist(), reverse=True)[:5], rel=1e-3)


def _highest_by_document(model: LanguageModel, dictionary: Dictionary) -> torch.Tensor:
    """The largest latents of each document, each window run by itself, [documents, features]."""
    left, rows, numbers = 10_000, [], []
    for number, document in enumerate(fitting_documents(model, documents=64)):
        ids = encode_text(model, document.text[:400].rsplit(" ", 1)[0], prepend_bos=False)[:left]
        left -= len(ids)
        for start in range(0, len(ids), 127):  # with BOS the context of the model
            window = [model.bos_id, *ids[start : start + 127]]
            hidden = capture(model, pad_batch(model, [window]), [dictionary.hook_point])
            rows.append(hidden[dictionary.hook_point][0, 1:])
            numbers += [number] * (len(window) - 1)
    hidden = torch.cat(rows)
    norms = hidden.norm(dim=1)
    latents = dictionary.encode(hidden) * (norms <= 5 * norms.median())[:, None]
    index = torch.tensor(numbers)
    return torch.stack([latents[index == number].amax(0) for number in index.unique().tolist()])


def test_contexts_are_read_once(
    tiny_llama: LanguageModel,
    dictionaries: list[Dictionary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = _collected(tiny_llama, dictionaries, tmp_path / "run", FEATURES)

    def never(*_arguments: object, **_options: object) -> None:
        raise AssertionError("the text was read again")

    monkeypatch.setattr(feature_contexts_module, "fitting_documents", never)
    assert _collected(tiny_llama, dictionaries, tmp_path / "run", FEATURES) == first
    with pytest.raises(IncompatibleError, match="made otherwise"):
        _collected(tiny_llama, dictionaries, tmp_path / "run", FEATURES[:2])
    assert _collected(tiny_llama, dictionaries, tmp_path / "none", []) == {}


def _recipe(model: LanguageModel, dictionaries: list[Dictionary]) -> Recipe:
    edits = [
        (Edit(feature=3, operation=Operation.SCALE, value=4.0),),
        (
            Edit(feature=12, operation=Operation.SCALE, value=0.0),
            Edit(feature=12, operation=Operation.ADD, value=-0.5),
            Edit(feature=SILENT_FEATURE, operation=Operation.SCALE, value=0.5),
        ),
    ]
    parts = tuple(
        Part(
            hook_point=one.hook_point.name, dictionary=DictionaryReference.of(one), edits=several, stack=True
        )
        for one, several in zip(dictionaries, edits, strict=True)
    )
    return Recipe(model=ModelReference.of(model), parts=parts)


def test_amounts_of_a_recipe(tiny_llama: LanguageModel, dictionaries: list[Dictionary]) -> None:
    assert recipe_amounts(_recipe(tiny_llama, dictionaries)) == {
        (POINTS[0], 3): (4.0, 0.0),
        (POINTS[1], 12): (0.0, 0.5),
        (POINTS[1], SILENT_FEATURE): (0.5, 0.0),
    }


def test_a_recipe_without_one_feature_keeps_the_others(
    tiny_llama: LanguageModel, dictionaries: list[Dictionary]
) -> None:
    recipe = _recipe(tiny_llama, dictionaries)
    rest = without(recipe, POINTS[1], 12)
    assert recipe_amounts(rest) == {(POINTS[0], 3): (4.0, 0.0), (POINTS[1], SILENT_FEATURE): (0.5, 0.0)}
    assert recipe_amounts(without(recipe, POINTS[0], 12)) == recipe_amounts(recipe)


def _left_out(model: LanguageModel, dictionaries: list[Dictionary], path: Path) -> LeaveOneOut:
    recipe = _recipe(model, dictionaries)
    loaded = {one.origin.fingerprint: one for one in dictionaries}
    return leave_one_out(
        model,
        recipe,
        list(recipe_amounts(recipe)),
        path,
        groups=lambda one: one.groups(model, loaded),
        start=1,
        source=None,
        stages=Silent(),
    )


def test_leaving_one_out_is_measuring_the_others(
    tiny_llama: LanguageModel, dictionaries: list[Dictionary], tmp_path: Path
) -> None:
    found = _left_out(tiny_llama, dictionaries, tmp_path / "left.json")
    requests = calibration_requests(tiny_llama, passages=4, tokens=40)
    group = {
        (POINTS[0], 3): EditGroup(dictionaries[0], [Edit(feature=3, operation=Operation.SCALE, value=4.0)]),
        (POINTS[1], 12): EditGroup(
            dictionaries[1],
            [
                Edit(feature=12, operation=Operation.SCALE, value=0.0),
                Edit(feature=12, operation=Operation.ADD, value=-0.5),
            ],
            stack=True,
        ),
    }
    for kept, effect in (
        ([*group], found.complete),
        ([(POINTS[0], 3)], found.without[POINTS[1], 12]),
        ([(POINTS[1], 12)], found.without[POINTS[0], 3]),
        ([*group], found.without[POINTS[1], SILENT_FEATURE]),  # which does nothing
    ):
        groups = [group[key] for key in kept]
        expected = divergence_of(tiny_llama, requests, prepare(tiny_llama, groups))
        assert effect.kl == pytest.approx(expected, rel=1e-3)
        assert effect.spread == pytest.approx(_spread(tiny_llama, groups), rel=1e-4)
    assert found.without[POINTS[0], 3] != found.complete


def _spread(model: LanguageModel, groups: list[EditGroup]) -> float:
    neutral = occupation_contrasts((Split.TUNE,))
    neutral = [one for one in neutral if one.group == neutral[0].group]
    sides = ModelScorer(model, [None, groups]).score([r for one in neutral for r in one.requests()])
    before, after = (
        torch.tensor([one.logprob - two.logprob for one, two in zip(side[::2], side[1::2], strict=True)])
        for side in sides
    )
    return float(after.std() / before.std())


def test_leaving_out_goes_on_where_it_stopped(
    tiny_llama: LanguageModel,
    dictionaries: list[Dictionary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "left.json"
    whole = _left_out(tiny_llama, dictionaries, path)
    known = kept_json(path)
    assert known is not None
    assert list(known) == sorted(known)
    last = f"{POINTS[1]}/{SILENT_FEATURE}"
    del known[last]
    known["complete"] = [0.25, 0.125]  # kept as it is, so it was not measured again
    keep_json(path, known)
    again = _left_out(tiny_llama, dictionaries, path)
    assert again.complete == EditEffect(0.25, 0.125)
    assert again.without == whole.without

    def never(*_arguments: object, **_options: object) -> None:
        raise AssertionError("all was measured")

    monkeypatch.setattr(leave_one_out_module, "TuneMeter", never)
    assert _left_out(tiny_llama, dictionaries, path) == again


def test_what_comes_before_a_feature_is_run_once(
    tiny_llama: LanguageModel,
    dictionaries: list[Dictionary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same numbers as from the first edited block on, with fewer blocks run."""
    recipe = _recipe(tiny_llama, dictionaries)
    loaded = {one.origin.fingerprint: one for one in dictionaries}
    requests = calibration_requests(tiny_llama, passages=4, tokens=40)
    spread, kl = TuneMeter(tiny_llama, 1, templates=1, every_fact=1000), KlMeter(tiny_llama, requests)
    block = passes._block(tiny_llama, 1)
    ran: list[str] = []
    real = type(block).forward

    def counted(self: torch.nn.Module, *args: object, **options: object) -> object:
        if self is block:
            ran.append("block 1")
        return real(self, *args, **options)

    monkeypatch.setattr(type(block), "forward", counted)
    expected, passes_of = {}, {}
    for key in recipe_amounts(recipe):
        ran.clear()
        groups = without(recipe, *key).groups(tiny_llama, loaded)
        expected[key] = EditEffect(spread.measure(groups, facts=False).spread, kl.measure(groups))
        passes_of[key] = len(ran)
    ran.clear()
    found = _left_out(tiny_llama, dictionaries, tmp_path / "left.json")
    for key, effect in expected.items():
        assert found.without[key].spread == pytest.approx(effect.spread, abs=1e-5)
        assert found.without[key].kl == pytest.approx(effect.kl, rel=1e-4, abs=1e-7)
    shared = len(ran)
    ran.clear()
    (tmp_path / "left.json").unlink()
    monkeypatch.setattr(leave_one_out_module, "_blocks", lambda *_arguments: {})
    same = _left_out(tiny_llama, dictionaries, tmp_path / "left.json")
    assert same.complete == found.complete
    # The two features after block 1 each went through it; now what they share does, and a fact beside it.
    first, second = (passes_of[POINTS[1], feature] for feature in (12, SILENT_FEATURE))
    assert first == second > 2
    assert len(ran) - shared == first - 1
