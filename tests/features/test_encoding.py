"""Latents as the contexts pass makes them, for every rule, preparation and family."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from features.tiny_contexts import (
    SETTINGS,
    collected,
)
from onesense.features.encoding import encoded
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.sae.dictionary import Architecture, Dictionary, Normalization, Preparation
from onesense.text.corpus import Document
from onesense.text.windows import batch_windows, iter_windows


def random_dictionary(
    architecture: Architecture, d_in: int, *, normalization: Normalization = Normalization.NONE, center=False
) -> Dictionary:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    d_sae = 40
    more: dict = {}
    if architecture is Architecture.JUMPRELU:
        more = {"threshold": random(d_sae)}  # negative thresholds too
    if architecture is Architecture.TOPK:
        more = {"k": 5}
    if architecture is Architecture.GATED:
        more = {"b_mag": random(d_sae), "r_mag": 0.1 * random(d_sae)}
    factor = 0.5 if normalization is Normalization.EXPECTED_AVERAGE else None
    return Dictionary(
        architecture,
        HookPoint.parse("blocks.1.hook_resid_post"),
        W_enc=random(d_in, d_sae),
        b_enc=random(d_sae),
        W_dec=random(d_sae, d_in),
        b_dec=random(d_in),
        preparation=Preparation(center=center, normalization=normalization, norm_factor=factor),
        **more,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("normalization", list(Normalization))
@pytest.mark.parametrize("architecture", list(Architecture))
def test_encoding_is_that_of_the_dictionary(architecture, normalization, center, dtype) -> None:
    dictionary = random_dictionary(architecture, 24, normalization=normalization, center=center).to(
        dtype=dtype
    )
    activations = torch.randn(50, 24, generator=torch.Generator().manual_seed(4)).to(dtype)
    values, limit = encoded(dictionary, activations)
    assert (limit >= 0).all()
    found = torch.where(values > limit, values, 0).float()
    expected = dictionary.encode(activations).float()
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    same = (found > 0) == (expected > 0)
    assert (~same).sum() <= (0 if dtype == torch.float32 else 0.02 * same.numel())
    torch.testing.assert_close(found[same], expected[same], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("architecture", list(Architecture))
def test_every_family_and_rule(tmp_path, tiny_model, family, architecture) -> None:
    model = tiny_model(family)
    documents = [Document(index, "", "the cat sat on the mat " * index) for index in range(5)]
    dictionary = random_dictionary(architecture, 32)
    contexts = collected(tmp_path / "run", model=model, dictionary=dictionary, documents=documents)
    batch = batch_windows(model, list(iter_windows(model, documents, context_size=SETTINGS.context_size)))
    latents = dictionary.encode(capture(model, batch, [dictionary.hook_point])[dictionary.hook_point])
    latents = latents[batch.content]
    assert contexts.tokens_counted == len(latents) == sum(len(document.text) for document in documents)
    assert np.abs(contexts.count - (latents > 0).sum(dim=0).numpy()).max() <= 1  # one may stand on the edge
    np.testing.assert_allclose(contexts.maximum, latents.amax(dim=0).numpy(), rtol=1e-3, atol=1e-4)
