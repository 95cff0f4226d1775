"""Settings: command line over environment over `.env` over `onesense.toml`.

The environment names of the original project are kept as they are (MODEL_NAME, SAE_RELEASE, ...); those that
it did not have carry the prefix ONESENSE_. In `onesense.toml` a setting has the name of its field here.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from onesense.errors import ConfigurationError

DOTENV_FILE = ".env"
TOML_FILE = "onesense.toml"

ENVIRONMENT_NAMES: Mapping[str, str] = {
    "model_name": "MODEL_NAME",
    "sae_release": "SAE_RELEASE",
    "sae_id": "SAE_ID",
    "layer": "LAYER",
    "top_activations_file": "TOP_ACTIVATIONS_FILE",
    "interpreted_features_file": "INTERPRETED_FEATURES_FILE",
    "openai_api_key": "OPENAI_API_KEY",
    "openai_base_url": "OPENAI_BASE_URL",
    "explainer_model": "ONESENSE_EXPLAINER_MODEL",
    "feature_to_steer": "FEATURE_TO_STEER",
    "steering_coeff": "STEERING_COEFF",
    "steering_temp": "STEERING_TEMP",
    "steering_prompt": "STEERING_PROMPT",
    "run_folder": "ONESENSE_RUN_FOLDER",
    "seed": "ONESENSE_SEED",
    "dtype": "ONESENSE_DTYPE",
    "device": "ONESENSE_DEVICE",
    "device_map": "ONESENSE_DEVICE_MAP",
}
"""The environment variable of each setting."""

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Ways to spread a model over devices, as accelerate names them."""

_SECRETS = frozenset({"openai_api_key"})

FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
Index = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Settings(BaseSettings):
    """What the user has set, wherever that was. None: not set, the command decides.

    Read it with :func:`load_settings`, which explains what is wrong with a bad value.

    Attributes:
        model_name: Model: hub name, TransformerLens name, folder, GGUF file, or "demo".
        sae_release: Release of dictionaries.
        sae_id: Dictionary within the release.
        layer: Layer whose residual stream is read or steered.
        top_activations_file: Where `extract` writes the table of features as JSON.
        interpreted_features_file: Where `interpret` writes its explanations.
        openai_api_key: Key of an OpenAI-compatible endpoint.
        openai_base_url: Its address; None is OpenAI's.
        explainer_model: Model there that says what features are.
        feature_to_steer: Feature id.
        steering_coeff: Multiple of the feature's decoder row that is added.
        steering_temp: Sampling temperature.
        steering_prompt: Text to continue.
        run_folder: Folder of the run.
        seed: Root seed.
        dtype: Precision of the model.
        device: Where the model runs: "auto", "cpu", "cuda", "cuda:1", "mps".
        device_map: How a model larger than one device is spread: "auto", "balanced", "balanced_low_0",
            "sequential".
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, protected_namespaces=()
    )

    model_name: str | None = Field(default=None, min_length=1)
    sae_release: str | None = Field(default=None, min_length=1)
    sae_id: str | None = Field(default=None, min_length=1)
    layer: Index | None = None
    top_activations_file: Path | None = None
    interpreted_features_file: Path | None = None
    openai_api_key: SecretStr | None = None
    openai_base_url: str | None = Field(default=None, min_length=1)
    explainer_model: str | None = Field(default=None, min_length=1)
    feature_to_steer: Index | None = None
    steering_coeff: FiniteFloat | None = None
    steering_temp: Annotated[FiniteFloat, Field(gt=0)] | None = None
    steering_prompt: str | None = None
    run_folder: Path | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None

    @field_validator("layer", "feature_to_steer", "seed", "steering_coeff", "steering_temp", mode="before")
    @classmethod
    def _refuse_truth_value(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("should be a number, not true or false")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The four places, strongest first."""
        del env_settings, dotenv_settings, file_secret_settings
        given = (_environment(), _dotenv(), _toml())
        return (init_settings, *(_Source(settings_cls, values) for values in given))


def load_settings(**cli_values: Any) -> Settings:
    """Read the settings from all four places.

    Args:
        cli_values: Values of command-line flags by field name; None means that the flag was not given.

    Raises:
        ConfigurationError: A file that cannot be read or parsed, an unknown key, or a value that a setting
            cannot have; the message says where it came from.
    """
    given = {name: value for name, value in cli_values.items() if value is not None}
    for name in given:
        if name not in Settings.model_fields:
            raise ConfigurationError(f"There is no setting {name!r}.{_nearest(name)}")
    try:
        return Settings(**given)
    except ValidationError as error:
        raise _explained(error, given) from None  # the cause would print the value, which may be a secret


def cache_directory() -> Path:
    """Folder for what can be made again: dequantised models, downloads. It is not created here.

    Returns:
        ``ONESENSE_CACHE`` where set and not empty, otherwise the cache folder of the platform.
    """
    chosen = os.environ.get("ONESENSE_CACHE", "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path("onesense")


class _Source(PydanticBaseSettingsSource):
    """Values by field name that were read already."""

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = dict(values)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._values


def _by_field(values: Mapping[str, str | None]) -> dict[str, Any]:
    """Our settings among environment variables; an empty one counts as not set."""
    return {field: values[name] for field, name in ENVIRONMENT_NAMES.items() if values.get(name)}


def _environment() -> dict[str, Any]:
    return _by_field(os.environ)


def _dotenv() -> dict[str, Any]:
    path = Path(DOTENV_FILE)
    if not path.is_file():  # absent, or a virtual environment of that name
        return {}
    try:
        return _by_field(dotenv_values(path, encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path.absolute()}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path.absolute()} is not UTF-8 text (byte {error.start}).", hint="Save it again as UTF-8."
        ) from None  # the cause would carry the file's bytes, keys among them


def _toml() -> dict[str, Any]:
    path = Path(TOML_FILE)
    if not os.path.lexists(path):
        return {}
    where = path.absolute()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"Cannot read {where}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(
            f"{where}, line {line}: not UTF-8 text.", hint="Save it again as UTF-8."
        ) from error
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{where} is not valid TOML: {error}.") from error
    for name in values:
        if name not in Settings.model_fields:
            raise ConfigurationError(
                f"{where}{_line_of(name, text)}: there is no setting {name!r}.{_nearest(name)}",
                hint=f"The settings are: {', '.join(Settings.model_fields)}.",
            )
        if name in _SECRETS:
            raise ConfigurationError(
                f"{where}{_line_of(name, text)}: {name} does not belong in this file.",
                hint=f"Keep it in the environment or in .env, as {ENVIRONMENT_NAMES[name]}.",
            )
    return values


def _line_of(name: str, text: str) -> str:
    """Where in a TOML text the key is, as ", line N"; nothing where it is spelled in an unusual way."""
    key = re.compile(rf"""\s*\[{{0,2}}\s*["']?{re.escape(name)}["']?\s*[=.\]]""")
    for number, line in enumerate(text.splitlines(), start=1):
        if key.match(line):
            return f", line {number}"
    return ""


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), Settings.model_fields, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _explained(error: ValidationError, cli_values: Mapping[str, Any]) -> ConfigurationError:
    """Every value that was refused, with the place that it came from."""
    places: list[tuple[str, Mapping[str, Any]]] = [
        ("the command line", cli_values),
        ("the environment", _environment()),
        (str(Path(DOTENV_FILE).absolute()), _dotenv()),
        (str(Path(TOML_FILE).absolute()), _toml()),
    ]
    lines = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        field = str(detail["loc"][0])
        place, values = next(((place, values) for place, values in places if field in values), ("?", {}))
        lower = place.endswith(TOML_FILE) or place == "the command line"
        label = field if lower else ENVIRONMENT_NAMES[field]
        shown = "" if field in _SECRETS else f" {values.get(field)!r}"
        reason = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if place.endswith(TOML_FILE):
            place += _line_of(field, Path(TOML_FILE).read_text(encoding="utf-8-sig"))
        lines.append(f"{label}{shown} (from {place}): {reason}.")
    return ConfigurationError("\n".join(dict.fromkeys(lines)))
