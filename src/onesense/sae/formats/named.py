"""Formats that sae-lens alone knows (Llama Scope, Qwen Scope, Goodfire ...), through its own loaders."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from onesense.errors import FormatError, IncompatibleError, NotFoundError, UnsafeFileError
from onesense.sae.formats.hub import hub_error
from onesense.sae.formats.parts import Parts

_TRANSCODER_WORDS = ("transcoder", "clt", "temporal")


def read_named(loader: str, repo_id: str, folder: str, overrides: Mapping[str, Any]) -> Parts:
    """Read through one of sae-lens' named loaders.

    Args:
        loader: Its name, as the registry spells it.
        repo_id: Repository on the hub.
        folder: Folder or file within it.
        overrides: Entries that the registry lays over the configuration.

    Raises:
        IncompatibleError: A transcoder, or another kind that onesense does not support.
        NetworkError: Neither in the cache nor reachable.
        NotFoundError: sae-lens has no such loader, or the hub no such file.
        FormatError: The files are damaged.
        UnsafeFileError: Reading a file would run code.
    """
    if any(word in loader for word in _TRANSCODER_WORDS):
        kind = "temporal" if "temporal" in loader else "transcoder"
        raise IncompatibleError(
            f"Dictionaries of the kind `{kind}` are not supported (the loader `{loader}`).",
            hint="Choose a sparse autoencoder: relu, jumprelu, topk, batchtopk or gated.",
        )
    import requests
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError
    from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_LOADERS

    if loader not in NAMED_PRETRAINED_SAE_LOADERS:
        raise NotFoundError(f"sae-lens has no loader `{loader}`.", hint="Update sae-lens.")
    settings = {**overrides, "dtype": "float32", "device": "cpu"}
    try:
        config, tensors, sparsity = NAMED_PRETRAINED_SAE_LOADERS[loader](
            repo_id, folder, "cpu", False, settings
        )
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(
            f"`{folder}` of `{repo_id}` could run code when it is read; it was not read.",
            hint="Choose a release in safetensors.",
        ) from error
    except (
        EntryNotFoundError,
        RepositoryNotFoundError,
        HfHubHTTPError,
        OSError,
        requests.RequestException,
    ) as error:
        raise hub_error(repo_id, folder, error) from error
    except Exception as error:  # the loaders let whatever their parsers raise through
        raise FormatError(
            f"`{folder}` of `{repo_id}` could not be read: {type(error).__name__} {str(error)[:200]}",
            hint="Delete it from the hub's cache and download it again.",
        ) from error
    return Parts(config=dict(config), tensors=dict(tensors), sparsity=sparsity)
