"""The contexts pass on tiny models, end to end."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from onesense.engine.executor import LocalExecutor
from onesense.errors import (
    ConfigurationError,
    FormatError,
    HookPointError,
    IncompatibleError,
    NotFoundError,
    NumericalError,
)
from onesense.features import compiled as compiled_module
from onesense.features.contexts import Contexts, ContextSettings, collect_contexts
from onesense.features.encoding import encoded
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Architecture, Dictionary, Normalization, Origin, Preparation
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document
from onesense.text.windows import batch_windows, iter_windows

LONG_WORD = "x" * 500
WORDS = [*(f"w{index}" for index in range(40)), LONG_WORD]
SETTINGS = ContextSettings(
    context_size=9, batch_tokens=64, top_k=3, bands=3, per_band=2, width=6, windows_per_shard=4
)


def tiny_model(*, bos: bool = True) -> LanguageModel:
    vocabulary = {word: index for index, word in enumerate(["<s>", "<pad>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>" if bos else None, pad_token="<pad>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    return LanguageModel.from_hf(LlamaForCausalLM(config).float(), fast, "tiny")


def tiny_dictionary(
    point: str = "blocks.1.hook_resid_post", d_in: int = 16, d_sae: int = 12, context_size: int | None = None
) -> Dictionary:
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(d_in, d_sae, generator=generator)
    return Dictionary(
        Architecture.RELU,
        HookPoint.parse(point),
        W_enc=weights,
        b_enc=torch.full((d_sae,), -3.0),
        W_dec=weights.T.contiguous(),
        b_dec=torch.zeros(d_in),
        origin=Origin(context_size=context_size),
    )


def tiny_documents(n: int = 12) -> list[Document]:
    generator = np.random.default_rng(2)
    lengths = [0, 1, 8, 9, *generator.integers(1, 40, size=n)]
    texts = [" ".join(f"w{token}" for token in generator.integers(0, 40, size=length)) for length in lengths]
    return [Document(index, f"text {index}", text) for index, text in enumerate(texts)]


def new_run(path: Path) -> RunFolder:
    return RunFolder.create_or_resume(path, command="extract", configuration={}, provenance={})


def collected(
    path: Path, *, model=None, dictionary=None, documents=None, settings=SETTINGS, **more
) -> Contexts:
    run = new_run(path)
    with run.lock():
        return collect_contexts(
            model or tiny_model(),
            dictionary or tiny_dictionary(),
            tiny_documents() if documents is None else documents,
            run,
            settings=settings,
            **more,
        )


def files(path: Path) -> dict[str, str]:
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


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
    model, dictionary, documents = tiny_model(bos=bos), tiny_dictionary(), tiny_documents()
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


CHILD = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {folder!r})
    from test_contexts import collected, new_run
    from onesense.store.run_folder import RunFolder
    calls = 0
    def dying(original):
        def call(*arguments, **more):
            global calls
            calls += 1
            if calls == {after}:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **more)
        return call
    RunFolder.{method} = dying(RunFolder.{method})
    collected(Path({run!r}))
"""


@pytest.mark.parametrize(
    ("method", "after"), [("write_shard", 3), ("write_result", 1), ("write_result", 2), ("clear_partials", 1)]
)
def test_killed_and_resumed_ends_in_the_same_bytes(tmp_path, method, after) -> None:
    collected(tmp_path / "whole")
    code = textwrap.dedent(CHILD).format(
        folder=str(Path(__file__).parent), method=method, after=after, run=str(tmp_path / "killed")
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    left = files(tmp_path / "killed")
    assert any(name.startswith("partials/shard-") for name in left)
    assert left != files(tmp_path / "whole")
    collected(tmp_path / "killed")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def interrupted(path: Path, monkeypatch, **more) -> None:
    """Stop a run once all shards are done and before any result is written."""

    def stop(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_result", stop)
        with pytest.raises(KeyboardInterrupt):
            collected(path, **more)


def test_resume_does_only_what_is_missing(tmp_path, monkeypatch) -> None:
    interrupted(tmp_path / "run", monkeypatch)
    shards = sorted((tmp_path / "run" / "partials").glob("*.safetensors"))
    assert len(shards) > 3
    shards[1].unlink()
    shards[2].write_bytes(shards[2].read_bytes()[:-1])
    written = []
    original = RunFolder.write_shard
    monkeypatch.setattr(
        RunFolder, "write_shard", lambda self, index, t: written.append(index) or original(self, index, t)
    )
    collected(tmp_path / "run")
    assert written == [1, 2]


def test_shards_of_another_text_are_done_again(tmp_path, monkeypatch) -> None:
    interrupted(tmp_path / "run", monkeypatch, documents=tiny_documents(30))
    collected(tmp_path / "run")
    collected(tmp_path / "fresh")
    assert files(tmp_path / "run") == files(tmp_path / "fresh")


def test_finished_contexts_are_opened(tmp_path) -> None:
    first = collected(tmp_path / "run")
    before = files(tmp_path / "run")

    def unread():
        pytest.fail("the text was read again")
        yield

    again = collected(tmp_path / "run", documents=unread())
    assert (again.count == first.count).all()
    assert files(tmp_path / "run") == before
    with pytest.raises(IncompatibleError, match="other"):
        collected(tmp_path / "run", settings=replace(SETTINGS, seed=5))
    with pytest.raises(IncompatibleError, match="another model"):
        collected(tmp_path / "run", dictionary=tiny_dictionary("blocks.0.hook_resid_post"))


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
    model = tiny_model()
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
    model = tiny_model()
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
    model = tiny_model()
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


def test_reader_says_what_there_is_not(tmp_path) -> None:
    contexts = collected(tmp_path / "run")
    for feature in (-1, 12):
        with pytest.raises(NotFoundError, match=f"no feature {feature}"):
            contexts.top(feature)
    for band in (-1, 3):
        with pytest.raises(NotFoundError, match=f"no band {band}"):
            contexts.sample(0, band)
    with pytest.raises(NotFoundError, match="not a run folder"):
        Contexts.open(tmp_path)
    with pytest.raises(NotFoundError, match="stats"):
        Contexts.open(new_run(tmp_path / "new"))


def test_damaged_files_are_noticed(tmp_path) -> None:
    run = tmp_path / "run"
    collected(run)
    for file, read in (
        (run / "contexts" / "block-0000.safetensors", lambda: Contexts.open(run).top(0)),
        (run / "stats.safetensors", lambda: Contexts.open(run)),
    ):
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[-5] ^= 1
        for damaged in (b"", whole[:-9], bytes(flipped)):
            file.write_bytes(damaged)
            with pytest.raises(FormatError):
                read()
        file.write_bytes(whole)
    other = new_run(tmp_path / "other")
    other.write_result("stats", {"count": np.zeros(3)})
    with pytest.raises(FormatError, match="does not hold context statistics"):
        Contexts.open(other)


def test_compiles_where_no_cache_can_be_written(monkeypatch) -> None:
    original = compiled_module.numba.njit

    def without_cache(*arguments, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(*arguments, **options)

    monkeypatch.setattr(compiled_module.numba, "njit", without_cache)

    @compiled_module.compiled
    def double(number):
        return 2 * number

    assert double(21) == 42


def random_dictionary(
    architecture: Architecture, d_in: int, *, normalization: Normalization = Normalization.NONE, center=False
) -> Dictionary:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    d_sae = 40
    more: dict = {}
    if architecture is Architecture.JUMPRELU:
        more = {"threshold": random(d_sae)}  # negative thresholds too
    if architecture is Architecture.TOPK:
        more = {"k": 5}
    if architecture is Architecture.GATED:
        more = {"b_mag": random(d_sae), "r_mag": 0.1 * random(d_sae)}
    factor = 0.5 if normalization is Normalization.EXPECTED_AVERAGE else None
    return Dictionary(
        architecture,
        HookPoint.parse("blocks.1.hook_resid_post"),
        W_enc=random(d_in, d_sae),
        b_enc=random(d_sae),
        W_dec=random(d_sae, d_in),
        b_dec=random(d_in),
        preparation=Preparation(center=center, normalization=normalization, norm_factor=factor),
        **more,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("normalization", list(Normalization))
@pytest.mark.parametrize("architecture", list(Architecture))
def test_encoding_is_that_of_the_dictionary(architecture, normalization, center, dtype) -> None:
    dictionary = random_dictionary(architecture, 24, normalization=normalization, center=center).to(
        dtype=dtype
    )
    activations = torch.randn(50, 24, generator=torch.Generator().manual_seed(4)).to(dtype)
    values, limit = encoded(dictionary, activations)
    assert (limit >= 0).all()
    found = torch.where(values > limit, values, 0).float()
    expected = dictionary.encode(activations).float()
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    same = (found > 0) == (expected > 0)
    assert (~same).sum() <= (0 if dtype == torch.float32 else 0.02 * same.numel())
    torch.testing.assert_close(found[same], expected[same], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("architecture", list(Architecture))
def test_every_family_and_rule(tmp_path, request, family, architecture) -> None:
    model = request.getfixturevalue("tiny_model")(family)
    documents = [Document(index, "", "the cat sat on the mat " * index) for index in range(5)]
    dictionary = random_dictionary(architecture, 32)
    contexts = collected(tmp_path / "run", model=model, dictionary=dictionary, documents=documents)
    batch = batch_windows(model, list(iter_windows(model, documents, context_size=SETTINGS.context_size)))
    latents = dictionary.encode(capture(model, batch, [dictionary.hook_point])[dictionary.hook_point])
    latents = latents[batch.content]
    assert contexts.tokens_counted == len(latents) == sum(len(document.text) for document in documents)
    assert np.abs(contexts.count - (latents > 0).sum(dim=0).numpy()).max() <= 1  # one may stand on the edge
    np.testing.assert_allclose(contexts.maximum, latents.amax(dim=0).numpy(), rtol=1e-3, atol=1e-4)
