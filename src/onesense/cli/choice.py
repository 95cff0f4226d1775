"""From flags and settings to a loaded model and dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onesense.config import Settings
from onesense.errors import ConfigurationError

if TYPE_CHECKING:
    from onesense.model.hook_points import HookPoint
    from onesense.model.language_model import LanguageModel
    from onesense.sae.dictionary import Dictionary

DEMO = "demo"
DEMO_SAE_ID = "blocks.15.hook_resid_post"
DEMO_SAE_IDS = tuple(f"blocks.{layer}.hook_resid_post" for layer in (9, 15, 21))


@dataclass(frozen=True, slots=True)
class DictionaryChoice:
    """Which dictionary of which model.

    Attributes:
        model: Name of the model.
        release: Release of the dictionary, or None.
        sae_id: Id within the release, or None.
        path: Folder of the dictionary, or None.
    """

    model: str
    release: str | None
    sae_id: str | None
    path: Path | None

    def load(self) -> Dictionary:
        """Load the dictionary; see ``load_dictionary`` for what it raises."""
        from onesense.sae.load import load_dictionary

        if self.path is not None:
            return load_dictionary(path=self.path)
        return load_dictionary(release=self.release, sae_id=self.sae_id)


def choose(settings: Settings, *, positional_model: str | None, sae_path: Path | None) -> DictionaryChoice:
    """Fill in what was left out: the demo model and its dictionary in the middle.

    Raises:
        ConfigurationError: A model without a dictionary, or two ways to name one.
    """
    model = positional_model or settings.model_name or DEMO
    if sae_path is not None:
        return DictionaryChoice(model, None, None, sae_path)
    release, sae_id = settings.sae_release, settings.sae_id
    if release is None and model == DEMO:
        release = DEMO
    if release is None:
        raise ConfigurationError(
            f"Which dictionary of `{model}`? None was given.",
            hint="Name one with --sae-release and --sae-id (a SAELens release), or a folder with --sae-path.",
        )
    if sae_id is None and release == DEMO:
        sae_id = DEMO_SAE_ID if settings.layer is None else f"blocks.{settings.layer}.hook_resid_post"
    return DictionaryChoice(model, release, sae_id, None)


def named_dictionaries(
    model: str, settings: Settings, ids: Sequence[str], paths: Sequence[Path]
) -> list[Dictionary]:
    """The dictionaries that were named; all three depths of the demo where none was.

    Raises:
        ConfigurationError: None was named.
        NotFoundError: There is no such dictionary.
    """
    from onesense.sae.load import load_dictionary

    if paths:
        return [load_dictionary(path=path) for path in paths]
    release = settings.sae_release or (DEMO if model == DEMO else None)
    if release is None:
        raise ConfigurationError(
            f"Which dictionaries of `{model}`? None was given.",
            hint="Name them with --sae-release and --sae-id (may be repeated), or folders with --sae-path.",
        )
    if not ids and release == DEMO:
        ids = DEMO_SAE_IDS
    if not ids and settings.sae_id:
        ids = [settings.sae_id]
    if not ids:
        raise ConfigurationError(
            f"Which dictionaries of release `{release}`?",
            hint="Name one or several depths with --sae-id.",
        )
    return [load_dictionary(release=release, sae_id=one) for one in ids]


def load_to_measure(model: str, settings: Settings) -> LanguageModel:
    """The model, in float32 unless another format is asked for; see ``load_model`` for what it raises.

    Half precision moves scores by more than the effects that are looked for.
    """
    from onesense.model.load import load_model

    dtype = "float32" if settings.dtype == "auto" else settings.dtype
    return load_model(model, dtype=dtype, device=settings.device, device_map=settings.device_map)


def tell_dictionary(dictionary: Dictionary) -> None:
    """Say on the side which dictionary was loaded."""
    from onesense.cli.console import note

    note(f"Dictionary {dictionary.origin.label}: {dictionary.d_sae:,} features at {dictionary.hook_point}")


def layer_disagreement(
    dictionary: Dictionary, settings: Settings, flag: int | None
) -> tuple[HookPoint | None, str | None]:
    """What to do where layer and dictionary disagree.

    The original project read the dictionary at one layer and steered at another without a word. A layer from the
    environment or a file is overruled by the dictionary; one given as a flag is followed. Either way it is said.

    Args:
        dictionary: The dictionary.
        settings: All settings.
        flag: ``--layer``, None where it was not given.

    Returns:
        The hook point to steer at where it is not the dictionary's own, and what to tell the user.
    """
    own = dictionary.hook_point
    if settings.layer is None or settings.layer == own.layer:
        return None, None
    if flag is None:
        return None, (
            f"LAYER says {settings.layer}, but the dictionary was trained at {own}. The dictionary decides; "
            f"give --layer {settings.layer} on the command line to steer there all the same."
        )
    return own.at_layer(flag), (
        f"The dictionary was trained at {own}; --layer {flag} was given, so its directions are used at layer {flag}, "
        "as the original project did. They were not learned there."
    )
