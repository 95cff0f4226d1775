"""On an Apple GPU, which has no float64, everything gives what it gives on the CPU."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.attribution import contrast_attributions
from onesense.debias.contrasts import Contrast
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import pad_batch
from onesense.sae.evaluate import cross_entropy
from onesense.steer.edit import Operation
from onesense.steer.generate import generate
from onesense.steer.sampling import GREEDY
from onesense.text.corpus import Document
from small_recipes import PROMPTS, dictionary_at, group_of

pytestmark = [
    pytest.mark.mps,
    pytest.mark.skipif(not torch.backends.mps.is_available(), reason="there is no Apple GPU"),
]
POINT = "blocks.1.hook_resid_post"
GROUPS = [
    group_of(POINT, Operation.SCALE, 0.3),
    group_of("blocks.2.hook_resid_post", Operation.PROJECT_OUT, 1.0),
]


@pytest.fixture(scope="module")
def pair(tiny_llama: LanguageModel) -> tuple[LanguageModel, LanguageModel]:
    there = LanguageModel(copy.deepcopy(tiny_llama.hf).to("mps"), tiny_llama.tokenizer, tiny_llama.name)
    return tiny_llama, there


def test_activations(pair: tuple[LanguageModel, LanguageModel]) -> None:
    point = HookPoint.parse(POINT)
    here, there = (capture(model, pad_batch(model, [[256, *range(40)]]), [point])[point] for model in pair)
    torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=1e-4)


def test_scores_and_divergences(pair: tuple[LanguageModel, LanguageModel]) -> None:
    requests = [Request(" she was here.", prompt) for prompt in PROMPTS[:5]]
    found = []
    for model in pair:
        scorer = ModelScorer(model, [None, GROUPS])
        scores = [[one.logprob for one in column] for column in scorer.score(requests)]
        found.append([*scores, [one.kl for one in scorer.divergence(requests)[1]]])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3, atol=1e-5)


def test_steered_text(pair: tuple[LanguageModel, LanguageModel]) -> None:
    found = [generate(model, PROMPTS[0], GROUPS, sampling=GREEDY, max_new_tokens=6) for model in pair]
    assert found[0].steered == found[1].steered


def test_cross_entropy_and_attributions(pair: tuple[LanguageModel, LanguageModel]) -> None:
    documents = [Document(at, "text", text) for at, text in enumerate(PROMPTS)]
    contrasts = [Contrast(prompt, "she", "he", prompt, prompt, "all", 0) for prompt in PROMPTS[:4]]
    losses = [cross_entropy(model, dictionary_at(POINT), documents, tokens=300) for model in pair]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    here, there = (contrast_attributions(model, [dictionary_at(POINT)], contrasts) for model in pair)
    torch.testing.assert_close(there.values, here.values, rtol=1e-3, atol=1e-4)
