"""The SAELens registry of published dictionaries, read without importing sae-lens (that costs seconds)."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from onesense.errors import ConfigurationError, NotFoundError

_REGISTRY_FILE = "pretrained_saes.yaml"
LIST_COMMAND = "onesense sae list"


@dataclass(frozen=True, slots=True)
class PublishedDictionary:
    """One entry of the registry.

    Attributes:
        release: Name of the release.
        sae_id: Id within it.
        repo_id: Repository on the hub.
        folder: Folder (or file) within the repository.
        model_name: The model that it was trained on.
        loader: Name of sae-lens' loader; `sae_lens` for its own format.
        expected_l0: Published L0.
        expected_fvu: One less the published share of variance explained.
        norm_factor: Factor of `expected_average_only_in`.
        overrides: Entries to lay over its configuration; among them whether it needs centring.
    """

    release: str
    sae_id: str
    repo_id: str
    folder: str
    model_name: str
    loader: str
    expected_l0: float | None
    expected_fvu: float | None
    norm_factor: float | None
    overrides: Mapping[str, Any]

    @property
    def center(self) -> bool:
        """Whether it was trained on a model with `center_writing_weights`."""
        kwargs = self.overrides.get("model_from_pretrained_kwargs") or {}
        return bool(kwargs.get("center_writing_weights", False))


def releases() -> tuple[str, ...]:
    """Names of all releases."""
    return tuple(_registry())


def sae_ids(release: str) -> tuple[str, ...]:
    """Ids of a release.

    Raises:
        NotFoundError: No such release; the nearest names are offered.
    """
    return tuple(str(entry["id"]) for entry in _release(release)["saes"])


def is_published(release: str) -> bool:
    """Whether the registry has this release."""
    return release in _registry()


def published(release: str, sae_id: str) -> PublishedDictionary:
    """Look up a release and id.

    Raises:
        NotFoundError: One of them is unknown; the nearest names are offered.
    """
    found = _release(release)
    entry = next((entry for entry in found["saes"] if str(entry["id"]) == sae_id), None)
    if entry is None:
        near = ", ".join(nearest_names(sae_id, sae_ids(release)))
        raise NotFoundError(
            f"The release `{release}` has no dictionary `{sae_id}`.",
            hint=f"Nearest: {near}. All of them: `{LIST_COMMAND} {release}`.",
        )
    explained = entry.get("variance_explained")
    overrides = dict(found.get("config_overrides") or {})
    if entry.get("neuronpedia"):
        overrides["neuronpedia_id"] = entry["neuronpedia"]
    return PublishedDictionary(
        release=release,
        sae_id=sae_id,
        repo_id=found["repo_id"],
        folder=str(entry["path"]),
        model_name=found["model"],
        loader=found.get("conversion_func") or "sae_lens",
        expected_l0=_above_zero(entry.get("l0")),
        expected_fvu=None if explained is None else _above_zero(1.0 - float(explained)),
        norm_factor=_above_zero(entry.get("norm_scaling_factor")),
        overrides=overrides,
    )


def nearest_names(name: str, known: Iterable[str], *, count: int = 5) -> list[str]:
    """The names that look most like `name`, best first; never none while there are any."""
    known = list(known)
    lowered = {candidate.lower(): candidate for candidate in reversed(known)}
    near = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.4)
    return [lowered[match] for match in near] or known[:count]


def _release(release: str) -> Mapping[str, Any]:
    registry = _registry()
    if release not in registry:
        near = ", ".join(nearest_names(release, registry))
        raise NotFoundError(
            f"There is no release `{release}`.",
            hint=f"Nearest: {near}. All of them: `{LIST_COMMAND}`. A repository on the hub is `owner/name`.",
        )
    found: Mapping[str, Any] = registry[release]
    return found


@cache
def _registry() -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    spec = importlib.util.find_spec("sae_lens")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "sae-lens is not installed, and it brings the registry of published dictionaries.",
            hint="Install it with `pip install sae-lens`, or load a dictionary from a folder.",
        )
    text = (Path(spec.submodule_search_locations[0]) / _REGISTRY_FILE).read_text(encoding="utf-8")
    # the loader in C takes half a second, the one in Python three
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    registry: dict[str, Any] = loader.get_single_data()
    return registry


def _above_zero(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
