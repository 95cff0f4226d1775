"""Contexts of a few features of several dictionaries, from one forward pass over a little text.

``collect_contexts`` reads long text for all features of one dictionary. Here features are few and so is the text:
everything is in memory at once, and the model runs once for all hook points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onesense.errors import ConfigurationError
from onesense.features.context_accumulator import (
    ContextAccumulator,
    ContextShape,
    ShardAccumulator,
    token_dtype,
)
from onesense.features.context_settings import ContextSettings
from onesense.features.context_shards import limit_tokens, plan_batches, window_table
from onesense.features.context_store import STATISTICS, Contexts, all_blocks, write_contexts
from onesense.features.firings import FiringList
from onesense.model.capture import capture
from onesense.model.language_model import LanguageModel
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document
from onesense.text.windows import Window, batch_windows, iter_windows

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary

Wanted = Sequence[tuple["Dictionary", Sequence[int]]]
"""Dictionaries, one for each hook point, each with features of it."""


def collect_joint_contexts(
    model: LanguageModel,
    wanted: Wanted,
    documents: Iterable[Document],
    run: RunFolder,
    *,
    settings: ContextSettings,
    progress: Callable[[int, int | None], None] | None = None,
) -> Contexts:
    """Read text once and keep where some features fire.

    Call it inside ``run.lock()``. Contexts that the run has already are opened, whatever they were made from.

    Args:
        model: The model.
        wanted: The features.
        documents: The text, some ten thousand tokens of it.
        run: Where the contexts are kept.
        settings: How much is kept; ``context_size``, None of it being what the model can do up to 128, and
            ``max_tokens`` say what is read.
        progress: Told how many tokens are done, and of how many.

    Returns:
        Contexts whose feature i is the i-th of ``wanted``, one dictionary after the other.

    Raises:
        ConfigurationError: The text holds no token.
        NumericalError: NaN or infinity among the activations.
        NotFoundError: A feature id is out of range.
        StorageError: The disk is full, read-only or out of reach.
    """
    if run.has_result(STATISTICS) and all_blocks(run):
        return Contexts.open(run)
    size = settings.context_size or min(128, model.max_context)
    windows = list(limit_tokens(iter_windows(model, documents, context_size=size), settings.max_tokens))
    if not windows:
        raise ConfigurationError("The text holds no token.", hint="Check the file given as --text.")
    embedding: Any = model.hf.get_input_embeddings()
    n_ids = int(embedding.weight.shape[0])
    n_features = sum(len(features) for _, features in wanted)
    shape = ContextShape(
        n_features, settings.top_k, settings.bands, settings.per_band, settings.width, settings.seed
    )
    shard = ShardAccumulator(shape, window_table(windows, n_ids=n_ids))
    latents, norms, row, position = _read(model, wanted, windows, settings.batch_tokens, progress)
    # An outlier at one hook point counts at the others.
    unusual = norms > settings.outlier_factor * norms.quantile(0.5, dim=0)
    column = torch.repeat_interleave(torch.arange(len(wanted)), torch.tensor([len(one) for _, one in wanted]))
    latents[unusual[:, column]] = 0
    outliers = int(unusual.any(dim=1).sum())
    shard.count_tokens(
        seen=sum(len(window.ids) for window in windows), counted=len(row) - outliers, outliers=outliers
    )
    firings = FiringList(n_features)
    firings.add(latents, row.numpy(), position.numpy())
    shard.update(firings.take())
    whole = ContextAccumulator(shape, token_dtype(n_ids))
    whole.absorb(shard.partial())
    write_contexts(run, whole, {})
    return Contexts.open(run)


def _read(
    model: LanguageModel,
    wanted: Wanted,
    windows: Sequence[Window],
    batch_tokens: int,
    progress: Callable[[int, int | None], None] | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents and norms at the positions that count, window by window.

    Returns:
        Latents float32 [n, features], norms float32 [n, dictionaries], window int32 [n] and position within it
        int32 [n], all on the CPU.
    """
    points = [dictionary.hook_point for dictionary, _ in wanted]
    prefix = 0 if model.bos_id is None else 1
    done, total = 0, sum(len(window.ids) for window in windows)
    parts: list[tuple[Tensor, ...]] = []
    for numbers in plan_batches([len(window.ids) + prefix for window in windows], batch_tokens):
        batch = batch_windows(model, [windows[number] for number in numbers])
        found = capture(model, batch, points)
        row, column = batch.content.nonzero(as_tuple=True)
        latents, norms = [], []
        for (dictionary, features), point in zip(wanted, points, strict=True):
            kept = found[point][row, column].to(dictionary.device)
            with torch.no_grad():
                latents.append(dictionary.encode_features(kept, torch.tensor(features)).float().cpu())
            norms.append(torch.linalg.vector_norm(kept, dim=-1, dtype=torch.float32).cpu())
        window = torch.tensor(numbers, dtype=torch.int32)[row.cpu()]
        place = (column.cpu() - prefix).to(torch.int32)
        parts.append((torch.cat(latents, dim=1), torch.stack(norms, dim=1), window, place))
        done += sum(len(windows[number].ids) for number in numbers)
        if progress is not None:
            progress(done, total)
    latents_, norms_, window_, place_ = (torch.cat(list(several)) for several in zip(*parts, strict=True))
    return latents_, norms_, window_, place_
