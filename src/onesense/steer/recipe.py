"""A recipe: which features of which dictionaries are changed in which model, as a checked file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from onesense.errors import ConfigurationError, FormatError, IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.sae.load import load_dictionary
from onesense.steer.checked import Checked
from onesense.steer.edit import Edit
from onesense.steer.intervention import EditGroup
from onesense.store.atomic import read_json, write_json

RECIPE_SCHEMA = 1

FeatureId = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelReference(Checked):
    """The model that a recipe was made for: its name, and the fingerprint of its weights."""

    name: str
    fingerprint: Digest

    @classmethod
    def of(cls, model: LanguageModel) -> ModelReference:
        """The reference to a loaded model."""
        return cls(name=model.name, fingerprint=model.fingerprint)


class DictionaryReference(Checked):
    """The dictionary that a recipe was made for: a release and id, or a path, and its fingerprint."""

    release: str | None = None
    sae_id: str | None = None
    path: str | None = None
    fingerprint: Digest

    @classmethod
    def of(cls, dictionary: Dictionary) -> DictionaryReference:
        """The reference to a loaded dictionary."""
        origin = dictionary.origin
        return cls(
            release=origin.release,
            sae_id=origin.sae_id,
            path=None if origin.path is None else str(origin.path),
            fingerprint=origin.fingerprint,
        )

    def load(self) -> Dictionary:
        """Load the dictionary that is referred to; whether it is the same one is not checked here."""
        if self.release is not None:
            return load_dictionary(release=self.release, sae_id=self.sae_id)
        if self.path is not None:
            return load_dictionary(path=self.path)
        raise ConfigurationError(
            "The recipe does not say where its dictionary is: it was made from one in memory.",
            hint="Give the dictionary along with the recipe.",
        )


class Part(Checked):
    """The edits at one hook point.

    Attributes:
        hook_point: Where they act, such as ``blocks.8.hook_resid_pre``.
        dictionary: Whose features are edited.
        edits: The edits.
        stack: Whether several edits may share a feature.
        mean_norm: Mean norm of the activations at the hook point, where it was known.
        max_activation: Largest activation of features by id, where it was known.
    """

    hook_point: str
    dictionary: DictionaryReference
    edits: tuple[Edit, ...] = ()
    stack: bool = False
    mean_norm: Positive | None = None
    max_activation: dict[FeatureId, float] = Field(default_factory=dict)

    def check(self) -> None:
        """See ``Checked``."""
        HookPoint.parse(self.hook_point)


class Recipe(Checked):
    """A model, and the edits at one or several of its hook points.

    Attributes:
        schema_version: Version of this format.
        model: The model that it was made for.
        parts: The edits, a part for each hook point and dictionary.
        note: Anything that people should know about it.
    """

    schema_version: int = RECIPE_SCHEMA
    model: ModelReference
    parts: tuple[Part, ...] = ()
    note: str = ""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the recipe as canonical JSON (sorted keys, no spaces), as 64 hexadecimal digits."""
        return _hash(self.model_dump(mode="json"))

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON values, with its content hash."""
        return {**self.model_dump(mode="json"), "content_hash": self.content_hash}

    @classmethod
    def from_json(cls, value: Any, *, source: str = "This recipe") -> Recipe:
        """Read a recipe from JSON values.

        Args:
            value: What ``to_json`` gave.
            source: What to call it in an error.

        Raises:
            FormatError: It is not a recipe, or its content does not have the hash that it carries.
            IncompatibleError: It was written by a newer onesense.
        """
        if not isinstance(value, Mapping) or "model" not in value:
            raise FormatError(f"{source} is not a recipe.", hint="A recipe is JSON with `model` and `parts`.")
        schema = value.get("schema_version")
        if isinstance(schema, int) and schema > RECIPE_SCHEMA:
            raise IncompatibleError(
                f"{source} has schema {schema}, and this onesense reads up to {RECIPE_SCHEMA}.",
                hint="Install a newer onesense.",
            )
        content = {key: entry for key, entry in value.items() if key != "content_hash"}
        try:
            recipe = cls.model_validate(content)
        except ConfigurationError as error:
            raise FormatError(f"{source} is not a valid recipe. {error.message}", hint=error.hint) from error
        claimed = value.get("content_hash")
        if claimed is not None and claimed != recipe.content_hash:
            raise FormatError(
                f"{source} was changed after it was written: its content hash does not match.",
                hint="If the change is meant, delete the line `content_hash`.",
            )
        return recipe

    def check_model(self, model: LanguageModel, *, force: bool = False) -> None:
        """Refuse a model that the recipe was not made for; the same weights in a coarser format are the same model.

        Raises:
            IncompatibleError: The fingerprints differ, and ``force`` is off.
        """
        if force or model.fingerprint == self.model.fingerprint:
            return
        # Made for the weights as a coarser format has them, such as by `steer` in bfloat16.
        coarser = (torch.bfloat16, torch.float16) if model.dtype == torch.float32 else ()
        if all(model.fingerprint_as(dtype) != self.model.fingerprint for dtype in coarser):
            raise IncompatibleError(
                f"The recipe was made for `{self.model.name}`, and `{model.name}` has other weights.",
                hint="Load the model that it was made for in the same number format, or use --force.",
            )

    def groups(
        self,
        model: LanguageModel,
        dictionaries: Mapping[str, Dictionary] | None = None,
        *,
        force: bool = False,
    ) -> list[EditGroup]:
        """The edits of each part with its dictionary, ready for ``applied`` and ``generate``.

        Args:
            model: The model to be edited.
            dictionaries: Dictionaries in memory, by the fingerprint that a part refers to or by its hook
                point; the others are loaded.
            force: Whether to go on with another model or another dictionary than the recipe was made for.

        Raises:
            IncompatibleError: Wrong model or wrong dictionary, and ``force`` is off.
            NotFoundError: A dictionary is not where the recipe says.
        """
        self.check_model(model, force=force)
        return [_group(part, dictionaries or {}, force) for part in self.parts]


def make_recipe(model: LanguageModel, groups: list[EditGroup], *, note: str = "") -> Recipe:
    """The recipe of edits that are at hand."""
    parts = tuple(
        Part(
            hook_point=group.point.name,
            dictionary=DictionaryReference.of(group.dictionary),
            edits=tuple(group.edits),
            stack=group.stack,
            mean_norm=group.mean_norm,
            max_activation={
                edit.feature: float(group.max_activation[edit.feature])
                for edit in group.edits
                if edit.feature in group.max_activation
            },
        )
        for group in groups
    )
    return Recipe(model=ModelReference.of(model), parts=parts, note=note)


def write_recipe(recipe: Recipe, path: Path | str) -> None:
    """Write a recipe as JSON, whole or not at all.

    Raises:
        StorageError: The file could not be written.
    """
    write_json(path, recipe.to_json())


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe and check its content hash.

    Raises:
        NotFoundError: There is no such file.
        FormatError: It is damaged, not a recipe, or was changed after it was written.
        IncompatibleError: It was written by a newer onesense.
    """
    return Recipe.from_json(read_json(path), source=str(path))


def _group(part: Part, dictionaries: Mapping[str, Dictionary], force: bool) -> EditGroup:
    reference = part.dictionary
    given = dictionaries.get(reference.fingerprint) or dictionaries.get(part.hook_point)
    dictionary = given if given is not None else reference.load()
    if not force and dictionary.origin.fingerprint != reference.fingerprint:
        raise IncompatibleError(
            f"The recipe's edits at `{part.hook_point}` are for another dictionary than the one given.",
            hint="Load the dictionary that it was made for, or use --force.",
        )
    return EditGroup(
        dictionary=dictionary,
        edits=part.edits,
        hook_point=HookPoint.parse(part.hook_point),
        mean_norm=part.mean_norm,
        max_activation=part.max_activation,
        stack=part.stack,
    )


def _hash(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
