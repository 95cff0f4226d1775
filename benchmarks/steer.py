"""Steered generation against transformers' own, and the time until `onesense steer` shows its first text.

``python -m benchmarks.steer`` measures on the demo model: six rows of fifty tokens, all sampled.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.timing import Ratio, Side, interleave, report
from onesense.errors import OnesenseError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model, save_model
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.sae.load import load_dictionary
from onesense.steer.decoding import encode_prompt
from onesense.steer.edit import Edit, Operation
from onesense.steer.generate import generate
from onesense.steer.intervention import EditGroup

PROMPT = "What is your favorite animal?"
SAMPLES = 3
FEATURE, COEFFICIENT = 7, 20.0

UNSTEERED = "transformers, unsteered, 6 rows"
STEERED = "direction added, 3 + 3 rows"
LATENTS = "ten latents clamped, 3 + 3 rows"
COMMAND, SCRIPT = "onesense steer", "bare script"

RATIOS = (
    Ratio("steered_over_unsteered", STEERED, UNSTEERED, "at most", 1.05),
    Ratio("latents_over_unsteered", LATENTS, UNSTEERED, "at most", 1.05),
)
FIRST_OUTPUT = Ratio("first_output_over_script", COMMAND, SCRIPT, "at most", 1.3)

# What a person would write with transformers alone; the text starts to come with the first token.
BARE_SCRIPT = """
import sys
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer

folder, rows, module, feature, coefficient, prompt, samples, tokens = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(folder)
with safe_open(rows, framework="pt") as file:
    vector = float(coefficient) * file.get_slice("W_dec")[int(feature)].float()

def hook(_module, _args, output):
    hidden = output[0] if isinstance(output, tuple) else output
    hidden[: int(samples)] += vector
    return output

class Show(BaseStreamer):
    prompt = True
    def put(self, value):
        if not self.prompt:
            print(tokenizer.batch_decode(value[:, None]), flush=True)
        self.prompt = False
    def end(self):
        pass

model.get_submodule(module).register_forward_hook(hook)
ids = tokenizer([tokenizer.bos_token + prompt] * 2 * int(samples), return_tensors="pt")
model.generate(**ids, do_sample=True, max_new_tokens=int(tokens), streamer=Show())
"""


def random_dictionary(model: LanguageModel, point: HookPoint) -> Dictionary:
    """Make a dictionary as wide as the demo ones; what its features mean does not matter for time."""
    generator = torch.Generator().manual_seed(0)
    decoder = torch.randn(8 * model.d_model, model.d_model, generator=generator)
    decoder /= decoder.norm(dim=1, keepdim=True)
    return Dictionary(
        architecture=Architecture.RELU,
        hook_point=point,
        W_enc=decoder.T.contiguous(),
        b_enc=torch.zeros(len(decoder)),
        W_dec=decoder,
        b_dec=torch.zeros(model.d_model),
    )


def unsteered(model: LanguageModel, tokens: int) -> None:
    """Generate as many rows with transformers alone."""
    ids = torch.tensor([encode_prompt(model, PROMPT, max_new_tokens=tokens)] * (2 * SAMPLES))
    options: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "pad_token_id": 0}
    made: Any = model.hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, **options)
    check_length(made.shape[1] - ids.shape[1], tokens)


def steered(model: LanguageModel, group: EditGroup, tokens: int) -> None:
    """Generate with edits and without, in one batch."""
    made = generate(model, PROMPT, [group], samples=SAMPLES, max_new_tokens=tokens)
    check_length(max(len(sample.ids) for sample in (*made.steered, *made.unsteered)), tokens)


def check_length(made: int, wanted: int) -> None:
    """Stop where a side did less work than the other."""
    if made != wanted:
        raise RuntimeError(f"{made} tokens were generated instead of {wanted}: the sides cannot be compared")


def until_first_output(command: Sequence[str]) -> None:
    """Run a command until the first line of its output is there, and end it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout is not None else ""
        process.kill()
        if not line:
            errors = process.stderr.read() if process.stderr is not None else ""
            raise RuntimeError(f"{command[0]} wrote nothing: {errors[-2000:]}")


def first_output_sides(model: LanguageModel, folder: Path, tokens: int) -> list[Side]:
    """The command and the script that does the same, as processes of their own; none where one is missing."""
    if importlib.util.find_spec("onesense.__main__") is None:
        return []
    try:
        dictionary = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post")
    except OnesenseError:
        return []
    module = model.resolve(dictionary.hook_point).module
    path = next(name for name, one in model.hf.named_modules() if one is module)
    save_model(model, folder / "model")
    save_file({"W_dec": dictionary.W_dec.contiguous()}, folder / "rows.safetensors")
    flags = ["--model-name", "demo", "--sae-release", "demo", "--sae-id", str(dictionary.origin.sae_id)]
    flags += ["--feature-id", str(FEATURE), "--coeff", str(COEFFICIENT), "--temperature", "1"]
    flags += ["--prompt", PROMPT, "--max-new-tokens", str(tokens)]
    script = [str(folder / "model"), str(folder / "rows.safetensors"), path, str(FEATURE), str(COEFFICIENT)]
    script += [PROMPT, str(SAMPLES), str(tokens)]
    return [
        Side(COMMAND, partial(until_first_output, [sys.executable, "-m", "onesense", "steer", *flags])),
        Side(SCRIPT, partial(until_first_output, [sys.executable, "-c", BARE_SCRIPT, *script])),
    ]


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Measure, print, and return the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steer", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten tokens, one round")
    parser.add_argument("--rounds", type=int, default=None, help="times that each side runs (default 7)")
    options = parser.parse_args(arguments)
    rounds = options.rounds or (1 if options.quick else 7)
    tokens = 10 if options.quick else 50

    model = load_model("demo", device="cpu")
    # No row ends early, so that both sides generate the same number of tokens.
    model.hf.generation_config.eos_token_id = -1
    dictionary = random_dictionary(model, HookPoint.parse(f"blocks.{model.n_layers // 2}.hook_resid_post"))
    added = EditGroup(dictionary, [Edit.plain(FEATURE, COEFFICIENT)])
    clamps = [Edit(feature=one, operation=Operation.CLAMP, value=2.0) for one in range(10)]
    latents = EditGroup(dictionary, clamps)
    seconds = interleave(
        [
            Side(UNSTEERED, partial(unsteered, model, tokens)),
            Side(STEERED, partial(steered, model, added, tokens)),
            Side(LATENTS, partial(steered, model, latents, tokens)),
        ],
        rounds=rounds,
    )
    notes, ratios = [], list(RATIOS)
    with tempfile.TemporaryDirectory() as folder:
        sides = first_output_sides(model, Path(folder), tokens)
        if sides:
            seconds |= interleave(sides, rounds=rounds)
            ratios.append(FIRST_OUTPUT)
        else:
            notes.append("Time to first output was not measured: no command line or no demo dictionary here.")
    return report(
        f"Steering of {model.name}: {2 * SAMPLES} rows, {tokens} tokens each", seconds, ratios, notes=notes
    )


if __name__ == "__main__":
    main()
