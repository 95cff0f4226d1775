"""The contexts pass against a bare forward to the same hook point, and its memory as the text grows.

``python -m benchmarks.contexts`` measures on the demo model in bfloat16 where the CPU has units for it, with
a random dictionary of 4,608 latents whose thresholds let 32 fire at a token: what a latent means changes no
cost. A run is two batches, so that the sides take turns often; its fixed costs (tables made, partial result
put together) are those of a whole shard, which is sixteen times as long.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.memory import in_child, peak_extra_megabytes
from benchmarks.timing import Ratio, Side, interleave, report
from onesense.features.context_pass import ContextPass, ShardPart
from onesense.features.context_reading import median_norms
from onesense.features.context_shards import plan_batches, window_table
from onesense.features.contexts import ContextSettings, collect_contexts
from onesense.features.feature_parts import FeaturePart
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.sae.dictionary import Architecture, Dictionary, Origin
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document
from onesense.text.windows import Window, batch_windows

D_SAE = 4_608
L0 = 32
LAYERS = (9, 15, 21)
CONTEXT_SIZE = 128
BATCH_TOKENS = ContextSettings().batch_tokens
SETTINGS = ContextSettings()
# The memory part drives a tiny model, so that a million tokens take minutes: what is kept, and so what could
# grow, is that of a full dictionary. The share of the real model itself does not depend on the text.
MEMORY_TOKENS = (100_000, 1_000_000)
MEMORY_WIDTH = 64
M_MMAP_THRESHOLD = -3  # malloc.h


class Job(NamedTuple):
    """A model, a dictionary, and the windows that both sides read."""

    model: LanguageModel
    dictionary: Dictionary
    windows: list[Window]


def random_windows(model: LanguageModel, n: int) -> list[Window]:
    """Full windows of random tokens, four to a document."""
    generator = torch.Generator().manual_seed(0)
    size = (n, CONTEXT_SIZE - 1)
    ids = torch.randint(len(model.special_ids) + 10, model.vocab_size, size, generator=generator)
    return [Window(index // 4, (index % 4) * size[1], row) for index, row in enumerate(ids.tolist())]


def random_dictionary(d_in: int, point: HookPoint, d_sae: int) -> Dictionary:
    """A jumprelu dictionary of random unit directions."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(d_in, d_sae, generator=generator)
    weights /= weights.norm(dim=0)
    return Dictionary(
        Architecture.JUMPRELU,
        point,
        W_enc=weights,
        b_enc=torch.zeros(d_sae),
        W_dec=weights.T.contiguous(),
        b_dec=torch.zeros(d_in),
        threshold=torch.zeros(d_sae),
        origin=Origin(context_size=CONTEXT_SIZE),
    )


def calibrated(
    model: LanguageModel, dictionary: Dictionary, windows: Sequence[Window], l0: int
) -> Dictionary:
    """The dictionary with thresholds at which each latent fires equally often, ``l0`` of them at a token."""
    batch = batch_windows(model, windows)
    read = capture(model, batch, [dictionary.hook_point])[dictionary.hook_point][batch.content].float()
    products = read @ dictionary.W_enc.float()
    threshold = products.quantile(1 - l0 / dictionary.d_sae, dim=0).clamp_min(1e-3)
    return replace(dictionary, threshold=threshold, origin=replace(dictionary.origin, fingerprint=""))


def make_job(layer: int, n_windows: int) -> Job:
    """The demo model, and a dictionary after one of its layers."""
    model = load_model("demo", dtype="auto", device="cpu")
    windows = random_windows(model, n_windows)
    dictionary = random_dictionary(model.d_model, HookPoint(layer, "hook_resid_post"), D_SAE)
    return Job(model, calibrated(model, dictionary, windows[:8], L0).to(dtype=model.dtype), windows)


def sides(job: Job) -> tuple[Callable[[], object], Callable[[], object]]:
    """The bare forward, and the pass with everything but writing files, over the same batches."""
    model, dictionary, windows = job
    table = window_table(windows, n_ids=model.vocab_size)
    batches = list(plan_batches((table.length + 1).tolist(), BATCH_TOKENS))
    norms = median_norms(model, [dictionary.hook_point], windows[:8])
    part = FeaturePart(0, 0, dictionary.d_sae)
    most_norm = {point: 5 * norm for point, norm in norms.items()}
    work = ContextPass(model, (dictionary,), (part,), SETTINGS, most_norm)

    def bare() -> None:
        for rows in batches:
            capture(model, batch_windows(model, [windows[row] for row in rows]), [dictionary.hook_point])

    return bare, lambda: work(ShardPart(0, table, part))


def growing_documents(tokens: int, per_document: int = 500) -> Iterator[Document]:
    """Documents of random bytes, as text."""
    generator = torch.Generator().manual_seed(2)
    for index in range(tokens // per_document):
        letters = torch.randint(97, 123, (per_document,), generator=generator)
        yield Document(index, "", bytes(letters.tolist()).decode())


def tiny_byte_model() -> LanguageModel:
    """A random model of one layer that reads bytes."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken("<bos>", special=True)])
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=MEMORY_WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.5,
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>")
    return LanguageModel.from_hf(LlamaForCausalLM(config), fast, "bytes")


def give_back_at_once() -> None:
    """Let glibc hand every freed block of 256 kB or more back to the system.

    Left alone it keeps blocks of up to 32 MB or not, as they happen to lie: tens of megabytes of chance in
    what a process holds, whatever the text. The tensors of a batch are of 1 to 16 MB, so with a limit of 8 MB
    15 MB of free blocks still lay under the merged tables, more or fewer of them from run to run.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**18)


def pass_megabytes(tokens: int) -> float:
    """Extra memory of a whole pass with files, over a tiny model; call it in a process of its own."""
    give_back_at_once()
    model = tiny_byte_model()
    dictionary = random_dictionary(MEMORY_WIDTH, HookPoint(0, "hook_resid_post"), D_SAE)
    few = list(growing_documents(4_000))
    windows = [
        Window(document.index, 0, list(document.text.encode()[: CONTEXT_SIZE - 1])) for document in few
    ]
    dictionary = calibrated(model, dictionary, windows, L0)
    settings = ContextSettings(context_size=CONTEXT_SIZE)
    with tempfile.TemporaryDirectory() as folder:

        def collect(dictionary: Dictionary, documents: Iterable[Document], settings: ContextSettings) -> None:
            path = Path(folder) / str(dictionary.d_sae)
            run = RunFolder.create_or_resume(path, command="extract", configuration={}, provenance={})
            with run.lock():
                collect_contexts(model, dictionary, documents, run, settings=settings)

        # Compiles the kernels, and is too small to leave the allocator memory that would hide growth.
        small = random_dictionary(MEMORY_WIDTH, dictionary.hook_point, 8)
        collect(small, few[:2], replace(settings, batch_tokens=256))
        return peak_extra_megabytes(lambda: collect(dictionary, growing_documents(tokens), settings))


def main() -> None:
    """Measure, print tables, end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contexts", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    options = parser.parse_args()
    layers, n_windows, rounds = (LAYERS[:1], 64, 1) if options.quick else (LAYERS, 64, 9)
    memory_tokens = (20_000, 40_000) if options.quick else MEMORY_TOKENS

    seconds: dict[str, list[float]] = {}
    ratios = []
    dtype = ""
    for layer in layers:
        job = make_job(layer, n_windows)
        dtype = str(job.model.dtype).removeprefix("torch.")
        bare, contexts = sides(job)
        bare_name, name = f"bare forward to layer {layer}", f"contexts pass at layer {layer}"
        seconds |= interleave([Side(bare_name, bare), Side(name, contexts)], rounds=rounds)
        ratios.append(Ratio(f"contexts_over_bare_forward_layer_{layer}", name, bare_name, "at most", 1.3))
    fewer, more = (in_child(pass_megabytes, tokens) for tokens in memory_tokens)
    report(
        f"contexts: {n_windows * CONTEXT_SIZE:,} tokens, {D_SAE:,} latents, L0 {L0}, {dtype}, "
        f"batches of {BATCH_TOKENS:,} tokens",
        seconds,
        ratios,
        notes=(
            f"extra memory (tiny model, {D_SAE:,} latents, files written): {fewer:.0f} MB for "
            f"{memory_tokens[0]:,} tokens, {more:.0f} MB for {memory_tokens[1]:,}: "
            f"{more / fewer:.3f} times (wanted: 0.95 to 1.05)",
        ),
        extra={
            "contexts_extra_megabytes_fewer_tokens": fewer,
            "contexts_extra_megabytes_more_tokens": more,
            "contexts_memory_growth": more / fewer,
        },
    )


if __name__ == "__main__":
    main()
