"""A split dictionary on disk: a SAELens folder, and beside it which feature became which."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onesense.errors import FormatError
from onesense.sae.write import write_saelens
from onesense.senses.split.accept import Candidate, Reason, Refusal
from onesense.senses.split.result import Quality, Split
from onesense.store.atomic import read_json

MAP_FILE = "split.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class SplitFeature:
    """A feature that was split.

    Attributes:
        children: Ids in the new dictionary, the sense with most activation first.
        shares: Of the parent's activation for each sense.
        effective_before: Effective number of senses of the parent on held-out text.
        effective_after: Of the children, each counting by its activation.
        exactly_one: Share of the parent's firings at which exactly one child fires, on held-out text.
        fvu_change: What the split adds to the fraction of variance unexplained of held-out text.
    """

    children: tuple[int, ...]
    shares: tuple[float, ...]
    effective_before: float
    effective_after: float
    exactly_one: float
    fvu_change: float


@dataclass(frozen=True, slots=True)
class SplitMap:
    """Which feature became which.

    Attributes:
        parent_fingerprint: Of the dictionary that was split.
        fingerprint: Of the new one.
        features: What was split, by id in the dictionary that was split.
        refused: What was not, and why.
        before: The dictionary that was split, on held-out text.
        after: The new one.
        settings: How.
    """

    parent_fingerprint: str
    fingerprint: str
    features: dict[int, SplitFeature]
    refused: tuple[Refusal, ...]
    before: Quality
    after: Quality
    settings: dict[str, Any]

    def parent_of(self, feature: int) -> int:
        """The feature that a feature of the new dictionary was; its own id where it was not split."""
        return next((parent for parent, one in self.features.items() if feature in one.children), feature)


def write_split(split: Split, folder: Path | str) -> Path:
    """Write the new dictionary as a SAELens folder with ``split.json`` in it; it appears whole or not at all.

    Raises:
        ConfigurationError: The folder exists and is not empty.
        StorageError: It cannot be written.
    """
    metadata = {"split_from": split.parent_fingerprint}
    return write_saelens(split.dictionary, folder, metadata=metadata, beside={MAP_FILE: _written(split)})


def read_split_map(folder: Path | str) -> SplitMap:
    """Which feature became which in a folder that ``write_split`` wrote.

    Raises:
        NotFoundError: There is no such file.
        FormatError: It is damaged, or of another version.
    """
    path = Path(folder) / MAP_FILE
    found = read_json(path)
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        raise FormatError(f"{path} is not a map of version {_VERSION}.", hint="Split the features again.")
    try:
        return SplitMap(
            parent_fingerprint=str(found["parent_fingerprint"]),
            fingerprint=str(found["fingerprint"]),
            features={int(parent): _feature(one) for parent, one in found["features"].items()},
            refused=tuple(_refusal(one) for one in found["refused"]),
            before=_quality(found["before"]),
            after=_quality(found["after"]),
            settings=dict(found["settings"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(f"{path} is damaged: {error!r}.", hint="Split the features again.") from error


def _written(split: Split) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "parent_fingerprint": split.parent_fingerprint,
        "fingerprint": split.dictionary.origin.fingerprint,
        "hook_point": split.dictionary.hook_point.name,
        "model": split.dictionary.origin.model_name,
        "features": {
            str(parent): _written_feature(split.children[parent], one)
            for parent, one in split.accepted.items()
        },
        "refused": [
            {
                "feature": one.feature,
                "reason": one.reason.value,
                "sentence": one.reason.sentence,
                "value": None if one.value is None or not math.isfinite(one.value) else one.value,
            }
            for one in split.refused
        ],
        "before": asdict(split.before),
        "after": asdict(split.after),
        "settings": asdict(split.settings),
    }


def _written_feature(ids: tuple[int, ...], one: Candidate) -> dict[str, Any]:
    return {
        "children": list(ids),
        "shares": list(one.shares),
        "effective_before": one.effective_before,
        "effective_after": one.effective_after,
        "exactly_one": one.exactly_one,
        "fvu_change": one.fvu_change,
    }


def _feature(found: dict[str, Any]) -> SplitFeature:
    numbers = {
        name: float(found[name])
        for name in ("effective_before", "effective_after", "exactly_one", "fvu_change")
    }
    shares = tuple(float(share) for share in found["shares"])
    return SplitFeature(tuple(int(id_) for id_ in found["children"]), shares, **numbers)


def _refusal(found: dict[str, Any]) -> Refusal:
    value = found["value"]
    return Refusal(int(found["feature"]), Reason(found["reason"]), None if value is None else float(value))


def _quality(found: dict[str, Any]) -> Quality:
    return Quality(float(found["fvu"]), float(found["l0"]), float(found["cross_entropy"]))
