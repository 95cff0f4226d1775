"""The contexts pass on tiny models, end to end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from features.tiny_contexts import (
    LONG_WORD,
    SETTINGS,
    collected,
    files,
    tiny_dictionary,
    word_documents,
    word_model,
)
from onesense.engine.executor import LocalExecutor
from onesense.errors import (
    ConfigurationError,
    HookPointError,
    IncompatibleError,
    NumericalError,
)
from onesense.features.contexts import ContextSettings
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.text.corpus import Document


def every_activation(model: LanguageModel, dictionary: Dictionary, documents, context_size: int):
    """(document, position, latents) at each token, by hooks placed by hand on one window after another."""
    seen = []
    block = model.hf.model.layers[dictionary.hook_point.layer]
    handle = block.register_forward_hook(
        lambda _, __, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    rows = []
    prefix = [] if model.bos_id is None else [model.bos_id]
    size = context_size - len(prefix)
    for document in documents:
        ids = model.tokenizer(document.text, add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            seen.clear()
            with torch.no_grad():
                model.hf(torch.tensor([prefix + part]), use_cache=False)
            latents = dictionary.encode(seen[0][0, len(prefix) :]).numpy()
            rows += [(document.index, start + offset, row) for offset, row in enumerate(latents)]
    handle.remove()
    return rows


@pytest.mark.parametrize("bos", [True, False])
def test_equals_a_search_over_every_token(tmp_path, bos) -> None:
    model, dictionary, documents = word_model(bos=bos), tiny_dictionary(), word_documents()
    contexts = collected(tmp_path / "run", model=model, settings=replace(SETTINGS, outlier_factor=1e9))
    rows = every_activation(model, dictionary, documents, SETTINGS.context_size)
    latents = np.stack([row for _, _, row in rows])
    places = {(document, position): index for index, (document, position, _) in enumerate(rows)}
    tokens = [
        token
        for document in documents
        for token in model.tokenizer(document.text, add_special_tokens=False)["input_ids"]
    ]
    assert contexts.tokens_counted == contexts.tokens_seen == len(rows) == len(tokens)
    assert (contexts.count > 0).sum() > 6
    np.testing.assert_array_equal(contexts.count, (latents > 0).sum(axis=0))
    np.testing.assert_allclose(contexts.maximum, latents.max(axis=0), rtol=1e-5)
    np.testing.assert_allclose(contexts.density, (latents > 0).mean(axis=0))
    for feature in np.nonzero(contexts.count)[0]:
        values = latents[latents[:, feature] > 0, feature].astype(np.float64)
        assert contexts.mean[feature] == pytest.approx(values.mean(), rel=1e-5)
        assert contexts.variance[feature] == pytest.approx(values.var(), rel=1e-4, abs=1e-9)
        best: dict[int, float] = {}
        for document, _, row in rows:
            best[document] = max(best.get(document, 0.0), float(row[feature]))
        strongest = sorted((value for value in best.values() if value > 0), reverse=True)[:3]
        top = contexts.top(int(feature))
        np.testing.assert_allclose([context.activation for context in top], strongest, rtol=1e-5)
        sampled = [c for band in range(3) for c in contexts.sample(int(feature), band)]
        assert len(sampled) == sum(min(2, count) for count in contexts.band_counts(int(feature)))
        for context in top + sampled:
            index = places[context.document, context.position]
            first = index - context.peak
            n = len(context.token_ids)
            assert context.token_ids.tolist() == tokens[first : first + n]
            np.testing.assert_allclose(
                context.activations, latents[first : first + n, feature], rtol=1e-3, atol=1e-6
            )


def test_sampled_activations_lie_in_their_band(tmp_path) -> None:
    contexts = collected(tmp_path / "run")
    for feature in range(12):
        limits = contexts.band_limits(feature)
        assert bool(limits) == (contexts.count[feature] > 0)
        assert contexts.band_counts(feature).sum() == contexts.count[feature]
        for band, (lower, upper) in enumerate(limits):
            assert all(lower <= context.activation < upper for context in contexts.sample(feature, band))


def test_workers_change_nothing_and_batches_little(tmp_path) -> None:
    one = collected(tmp_path / "one")
    with LocalExecutor(3) as executor:
        collected(tmp_path / "three", executor=executor)
    assert files(tmp_path / "one") == files(tmp_path / "three")
    other = collected(tmp_path / "other", settings=replace(SETTINGS, batch_tokens=17, windows_per_shard=3))
    np.testing.assert_array_equal(one.count, other.count)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5)
    for feature in range(12):
        for left, right in zip(one.top(feature), other.top(feature), strict=True):
            assert (left.document, left.position) == (right.document, right.position)
            assert left.token_ids.tolist() == right.token_ids.tolist()


class _Elsewhere:
    """An executor that is not in this process: it cannot tell how far it is within a shard."""

    in_process = False

    def map_shards(self, function, shards):
        return iter([function(shard) for shard in shards])

    def evaluate(self, function, items):
        return [function(item) for item in items]

    def close(self) -> None:
        pass


def test_progress_counts_every_token_once(tmp_path) -> None:
    for name, executor in (("here", None), ("elsewhere", _Elsewhere())):
        told: list[tuple[int, int | None]] = []
        contexts = collected(
            tmp_path / name,
            executor=executor,
            progress=lambda done, total, told=told: told.append((done, total)),
        )
        done = [tokens for tokens, _ in told]
        assert done == sorted(set(done))
        assert done[-1] == contexts.tokens_seen
        assert {total for _, total in told} == {None}
    assert files(tmp_path / "here") == files(tmp_path / "elsewhere")


def test_stops_after_the_tokens_asked_for(tmp_path) -> None:
    told = []
    settings = replace(SETTINGS, max_tokens=50)
    contexts = collected(
        tmp_path / "run", settings=settings, progress=lambda done, total: told.append((done, total))
    )
    assert contexts.tokens_seen == 50
    assert told[-1] == (50, 50)


def test_documents_of_all_sizes(tmp_path) -> None:
    huge = " ".join([LONG_WORD] * 9_980 + ["w1"])
    assert len(huge) > 4.9e6
    texts = ["", "w3", " ", huge, "w4 w5"]
    documents = [Document(index, "", text) for index, text in enumerate(texts)]
    settings = replace(SETTINGS, context_size=64, batch_tokens=4096, windows_per_shard=64)
    contexts = collected(tmp_path / "run", documents=iter(documents), settings=settings)
    assert contexts.tokens_seen == 9_981 + 3
    found = {context.document for feature in range(12) for context in contexts.top(feature)}
    assert found == {1, 3, 4}
    assert all(len({c.document for c in contexts.top(f)}) == len(contexts.top(f)) for f in range(12))


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_text_without_tokens_is_refused(tmp_path, texts) -> None:
    documents = [Document(index, "", text) for index, text in enumerate(texts)]
    with pytest.raises(ConfigurationError, match="no token"):
        collected(tmp_path / "run", documents=documents)
    assert set(files(tmp_path / "run")) == {"run.json"}


def test_special_and_outlying_tokens_never_count(tmp_path) -> None:
    model = word_model()
    loud = model.tokenizer.convert_tokens_to_ids("w7")
    model.hf.model.embed_tokens.weight[loud] *= 1000
    dictionary = tiny_dictionary("blocks.0.hook_resid_pre")
    text = "w1 w2 w3 w7 nonsense w4"  # a token unknown to the tokenizer is special
    contexts = collected(
        tmp_path / "run", model=model, dictionary=dictionary, documents=[Document(0, "", text)] * 1
    )
    assert contexts.tokens_seen == 6
    assert contexts.outliers == 1
    assert contexts.tokens_counted == 4
    for feature in range(12):
        for context in contexts.top(feature):
            assert context.position not in (3, 4)
            silent = [index for index, token in enumerate(context.token_ids) if token in (loud, 2)]
            assert (context.activations[silent] == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_numbers_name_their_place(tmp_path, value) -> None:
    model = word_model()
    model.hf.model.embed_tokens.weight[model.tokenizer.convert_tokens_to_ids("w39"), 3] = value
    documents = [Document(0, "", "w1 w2"), Document(1, "", "w1 " * 20 + "w39 w1")]
    with pytest.raises(NumericalError, match="document 1, token 20"):
        collected(
            tmp_path / "run",
            model=model,
            documents=documents,
            dictionary=tiny_dictionary("blocks.0.hook_resid_pre"),
        )
    assert not (tmp_path / "run" / "stats.safetensors").exists()


def test_latents_that_overflow_name_their_place(tmp_path) -> None:
    model = word_model()
    model.hf.model.embed_tokens.weight *= 1e38
    documents = [Document(4, "", "w1 w2 w3")]
    dictionary = tiny_dictionary("blocks.0.hook_resid_pre")
    with pytest.raises(NumericalError, match="document 4, token 0"):
        collected(tmp_path / "run", model=model, documents=documents, dictionary=dictionary)


def test_what_does_not_fit_is_refused(tmp_path) -> None:
    with pytest.raises(IncompatibleError, match="reads 8 numbers"):
        collected(tmp_path / "width", dictionary=tiny_dictionary(d_in=8))
    with pytest.raises(HookPointError, match="out of range"):
        collected(tmp_path / "layer", dictionary=tiny_dictionary("blocks.9.hook_resid_post"))
    with pytest.raises(ConfigurationError, match="context of 1000"):
        collected(tmp_path / "context", settings=replace(SETTINGS, context_size=1000))


def test_context_size_follows_the_dictionary(tmp_path) -> None:
    settings = replace(SETTINGS, context_size=None, width=30)
    contexts = collected(tmp_path / "run", dictionary=tiny_dictionary(context_size=5), settings=settings)
    longest = max(len(context.token_ids) for feature in range(12) for context in contexts.top(feature))
    assert longest == 4  # the BOS takes one place


@pytest.mark.parametrize(
    "values",
    [
        {"top_k": 0},
        {"bands": 1},
        {"per_band": 0},
        {"width": 0},
        {"width": 10**6},
        {"batch_tokens": 0},
        {"windows_per_shard": 0},
        {"max_tokens": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"outlier_factor": 1.0},
        {"outlier_factor": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused(values) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        ContextSettings(**values)
