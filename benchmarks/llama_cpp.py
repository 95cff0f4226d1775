"""llama.cpp with an exported control vector against the recipe as our hook: the next token after 50 prompts.

``python -m benchmarks.llama_cpp`` needs ``pip install llama-cpp-python`` (it compiles llama.cpp), which onesense
itself does not. The demo model's own GGUF is quantised, and llama.cpp rounds activations to 8 bits for it, so its
logits differ from ours without any vector too. The same weights written as a float32 GGUF take that difference away,
and there every next token must be the same. As a control the vector is also put one block too late, and left out.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize
from torch import Tensor

from onesense.debias.export.control_vector import control_vectors, read_control_vectors, write_control_vectors
from onesense.debias.export.texts import default_prompts
from onesense.model.demo_model import demo_gguf
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.model.tokens import encode_text
from onesense.sae.load import load_dictionary
from onesense.steer.apply import applied, prepare
from onesense.steer.edit import Edit
from onesense.steer.intervention import EditGroup, Intervention

PROMPTS = 50
EDITS = (("blocks.9.hook_resid_post", 10, 15.0), ("blocks.15.hook_resid_post", 10, 20.0))


@dataclass(frozen=True)
class Difference:
    """A prompt after which the two disagree.

    Attributes:
        prompt: The prompt.
        ours: Our token.
        theirs: llama.cpp's token.
        margin: How far our own logit of our token is above that of theirs.
        noise: Largest difference of the two tokens' logits between the two programs.
    """

    prompt: str
    ours: str
    theirs: str
    margin: float
    noise: float


class Llama:
    """A GGUF model in llama.cpp, by its C interface.

    Args:
        path: The model's file.
        threads: Threads.
    """

    def __init__(self, path: Path, threads: int) -> None:
        from llama_cpp import llama_cpp as api

        self._api: Any = api
        self._quiet = api.llama_log_callback(lambda *_: None)
        api.llama_log_set(self._quiet, ctypes.c_void_p(0))
        api.llama_backend_init()
        options = api.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model: Any = api.llama_model_load_from_file(str(path).encode(), options)
        settings = api.llama_context_default_params()
        settings.n_ctx, settings.n_batch = 256, 256
        settings.n_threads = settings.n_threads_batch = threads
        self._context: Any = api.llama_init_from_model(self._model, settings)
        if not self._model or not self._context:
            raise RuntimeError(f"llama.cpp could not load {path}")
        self.layers = int(api.llama_model_n_layer(self._model))
        self.width = int(api.llama_model_n_embd(self._model))
        self.vocabulary = int(api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model)))

    def close(self) -> None:
        """Give the memory back."""
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    def steer(self, vectors: Mapping[int, Tensor]) -> None:
        """Apply a control vector as llama.cpp's own loader does: a buffer for blocks 1 and on; empty to clear."""
        buffer = np.zeros((self.layers, self.width), dtype=np.float32)
        for block, vector in vectors.items():
            buffer[block - 1] = vector.numpy()
        data = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        failed = self._api.llama_set_adapter_cvec(
            self._context, data, buffer.size, self.width, 1, self.layers
        )
        if failed:
            raise RuntimeError(f"llama.cpp refused the control vector ({failed})")

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Logits after a text, float32 [vocabulary]."""
        api = self._api
        api.llama_memory_clear(api.llama_get_memory(self._context), True)
        tokens = (api.llama_token * len(ids))(*ids)
        if api.llama_decode(self._context, api.llama_batch_get_one(tokens, len(ids))):
            raise RuntimeError("llama.cpp could not read the prompt")
        found = api.llama_get_logits_ith(self._context, -1)
        return torch.from_numpy(np.ctypeslib.as_array(found, (self.vocabulary,)).copy())


def write_float32(source: Path, target: Path) -> None:
    """The same model with every weight as float32."""
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind, *rest = field.types
        writer.add_key_value(name, field.contents(), kind, rest[-1] if kind is GGUFValueType.ARRAY else None)
    writer.add_file_type(0)
    for tensor in reader.tensors:
        values = (
            tensor.data
            if tensor.tensor_type is GGMLQuantizationType.F32
            else dequantize(tensor.data, tensor.tensor_type)
        )
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def recipe_of(model: LanguageModel) -> list[Intervention]:
    """Two constant directions, at two depths, everywhere."""
    groups = [
        EditGroup(load_dictionary(release="demo", sae_id=point), [Edit.plain(feature, value)])
        for point, feature, value in EDITS
    ]
    return prepare(model, groups)


def our_logits(
    model: LanguageModel, prompts: Sequence[Sequence[int]], edits: Sequence[Intervention]
) -> list[Tensor]:
    """Our logits after each prompt, one at a time."""
    with torch.no_grad(), applied(model, edits, warn=False):
        return [model.hf(torch.tensor([ids])).logits[0, -1].float() for ids in prompts]


def compare(
    model: LanguageModel, texts: Sequence[str], ours: Sequence[Tensor], theirs: Sequence[Tensor]
) -> tuple[list[Difference], float]:
    """Prompts after which the most likely token differs, and the mean difference of logits (their mean taken out)."""
    differences, gaps = [], []
    for text, mine, other in zip(texts, ours, theirs, strict=True):
        other = other[: len(mine)]
        gap = (mine - mine.mean()) - (other - other.mean())
        gaps.append(float(gap.abs().mean()))
        a, b = int(mine.argmax()), int(other.argmax())
        if a != b:
            names = model.token_strings([a, b])
            noise = float(gap[[a, b]].abs().max())
            differences.append(Difference(text, *names, margin=float(mine[a] - mine[b]), noise=noise))
    return differences, float(np.mean(gaps))


def show(title: str, differences: Sequence[Difference], gap: float, prompts: int, *, each: bool) -> int:
    """Print one comparison, and every difference in it where ``each`` is set; how many prompts agree."""
    agree = prompts - len(differences)
    print(f"{title:45s} same next token {agree}/{prompts}; logits differ by {gap:.2g} on average")
    for one in differences if each else ():
        print(
            f"    …{one.prompt[-40:]}: {one.ours!r} against {one.theirs!r}; our margin is {one.margin:.3f}, and these "
            f"logits differ by up to {one.noise:.3f} between the programs"
        )
    return agree


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Compare, print, and return the shares of agreement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llama_cpp", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten prompts, the quantised file only")
    parser.add_argument("--threads", type=int, default=2, help="threads of llama.cpp")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("llama_cpp") is None:
        sys.exit(
            "llama.cpp is not here: this comparison needs `pip install llama-cpp-python`, which compiles it "
            "(cmake, gcc, some minutes). onesense itself does not need it."
        )
    model = load_model("demo", device="cpu")
    every = list(default_prompts())
    count = 10 if options.quick else PROMPTS
    texts = [every[place * len(every) // count] for place in range(count)]
    ids = [encode_text(model, text) for text in texts]
    edits = recipe_of(model)
    ours = {"plain": our_logits(model, ids, []), "steered": our_logits(model, ids, edits)}
    moved = sum(
        int(a.argmax()) != int(b.argmax()) for a, b in zip(ours["plain"], ours["steered"], strict=True)
    )
    print(f"The recipe changes our own next token after {moved} of {count} prompts.")
    shares: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "control-vector.gguf"
        write_control_vectors(model, control_vectors(model, edits), written)
        vectors = read_control_vectors(written)
        files = {"quantised": demo_gguf()}
        if not options.quick:
            files["float32"] = Path(folder) / "float32.gguf"
            write_float32(demo_gguf(), files["float32"])
        late = {block + 1: vector for block, vector in vectors.items()}
        for kind, path in files.items():
            llama = Llama(path, options.threads)
            for name, against, applied_here, each in (
                ("no vector", "plain", {}, True),
                ("control vector", "steered", vectors, True),
                ("control vector one block late", "steered", late, False),
                ("no vector against the recipe", "steered", {}, False),
            ):
                llama.steer(applied_here)
                theirs = [llama.logits(row) for row in ids]
                differences, gap = compare(model, texts, ours[against], theirs)
                shares[f"{kind}: {name}"] = (
                    show(f"{kind}: {name}", differences, gap, count, each=each) / count
                )
            llama.close()
    return shares


if __name__ == "__main__":
    sys.exit(0 if main().get("float32: control vector", 1.0) == 1.0 else 1)
