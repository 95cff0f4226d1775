"""``onesense.load``: a recipe, an export or a model as a plain transformers model."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from onesense.debias.export.artefact import load_artefact
from onesense.debias.export.manifest import MANIFEST_FILE, RECIPE_FILE, read_manifest
from onesense.errors import FormatError, IncompatibleError, NotFoundError
from onesense.model.dtype import resolve_dtype
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.steer.apply import prepare
from onesense.steer.lasting import install_lasting, refuse_saving
from onesense.steer.recipe import Recipe, read_recipe


def load(
    source: str | Path,
    *,
    model: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    force: bool = False,
) -> PreTrainedModel:
    """Load a model of its own transformers class, with a recipe applied that stays applied.

    It works wherever a transformers model does: ``pipeline``, ``generate`` with or without a cache, peft, training,
    ``to``, ``copy.deepcopy``. Where edits are hooks (all but plain weights and adapters), ``save_pretrained`` refuses:
    weights do not carry hooks.

    Args:
        source: A recipe (``.json``), a folder that ``onesense export`` made, or a model as ``onesense`` commands take
            it: a hub name, a folder, a GGUF file, ``demo``.
        model: The model that a recipe or an export is for; the one that it names by default.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto``.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.
        force: Whether to go on with another model or dictionary than the recipe was made for.

    Raises:
        NotFoundError: There is no such file, folder, model or dictionary.
        FormatError: A file is damaged, or is neither a recipe nor an export nor a model.
        IncompatibleError: The model or a dictionary is not the one that the recipe was made for.

    Example:
        >>> import onesense
        >>> model = onesense.load("recipe.json")  # doctest: +SKIP
        >>> type(model).__name__  # doctest: +SKIP
        'LlamaForCausalLM'
    """
    path = Path(source).expanduser()
    if path.suffix == ".json":
        loaded = _with_recipe(read_recipe(path), model, dtype, device, force)
    elif (path / MANIFEST_FILE).is_file():
        loaded = _exported(path, model, dtype, device, force)
    elif (path / RECIPE_FILE).is_file() and not (path / "config.json").is_file():
        raise FormatError(f"{path} is a run, not a model.", hint=f"Give its recipe: {path / RECIPE_FILE}.")
    else:
        if model is not None:
            raise NotFoundError(
                f"{source} is neither a recipe nor an export, so there is nothing to apply to `{model}`.",
                hint="Give a recipe's file, or the folder that `onesense export` made.",
            )
        loaded = load_model(str(source), dtype=dtype, device=device)
    # A measuring model needs no gradients; a user's may be trained.
    loaded.hf.requires_grad_(True)
    return loaded.hf


def _with_recipe(recipe: Recipe, name: str | None, dtype: str, device: str, force: bool) -> LanguageModel:
    name = name or recipe.model.name
    loaded = load_model(name, dtype=dtype, device=device)
    try:
        interventions = prepare(loaded, recipe, force=force)
    except IncompatibleError:
        if dtype == "float32":
            raise
        # A recipe names the weights in the format that it was made in, which may be a finer one.
        loaded = load_model(name, dtype="float32", device=device)
        interventions = prepare(loaded, recipe, force=force)
        loaded = _as(loaded, dtype)
    install_lasting(loaded, interventions)
    return loaded


def _exported(folder: Path, name: str | None, dtype: str, device: str, force: bool) -> LanguageModel:
    manifest = read_manifest(folder)
    kind = manifest.kind
    if kind.plain_weights:
        return load_artefact(folder, kind, None, dtype=dtype, device=device)
    base = load_model(name or manifest.base.name, dtype=manifest.dtype, device=device)
    if not force and base.fingerprint != manifest.base.fingerprint:
        raise IncompatibleError(
            f"`{base.name}` is not the model that {folder} was made from (`{manifest.base.name}`).",
            hint="Name that model, or use force=True.",
        )
    artefact = load_artefact(folder, kind, base, dtype=manifest.dtype, device=device)
    if kind.hooked:
        refuse_saving(artefact.hf)
    return _as(artefact, dtype)


def _as(loaded: LanguageModel, dtype: str) -> LanguageModel:
    loaded.hf.to(resolve_dtype(dtype, loaded.device))  # type: ignore[arg-type]
    return loaded
