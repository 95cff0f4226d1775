"""Load a model by hub name, TransformerLens name, local folder, GGUF file, or ``demo``."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from onesense.config import cache_directory
from onesense.errors import ConfigurationError, FormatError, NetworkError, NotFoundError, OnesenseError
from onesense.model.demo_model import DEMO_NAME, DEMO_SHA256, demo_gguf, verify_demo_gguf
from onesense.model.dtype import resolve_device, resolve_dtype
from onesense.model.language_model import LanguageModel
from onesense.model.names import hub_name
from onesense.model.placement import DeviceMap, check_device_map, offload_folder, remove_with
from onesense.store.atomic import atomic_folder

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "spiece.model",
    "tokenizer_config.json",
)


def load_model(
    name: str = DEMO_NAME,
    *,
    dtype: str = "float32",
    device: str = "auto",
    device_map: DeviceMap | None = None,
    revision: str | None = None,
) -> LanguageModel:
    """Load a causal language model.

    Args:
        name: ``demo``, a hub name, a TransformerLens name (``gpt2-small``), a local folder, or a ``.gguf`` file.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto``.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        device_map: Spreads a model that is larger than one device over all GPUs, main memory and disk: ``auto``,
            ``balanced``, ``balanced_low_0`` or ``sequential`` as accelerate does it, or a device (``cpu``,
            ``disk``, a GPU's number) for each module by name. None: on one device.
        revision: Commit or tag on the hub.

    Raises:
        NotFoundError: No such folder, file or model.
        NetworkError: Neither in the cache nor reachable.
        FormatError: The files are damaged.
        ConfigurationError: Empty name, unknown dtype, device or device map, or both of the last two.
        DeviceError: The device does not exist here, or the model does not go where the map says.
    """
    if not name.strip():
        raise ConfigurationError("The model's name is empty.", hint="Give a hub name, a folder, or `demo`.")
    if device_map is not None:
        check_device_map(device_map, device)
    place = resolve_device(device)
    number_format = resolve_dtype(dtype, place)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    source = _source(name)
    if device_map is None:
        hf = _load_hf(name, source, number_format, revision).to(place)
    else:
        hf = _load_spread(name, source, number_format, revision, device_map)
    tokenizer = _load_tokenizer(source, revision)
    model = LanguageModel(hf, tokenizer, name)
    model.revision = revision
    model.device_map = device_map
    return model


def load_tokenizer(name: str = DEMO_NAME, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer without the model.

    Args:
        name: See ``load_model``.
        revision: Commit or tag on the hub.

    Raises:
        ConfigurationError: The model has none.
        OnesenseError: See ``load_model``.
    """
    tokenizer = _load_tokenizer(_source(name), revision)
    if tokenizer is None:
        raise ConfigurationError(
            f"The model `{name}` has no tokenizer.", hint="Put its tokenizer files into its folder."
        )
    return tokenizer


def save_model(model: LanguageModel, folder: Path) -> Path:
    """Write a model and its tokenizer as a plain Hugging Face folder.

    A model that was read from GGUF is marked as quantized and refuses to be saved; its weights are plain
    tensors by then, so the mark is dropped.

    Raises:
        StorageError: The folder cannot be written or exists already.
        IncompatibleError: The model is spread over devices.
    """
    model.require_one_device("be saved")
    _forget_quantization(model.hf)
    with atomic_folder(folder) as temporary:
        model.hf.save_pretrained(temporary, safe_serialization=True)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(temporary)
    return folder


def _source(name: str) -> str:
    """Where the files are: a local folder, or a name on the hub."""
    if name == DEMO_NAME:
        return str(_converted_demo())
    path = Path(name).expanduser()
    if name.lower().endswith(".gguf"):
        if not path.is_file():
            raise NotFoundError(f"There is no file {path}.", hint="Check the path.")
        return str(_converted(path, _sha256(path)))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FormatError(
                f"{path} has no config.json, so it is not a model's folder.",
                hint="Point to the folder that holds config.json and the weights.",
            )
        return str(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise NotFoundError(f"{name} is not a model's folder.", hint="Check the path.")
    return hub_name(name)


def _converted_demo() -> Path:
    target = _conversion_folder(DEMO_SHA256)
    if target.is_dir():
        return target
    path = demo_gguf()
    verify_demo_gguf(path)
    return _converted(path, DEMO_SHA256)


def _conversion_folder(sha256: str) -> Path:
    return cache_directory() / "models" / f"gguf-{sha256[:16]}"


def _converted(path: Path, sha256: str) -> Path:
    """Dequantise a GGUF file once and keep it as safetensors: reading GGUF takes many times longer."""
    target = _conversion_folder(sha256)
    if target.is_dir():
        return target
    try:
        hf = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except OnesenseError:
        raise
    except Exception as error:
        raise FormatError(
            f"{path} could not be read as a GGUF model: {_first_line(error)}",
            hint="The file may be cut short, or of a family that transformers does not read from GGUF.",
        ) from error
    try:
        save_model(LanguageModel(hf, tokenizer, path.name), target)
    except OnesenseError:
        # Another process that converted the same file may have been first.
        if not (target / "config.json").is_file():
            raise
    return target


def _forget_quantization(hf: PreTrainedModel) -> None:
    if getattr(hf, "hf_quantizer", None) is not None:
        hf.hf_quantizer = None  # type: ignore[assignment]
    if hasattr(hf.config, "quantization_config"):
        del hf.config.quantization_config


def _load_spread(
    name: str, source: str, dtype: torch.dtype, revision: str | None, device_map: DeviceMap
) -> Any:
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # says that weights are offloaded
    folder = offload_folder()
    hf = None
    try:
        placed = device_map if isinstance(device_map, str) else dict(device_map)
        hf = _load_hf(name, source, dtype, revision, device_map=placed, offload_folder=str(folder))
    finally:
        if hf is None:
            shutil.rmtree(folder, ignore_errors=True)
    remove_with(hf, folder)
    return hf


def _load_hf(name: str, source: str, dtype: torch.dtype, revision: str | None, **placing: Any) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, revision=revision or "main", trust_remote_code=False, **placing
        )
    except OSError as error:
        raise _loading_error(name, source, error) from error
    except Exception as error:
        if placing and isinstance(error, ValueError | KeyError):
            raise ConfigurationError(
                f"The model `{name}` could not be spread as its device map says: {_first_line(error)}",
                hint="Name every module of the model once, or use --device-map auto.",
            ) from error
        raise FormatError(
            f"The model `{name}` could not be loaded: {_first_line(error)}",
            hint="Its weights may be damaged or of an architecture that transformers does not know.",
        ) from error


def _loading_error(name: str, source: str, error: OSError) -> OnesenseError:
    if Path(source).is_dir():
        return FormatError(
            f"The weights in {source} could not be read: {_first_line(error)}",
            hint="The folder needs config.json and *.safetensors.",
        )
    text = str(error)
    if "is not a local folder and is not a valid model identifier" in text or "404" in text:
        return NotFoundError(
            f"There is no model `{name}` on the hub.",
            hint="Check the name; private ones need `hf auth login`.",
        )
    return NetworkError(
        f"The model `{name}` is neither in the local cache nor reachable.",
        hint="Connect once to download it, or give a local folder; `demo` works offline.",
    )


def _load_tokenizer(source: str, revision: str | None) -> PreTrainedTokenizerBase | None:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, revision=revision or "main", trust_remote_code=False
        )
    except Exception as error:
        # A folder without tokenizer files is legitimate (token ids can be given); one with damaged files is not.
        present = [name for name in _TOKENIZER_FILES if (Path(source) / name).is_file()]
        if Path(source).is_dir() and not present:
            return None
        raise FormatError(
            f"The tokenizer in {source} could not be read: {_first_line(error)}",
            hint="Download the model's tokenizer files again, or take them all out to work with token ids.",
        ) from error
    return tokenizer if len(tokenizer) > 0 else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
