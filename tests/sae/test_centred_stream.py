"""A dictionary of a centred stream reads a raw GPT-2 as TransformerLens with centred weights would feed it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import pad_batch
from onesense.sae.dictionary import Preparation
from tiny_dictionaries import random_dictionary
from tiny_models import VOCABULARY, make_byte_tokenizer, tiny_hf

ROWS = [[256, *range(30)], [256, *range(100, 130)]]


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("place", ["hook_resid_pre", "hook_resid_post"])
def test_equals_transformer_lens_with_centred_weights(layer: int, place: str) -> None:
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    hf = tiny_hf("gpt2", seed=2)
    config = HookedTransformerConfig(
        n_layers=3, d_model=32, d_head=8, n_heads=4, d_mlp=128, n_ctx=128, d_vocab=VOCABULARY, act_fn="gelu_new",
        normalization_type="LN", device="cpu",
    )  # fmt: skip
    state = {name: tensor.detach().clone() for name, tensor in convert_gpt2_weights(hf, config).items()}
    theirs = HookedTransformer(config)
    theirs.load_and_process_state_dict(
        state, fold_ln=True, center_writing_weights=True, center_unembed=True, fold_value_biases=True
    )
    point = HookPoint(layer, place)
    _, cache = theirs.run_with_cache(torch.tensor(ROWS))
    centred = cache[point.name]

    model = LanguageModel.from_hf(hf, make_byte_tokenizer(), "raw")
    raw = capture(model, pad_batch(model, ROWS), [point])[point]
    assert (raw.mean(-1).abs() > 1e-3).any()
    dictionary = random_dictionary(d_in=32, hook_point=point)
    ours = replace(dictionary, preparation=Preparation(center=True))
    torch.testing.assert_close(ours.target(raw), centred, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.encode(raw), dictionary.encode(centred), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(dictionary.encode(raw), dictionary.encode(centred), atol=1e-2)
