"""What a search may move: shares of the amounts it starts from, few enough that tens of trials are of use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from optuna.distributions import FloatDistribution

from onesense.debias.tunable import Tunable

_WIDTH = 2.0
_HIGHEST_THRESHOLD = 0.5


class SearchSpace:
    """Dimensions over the amounts of a tunable, as they are now.

    A dimension is a share of the amounts it holds, 1 being where the search starts. The features of the largest
    importance have one each; the others share one for each dictionary and sign. Where there are thresholds, each
    dictionary has one more: what is added to the thresholds of its features.

    Args:
        tunable: Whose amounts; those of a feature that does not change stay as they are.
        importance: What each feature counts, [features].
        alone: Features that have a dimension of their own, at most.

    Attributes:
        start: Where the amounts are now.
    """

    def __init__(self, tunable: Tunable, importance: Sequence[float], *, alone: int) -> None:
        self._tunable = tunable
        self._state = tunable.state()
        self._members: dict[str, list[int]] = {}
        self._thresholds: dict[str, list[int]] = {}
        change = self._state["change"].tolist()
        moving = [place for place, amount in enumerate(change) if amount != 0]
        ranked = sorted(moving, key=lambda place: (-importance[place], place))
        single = set(ranked[:alone])
        for place in moving:
            feature = tunable.features[place]
            sign = "more" if change[place] > 0 else "less"
            name = f"{feature.dictionary}/{feature.id if place in single else sign}"
            self._members.setdefault(name, []).append(place)
        if tunable.thresholds:
            for place, feature in enumerate(tunable.features):
                self._thresholds.setdefault(f"{feature.dictionary}/threshold", []).append(place)
        self.start = {**dict.fromkeys(self._members, 1.0), **dict.fromkeys(self._thresholds, 0.0)}

    def scaled(self, share: float) -> dict[str, float]:
        """The start with every amount at a share."""
        return {**self.start, **dict.fromkeys(self._members, share)}

    def around(self, share: float) -> dict[str, FloatDistribution]:
        """The range of each dimension: that share of the amounts is in its middle, none at its low end."""
        shares = dict.fromkeys(self._members, FloatDistribution(0.0, _WIDTH * share))
        added = dict.fromkeys(self._thresholds, FloatDistribution(0.0, _HIGHEST_THRESHOLD))
        return {**shares, **added}

    def take(self, values: Mapping[str, float]) -> None:
        """Give the tunable the amounts at a place of the space."""
        change, threshold = self._state["change"].clone(), self._state["threshold"].clone()
        for name, places in self._members.items():
            change[torch.tensor(places, device=change.device)] *= values[name]
        for name, places in self._thresholds.items():
            threshold[torch.tensor(places, device=change.device)] += values[name]
        self._tunable.restore({"change": change, "threshold": threshold})
