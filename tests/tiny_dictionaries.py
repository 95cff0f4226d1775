"""Small random dictionaries, ours and sae-lens' own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from onesense.model.hook_points import HookPoint
from onesense.sae.dictionary import Architecture, Dictionary, Normalization, Origin, Preparation

D_IN, D_SAE, K = 12, 40, 5
ARCHITECTURES = tuple(Architecture)


def random_dictionary(
    architecture: Architecture = Architecture.RELU,
    *,
    seed: int = 0,
    d_in: int = D_IN,
    d_sae: int = D_SAE,
    **changes: Any,
) -> Dictionary:
    """A dictionary with every tensor far from trivial."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    tensors: dict[str, Any] = {
        "W_enc": noise(d_in, d_sae, scale=d_in**-0.5),
        "b_enc": noise(d_sae, scale=0.2),
        "W_dec": noise(d_sae, d_in) * (0.3 + torch.rand(d_sae, 1, generator=generator)),
        "b_dec": noise(d_in, scale=0.5),
    }
    if architecture is Architecture.JUMPRELU:
        tensors["threshold"] = torch.rand(d_sae, generator=generator)
    if architecture is Architecture.GATED:
        tensors |= {"b_mag": noise(d_sae, scale=0.3), "r_mag": noise(d_sae, scale=0.3)}
    if architecture is Architecture.TOPK:
        tensors["k"] = min(K, d_sae)
    settings = {"hook_point": HookPoint(1, "hook_resid_post"), **tensors, **changes}
    return Dictionary(architecture=architecture, **settings)


def prepared(dictionary: Dictionary, **changes: Any) -> Dictionary:
    """The same tensors with another input preparation."""
    return replace(dictionary, preparation=replace(dictionary.preparation, **changes))


def random_activations(*shape: int, seed: int = 1, d_in: int = D_IN) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randn(*(shape or (64,)), d_in, generator=generator) + 0.7


def saelens_twin(dictionary: Dictionary) -> Any:
    """sae-lens' own class with the same tensors."""
    from sae_lens.saes import GatedSAE, JumpReLUSAE, StandardSAE, TopKSAE
    from sae_lens.saes.gated_sae import GatedSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUSAEConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.standard_sae import StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAEConfig

    preparation = dictionary.preparation
    settings: dict[str, Any] = {
        "d_in": dictionary.d_in,
        "d_sae": dictionary.d_sae,
        "apply_b_dec_to_input": preparation.subtract_b_dec,
        "normalize_activations": preparation.normalization.value,
        "reshape_activations": "hook_z" if preparation.flatten_heads else "none",
        "metadata": SAEMetadata(hook_name=dictionary.hook_point.name),
    }
    sae: Any
    match dictionary.architecture:
        case Architecture.RELU:
            sae = StandardSAE(StandardSAEConfig(**settings))
        case Architecture.JUMPRELU:
            sae = JumpReLUSAE(JumpReLUSAEConfig(**settings))
        case Architecture.GATED:
            sae = GatedSAE(GatedSAEConfig(**settings))
        case Architecture.TOPK:
            rescale = dictionary.rescale_by_decoder_norm
            sae = TopKSAE(
                TopKSAEConfig(**settings, k=dictionary.k or 1, rescale_acts_by_decoder_norm=rescale)
            )
    gated = dictionary.architecture is Architecture.GATED
    state = {("b_gate" if gated and name == "b_enc" else name): t for name, t in dictionary.tensors().items()}
    sae.load_state_dict(state)
    if preparation.norm_factor is not None:
        sae.fold_activation_norm_scaling_factor(preparation.norm_factor)
    return sae.requires_grad_(False)


__all__ = [
    "ARCHITECTURES",
    "D_IN",
    "D_SAE",
    "Normalization",
    "Origin",
    "Preparation",
    "prepared",
    "random_activations",
    "random_dictionary",
    "saelens_twin",
]
