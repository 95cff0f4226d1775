"""On a GPU everything gives what it gives on the CPU, wherever the dictionary lies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from features.tiny_contexts import SETTINGS, new_run, tiny_dictionary, word_documents, word_model
from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.attribution import Attributions, contrast_attributions, fisher_scores
from onesense.debias.contrasts import Contrast
from onesense.features.contexts import Contexts, collect_contexts
from onesense.features.joint_contexts import collect_joint_contexts
from onesense.model.language_model import LanguageModel
from onesense.sae.evaluate import cross_entropy
from onesense.steer.apply import prepare
from onesense.steer.edit import Edit, Operation
from onesense.steer.generate import generate
from onesense.steer.intervention import EditGroup
from onesense.steer.lasting import install_lasting
from onesense.steer.sampling import GREEDY
from onesense.text.corpus import Document
from small_recipes import PROMPTS, dictionary_at, group_of

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
POINTS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")


def _on_gpu(model: LanguageModel) -> LanguageModel:
    return LanguageModel(copy.deepcopy(model.hf).to("cuda"), model.tokenizer, model.name)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def pair(
    request: pytest.FixtureRequest, tiny_model: Callable[[str], LanguageModel]
) -> tuple[LanguageModel, LanguageModel]:
    model = tiny_model(request.param)
    return model, _on_gpu(model)


def _same(here: Attributions, there: Attributions) -> None:
    torch.testing.assert_close(there.values, here.values, rtol=1e-4, atol=1e-5)
    for one, other in zip(here.effects, there.effects, strict=True):
        np.testing.assert_allclose(other.toarray(), one.toarray(), rtol=1e-3, atol=1e-5)
    for one, other in zip(here.fired, there.fired, strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_attributions(pair: tuple[LanguageModel, LanguageModel], place: str) -> None:
    contrasts = [Contrast(prompt, "she", "he", prompt, prompt, "all", 0) for prompt in PROMPTS[:4]]
    passages = [Request("\n".join(PROMPTS[:3]))]
    near = [dictionary_at(point).to(device=place) for point in POINTS]
    far = [dictionary_at(point) for point in POINTS]
    here, there = pair
    _same(contrast_attributions(here, far, contrasts), contrast_attributions(there, near, contrasts))
    drawn = fisher_scores(there, near, passages, seed=0)
    assert all(np.isfinite(effects.toarray()).all() for effects in drawn.effects)


@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_cross_entropy(pair: tuple[LanguageModel, LanguageModel], place: str) -> None:
    documents = [Document(at, "text", text) for at, text in enumerate(PROMPTS)]
    found = [
        cross_entropy(model, dictionary_at(POINTS[0]).to(device=device), documents, tokens=300)
        for model, device in zip(pair, ("cpu", place), strict=True)
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


@pytest.mark.parametrize("operation", [Operation.SCALE, Operation.PROJECT_OUT, Operation.DIRECTION_ADD])
def test_scores_with_edits(pair: tuple[LanguageModel, LanguageModel], operation: Operation) -> None:
    value = 1.0 if operation is Operation.PROJECT_OUT else 0.4
    requests = [Request(" she was here.", prompt) for prompt in PROMPTS[:5]]
    found = []
    for model in pair:
        scorer = ModelScorer(model, [None, [group_of(POINTS[0], operation, value)]])
        found.append([[score.logprob for score in column] for column in scorer.score(requests)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


def test_steered_text(pair: tuple[LanguageModel, LanguageModel]) -> None:
    group = EditGroup(
        dictionary_at(POINTS[0]), [Edit(feature=3, operation=Operation.DIRECTION_ADD, value=3.0)]
    )
    found = [generate(model, PROMPTS[0], [group], sampling=GREEDY, max_new_tokens=6) for model in pair]
    assert found[0].steered == found[1].steered


def test_a_model_with_lasting_edits_moves(pair: tuple[LanguageModel, LanguageModel]) -> None:
    here = LanguageModel(copy.deepcopy(pair[0].hf), pair[0].tokenizer, pair[0].name)
    latent = group_of("blocks.1.hook_resid_post", Operation.SCALE, -2.0)
    away = group_of("blocks.2.hook_resid_pre", Operation.PROJECT_OUT, 1.0)
    install_lasting(here, prepare(here, [latent, away]))
    ids = torch.tensor([[256, *range(40, 60)]])
    with torch.no_grad():
        wanted = here.hf(ids).logits
        found = here.hf.to("cuda")(ids.to("cuda")).logits
        torch.testing.assert_close(found.cpu(), wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(here.hf.to("cpu")(ids).logits, wanted)


def test_contexts(tmp_path: Path) -> None:
    found: list[Contexts] = []
    for name, model in (("cpu", word_model()), ("cuda", _on_gpu(word_model()))):
        run = new_run(tmp_path / name)
        with run.lock():
            found.append(
                collect_contexts(model, tiny_dictionary(POINTS[0]), word_documents(), run, settings=SETTINGS)
            )
    np.testing.assert_allclose(found[1].count, found[0].count, atol=2)
    run = new_run(tmp_path / "joint")
    with run.lock():
        joint = collect_joint_contexts(
            _on_gpu(word_model()),
            [(tiny_dictionary(POINTS[0]), [7, 2])],
            word_documents(),
            run,
            settings=SETTINGS,
        )
    np.testing.assert_allclose(joint.count, found[0].count[[7, 2]], atol=2)
