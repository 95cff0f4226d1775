"""The control that only reconstructs: what a dictionary costs when its error is dropped."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.sae.dictionary import Dictionary
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup, Intervention
from onesense.steer.where import Selector, Where


class ReconstructionOnly(Intervention):
    """Every activation replaced by the dictionary's reconstruction of it; no feature is changed.

    It stands wherever an ``Intervention`` does: in ``applied``, and among the variants of a scorer. There are
    no edits that would do the same, because an edit leaves alone what the dictionary does not explain; so it
    has no recipe.

    Args:
        model: The model.
        dictionary: Reconstructs the activations at its own hook point.
        where: The positions; None for every token that is not special. Padding is never among them.

    Raises:
        IncompatibleError: The dictionary is not as wide as the hook point.
        HookPointError: The hook point does not exist in this model.
    """

    def __init__(self, model: LanguageModel, dictionary: Dictionary, *, where: Where | None = None) -> None:
        where = where or Where()
        # One edit that changes nothing tells a scorer where this acts; what it does is in `__call__`.
        kept = Edit(feature=0, operation=Operation.SCALE, value=1.0, where=where)
        super().__init__(model, EditGroup(dictionary, [kept]))
        self._select = Selector(where, model)

    def with_amounts(self, amounts: Tensor) -> NoReturn:
        """Refused: a reconstruction has no amounts.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            f"A reconstruction has no amounts ({list(amounts.shape)} were given).",
            hint="Use edits where something is to be tuned.",
        )

    def __call__(self, hidden: Tensor, positions: Positions) -> Tensor:
        """Replace activations.

        Args:
            hidden: Activations at the hook point, [batch, seq, width], in any floating dtype.
            positions: Where its entries stand.

        Returns:
            The new activations; special tokens, padding and positions not chosen keep their bits.
        """
        chosen = self._select(positions)
        if not bool(chosen.any()):
            return hidden
        reconstructed = self._dictionary.reconstruct(hidden[chosen].to(torch.float32))
        written = hidden.clone()
        written[chosen] = reconstructed.to(hidden.dtype)
        return written
