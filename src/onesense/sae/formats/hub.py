"""Fetch a published dictionary's files from the hub, or find them in its local cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from onesense.errors import NetworkError, NotFoundError, OnesenseError

_FAILURES = (
    EntryNotFoundError,
    RepositoryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    OSError,
)


def fetch(
    repo_id: str,
    folder: str,
    files: Sequence[str],
    *,
    optional: Sequence[str] = (),
    revision: str | None = None,
) -> Path:
    """Make sure that files of a repository are in the local cache.

    Args:
        repo_id: `owner/name`.
        folder: Folder within the repository; empty for its top.
        files: Names of the files that must be there.
        optional: Names of files to take where there are any; `..` goes up a folder.
        revision: Commit, tag or branch.

    Returns:
        The folder in the cache that holds them.

    Raises:
        NetworkError: Neither in the cache nor reachable.
        NotFoundError: The repository has no such file, or there is no such repository.
    """
    found = [_fetch_one(repo_id, _join(folder, name), revision) for name in files]
    for name in optional:
        try:
            _fetch_one(repo_id, _join(folder, name), revision)
        except (NotFoundError, NetworkError):
            continue  # it may not exist, which a cache cannot tell from not being there
    return found[0].parent


def hub_error(repo_id: str, filename: str, error: Exception) -> OnesenseError:
    """What a failure of huggingface_hub means for the user."""
    place = f"`{filename}` of `{repo_id}`"
    if isinstance(error, GatedRepoError):
        return NotFoundError(
            f"`{repo_id}` is gated.",
            hint=f"Accept its terms on the hub, then log in with `hf auth login`: {place}.",
        )
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return NotFoundError(
            f"There is no repository `{repo_id}` on the hub.",
            hint="Check the name; private ones need `hf auth login`.",
        )
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return NotFoundError(f"There is no {place} on the hub.", hint="Check release and id.")
    return NetworkError(
        f"{place} is neither in the local cache nor reachable.",
        hint="Connect once to download it, or give a folder on disk; the release `demo` works offline.",
    )


def _fetch_one(repo_id: str, filename: str, revision: str | None) -> Path:
    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision))
    except _FAILURES as error:
        raise hub_error(repo_id, filename, error) from error


def _join(folder: str, name: str) -> str:
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    while name.startswith("../"):
        parts, name = parts[:-1], name.removeprefix("../")
    return "/".join([*parts, name])
