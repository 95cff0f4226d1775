"""Features with amounts that can be learned, and the recipe that they make."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onesense.debias.selection import Feature
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup, Intervention
from onesense.steer.recipe import Recipe, make_recipe

_LEAST = 1e-4


class Tunable:
    """Features of several dictionaries; the latent z of each becomes ``max(0, factor · z - threshold)``.

    Without thresholds it becomes ``factor · z``, which may turn a direction round.

    Args:
        model: The model.
        dictionaries: The dictionaries.
        features: The features, each once.
        change: What is added to the factor 1 to begin with, [features].
        typical: Mean of each latent where it fires: thresholds are learned in this unit, [features].
        thresholds: Whether there are thresholds.

    Attributes:
        change: What is added to the factor 1, [features].
        threshold: Thresholds in the unit ``typical``, [features].
    """

    def __init__(
        self,
        model: LanguageModel,
        dictionaries: Sequence[Dictionary],
        features: Sequence[Feature],
        change: Tensor,
        typical: Tensor,
        *,
        thresholds: bool,
    ) -> None:
        self.model, self.dictionaries, self.features = model, tuple(dictionaries), tuple(features)
        self.thresholds = thresholds
        self.change = change.detach().float().to(model.device).clone().requires_grad_(True)
        self.threshold = torch.zeros_like(self.change).requires_grad_(thresholds)
        self._typical = typical.float().to(model.device)
        self._places = [
            [place for place, feature in enumerate(self.features) if feature.dictionary == number]
            for number in range(len(self.dictionaries))
        ]
        used = [number for number, places in enumerate(self._places) if places]
        self._interventions = [(number, Intervention(model, self._group(number, None))) for number in used]

    @property
    def parameters(self) -> list[Tensor]:
        """What is learned."""
        return [self.change, self.threshold] if self.thresholds else [self.change]

    def edited(self) -> list[Intervention]:
        """The edits, with gradients to the parameters."""
        return [
            intervention.with_amounts(self._amounts(number)) for number, intervention in self._interventions
        ]

    def state(self) -> dict[str, Tensor]:
        """Copies of the parameters, by name."""
        return {"change": self.change.detach().clone(), "threshold": self.threshold.detach().clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the parameters from ``state``."""
        with torch.no_grad():
            self.change.copy_(state["change"])
            self.threshold.copy_(state["threshold"])

    def groups(self, strength: float = 1.0) -> list[EditGroup]:
        """The edits as they stand, at a share of the whole change."""
        kept = [[place for place in places if self._matters(place)] for places in self._places]
        return [self._group(number, strength, places) for number, places in enumerate(kept) if places]

    def recipe(self, strength: float = 1.0, *, note: str = "") -> Recipe:
        """The recipe at a strength; features whose change rounds to nothing are left out."""
        return make_recipe(self.model, self.groups(strength), note=note)

    def _matters(self, place: int) -> bool:
        return abs(self.change[place].item()) > _LEAST or self.threshold[place].item() > _LEAST

    def _amounts(self, number: int) -> Tensor:
        places = torch.tensor(self._places[number], device=self.change.device)
        factors = 1 + self.change[places]
        if not self.thresholds:
            return factors
        return torch.cat([factors, -self.threshold[places].clamp_min(0) * self._typical[places]])

    def _group(self, number: int, strength: float | None, places: Sequence[int] | None = None) -> EditGroup:
        """Edits of one dictionary; with strength None, placeholders for amounts that are put in later."""
        chosen = self._places[number] if places is None else places
        share = 0.0 if strength is None else strength
        edits = [
            Edit(
                feature=self.features[place].id,
                operation=Operation.SCALE,
                value=_tidy(1 + share * self.change[place].item()),
            )
            for place in chosen
        ]
        if self.thresholds:
            edits += [
                Edit(
                    feature=self.features[place].id,
                    operation=Operation.ADD,
                    value=_tidy(
                        -share * max(0.0, self.threshold[place].item()) * self._typical[place].item()
                    ),
                )
                for place in chosen
            ]
        return EditGroup(self.dictionaries[number], edits, stack=self.thresholds)


def _tidy(value: float) -> float:
    """Six digits: enough, and readable in a file that people edit by hand."""
    return float(f"{value:.6g}")
