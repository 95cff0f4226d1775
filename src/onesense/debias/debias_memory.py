"""How much memory finding and tuning will take, said before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from onesense.bias.audit_memory import audit_activations
from onesense.bias.scoring.passes import first_block
from onesense.debias.attribution import TOKENS_ON_CPU
from onesense.debias.contrasts import fact_contrasts
from onesense.debias.divergence import KEPT_BYTES
from onesense.debias.find import neutral_prompts
from onesense.debias.settings import DebiasSettings
from onesense.model.language_model import LanguageModel
from onesense.model.memory import MemoryNeeded, weights_in_memory
from onesense.sae.dictionary import Dictionary

_LIBRARIES = 1_200 * 10**6  # Python with torch, transformers, scipy and scikit-learn, benchmarks, draws
_FLOAT32, _FLOAT64 = 4, 8
_LOGITS = 4  # copies that are alive together while a gradient is taken
# What a block keeps of a token for the gradient with respect to its input, in widths of the stream and of the MLP.
_STREAMS, _MLPS = 6, 3
_LATENTS = 3  # latents, what they were made from, and slopes
_DICTIONARIES = 2  # as given, and as the recipe names them to the audit


def estimate_debias_memory(
    model: LanguageModel, dictionaries: Sequence[Dictionary], settings: DebiasSettings
) -> MemoryNeeded:
    """What ``debias`` will take of main memory; what lies on a GPU does not count.

    Args:
        model: As loaded.
        dictionaries: As loaded; all of each is looked at.
        settings: What is wanted.
    """
    on_cpu = model.device.type == "cpu"
    tensors = sum(tensor.nbytes for one in dictionaries for tensor in one.tensors().values())
    rows = len({one.person for one in neutral_prompts(settings.find)}) + len(fact_contrasts())
    rows += settings.find.passages
    features = sum(one.d_sae for one in dictionaries)
    activations = max(
        _gradients(model, dictionaries),
        audit_activations(model, settings.audit, edited=True) + _kept(model, settings),
    )
    return MemoryNeeded(
        libraries=_LIBRARIES,
        model=weights_in_memory(model),
        dictionaries=tensors * (_DICTIONARIES if on_cpu else 1),
        activations=activations if on_cpu else 0,
        findings=_FLOAT64 * rows * features,
    )


def _gradients(model: LanguageModel, dictionaries: Sequence[Dictionary]) -> int:
    """Of the tokens of a batch: logits, what blocks keep for the gradient, latents of the widest dictionary."""
    blocks = model.n_layers - min(first_block(one.hook_point) for one in dictionaries)
    kept = blocks * (_STREAMS * model.d_model + _MLPS * model.d_mlp)
    widest = max(one.d_sae for one in dictionaries)
    return TOKENS_ON_CPU * _FLOAT32 * (_LOGITS * model.vocab_size + kept + _LATENTS * widest)


def _kept(model: LanguageModel, settings: DebiasSettings) -> int:
    """The unedited model's probabilities, which every recipe is compared with."""
    tokens = settings.calibration_passages * settings.find.passage_tokens
    return min(KEPT_BYTES, _FLOAT32 * tokens * model.vocab_size)
