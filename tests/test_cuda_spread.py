"""Models spread over a GPU, main memory and disk, and batches that a GPU has no room for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import dispatch_model

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.debias.attribution import contrast_attributions
from onesense.debias.contrasts import Contrast
from onesense.model.batching import SmallerBatchWarning, free_cache
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model, save_model
from onesense.model.tokens import pad_batch
from onesense.model.unembedding import unembedding
from onesense.sae.evaluate import cross_entropy
from onesense.steer.edit import Operation
from onesense.steer.generate import generate
from onesense.steer.sampling import GREEDY
from onesense.text.corpus import Document
from small_recipes import PROMPTS, dictionary_at, group_of

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
POINTS = [HookPoint(0, "hook_resid_pre"), HookPoint(1, "hook_resid_post"), HookPoint(2, "mlp.hook_post")]
GROUPS = [
    group_of("blocks.1.hook_resid_post", Operation.SCALE, 0.3),
    group_of("blocks.2.hook_resid_post", Operation.DIRECTION_ADD, 2.0),
]
REQUESTS = [Request(f" she was here {number}.", prompt) for number, prompt in enumerate(PROMPTS)]
NAMES = ("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head")


def _map(blocks: int | str, rest: int | str) -> dict[str, int | str]:
    return dict.fromkeys(NAMES, rest) | {
        "model.layers.0": rest,
        "model.layers.1": blocks,
        "model.layers.2": blocks,
    }


@pytest.fixture(scope="module")
def folder(tiny_model: Callable[[str], LanguageModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_model("llama"), tmp_path_factory.mktemp("spread") / "model")


@pytest.fixture(scope="module", params=["memory", "disk", "two devices"])
def spread(
    request: pytest.FixtureRequest,
    tiny_model: Callable[[str], LanguageModel],
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LanguageModel]:
    """Blocks fetched from main memory or disk to the GPU, and blocks that compute on the CPU and on the GPU."""
    plain = tiny_model("llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONESENSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        if request.param == "memory":
            yield load_model(str(folder), device_map=_map("cpu", 0))
        elif request.param == "disk":
            yield load_model(str(folder), device_map=_map("disk", 0))
        else:
            hf = dispatch_model(copy.deepcopy(plain.hf), _map(0, "cpu"), main_device="cpu")
            yield LanguageModel.from_hf(hf, plain.tokenizer, plain.name)


def test_where_it_is(spread: LanguageModel) -> None:
    assert spread.spread
    assert spread.device.type == ("cuda" if spread.offloaded else "cpu")


def test_activations_and_unembedding(spread: LanguageModel, tiny_llama: LanguageModel) -> None:
    rows = [[256, *range(20, 40)], [256, 7, 8]]
    found = capture(spread, pad_batch(spread, rows), POINTS)
    wanted = capture(tiny_llama, pad_batch(tiny_llama, rows), POINTS)
    for point in POINTS:
        assert found[point].device == spread.device
        torch.testing.assert_close(found[point].cpu(), wanted[point], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(unembedding(spread).cpu(), unembedding(tiny_llama), atol=1e-5, rtol=1e-5)
    assert spread.fingerprint == tiny_llama.fingerprint


def test_scores_and_text(spread: LanguageModel, tiny_llama: LanguageModel) -> None:
    found = [
        [[one.logprob for one in column] for column in ModelScorer(model, [None, GROUPS]).score(REQUESTS)]
        for model in (spread, tiny_llama)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
    made = [
        generate(model, PROMPTS[0], GROUPS, sampling=GREEDY, max_new_tokens=6)
        for model in (spread, tiny_llama)
    ]
    assert (made[0].steered, made[0].unsteered) == (made[1].steered, made[1].unsteered)


def test_splicing(spread: LanguageModel, tiny_llama: LanguageModel) -> None:
    documents = [Document(at, "text", text) for at, text in enumerate(PROMPTS)]
    found = [
        cross_entropy(model, dictionary_at(GROUPS[0].point.name), documents, tokens=300)
        for model in (spread, tiny_llama)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


def test_gradients_where_nothing_is_offloaded(spread: LanguageModel, tiny_llama: LanguageModel) -> None:
    if spread.offloaded:
        return  # refused; see test_device_map
    contrasts = [Contrast(prompt, "she", "he", prompt, prompt, "all", 0) for prompt in PROMPTS[:4]]
    dictionaries = [dictionary_at("blocks.0.hook_resid_post"), dictionary_at("blocks.1.hook_resid_post")]
    found, wanted = (contrast_attributions(model, dictionaries, contrasts) for model in (spread, tiny_llama))
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-4, atol=1e-5)
    for one, other in zip(found.effects, wanted.effects, strict=True):
        np.testing.assert_allclose(one.toarray(), other.toarray(), rtol=1e-3, atol=1e-5)


def test_auto_that_fits_is_one_gpu(folder: Path) -> None:
    model = load_model(str(folder), device_map="auto")
    assert (model.spread, model.device.type) == (False, "cuda")


def test_a_gpu_that_has_no_room_for_a_batch(tiny_llama: LanguageModel) -> None:
    """The real allocator refuses: 400 MB are left, and the logits of all texts at once take several times that."""
    requests = [Request(f" {index:06d}" * 14) for index in range(4000)]
    model = LanguageModel(copy.deepcopy(tiny_llama.hf).to("cuda"), tiny_llama.tokenizer, "tiny")
    settings = ScoringSettings(batch_tokens=400_000, trees=False)
    wanted = ModelScorer(model, settings=ScoringSettings(trees=False)).score(requests)
    free_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 4 * 10**8) / whole)
    try:
        with pytest.warns(SmallerBatchWarning) as told:
            found = ModelScorer(model, settings=settings).score(requests)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(told) == 1
    np.testing.assert_allclose(
        [one.logprob for one in found[0]], [one.logprob for one in wanted[0]], atol=1e-3, rtol=1e-5
    )
