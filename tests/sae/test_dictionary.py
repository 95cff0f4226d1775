"""Encoding, decoding and folding, against sae-lens' own classes and against what must not change."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.sae.dictionary import Architecture, Dictionary, Normalization, Preparation
from tiny_dictionaries import (
    ARCHITECTURES,
    D_IN,
    D_SAE,
    prepared,
    random_activations,
    random_dictionary,
    saelens_twin,
)

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
CASES = [
    (architecture, normalization, subtract, rescale)
    for architecture, normalization, subtract, rescale in product(
        ARCHITECTURES, Normalization, (True, False), (False, True)
    )
    if not rescale or architecture is Architecture.TOPK
]


def built(
    architecture: Architecture, normalization: Normalization, subtract: bool, rescale: bool
) -> Dictionary:
    factor = 0.37 if normalization is Normalization.EXPECTED_AVERAGE else None
    preparation = Preparation(normalization=normalization, norm_factor=factor, subtract_b_dec=subtract)
    return random_dictionary(architecture, preparation=preparation, rescale_by_decoder_norm=rescale)


@pytest.mark.parametrize(("architecture", "normalization", "subtract", "rescale"), CASES)
def test_equals_sae_lens(
    architecture: Architecture, normalization: Normalization, subtract: bool, rescale: bool
) -> None:
    dictionary = built(architecture, normalization, subtract, rescale)
    # folding the factor as sae-lens does changes the unit of latents that are rescaled by the norm
    reference = dictionary.fold_norm_factor() if rescale else dictionary
    twin = saelens_twin(reference if rescale else dictionary)
    activations = random_activations(7, 9)

    latents = twin.encode(activations)
    assert latents.count_nonzero() > 100
    assert 0 < (latents == 0).double().mean() < 1
    torch.testing.assert_close(dictionary.encode(activations), latents, **TOLERANCE)
    torch.testing.assert_close(dictionary.decode(latents, activations), twin.decode(latents), **TOLERANCE)
    torch.testing.assert_close(dictionary.reconstruct(activations), twin(activations), **TOLERANCE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_sae_lens_on_heads(architecture: Architecture) -> None:
    dictionary = prepared(
        random_dictionary(architecture, hook_point=HookPoint(1, "attn.hook_z")), flatten_heads=True
    )
    twin = saelens_twin(dictionary)
    heads = random_activations(6).unflatten(-1, (3, 4))

    torch.testing.assert_close(dictionary.encode(heads), twin.encode(heads), **TOLERANCE)
    # what capture gives is flat already
    torch.testing.assert_close(dictionary.encode(heads.flatten(-2)), twin.encode(heads), **TOLERANCE)
    torch.testing.assert_close(dictionary.reconstruct(heads), twin(heads).flatten(-2), **TOLERANCE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("normalization", Normalization)
def test_some_features_equal_all_of_them(architecture: Architecture, normalization: Normalization) -> None:
    dictionary = prepared(built(architecture, normalization, True, False), center=True)
    activations = random_activations(3, 5)
    features = torch.tensor([7, 0, D_SAE - 1, 7])
    torch.testing.assert_close(
        dictionary.encode_features(activations, features),
        dictionary.encode(activations)[..., features],
        **TOLERANCE,
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("normalization", Normalization)
def test_decoder_rows_are_what_one_unit_adds(
    architecture: Architecture, normalization: Normalization
) -> None:
    dictionary = built(architecture, normalization, True, architecture is Architecture.TOPK)
    activations = random_activations(8)
    latents = dictionary.encode(activations)
    more = latents.clone()
    more[:, 3] += 1.0
    added = dictionary.decode(more, activations) - dictionary.decode(latents, activations)
    row = dictionary.decoder_rows(torch.tensor([3]))
    torch.testing.assert_close(added, row * dictionary.token_scale(activations), rtol=1e-4, atol=1e-5)


def test_order_of_preparation_is_centre_normalise_subtract() -> None:
    dictionary = built(Architecture.RELU, Normalization.EXPECTED_AVERAGE, True, False)
    dictionary = prepared(dictionary, center=True)
    x = random_activations(20)
    by_hand = (x - x.mean(dim=-1, keepdim=True)) * 0.37 - dictionary.b_dec
    expected = (by_hand @ dictionary.W_enc + dictionary.b_enc).relu()
    torch.testing.assert_close(dictionary.encode(x), expected, **TOLERANCE)


@given(offset=st.floats(-100, 100), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_centred_dictionary_does_not_see_the_mean(offset: float, seed: int) -> None:
    dictionary = prepared(random_dictionary(seed=seed), center=True)
    x = random_activations(4, seed=seed)
    moved = x + offset
    torch.testing.assert_close(dictionary.encode(moved), dictionary.encode(x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        dictionary.reconstruct(moved) - offset, dictionary.reconstruct(x), rtol=1e-3, atol=1e-3
    )
    assert dictionary.target(x).mean(dim=-1).abs().max() < 1e-5


def test_the_mean_is_added_back_to_a_reconstruction_only() -> None:
    dictionary = prepared(random_dictionary(), center=True)
    x = random_activations(4)
    torch.testing.assert_close(
        dictionary.reconstruct(x),
        dictionary.decode(dictionary.encode(x)) + x.mean(dim=-1, keepdim=True),
        **TOLERANCE,
    )


@given(seed=st.integers(0, 10_000), architecture=st.sampled_from(ARCHITECTURES), subtract=st.booleans())
@settings(max_examples=60, deadline=None)
def test_folding_the_decoder_norm_changes_no_output(
    seed: int, architecture: Architecture, subtract: bool
) -> None:
    dictionary = random_dictionary(
        architecture,
        seed=seed,
        rescale_by_decoder_norm=architecture is Architecture.TOPK,
        preparation=Preparation(subtract_b_dec=subtract),
    )
    folded = dictionary.fold_decoder_norm()
    x = random_activations(16, seed=seed + 1)
    torch.testing.assert_close(folded.reconstruct(x), dictionary.reconstruct(x), rtol=1e-4, atol=1e-4)
    assert torch.equal(folded.encode(x) > 0, dictionary.encode(x) > 0)
    torch.testing.assert_close(folded.W_dec.norm(dim=-1), torch.ones(D_SAE))
    scale = torch.ones(D_SAE) if architecture is Architecture.TOPK else dictionary.decoder_norms
    torch.testing.assert_close(folded.encode(x), dictionary.encode(x) * scale, rtol=1e-4, atol=1e-4)


@given(
    seed=st.integers(0, 10_000),
    architecture=st.sampled_from(ARCHITECTURES),
    factor=st.floats(0.01, 50.0),
    subtract=st.booleans(),
    rescale=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_folding_the_norm_factor_changes_nothing(
    seed: int, architecture: Architecture, factor: float, subtract: bool, rescale: bool
) -> None:
    dictionary = random_dictionary(
        architecture,
        seed=seed,
        rescale_by_decoder_norm=rescale and architecture is Architecture.TOPK,
        preparation=Preparation(
            normalization=Normalization.EXPECTED_AVERAGE, norm_factor=factor, subtract_b_dec=subtract
        ),
    )
    folded = dictionary.fold_norm_factor()
    x = random_activations(16, seed=seed + 1) / factor
    assert folded.preparation.norm_factor is None
    torch.testing.assert_close(folded.encode(x), dictionary.encode(x), rtol=1e-3, atol=1e-4)
    scaled = {"rtol": 1e-3, "atol": 1e-4 / factor}
    torch.testing.assert_close(folded.reconstruct(x), dictionary.reconstruct(x), **scaled)
    ids = torch.arange(D_SAE)
    torch.testing.assert_close(folded.decoder_rows(ids), dictionary.decoder_rows(ids), **scaled)


def test_a_topk_that_ranks_raw_latents_cannot_be_folded() -> None:
    with pytest.raises(IncompatibleError, match="other latents would be kept"):
        random_dictionary(Architecture.TOPK).fold_decoder_norm()


def test_folding_leaves_the_original_alone() -> None:
    dictionary = built(Architecture.JUMPRELU, Normalization.EXPECTED_AVERAGE, True, False)
    before = {name: tensor.clone() for name, tensor in dictionary.tensors().items()}
    dictionary.fold_decoder_norm().fold_norm_factor()
    assert all(torch.equal(before[name], tensor) for name, tensor in dictionary.tensors().items())


def test_topk_keeps_at_most_k_and_no_negative() -> None:
    dictionary = random_dictionary(Architecture.TOPK, b_enc=torch.full((D_SAE,), -2.0))
    latents = dictionary.encode(random_activations(50))
    assert (latents >= 0).all()
    assert (latents > 0).sum(dim=-1).max() <= (dictionary.k or 0)
    assert (latents > 0).sum(dim=-1).min() < (dictionary.k or 0)


@pytest.mark.parametrize("normalization", [Normalization.LAYER_NORM, Normalization.CONSTANT_NORM])
def test_decoding_a_token_normalisation_needs_the_token(normalization: Normalization) -> None:
    dictionary = built(Architecture.RELU, normalization, True, False)
    x = random_activations(4)
    with pytest.raises(ConfigurationError, match="without the activations"):
        dictionary.decode(dictionary.encode(x))


def test_zero_activations_are_finite() -> None:
    for normalization in Normalization:
        dictionary = built(Architecture.RELU, normalization, True, False)
        assert dictionary.reconstruct(torch.zeros(2, D_IN)).isfinite().all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_on_the_cpu(architecture: Architecture) -> None:
    whole = random_dictionary(architecture)
    half = whole.to(dtype=torch.bfloat16)
    x = random_activations(200)
    for inputs in (x, x.bfloat16()):
        output = half.reconstruct(inputs)
        assert output.dtype == torch.bfloat16
        error = (output.float() - whole.reconstruct(x)).norm() / whole.reconstruct(x).norm()
        # a latent near its threshold may fall on the other side
        assert error < 0.2
    assert whole.encode(x.bfloat16()).dtype == torch.float32


def test_gradients_flow_through_the_activations_only() -> None:
    dictionary = random_dictionary(W_enc=torch.nn.Parameter(random_dictionary().W_enc))
    x = random_activations(4).requires_grad_()
    dictionary.reconstruct(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert not dictionary.W_enc.requires_grad


def test_it_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        random_dictionary().k = 3  # type: ignore[misc]


def test_fingerprint_follows_tensors_and_rule_alone() -> None:
    one = random_dictionary(Architecture.JUMPRELU)
    assert one.origin.fingerprint == random_dictionary(Architecture.JUMPRELU).origin.fingerprint
    assert one.to(dtype=torch.bfloat16).origin.fingerprint == one.origin.fingerprint
    touched = one.W_dec.clone()
    touched[3, 3] += 1e-3
    others = [
        random_dictionary(Architecture.JUMPRELU, W_dec=touched),
        random_dictionary(Architecture.JUMPRELU, hook_point=HookPoint(2, "hook_resid_post")),
        random_dictionary(Architecture.JUMPRELU, preparation=Preparation(subtract_b_dec=False)),
        random_dictionary(Architecture.JUMPRELU, seed=1),
    ]
    assert len({one.origin.fingerprint, *(other.origin.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("name", "place", "named"),
    [
        ("W_enc", (2, 17), "feature 17"),
        ("W_dec", (17, 2), "feature 17"),
        ("b_enc", (17,), "feature 17"),
        ("threshold", (17,), "feature 17"),
        ("b_dec", (2,), "dimension 2"),
    ],
)
def test_weights_that_are_not_finite_are_named(
    name: str, place: tuple[int, ...], named: str, bad: float
) -> None:
    tensor = getattr(random_dictionary(Architecture.JUMPRELU), name).clone()
    tensor[place] = bad
    with pytest.raises(NumericalError, match=f"{name} .*{named}"):
        random_dictionary(Architecture.JUMPRELU, **{name: tensor})


def test_a_number_format_that_overflows_is_refused() -> None:
    with pytest.raises(NumericalError, match="W_dec"):
        random_dictionary(W_dec=torch.full((D_SAE, D_IN), 1e5)).to(dtype=torch.float16)


def test_activations_that_are_not_finite_are_refused() -> None:
    x = random_activations(4, 3)
    x[1, 2, 0] = float("nan")
    for architecture in ARCHITECTURES:
        with pytest.raises(NumericalError, match="1 positions"):
            random_dictionary(architecture).encode(x)


def test_large_finite_activations_are_not_mistaken_for_infinity() -> None:
    x = torch.full((4, D_IN), 3e38)
    assert random_dictionary().preparation.target(x).isfinite().all()
    assert random_dictionary(W_enc=torch.zeros(D_IN, D_SAE)).encode(x).shape == (4, D_SAE)


@pytest.mark.parametrize(
    "changes",
    [
        {"W_dec": torch.zeros(D_IN, D_SAE)},
        {"b_enc": torch.zeros(D_SAE + 1)},
        {"b_dec": torch.zeros(D_SAE)},
        {"W_enc": torch.zeros(D_IN)},
        {"W_enc": torch.zeros(0, D_SAE)},
        {"threshold": torch.zeros(D_SAE)},
        {"k": 3},
        {"rescale_by_decoder_norm": True},
        {"b_mag": torch.zeros(D_SAE)},
    ],
)
def test_what_does_not_belong_together_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(IncompatibleError):
        random_dictionary(Architecture.RELU, **changes)


@pytest.mark.parametrize("k", [0, -1, D_SAE + 1, None])
def test_k_must_fit(k: int | None) -> None:
    with pytest.raises(IncompatibleError, match="k is"):
        random_dictionary(Architecture.TOPK, k=k)


def test_wrong_widths_are_refused() -> None:
    dictionary = random_dictionary()
    with pytest.raises(IncompatibleError, match="13 wide"):
        dictionary.encode(torch.zeros(2, 13))
    with pytest.raises(IncompatibleError, match="41 latents"):
        dictionary.decode(torch.zeros(2, D_SAE + 1))


@pytest.mark.parametrize("feature", [-1, D_SAE, 10**9])
def test_a_feature_out_of_range_is_refused(feature: int) -> None:
    ids = torch.tensor([0, feature])
    dictionary = random_dictionary()
    with pytest.raises(NotFoundError, match=str(feature)):
        dictionary.encode_features(random_activations(2), ids)
    with pytest.raises(NotFoundError, match=str(feature)):
        dictionary.decoder_rows(ids)


def test_feature_ids_are_whole_numbers() -> None:
    for ids in (torch.tensor([1.0]), torch.tensor([True]), torch.tensor([[1]])):
        with pytest.raises(ConfigurationError):
            random_dictionary().decoder_rows(ids)


def test_replacing_a_tensor_gives_a_new_fingerprint_only_when_asked() -> None:
    dictionary = random_dictionary()
    moved = replace(dictionary, origin=replace(dictionary.origin, fingerprint=""), b_dec=dictionary.b_dec + 1)
    assert moved.origin.fingerprint != dictionary.origin.fingerprint
