"""All published metrics of one dictionary: each as its own function gives it, and only what was asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch

from onesense.bias.gender_texts import gender_texts
from onesense.errors import ConfigurationError
from onesense.model.capture import capture
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import usable_positions
from onesense.sae.dictionary import Dictionary, Origin
from onesense.sae.load import load_dictionary
from onesense.senses.field_metrics.all_metrics import (
    METRICS,
    FieldSettings,
    LabelledTexts,
    field_metrics,
    live_features,
)
from onesense.senses.field_metrics.cosines import decoder_cosines
from onesense.senses.field_metrics.monosemanticity import feature_monosemanticity_score
from onesense.senses.field_metrics.probing import sparse_probing
from onesense.senses.field_metrics.ps_eval import ps_eval_of
from onesense.senses.field_metrics.text_activations import Pooling, text_activations
from onesense.senses.field_metrics.word_pairs import WordPair
from onesense.text.corpus import read_documents
from onesense.text.windows import batch_windows, iter_windows
from tiny_dictionaries import random_dictionary

_PLACES = ("home", "work", "the sea", "a shop", "the park", "school", "the door", "a lake", "the inn", "town")
LABELLED = LabelledTexts(
    "gender",
    [f"The {who} was at {place}." for place in _PLACES for who in ("queen", "king")],
    [True, False] * len(_PLACES),
    [place for place in _PLACES for _ in range(2)],
)
PAIRS = [
    WordPair.of("bank", "The bank lent money.", "They sat on the bank of the river.", "different"),
    WordPair.of("cell", "A cell divides.", "Each cell has a wall.", "same"),
    WordPair.of("light", "Light fell in.", "The bag is light", "different"),
    WordPair.of("plant", "The plant grew.", "Water the plant!", "same"),
]


@pytest.fixture
def dictionary() -> Dictionary:
    # So many features that a meta dictionary of them trains in a moment, and all of them live.
    return replace(random_dictionary(d_in=32, d_sae=60), origin=Origin(sparsity=torch.full((60,), -1.0)))


def test_each_metric_is_that_of_its_own_function(tiny_gpt2: LanguageModel, dictionary: Dictionary) -> None:
    settings = FieldSettings(metrics=METRICS, pooling=Pooling.LAST, draws=50, seed=3)
    found = field_metrics(tiny_gpt2, dictionary, settings, labelled=LABELLED, pairs=PAIRS)
    read = text_activations(tiny_gpt2, dictionary, LABELLED.texts, pooling=Pooling.LAST)
    data = (list(LABELLED.labels), LABELLED.documents)
    assert found.monosemanticity == feature_monosemanticity_score(read.latents, *data, draws=50, seed=3)
    assert found.raw_monosemanticity == feature_monosemanticity_score(read.channels, *data, draws=50, seed=3)
    assert found.probing == sparse_probing(read.latents, read.channels, *data, draws=50, seed=3)
    assert found.polysemy == ps_eval_of(tiny_gpt2, dictionary, PAIRS, draws=50, seed=3)
    cosines = decoder_cosines(dictionary.W_dec, dictionary.W_enc)
    assert found.cosines is not None
    assert found.cosines.mean == pytest.approx(float(cosines.largest.mean()))
    assert found.cosines.encoder == pytest.approx(float(cosines.encoder.mean()))
    assert found.cosines.near_copies == pytest.approx(float((cosines.largest > 0.7).double().mean()))
    assert found.meta is not None
    assert found.meta.trained_rows + found.meta.held_out_rows == found.live == found.features == 60
    assert (found.concept, found.texts) == ("gender", 20)
    assert {row.metric for row in found.rows()} == set(METRICS)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["cosines"]["mean"] == found.cosines.mean


def test_only_what_was_asked_for_is_measured(tiny_gpt2: LanguageModel, dictionary: Dictionary) -> None:
    found = field_metrics(tiny_gpt2, dictionary, FieldSettings(metrics=("decoder-cosine",)))
    assert {row.metric for row in found.rows()} == {"decoder-cosine"}
    assert (found.monosemanticity, found.probing, found.meta, found.polysemy) == (None,) * 4
    assert found.texts is None


def test_live_features_are_those_of_the_release(tiny_gpt2: LanguageModel, dictionary: Dictionary) -> None:
    sparsity = torch.full((60,), -5.0)
    sparsity[[4, 9]] = -10.0
    given = replace(dictionary, origin=Origin(sparsity=sparsity))
    live = live_features(tiny_gpt2, given, FieldSettings())
    assert (~live).nonzero().flatten().tolist() == [4, 9]
    found = field_metrics(tiny_gpt2, given, FieldSettings(metrics=("decoder-cosine",)))
    assert found.live == 58
    wanted = decoder_cosines(given.W_dec, given.W_enc, live=live).largest
    assert found.cosines is not None
    assert found.cosines.mean == pytest.approx(float(wanted[wanted.isfinite()].mean()))


def test_live_features_are_else_those_that_fire(tiny_gpt2: LanguageModel) -> None:
    rare = random_dictionary(d_in=32, d_sae=60)
    rare = replace(rare, b_enc=rare.b_enc - 3)
    live = live_features(tiny_gpt2, rare, FieldSettings(tokens=256))
    windows = list(islice(iter_windows(tiny_gpt2, read_documents(None), context_size=128), 2))
    batch = batch_windows(tiny_gpt2, windows)
    rows = capture(tiny_gpt2, batch, [rare.hook_point])[rare.hook_point]
    fires = (rare.encode(rows[usable_positions(rows, batch.content)]) > 0).any(0)
    assert 0 < int(fires.sum()) < 60
    assert torch.equal(live, fires)


def test_bad_requests_are_refused(tiny_gpt2: LanguageModel, dictionary: Dictionary) -> None:
    with pytest.raises(ConfigurationError, match="no metric 'fmss'"):
        FieldSettings(metrics=("fms", "fmss"))
    with pytest.raises(ConfigurationError, match="No metric"):
        FieldSettings(metrics=())
    with pytest.raises(ConfigurationError, match="0 tokens"):
        FieldSettings(tokens=0)
    with pytest.raises(ConfigurationError, match="none were given") as refused:
        field_metrics(tiny_gpt2, dictionary, FieldSettings(metrics=("ps-eval",)), labelled=LABELLED)
    assert "--word-pairs" in str(refused.value.hint)
    with pytest.raises(ConfigurationError, match="labelled texts"):
        field_metrics(tiny_gpt2, dictionary, FieldSettings(metrics=("probing",)))


def test_the_demo_dictionary_knows_gender(demo_model: LanguageModel) -> None:
    dictionary = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post")
    texts = gender_texts()
    some = LabelledTexts(texts.concept, *(column[:180] for column in texts[1:]))
    settings = FieldSettings(metrics=("fms", "probing", "decoder-cosine"), draws=400)
    found = field_metrics(demo_model, dictionary, settings, labelled=some)
    assert found.monosemanticity is not None
    assert found.monosemanticity.capacity.low > 0.6
    assert found.probing is not None
    assert found.probing[-1].latents.low > 0.6
    assert found.cosines is not None
    assert 0 < found.cosines.mean < found.cosines.ninth_decile < 1
    assert found.live == 4608
