"""How much memory an audit will take, said before it begins."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from onesense.bias.audit import AuditSettings
from onesense.bias.benchmarks.bold import BoldGender
from onesense.bias.benchmarks.honest import Honest
from onesense.bias.benchmarks.wikitext import WINDOW, WikiText
from onesense.bias.scoring.scorer import ROWS_OF_GENERATION, TOKENS_ON_CPU
from onesense.model.language_model import LanguageModel
from onesense.model.memory import MemoryNeeded, weights_in_memory
from onesense.steer.recipe import Recipe

_LIBRARIES = 800 * 10**6  # Python with torch and transformers, benchmarks, draws of the bootstrap
_BLOCKS_AT_ONCE = 4  # activations of a batch that are alive while a block is computed, in widths of its MLP
# Float32 copies of the logits that are alive together: as they come, those that count, their log-softmax, and a mask.
_COPIES_PLAIN, _COPIES_EDITED, _COPIES_OF_DIVERGENCE = 2.25, 3.25, 6.0
_GENERATED = 128  # tokens of a prompt and its continuation
_FLOAT32 = 4


def estimate_audit_memory(
    model: LanguageModel, recipes: Sequence[Recipe | None], settings: AuditSettings
) -> MemoryNeeded:
    """What ``audit`` will take of main memory; what lies on a GPU does not count.

    Args:
        model: As loaded.
        recipes: Those that are compared; their dictionaries are looked at.
        settings: What is measured.

    Raises:
        OnesenseError: A dictionary cannot be loaded; see ``load_dictionary``.
    """
    on_cpu = model.device.type == "cpu"
    edited = [recipe for recipe in recipes if recipe is not None]
    references = {part.dictionary.fingerprint: part.dictionary for one in edited for part in one.parts}
    sizes = [
        sum(tensor.nbytes for tensor in reference.load().tensors().values())
        for reference in references.values()
    ]
    return MemoryNeeded(
        libraries=_LIBRARIES,
        model=weights_in_memory(model),
        dictionaries=sum(sizes) if on_cpu else max(sizes, default=0),
        activations=audit_activations(model, settings, edited=bool(edited)) if on_cpu else 0,
    )


def audit_activations(model: LanguageModel, settings: AuditSettings, *, edited: bool) -> int:
    """Bytes of the texts that an audit scores together on the CPU, or of those that it generates.

    Args:
        model: As loaded.
        settings: What is measured.
        edited: Whether a recipe is measured, too.
    """
    benchmarks = settings.chosen()
    batch = settings.scoring.batch_tokens or TOKENS_ON_CPU
    windows = any(isinstance(one, WikiText) for one in benchmarks)
    longest = max(batch, min(WINDOW, model.max_context)) if windows else batch
    copies = _COPIES_EDITED if edited else _COPIES_PLAIN
    logits = (
        _FLOAT32 * model.vocab_size * max(longest * copies, batch * _COPIES_OF_DIVERGENCE if edited else 0)
    )
    hidden = longest * _BLOCKS_AT_ONCE * max(model.d_mlp, model.d_model) * model.dtype.itemsize
    # Plain passes run side by side; see ModelScorer.
    workers = 1 if edited or model.offloaded else torch.get_num_threads()
    scored = workers * (logits + hidden) + settings.scoring.prefix_bytes
    if not any(isinstance(one, BoldGender | Honest) for one in benchmarks):
        return int(scored)
    kept = 2 * model.n_layers * model.d_model * model.dtype.itemsize  # keys and values of a token, at most
    return int(max(scored, ROWS_OF_GENERATION * _GENERATED * kept))
