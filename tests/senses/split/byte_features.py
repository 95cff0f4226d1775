"""A model whose stream is the token itself, and a dictionary with a feature for each letter, two of them in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array

from onesense.engine.stages import Silent
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text
from onesense.sae.dictionary import Architecture, Dictionary, Origin
from onesense.senses.activity import Activity, collect_activity
from onesense.senses.judge import Judge
from onesense.senses.set_statistics import STATISTICS
from onesense.senses.space import Discriminants, SenseSpace
from onesense.senses.split.labelled import LabelledFeature
from onesense.senses.unit_sets import feature_units
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document

LETTERS = "abcdefghijklmno "
# Feature 2 is d, since a and b are one.
PARENT, SINGLE = 0, 2


class Setup(NamedTuple):
    dictionary: Dictionary
    embeddings: torch.Tensor
    activity: Activity
    space: SenseSpace
    judge: Judge
    documents: list[Document]
    second: int  # token id of b

    def labelled(self, contexts: int = 60) -> LabelledFeature:
        """The merged feature, its contexts by letter."""
        position = self.activity.firings["features"].of(PARENT)[0][:contexts]
        return LabelledFeature(
            PARENT, position, (self.activity.token[position] == self.second).astype(np.int64)
        )


@dataclass
class FarApart:
    """Takes a set for several senses where two halves of it are far apart in the first view."""

    def predict_proba(self, numbers: np.ndarray) -> np.ndarray:
        within, between = (STATISTICS.index(f"cosine {name}") for name in ("within", "between"))
        several = (numbers[:, within] - numbers[:, between] > 1.0).astype(float)
        return np.stack([1 - several, several], axis=1)


def byte_dictionary(model: LanguageModel, architecture: Architecture = Architecture.JUMPRELU) -> Dictionary:
    embedded = _embeddings(model)
    dual = torch.linalg.pinv(embedded)
    W_enc = torch.cat([dual[:, :1] + dual[:, 1:2], dual[:, 2:]], dim=1)
    W_dec = torch.cat([(embedded[:1] + embedded[1:2]) / 2, embedded[2:]])
    features = W_enc.shape[1]
    relu = architecture is Architecture.RELU
    generator = torch.Generator().manual_seed(0)
    return Dictionary(
        architecture=architecture,
        hook_point=HookPoint(0, "hook_resid_pre"),
        W_enc=W_enc,
        b_enc=torch.full((features,), -0.1 if relu else 0.0),
        W_dec=W_dec,
        b_dec=torch.zeros(embedded.shape[1]),
        threshold=None if relu else torch.full((features,), 0.5),
        origin=Origin(
            model_name=model.name,
            sparsity=torch.rand(features, generator=generator) - 3,
            expected_l0=2.0,
            extra={"l0": 2.0, "trained_by": "hand"},
        ),
    )


def documents(*, number: int = 60, length: int = 80, seed: int = 0) -> list[Document]:
    generator = np.random.default_rng(seed)
    weights = np.array([2.0, 1.2, *np.ones(len(LETTERS) - 2)])
    texts = [
        "".join(generator.choice(list(LETTERS), length, p=weights / weights.sum())) for _ in range(number)
    ]
    return [Document(index, str(index), text) for index, text in enumerate(texts)]


def byte_setup(
    model: LanguageModel, folder: RunFolder, architecture: Architecture = Architecture.JUMPRELU
) -> Setup:
    dictionary, texts = byte_dictionary(model, architecture), documents()
    units = feature_units(dictionary)
    activity = collect_activity(
        model, dictionary.hook_point, [units], texts, folder, tokens=10_000, context_size=64, stages=Silent()
    )
    firings, width = activity.firings["features"], dictionary.d_in
    by_feature = csr_array(
        (firings.value, firings.position, firings.pointer), shape=(dictionary.d_sae, len(activity))
    )
    plain = Discriminants(np.zeros(width, np.float32), np.eye(width, dtype=np.float32))
    space = SenseSpace(
        activity,
        plain,
        plain,
        csr_array(by_feature.T.tocsr()),
        units.directions.numpy(),
    )
    sizes = (32, 16, 8)
    return Setup(
        dictionary,
        _embeddings(model),
        activity,
        space,
        Judge(sizes, dict.fromkeys(sizes, FarApart())),
        texts,
        _ids(model)[1],
    )


def _ids(model: LanguageModel) -> list[int]:
    return encode_text(model, LETTERS)[1:]


def _embeddings(model: LanguageModel) -> torch.Tensor:
    embedded: torch.Tensor = model.hf.get_input_embeddings()(torch.tensor(_ids(model))).detach().float()
    return embedded
