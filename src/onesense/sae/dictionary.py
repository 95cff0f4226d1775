"""A sparse autoencoder: tensors, the rule from pre-activations to latents, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.sae.architecture import Architecture, check_rule, check_tensors
from onesense.sae.origin import Origin, fingerprint
from onesense.sae.preparation import Normalization, Preparation

__all__ = ["Architecture", "Dictionary", "Normalization", "Origin", "Preparation"]

_SMALLEST_NORM = 1e-8
# sae-lens names of the tensors, in the order in which they are checked and written.
TENSOR_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", "b_mag", "r_mag")


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A sparse autoencoder, never changed after it is built.

    Encoding follows Bricken et al. 2023 (relu), Rajamanoharan et al. 2024 (gated, arXiv:2404.16014; jumprelu,
    arXiv:2407.14435) and Gao et al. 2024 (topk, arXiv:2406.04093).

    Attributes:
        architecture: The rule.
        hook_point: Where it reads the model.
        W_enc: Encoder, [d_in, d_sae].
        b_enc: Encoder bias, [d_sae]; of a gated one, the bias of the gate.
        W_dec: Decoder, [d_sae, d_in].
        b_dec: Decoder bias, [d_in].
        threshold: Of a jumprelu, [d_sae].
        b_mag: Magnitude bias of a gated one, [d_sae].
        r_mag: Log of the magnitude's gain over the gate of a gated one, [d_sae].
        k: Latents per token of a topk one.
        rescale_by_decoder_norm: A topk one ranks, and reports, latents times the norm of their decoder row.
        preparation: What happens to the input.
        origin: Where it came from.

    Raises:
        IncompatibleError: Shapes disagree, or tensors do not belong to the architecture.
        NumericalError: NaN or infinity; the message names the tensor and the first feature.
    """

    architecture: Architecture
    hook_point: HookPoint
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    threshold: Tensor | None = None
    b_mag: Tensor | None = None
    r_mag: Tensor | None = None
    k: int | None = None
    rescale_by_decoder_norm: bool = False
    preparation: Preparation = field(default_factory=Preparation)
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        for name, tensor in self.tensors().items():
            object.__setattr__(self, name, tensor.detach())
        check_tensors(self.tensors(), self.origin)
        check_rule(self.architecture, self.tensors(), self.k, self.rescale_by_decoder_norm)
        if not self.origin.fingerprint:
            rule = (
                self.architecture,
                self.k,
                self.rescale_by_decoder_norm,
                self.preparation,
                self.hook_point,
            )
            object.__setattr__(
                self, "origin", replace(self.origin, fingerprint=fingerprint(self.tensors(), str(rule)))
            )

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Another process gets the address, where what lies there is this dictionary, and the tensors otherwise."""
        from onesense.sae.reopen import (
            address_of,
            reopen_dictionary,
        )  # it loads, so it stands above this module

        address = address_of(self)
        if address is None:
            return super().__reduce_ex__(protocol)
        dtype = str(self.dtype).removeprefix("torch.")
        return reopen_dictionary, (address, dtype, self.device.type, self.origin.fingerprint)

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.W_enc.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the tensors."""
        return self.W_enc.dtype

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.W_enc.device

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that this architecture has, by name."""
        found = {name: getattr(self, name) for name in TENSOR_NAMES}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    @cached_property
    def decoder_norms(self) -> Tensor:
        """Norm of every decoder row, [d_sae], never 0."""
        norms: Tensor = torch.linalg.vector_norm(self.W_dec, dim=-1)
        return norms.clamp_min(_SMALLEST_NORM)

    def encode(self, activations: Tensor) -> Tensor:
        """Latents of activations.

        Args:
            activations: In the model's own units, [..., d_in]; at a hook point of heads also
                [..., n_heads, d_head].

        Returns:
            Latents, [..., d_sae], never negative, in the dictionary's dtype.

        Raises:
            IncompatibleError: The last dimension is not d_in.
            NumericalError: NaN or infinity in the activations.
        """
        inputs = self._encoder_inputs(self._checked(activations))
        if self.architecture is Architecture.TOPK:
            return self._top_k(inputs)
        return self._activate(inputs @ self.W_enc, slice(None))

    def encode_features(self, activations: Tensor, features: Tensor) -> Tensor:
        """Some latents only; equal to `encode(activations)[..., features]`.

        A topk dictionary must know all pre-activations and saves nothing here.

        Args:
            activations: In the model's own units, [..., d_in].
            features: Ids, integers [n].

        Returns:
            Latents, [..., n].

        Raises:
            NotFoundError: A feature id is out of range.
            IncompatibleError: The last dimension is not d_in.
            NumericalError: NaN or infinity in the activations.
        """
        features = self._checked_features(features)
        inputs = self._encoder_inputs(self._checked(activations))
        if self.architecture is Architecture.TOPK:
            return self._top_k(inputs)[..., features]
        return self._activate(inputs @ self.W_enc[:, features], features)

    def decode(self, latents: Tensor, activations: Tensor | None = None) -> Tensor:
        """Reconstruction in the model's own units; a mean that centring took away stays away.

        Args:
            latents: [..., d_sae].
            activations: What the latents were encoded from, [..., d_in]. Needed where the normalisation is
                each token's own (`layer_norm`, `constant_norm_rescale`), else ignored.

        Returns:
            [..., d_in], in the dictionary's dtype.

        Raises:
            IncompatibleError: The last dimension is not d_sae.
            ConfigurationError: The activations are needed and missing.
        """
        if latents.shape[-1] != self.d_sae:
            raise IncompatibleError(
                f"{latents.shape[-1]} latents were given; {self.origin.label} has {self.d_sae}.",
                hint="Decode with the dictionary that encoded.",
            )
        latents = latents.to(self.dtype)
        if self.rescale_by_decoder_norm:
            latents = latents / self.decoder_norms
        scale, shift = self._way_back(activations)
        output = latents @ self.W_dec + self.b_dec
        return (output * scale + shift).to(self.dtype)

    def reconstruct(self, activations: Tensor) -> Tensor:
        """Encode and decode; comparable with the raw activation: a mean taken away is added back.

        Args:
            activations: In the model's own units, [..., d_in].
        """
        flat = self._checked(activations)
        output = self.decode(self.encode(flat), flat)
        return output + self.preparation.removed_mean(self._wide(flat)).to(output.dtype)

    def target(self, activations: Tensor) -> Tensor:
        """What `decode` should give back: the activations, centred where the dictionary asks for it."""
        return self.preparation.target(self._checked(activations))

    def token_scale(self, activations: Tensor) -> Tensor:
        """Model units for one unit of `decoder_rows`, token by token, [..., 1].

        It is 1 everywhere but where the normalisation is each token's own.
        """
        flat = self._checked(activations)
        if self.preparation.normalization.per_token:
            return self.preparation.normalize(self._wide(flat)).scale
        return torch.ones_like(flat[..., :1])

    def decoder_rows(self, features: Tensor) -> Tensor:
        """What one unit of each latent adds to the activation, in the model's own units.

        Args:
            features: Ids, integers [n].

        Returns:
            float32 [n, d_in]. Under a normalisation of each token's own, multiply by `token_scale`.

        Raises:
            NotFoundError: A feature id is out of range.
        """
        features = self._checked_features(features)
        rows = self.W_dec[features].float()
        if self.rescale_by_decoder_norm:
            rows = rows / self.decoder_norms[features].float().unsqueeze(-1)
        factor = self.preparation.norm_factor
        return rows if factor is None else rows / factor

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Dictionary:
        """The same dictionary elsewhere or in another number format; its fingerprint stays.

        Raises:
            NumericalError: A value does not fit the number format.
        """
        moved = {
            name: tensor.to(device=device, dtype=dtype or tensor.dtype)
            for name, tensor in self.tensors().items()
        }
        return replace(self, **moved)  # type: ignore[arg-type]

    def fold_decoder_norm(self) -> Dictionary:
        """The same function with decoder rows of norm 1; latents come out multiplied by the old norms.

        Raises:
            IncompatibleError: A topk dictionary that ranks latents as they are: scaling changes the ranking.
        """
        if self.architecture is Architecture.TOPK and not self.rescale_by_decoder_norm:
            raise IncompatibleError(
                "The decoder norm of this topk dictionary cannot be folded: other latents would be kept.",
                hint="Use the dictionary as it is.",
            )
        norms = self.decoder_norms
        # r_mag stays: the magnitude path reads the scaled W_enc already.
        scaled = {name: getattr(self, name) for name in ("b_enc", "threshold", "b_mag")}
        return replace(
            self,
            W_enc=self.W_enc * norms,
            W_dec=self.W_dec / norms.unsqueeze(-1),
            rescale_by_decoder_norm=False,
            origin=replace(self.origin, fingerprint=""),
            **{name: tensor * norms for name, tensor in scaled.items() if tensor is not None},
        )

    def fold_norm_factor(self) -> Dictionary:
        """The same function and latents, with the factor of `expected_average_only_in` in the weights."""
        factor = self.preparation.norm_factor
        if factor is None:
            return self
        if self.rescale_by_decoder_norm:
            # the factor goes into the decoder, whose norm is in the latents: take it out of them first
            return self.fold_decoder_norm().fold_norm_factor()
        return replace(
            self,
            W_enc=self.W_enc * factor,
            W_dec=self.W_dec / factor,
            b_dec=self.b_dec / factor,
            preparation=replace(self.preparation, normalization=Normalization.NONE, norm_factor=None),
            origin=replace(self.origin, fingerprint=""),
        )

    def _checked(self, activations: Tensor) -> Tensor:
        if self.preparation.flatten_heads and activations.shape[-1] != self.d_in and activations.ndim > 1:
            activations = activations.flatten(-2)
        if activations.shape[-1] != self.d_in:
            raise IncompatibleError(
                f"The activations are {activations.shape[-1]} wide; {self.origin.label} reads {self.d_in} at "
                f"{self.hook_point}.",
                hint="The dictionary belongs to another model or hook point.",
            )
        # the sum of finite numbers can overflow, so it only says where to look closer
        if not torch.isfinite(activations.sum(dtype=torch.float32)) and not activations.isfinite().all():
            count = int((~activations.isfinite()).any(dim=-1).sum())
            raise NumericalError(
                f"The activations at {self.hook_point} hold NaN or infinity at {count} positions.",
                hint="Run the model in float32 or bfloat16; float16 overflows in many models.",
            )
        return activations

    def _checked_features(self, features: Tensor) -> Tensor:
        features = torch.as_tensor(features, device=self.device)
        if features.dtype == torch.bool or features.is_floating_point() or features.ndim != 1:
            raise ConfigurationError(
                "Feature ids are a list of whole numbers.", hint="For example [12, 345]."
            )
        if features.numel() and not 0 <= int(features.min()) <= int(features.max()) < self.d_sae:
            wrong = next(int(id_) for id_ in features if not 0 <= int(id_) < self.d_sae)
            raise NotFoundError(
                f"There is no feature {wrong} in {self.origin.label}.",
                hint=f"Ids run from 0 to {self.d_sae - 1}.",
            )
        return features.long()

    def _wide(self, activations: Tensor) -> Tensor:
        """The activations in a format in which means and norms are safe."""
        dtype = torch.promote_types(torch.float32, self.dtype)
        return activations.to(device=self.device, dtype=dtype)

    def _encoder_inputs(self, activations: Tensor) -> Tensor:
        inputs = self.preparation.normalize(self._wide(activations)).inputs
        if self.preparation.subtract_b_dec:
            inputs = inputs - self.b_dec
        return inputs.to(self.dtype)

    def _activate(self, products: Tensor, features: slice | Tensor) -> Tensor:
        if self.b_mag is not None and self.r_mag is not None:
            gate = products + self.b_enc[features]
            magnitude = products * self.r_mag[features].exp() + self.b_mag[features]
            return magnitude.relu() * (gate > 0)
        # The products were made for this call: a copy of a wide dictionary's latents costs as much as its product.
        pre = products.add_(self.b_enc[features])
        if self.threshold is None:
            return pre.relu_()
        low = pre <= self.threshold[features]
        if pre.requires_grad:
            return pre.relu().masked_fill(low, 0)
        return pre.relu_().masked_fill_(low, 0)

    def _top_k(self, inputs: Tensor) -> Tensor:
        pre = (inputs @ self.W_enc).add_(self.b_enc)
        if self.rescale_by_decoder_norm:
            pre = pre * self.decoder_norms
        values, indices = pre.topk(self.k or 0, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter(-1, indices, values.relu())

    def _way_back(self, activations: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.preparation.normalization.per_token:
            prepared = self.preparation.normalize(self.b_dec)  # the same for whatever activation
        elif activations is None:
            raise ConfigurationError(
                f"{self.origin.label} normalises each token by itself ({self.preparation.normalization}), "
                "so it cannot decode without the activations.",
                hint="Pass the activations to `decode`, or call `reconstruct`.",
            )
        else:
            prepared = self.preparation.normalize(self._wide(self._checked(activations)))
        return prepared.scale, prepared.shift
