"""Load a dictionary: packaged, from a folder of any known format, or from the SAELens registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import torch

from onesense.errors import ConfigurationError, FormatError, NetworkError, NotFoundError
from onesense.sae.dictionary import Dictionary, Origin
from onesense.sae.formats import dictionary_learning, gemma_scope, saelens, sparsify
from onesense.sae.formats.assemble import assemble
from onesense.sae.formats.hub import fetch
from onesense.sae.formats.named import read_named
from onesense.sae.formats.parts import Parts
from onesense.sae.registry import PublishedDictionary, is_published, nearest_names, published
from onesense.sae.write import CONFIG_FILE, SPARSITY_FILE, WEIGHTS_FILE

DEMO_RELEASE = "demo"
_LOADED: dict[tuple[str | None, str | None, str | None], str] = {}
_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of folder.

    Attributes:
        name: For messages.
        files: A folder with all of these is of this kind.
        read: Its reader.
        optional: Files that the reader uses where they exist.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], Parts]
    optional: tuple[str, ...] = ()


SAELENS = Format("SAELens", (CONFIG_FILE, WEIGHTS_FILE), saelens.read_saelens, (SPARSITY_FILE,))
SPARSIFY = Format(
    "sparsify", (sparsify.CONFIG_FILE, sparsify.WEIGHTS_FILE), sparsify.read_sparsify, ("../config.json",)
)
DICTIONARY_LEARNING = Format(
    "dictionary_learning",
    (dictionary_learning.CONFIG_FILE, dictionary_learning.TORCH_FILE),
    dictionary_learning.read_dictionary_learning,
)
DICTIONARY_LEARNING_CONVERTED = Format(
    "dictionary_learning",
    (dictionary_learning.CONFIG_FILE, dictionary_learning.SAFETENSORS_FILE),
    dictionary_learning.read_dictionary_learning,
)
GEMMA_SCOPE = Format("Gemma Scope", (gemma_scope.NPZ_FILE,), gemma_scope.read_gemma_scope)
GEMMA_SCOPE_2 = Format("Gemma Scope 2", (gemma_scope.SAFETENSORS_FILE,), gemma_scope.read_gemma_scope)
FORMATS = (SAELENS, SPARSIFY, DICTIONARY_LEARNING_CONVERTED, DICTIONARY_LEARNING, GEMMA_SCOPE, GEMMA_SCOPE_2)

# The registry's loaders whose files our own readers read: no import of sae-lens, and offline once cached.
_LOADERS = {
    "sae_lens": SAELENS,
    "sparsify": SPARSIFY,
    "dictionary_learning_1": DICTIONARY_LEARNING,
    "gemma_2": GEMMA_SCOPE,
    "gemma_3": GEMMA_SCOPE_2,
}


def load_dictionary(
    *,
    release: str | None = None,
    sae_id: str | None = None,
    path: Path | str | None = None,
    device: torch.device | str = "cpu",
    dtype: str = "float32",
) -> Dictionary:
    """Load a dictionary.

    Args:
        release: `demo`, a release of the SAELens registry, or a repository on the hub (`owner/name`).
        sae_id: Its id within the release; of a repository, the folder.
        path: A folder on disk, of any known format, instead of a release.
        device: Where its tensors go.
        dtype: `float32`, `bfloat16`, `float16` or `float64`.

    Raises:
        ConfigurationError: Neither or both of release and path; no id; unknown dtype.
        NotFoundError: No such folder, release or id; the nearest names are offered.
        NetworkError: Neither in the cache nor reachable.
        FormatError: Damaged, or of an unknown kind.
        UnsafeFileError: Reading it would run code.
        IncompatibleError: A kind that is not supported, or shapes that disagree.
        NumericalError: NaN or infinity in a tensor.
    """
    if (release is None) == (path is None):
        raise ConfigurationError(
            "A dictionary is given by a release and its id, or by a path.", hint="Give one of the two."
        )
    if dtype not in _DTYPES:
        raise ConfigurationError(f"`{dtype}` is not a number format.", hint=f"Choose: {', '.join(_DTYPES)}.")
    if path is not None:
        path = Path(path).expanduser()
    dictionary = read_folder(path) if path is not None else _load_release(str(release), sae_id)
    _LOADED[_place(release, sae_id, path)] = dictionary.origin.fingerprint
    return dictionary.to(device=device, dtype=_DTYPES[dtype])


def loaded_from(release: str | None, sae_id: str | None, path: Path | str | None) -> str | None:
    """Fingerprint of what this process last loaded from there; None where it loaded nothing."""
    return _LOADED.get(_place(release, sae_id, path))


def _place(
    release: str | None, sae_id: str | None, path: Path | str | None
) -> tuple[str | None, str | None, str | None]:
    return (release, sae_id, None) if path is None else (None, None, str(Path(path).resolve()))


def load_labelled(label: str) -> Dictionary:
    """Load the dictionary that a run says it was made with (``Origin.label``).

    Args:
        label: A folder, or a release and an id with a slash between them.

    Raises:
        NotFoundError: It lies elsewhere now, or there is no such release or id.
        OnesenseError: See ``load_dictionary``.
    """
    return load_dictionary(**parse_label(label))


def parse_label(label: str) -> dict[str, str]:
    """What ``load_dictionary`` takes for a label: ``path``, or ``release`` and ``sae_id``.

    Raises:
        NotFoundError: It was a folder, which lies elsewhere now.
    """
    if Path(label).is_dir():
        return {"path": label}
    if Path(label).is_absolute() or "/" not in label:
        raise NotFoundError(
            f"The dictionary of the run, {label}, is not there any more.", hint="Put its folder back."
        )
    release, _, sae_id = label.partition("/")
    if release != DEMO_RELEASE and not is_published(release):  # a repository: its name has a slash of its own
        owner, name, sae_id = (*label.split("/", 2), "")[:3]
        release = f"{owner}/{name}"
    return {"release": release, "sae_id": sae_id}


def read_folder(folder: Path, origin: Origin | None = None) -> Dictionary:
    """Read a folder of any known format, in float32.

    Args:
        folder: The folder, or a file in it.
        origin: What is known of where it comes from.

    Raises:
        NotFoundError: There is no such folder.
        FormatError: It is damaged, or of an unknown kind.
    """
    if folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}.", hint="Check the path of the dictionary.")
    names = {entry.name for entry in folder.iterdir()}
    found = next((format_ for format_ in FORMATS if names.issuperset(format_.files)), None)
    if found is None:
        raise _unknown_format(folder, names)
    return assemble(found.read(folder), origin or Origin(path=str(folder)))


def demo_ids() -> tuple[str, ...]:
    """Ids of the packaged dictionaries."""
    packaged = _demo_folder()
    if not packaged.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in packaged.iterdir() if (entry / CONFIG_FILE).is_file()))


def _demo_folder() -> Traversable:
    return resources.files("onesense") / "demo" / "dictionaries"


def _load_release(release: str, sae_id: str | None) -> Dictionary:
    if release == DEMO_RELEASE:
        return _load_demo(sae_id)
    if not sae_id:
        raise ConfigurationError(
            f"Which dictionary of the release `{release}`?",
            hint="Give its id, such as blocks.8.hook_resid_pre.",
        )
    if not is_published(release) and "/" in release:
        return _load_repository(release, sae_id)
    return _load_published(published(release, sae_id))


def _load_demo(sae_id: str | None) -> Dictionary:
    known = demo_ids()
    if sae_id not in known:
        which = f"no dictionary `{sae_id}`" if sae_id else "several dictionaries; say which"
        raise NotFoundError(
            f"The release `demo` has {which}.",
            hint=f"There are: {', '.join(known)}." if known else "None is packaged: reinstall onesense.",
        )
    with resources.as_file(_demo_folder() / str(sae_id)) as folder:
        return read_folder(folder, Origin(release=DEMO_RELEASE, sae_id=sae_id))


def _load_published(entry: PublishedDictionary) -> Dictionary:
    origin = Origin(
        release=entry.release,
        sae_id=entry.sae_id,
        expected_l0=entry.expected_l0,
        expected_fvu=entry.expected_fvu,
    )
    format_ = _LOADERS.get(entry.loader)
    if format_ is None:
        parts = read_named(entry.loader, entry.repo_id, entry.folder, entry.overrides)
    else:
        gemma_scope.refuse_transcoders(entry.folder.split("/"))
        folder = fetch(entry.repo_id, entry.folder, format_.files, optional=format_.optional)
        parts = format_.read(folder)
    dictionary = assemble(parts, origin, overrides=entry.overrides, norm_factor=entry.norm_factor)
    if dictionary.origin.model_name is None:
        return replace(dictionary, origin=replace(dictionary.origin, model_name=entry.model_name))
    return dictionary


def _load_repository(repo_id: str, folder: str) -> Dictionary:
    """A repository that the registry does not list: try one known kind after the other."""
    unreachable: NetworkError | None = None
    for format_ in FORMATS:
        try:
            found = fetch(repo_id, folder, format_.files, optional=format_.optional)
        except NotFoundError:
            continue
        except NetworkError as error:  # another format's files may be in the cache
            unreachable = unreachable or error
            continue
        return assemble(format_.read(found), Origin(release=repo_id, sae_id=folder))
    if unreachable is not None:
        raise unreachable
    raise NotFoundError(
        f"`{repo_id}` has no dictionary in the folder `{folder}`.",
        hint=f"Known kinds: {_describe_formats()}.",
    )


def _unknown_format(folder: Path, names: set[str]) -> FormatError:
    inner = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and any({*map(str, format_.files)} <= _names(entry) for format_ in FORMATS)
    )
    if inner:
        return FormatError(
            f"{folder} is not a dictionary, but holds some.",
            hint=f"Give one of them: {', '.join(inner[:20])}.",
        )
    return FormatError(
        f"{folder} is not a dictionary of a known kind; it holds "
        f"{', '.join(sorted(names)[:12]) or 'nothing'}.",
        hint=f"Known kinds: {_describe_formats()}.",
    )


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def _describe_formats() -> str:
    return "; ".join(f"{format_.name} ({' + '.join(format_.files)})" for format_ in FORMATS)


__all__ = ["DEMO_RELEASE", "demo_ids", "load_dictionary", "nearest_names", "read_folder"]
