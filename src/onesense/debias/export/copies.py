"""Copies of a loaded model that may be changed, so that the user's own never is."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from onesense.errors import IncompatibleError
from onesense.model.language_model import LanguageModel


def copy_of(model: LanguageModel) -> LanguageModel:
    """The same model with weights of its own.

    Raises:
        IncompatibleError: The model is spread over devices.
    """
    model.require_one_device("be copied to be changed")
    return LanguageModel.from_hf(copy.deepcopy(model.hf), model.tokenizer, model.name)


def untie(model: LanguageModel) -> None:
    """Give the unembedding a matrix of its own where it shares the embedding's, so that one can change alone.

    Raises:
        IncompatibleError: The model has no unembedding with a weight.
    """
    embedding, head = model.hf.get_input_embeddings(), model.hf.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor):
        raise IncompatibleError(
            f"`{model.name}` has no unembedding matrix.", hint="Export it as a LoRA instead: --how merged."
        )
    if weight is embedding.weight:
        head.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    for config in (model.hf.config, model.hf.config.get_text_config()):
        config.tie_word_embeddings = False
    # transformers leaves out of the file whatever is listed here.
    model.hf.all_tied_weights_keys = {}


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Keep back what peft warns of that no user can mend: names that transformers will drop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield
