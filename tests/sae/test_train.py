"""Training with sae-lens's classes from our stream: every architecture learns, resumes, and can be read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import ConfigurationError, FormatError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import HarvestSettings, shard_name
from onesense.sae.evaluate import cross_entropy
from onesense.sae.load import load_dictionary
from onesense.sae.metrics import fraction_of_variance_unexplained
from onesense.sae.train import TrainSettings, read_curves, train_dictionary
from onesense.sae.training_classes import TRAINABLE, ExactBatchTopK, TrainingShape
from onesense.sae.training_run import TrainingPlan, run_training
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document

POINT = HookPoint(1, "hook_resid_post")
WIDTH, TRUE_FEATURES = 16, 24
SETTINGS = TrainSettings(visits=160_000, batch_size=256, learning_rate=4e-3, checkpoint_every=100)


def planted(rows: int, seed: int) -> torch.Tensor:
    """Sums of three of 24 fixed directions with random strengths, about a mean."""
    directions = np.random.default_rng(0).normal(size=(TRUE_FEATURES, WIDTH))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    draw = np.random.default_rng([1, seed])
    strengths = np.zeros((rows, TRUE_FEATURES))
    for row in strengths:
        row[draw.choice(TRUE_FEATURES, 3, replace=False)] = draw.uniform(1, 3, 3)
    return torch.from_numpy(strengths @ directions + 2.0).float()


@pytest.fixture(scope="module")
def activations(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("activations") / "run"
    run = RunFolder.create_or_resume(folder, command="test", configuration={}, provenance={})
    for shard in range(4):
        run.write_result(shard_name(POINT, shard), {"activations": planted(4000, shard)})
    return run


def train(run: RunFolder, folder: Path, architecture: str, settings: TrainSettings = SETTINGS) -> Path:
    shape = TrainingShape(architecture, WIDTH, 48, 3, l0_coefficient=0.3, widths=(12, 48))
    metadata = {"model_name": "tiny", "hook_name": POINT.name, "prepend_bos": True, "context_size": 16}
    return train_dictionary(shape, run, POINT, [0, 1, 2], folder, settings, metadata=metadata)


@pytest.mark.parametrize("architecture", TRAINABLE)
def test_every_architecture_learns_planted_features(
    architecture: str, activations: RunFolder, tmp_path: Path
) -> None:
    dictionary = load_dictionary(path=train(activations, tmp_path / "work", architecture))
    held_out = planted(2000, 99)
    latents = dictionary.encode(held_out)
    assert fraction_of_variance_unexplained(held_out, dictionary.decode(latents)) < 0.35
    assert 0.5 < float((latents > 0).sum(-1).float().mean()) < 12
    assert dictionary.hook_point == POINT
    assert dictionary.origin.model_name == "tiny"
    curve = read_curves(tmp_path / "work")
    assert curve[-1].step == SETTINGS.visits // SETTINGS.batch_size
    assert curve[-1].fvu < curve[0].fvu


def test_a_resumed_training_ends_in_the_same_bytes(activations: RunFolder, tmp_path: Path) -> None:
    whole = train(activations, tmp_path / "whole", "batchtopk")
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from onesense.store.run_folder import RunFolder
from onesense.model.hook_points import HookPoint
from onesense.sae.train import TrainSettings, train_dictionary
from onesense.sae.training_classes import TrainingShape
def die(point, steps):
    if point.step >= 350:
        os.kill(os.getpid(), signal.SIGKILL)
train_dictionary(
    TrainingShape("batchtopk", {WIDTH}, 48, 3, l0_coefficient=0.3, widths=(12, 48)),
    RunFolder.open({str(activations.path)!r}), HookPoint.parse({POINT.name!r}), [0, 1, 2],
    Path({str(tmp_path / "killed")!r}),
    TrainSettings(visits={SETTINGS.visits}, batch_size=256, learning_rate=4e-3, checkpoint_every=100),
    metadata={{"model_name": "tiny", "hook_name": {POINT.name!r}, "prepend_bos": True, "context_size": 16}},
    progress=die)
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "dictionary").exists()
    assert len(list((tmp_path / "killed").glob("checkpoint-*"))) == 1
    resumed = train(activations, tmp_path / "killed", "batchtopk")
    for file in sorted(whole.iterdir()):
        assert file.read_bytes() == (resumed / file.name).read_bytes(), file.name
    assert read_curves(tmp_path / "whole") == read_curves(tmp_path / "killed")


@given(
    rows=st.integers(1, 6),
    k=st.integers(1, 4),
    values=st.lists(st.floats(-3, 3, width=32), min_size=60, max_size=60, unique=True),
)
def test_quick_batch_topk_keeps_what_sae_lens_keeps(rows: int, k: int, values: list[float]) -> None:
    from sae_lens.saes.batchtopk_sae import BatchTopK

    hidden = torch.tensor(values[: rows * 10]).reshape(rows, 10)
    quick = ExactBatchTopK(k)
    for _ in range(3):  # the bound is carried from call to call
        torch.testing.assert_close(quick(hidden), BatchTopK(k)(hidden), rtol=0, atol=0)
    torch.testing.assert_close(quick(hidden * 0.01), BatchTopK(k)(hidden * 0.01), rtol=0, atol=0)


def test_bad_shapes_and_settings() -> None:
    with pytest.raises(ConfigurationError, match="Choose one of: batchtopk"):
        TrainingShape("relu", 4, 8, 2)
    with pytest.raises(ConfigurationError, match="between 1 and 8"):
        TrainingShape("topk", 4, 8, 9)
    with pytest.raises(ConfigurationError):
        TrainSettings(visits=10, batch_size=20)
    with pytest.raises(ConfigurationError):
        TrainSettings(learning_rate=float("nan"))


def test_a_whole_run_from_text_to_a_measured_dictionary(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    documents = [
        Document(i, str(i), f"Document {i} says {'abc' * (i % 7)} and ends. " * 8) for i in range(60)
    ]
    plan = TrainingPlan(
        (POINT, HookPoint(0, "hook_resid_post")),
        "topk",
        64,
        8,
        HarvestSettings(context_size=32, windows_per_shard=64),
        TrainSettings(visits=60_000, batch_size=256, learning_rate=3e-3),
        storage_dtype="float16",
    )
    finished = run_training(tiny_llama, lambda: documents, tmp_path / "run", plan)
    assert [one.point for one in finished] == list(plan.points)
    for one in finished:
        dictionary = load_dictionary(path=one.folder)
        assert dictionary.d_sae == 64
        assert dictionary.origin.expected_fvu == pytest.approx(one.fvu)
        assert one.fvu < 0.5
        assert one.l0 <= 8
        assert one.curves.read_bytes().startswith(b"\x89PNG")
        assert json.loads((one.folder / "cfg.json").read_text())["metadata"]["hook_name"] == one.point.name
    weights = [(one.folder / "sae_weights.safetensors").read_bytes() for one in finished]
    again = run_training(tiny_llama, lambda: documents, tmp_path / "run", plan)
    assert weights == [(one.folder / "sae_weights.safetensors").read_bytes() for one in again]


def test_a_perfect_dictionary_recovers_all_cross_entropy(tiny_llama: LanguageModel) -> None:
    from onesense.sae.architecture import Architecture
    from onesense.sae.dictionary import Dictionary

    identity = torch.eye(32)
    perfect = Dictionary(
        architecture=Architecture.RELU,
        hook_point=POINT,
        W_enc=torch.cat([identity, -identity], dim=1),
        b_enc=torch.zeros(64),
        W_dec=torch.cat([identity, -identity]),
        b_dec=torch.zeros(32),
    )
    documents = [Document(0, "", "Some text to be predicted, byte by byte." * 3)]
    measured = cross_entropy(tiny_llama, perfect, documents, tokens=100)
    assert measured.spliced == pytest.approx(measured.clean, abs=1e-4)
    assert measured.ablated != pytest.approx(measured.clean, abs=1e-2)
    assert measured.recovered == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(ConfigurationError, match="too short"):
        cross_entropy(tiny_llama, perfect, [Document(0, "", "x")])


def test_a_trained_dictionary_that_is_damaged_is_trained_again(
    activations: RunFolder, tmp_path: Path
) -> None:
    settings = TrainSettings(visits=10_240, batch_size=256, checkpoint_every=25)
    made = train(activations, tmp_path / "work", "topk", settings)
    weights = made / "sae_weights.safetensors"
    before = weights.read_bytes()
    (checkpoint,) = (tmp_path / "work").glob("checkpoint-*")
    for damaged in ([weights], [weights, checkpoint / "weights.pt"]):
        for path in damaged:
            content = bytearray(path.read_bytes())
            content[-5] ^= 1
            path.write_bytes(content)
        train(activations, tmp_path / "work", "topk", settings)
        assert weights.read_bytes() == before


def test_damaged_curves_are_told(activations: RunFolder, tmp_path: Path) -> None:
    train(activations, tmp_path, "topk", TrainSettings(visits=2_560, batch_size=256))
    path = tmp_path / "curves.jsonl"
    whole = path.read_bytes()
    assert read_curves(tmp_path)
    for spoiled in (whole[:-70], whole.replace(b"1", b"2", 1), b"\xff" + whole, b"[]\n", b"\0\n" + whole):
        path.write_bytes(spoiled)
        with pytest.raises(FormatError, match=r"curves\.jsonl is damaged"):
            read_curves(tmp_path)
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))  # as an older onesense wrote it
    assert read_curves(tmp_path)[-1].step == 10


def test_a_written_dictionary_that_is_damaged_is_written_again(
    tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    documents = [Document(index, str(index), f"Line {index}. " * 20) for index in range(20)]
    plan = TrainingPlan(
        points=(POINT,), architecture="topk", d_sae=40, k=4, harvest=HarvestSettings(context_size=32),
        train=TrainSettings(visits=1_280, batch_size=128),
    )  # fmt: skip
    (made,) = run_training(tiny_llama, lambda: documents, tmp_path / "run", plan)
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    for damaged in ("cfg.json", "sae_weights.safetensors"):
        for content in (b"", before[damaged].replace(b"0", b"1", 1)):
            (made.folder / damaged).write_bytes(content)
            run_training(tiny_llama, lambda: documents, tmp_path / "run", plan)
            assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before
