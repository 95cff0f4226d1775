"""The self-check: a sound dictionary passes, and each usual mistake is caught and named."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pydoc_data.topics import topics

import pytest
import torch
from torch import Tensor

from onesense.errors import (
    ConfigurationError,
    HookPointError,
    IncompatibleError,
    NumericalError,
    SelfCheckError,
)
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import usable_positions
from onesense.sae.check import GENERIC_FVU, SelfCheck, bounds_of, neighbours_of, self_check, self_checks
from onesense.sae.dictionary import Architecture, Dictionary, Normalization, Origin
from onesense.text.corpus import Document
from onesense.text.windows import batch_windows, iter_windows
from tiny_dictionaries import prepared, random_dictionary

POINT = HookPoint(11, "hook_resid_post")
TOKENS = 450
OFFSET = 4.0

# English prose that comes with every Python.
DOCUMENTS = [Document(index, name, topics[name]) for index, name in enumerate(sorted(topics)[:12])]


@pytest.fixture(scope="session")
def dictionary(demo_model: LanguageModel) -> Dictionary:
    """A small topk dictionary, trained for some seconds on the text that it is checked on."""
    rows: list[Tensor] = []
    windows = iter_windows(demo_model, DOCUMENTS, context_size=128)
    while sum(map(len, rows)) < 4000:
        batch = batch_windows(demo_model, list(islice(windows, 8)))
        found = capture(demo_model, batch, [POINT])[POINT]
        rows.append(found[usable_positions(found, batch.content)])
    return trained_topk(torch.cat(rows), d_sae=640, k=24, steps=120)


def trained_topk(activations: Tensor, *, d_sae: int, k: int, steps: int) -> Dictionary:
    generator = torch.Generator().manual_seed(0)
    scale = activations.shape[-1] ** 0.5 / activations.norm(dim=-1).mean()
    scaled = activations * scale
    directions = torch.randn(d_sae, activations.shape[-1], generator=generator)
    directions /= directions.norm(dim=-1, keepdim=True)
    W_dec, W_enc = directions.clone().requires_grad_(), directions.T.clone().requires_grad_()
    b_enc, b_dec = torch.zeros(d_sae, requires_grad=True), scaled.mean(dim=0).clone().requires_grad_()
    optimizer = torch.optim.Adam([W_dec, W_enc, b_enc, b_dec], lr=3e-3)
    for _ in range(steps):
        batch = scaled[torch.randint(len(scaled), (512,), generator=generator)]
        kept = ((batch - b_dec) @ W_enc + b_enc).topk(k, dim=-1)
        latents = torch.zeros(512, d_sae).scatter(-1, kept.indices, kept.values.relu())
        loss = (latents @ W_dec + b_dec - batch).square().sum(dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Dictionary(
        architecture=Architecture.TOPK,
        hook_point=POINT,
        W_enc=W_enc.detach() * scale,
        b_enc=b_enc.detach(),
        W_dec=W_dec.detach() / scale,
        b_dec=b_dec.detach() / scale,
        k=k,
        origin=Origin(model_name="demo", sae_id=POINT.name, release="test"),
    )


def check(model: LanguageModel, dictionary: Dictionary, **options: bool) -> SelfCheck:
    return self_check(model, dictionary, DOCUMENTS, tokens=TOKENS, **options)


def failure(model: LanguageModel, dictionary: Dictionary) -> str:
    with pytest.raises(SelfCheckError) as caught:
        check(model, dictionary)
    assert "Usual causes" in str(caught.value.hint)
    assert "--force" in str(caught.value.hint)
    return caught.value.message


def recorded(dictionary: Dictionary, **values: float) -> Dictionary:
    return replace(dictionary, origin=replace(dictionary.origin, **values))


def by_threshold(dictionary: Dictionary, model: LanguageModel) -> Dictionary:
    """The jumprelu that is on average as sparse as the topk."""
    batch = batch_windows(model, list(islice(iter_windows(model, DOCUMENTS, context_size=128), 8)))
    found = capture(model, batch, [POINT])[POINT]
    rows = found[usable_positions(found, batch.content)]
    assert dictionary.k is not None
    latents = as_relu(dictionary).encode(rows).flatten()
    threshold = float(latents.topk(dictionary.k * len(rows)).values.min())
    return replace(
        as_relu(dictionary),
        architecture=Architecture.JUMPRELU,
        threshold=torch.full((dictionary.d_sae,), threshold),
    )


def as_relu(dictionary: Dictionary) -> Dictionary:
    return replace(dictionary, architecture=Architecture.RELU, k=None)


def test_a_sound_dictionary_passes(demo_model: LanguageModel, dictionary: Dictionary) -> None:
    result = check(demo_model, dictionary)
    assert result.passed
    assert result.findings == ()
    assert dictionary.k is not None
    assert 0.25 * dictionary.k <= result.l0 <= dictionary.k
    assert 0.05 < result.fvu < 0.5
    assert 0 <= result.dead_share < 1
    assert TOKENS * 0.8 < result.tokens < TOKENS + 128


def test_a_sound_threshold_passes(demo_model: LanguageModel, dictionary: Dictionary) -> None:
    jumprelu = by_threshold(dictionary, demo_model)
    assert check(demo_model, jumprelu).passed
    assert check(demo_model, recorded(jumprelu, expected_l0=24.0, expected_fvu=0.3)).passed


@pytest.mark.parametrize("values", [{}, {"expected_l0": 24.0}])
def test_topk_read_as_relu(
    values: dict[str, float], demo_model: LanguageModel, dictionary: Dictionary
) -> None:
    message = failure(demo_model, recorded(as_relu(dictionary), **values))
    assert "TopK read as ReLU" in message


@pytest.mark.parametrize("values", [{}, {"expected_l0": 24.0}])
def test_threshold_lost(values: dict[str, float], demo_model: LanguageModel, dictionary: Dictionary) -> None:
    sound = by_threshold(dictionary, demo_model)
    assert sound.threshold is not None
    lost = recorded(replace(sound, threshold=torch.zeros_like(sound.threshold)), **values)
    assert "threshold lost" in failure(demo_model, lost)


@pytest.mark.parametrize("layer", [POINT.layer, POINT.layer + 1])
def test_half_a_block_off(layer: int, demo_model: LanguageModel, dictionary: Dictionary) -> None:
    message = failure(demo_model, replace(dictionary, hook_point=HookPoint(layer, "hook_resid_mid")))
    assert (
        f"wrong hook point: it fits {POINT if layer == POINT.layer else 'blocks.12.hook_resid_pre'} better"
        in message
    )


def test_neighbours_are_places_of_their_own() -> None:
    for suffix in ("hook_resid_pre", "hook_resid_mid", "hook_resid_post"):
        assert len(neighbours_of(HookPoint(5, suffix))) == 4 - (suffix != "hook_resid_mid")
    names = [point.name for point in neighbours_of(HookPoint(5, "hook_mlp_out"))]
    assert sorted(names) == ["blocks.4.hook_mlp_out", "blocks.6.hook_mlp_out"]


@pytest.mark.parametrize("layer", [POINT.layer - 1, POINT.layer + 1])
def test_off_by_one_layer(layer: int, demo_model: LanguageModel, dictionary: Dictionary) -> None:
    message = failure(demo_model, replace(dictionary, hook_point=POINT.at_layer(layer)))
    assert f"off by one layer: it fits {POINT} better" in message


@pytest.mark.parametrize(
    "point", [HookPoint(11, "hook_mlp_out"), HookPoint(11, "hook_attn_out"), HookPoint(2, POINT.suffix)]
)
def test_wrong_hook_point(point: HookPoint, demo_model: LanguageModel, dictionary: Dictionary) -> None:
    message = failure(demo_model, replace(dictionary, hook_point=point))
    if point.layer == POINT.layer:
        assert f"wrong hook point: it fits {POINT} better" in message


def test_wrong_base_model(demo_model: LanguageModel, dictionary: Dictionary) -> None:
    torch.manual_seed(0)
    config = copy.deepcopy(demo_model.hf.config)
    config.num_hidden_layers = POINT.layer + 2
    other = LanguageModel.from_hf(type(demo_model.hf)(config), demo_model.tokenizer, "other")
    message = failure(other, dictionary)
    assert "wrong base model: it was trained on `demo`, this is `other`" in message
    nameless = replace(dictionary, origin=replace(dictionary.origin, model_name=None))
    assert "wrong base model" in failure(other, nameless)


def test_scale_not_folded(demo_model: LanguageModel, dictionary: Dictionary) -> None:
    factor = 24.0 / 150.0
    unfolded = replace(
        dictionary,
        W_enc=dictionary.W_enc / factor,
        W_dec=dictionary.W_dec * factor,
        b_dec=dictionary.b_dec * factor,
        preparation=replace(
            dictionary.preparation, normalization=Normalization.EXPECTED_AVERAGE, norm_factor=factor
        ),
    )
    assert check(demo_model, unfolded).passed
    assert "scale not folded" in failure(demo_model, prepared(unfolded, norm_factor=None))
    assert "scale applied twice" in failure(
        demo_model, prepared(dictionary, normalization=Normalization.EXPECTED_AVERAGE, norm_factor=factor)
    )


def test_b_dec_subtracted_or_not(demo_model: LanguageModel, dictionary: Dictionary) -> None:
    message = failure(demo_model, prepared(dictionary, subtract_b_dec=False))
    assert "b_dec must be subtracted" in message


@contextmanager
def carrying_a_mean(model: LanguageModel, layers: range) -> Iterator[None]:
    """The residual stream after these layers carries an offset, as GPT-2's does; nothing else changes."""
    blocks = model.hf.get_decoder().layers
    handles = []
    for layer in layers:
        handles.append(blocks[layer].register_forward_hook(lambda _, __, output: output + OFFSET))
        handles.append(
            blocks[layer + 1].register_forward_pre_hook(lambda _, inputs: (inputs[0] - OFFSET, *inputs[1:]))
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def test_missing_centring(demo_model: LanguageModel, dictionary: Dictionary) -> None:
    centred = prepared(dictionary, center=True)
    with carrying_a_mean(demo_model, range(POINT.layer - 1, POINT.layer + 2)):
        sound = check(demo_model, centred)
        message = failure(demo_model, dictionary)
    assert sound.passed
    assert sound.fvu == pytest.approx(check(demo_model, dictionary).fvu, rel=0.2)
    assert "missing centring" in message


def test_force_goes_on_and_marks(demo_model: LanguageModel, dictionary: Dictionary) -> None:
    result = check(demo_model, as_relu(dictionary), force=True)
    assert not result.passed
    assert any("TopK read as ReLU" in finding for finding in result.findings)


def test_damaged_weights_have_no_other_reading(demo_model: LanguageModel, dictionary: Dictionary) -> None:
    shuffled = dictionary.W_dec[torch.randperm(dictionary.d_sae, generator=torch.Generator().manual_seed(0))]
    message = failure(demo_model, replace(dictionary, W_dec=shuffled))
    assert "damaged weights" in message


# The rest needs no trained dictionary.


def test_wrong_width(tiny_llama: LanguageModel) -> None:
    dictionary = random_dictionary(origin=Origin(model_name="gpt2-small"))
    with pytest.raises(IncompatibleError, match=r"reads 12 numbers.* has 32.*gpt2-small"):
        self_check(tiny_llama, dictionary, DOCUMENTS)


def test_layer_out_of_range(tiny_llama: LanguageModel) -> None:
    dictionary = random_dictionary(d_in=32, hook_point=HookPoint(99, "hook_resid_post"))
    with pytest.raises(HookPointError, match="99"):
        self_check(tiny_llama, dictionary, DOCUMENTS)


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text(texts: list[str], tiny_llama: LanguageModel) -> None:
    documents = [Document(index, "", text) for index, text in enumerate(texts)]
    with pytest.raises(ConfigurationError, match="no token"):
        self_check(tiny_llama, random_dictionary(d_in=32), documents)


def test_activations_that_are_not_finite(tiny_llama: LanguageModel) -> None:
    block = tiny_llama.hf.get_decoder().layers[1]
    handle = block.register_forward_hook(lambda _, __, output: output * float("nan"))
    try:
        with pytest.raises(NumericalError, match="NaN"):
            self_check(tiny_llama, random_dictionary(d_in=32), DOCUMENTS, tokens=50)
    finally:
        handle.remove()


def test_several_are_checked_in_one_pass_with_the_same_numbers(
    tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = [
        random_dictionary(d_in=32, seed=layer, hook_point=HookPoint(layer, "hook_resid_post"))
        for layer in (0, 2, 1)
    ]
    alone = [self_check(tiny_llama, one, DOCUMENTS, tokens=50, force=True) for one in several]
    passes = []
    plain = tiny_llama.hf.base_model.forward

    def counted(*arguments: object, **named: object) -> object:
        passes.append(1)
        return plain(*arguments, **named)

    monkeypatch.setattr(tiny_llama.hf.base_model, "forward", counted)
    monkeypatch.setattr("onesense.sae.check._causes", lambda *_arguments: [])
    together = self_checks(tiny_llama, several, DOCUMENTS, tokens=50, force=True)
    assert [one[:4] for one in together] == [one[:4] for one in alone]
    assert len(passes) == 1


def test_the_first_of_several_that_does_not_fit_is_told(tiny_llama: LanguageModel) -> None:
    wide = random_dictionary(d_in=12, origin=Origin(model_name="gpt2-small"))
    with pytest.raises(IncompatibleError, match="reads 12 numbers"):
        self_checks(tiny_llama, [random_dictionary(d_in=32), wide], DOCUMENTS, tokens=50, force=True)


def test_bos_and_outliers_do_not_count(tiny_llama: LanguageModel) -> None:
    documents = [Document(0, "", "abcdefghij")]
    dictionary = random_dictionary(d_in=32)
    plain = self_check(tiny_llama, dictionary, documents, force=True)
    assert plain.tokens == 10

    def spike(_: object, __: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, 0] *= 1000.0
        output[:, 4] *= 1000.0
        return output

    handle = tiny_llama.hf.get_decoder().layers[1].register_forward_hook(spike)
    try:
        spiked = self_check(tiny_llama, dictionary, documents, force=True)
    finally:
        handle.remove()
    assert spiked.tokens == 9
    assert 0.3 < spiked.fvu / plain.fvu < 3.0


def test_bounds_come_from_what_the_maker_recorded() -> None:
    relu = random_dictionary(d_in=100, d_sae=400)
    assert bounds_of(relu) == (0.5, 100.0, GENERIC_FVU, False)
    known = bounds_of(recorded(relu, expected_l0=30.0, expected_fvu=0.2))
    assert known.l0_low == pytest.approx(10.0)
    assert known.l0_high == pytest.approx(90.0)
    assert known.fvu_high == pytest.approx(0.45)
    assert known.recorded
    assert bounds_of(recorded(relu, expected_fvu=0.9)).fvu_high < 1.0
    topk = bounds_of(random_dictionary(Architecture.TOPK))
    assert topk.l0_high == random_dictionary(Architecture.TOPK).k
