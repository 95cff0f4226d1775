"""Extract, senses, audit and interpret on a cluster of two nodes, one of which goes down: the files of one process."""

from __future__ import annotations

import hashlib
import sqlite3
import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import cloudpickle

from onesense.bias import audit as audit_module
from onesense.bias.audit import AuditSettings, audit
from onesense.bias.benchmark import Item, ScoredBenchmark, Split
from onesense.bias.metric import Direction, Metric, Role, mean_of, ratio
from onesense.bias.scoring.requests import Request, Score, Scorer
from onesense.engine.executor import Executor
from onesense.engine.stages import Silent, Stages
from onesense.errors import IncompatibleError
from onesense.explain.interpretation import InterpretSettings, interpret
from onesense.explain.source import open_source
from onesense.features.contexts import ContextSettings
from onesense.features.extract import ExtractSettings, extract
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model, save_model
from onesense.sae.dictionary import Dictionary
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.senses.activity import collect_activity
from onesense.senses.unit_sets import feature_units
from onesense.steer.edit import Edit
from onesense.steer.recipe import EditGroup, make_recipe
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import read_documents
from tiny_dictionaries import random_dictionary
from tiny_models import make_byte_tokenizer, tiny_hf

_DOCUMENTS = 60
_STOP_AFTER = 2  # shards, before a node goes down


class _NodeGoesDown:
    """Takes a node from the cluster after some progress of one stage."""

    def __init__(self, stage: str, down: Callable[[], None]) -> None:
        self._stage, self._down, self.happened = stage, down, False

    def stage(self, title: str, unit: str) -> AbstractContextManager[Callable[[int, int | None], None]]:
        return self._told(title)

    @contextmanager
    def _told(self, title: str) -> Iterator[Callable[[int, int | None], None]]:
        steps = 0

        def progress(done: int, total: int | None) -> None:
            nonlocal steps
            steps += 1
            if title.startswith(self._stage) and steps == _STOP_AFTER:
                self._down()
                self.happened = True

        yield progress


class _Letters(ScoredBenchmark):
    """Does the model like one ending of a text more than another?"""

    key = title = "letters"
    split = Split.HELD_OUT
    about = "Pairs of letters."
    criticism = "None: nobody knows it."
    example_column = "gap"
    metrics = (
        Metric(
            name="gap",
            title="Gap",
            unit="nats",
            direction=Direction.PARITY,
            parity=0.0,
            role=Role.BIAS,
            meaning="A number.",
            moments=mean_of("gap"),
            finish=ratio,
        ),
    )

    def items(self, scorer: Scorer) -> list[Item]:
        texts = [first + second for first in string.ascii_lowercase for second in string.ascii_letters]
        return [Item(text, text[0], (Request(f"{text} a"), Request(f"{text} b"))) for text in texts]

    def columns(self, item: Item, scores: Sequence[Score]) -> dict[str, float]:
        return {"gap": scores[0].logprob - scores[1].logprob}


@dataclass
class Given:
    model: LanguageModel
    dictionary: Dictionary
    text: str

    def extract(self, folder: Path, **where: Any) -> None:
        contexts = ContextSettings(context_size=32, windows_per_shard=16, top_k=3, per_band=2)
        settings = ExtractSettings(text=self.text, contexts=contexts, check=False, dtype="float32")
        extract(self.model, self.dictionary, folder, settings, **where)

    def senses(self, folder: Path, *, stages: Stages | None = None, executor: Executor | None = None) -> None:
        features = feature_units(self.dictionary)
        run = RunFolder.create_or_resume(
            folder, command="senses measure", configuration={}, provenance=provenance()
        )
        with run.lock():
            collect_activity(
                self.model,
                self.dictionary.hook_point,
                [features],
                read_documents(self.text),
                run,
                tokens=50_000,
                context_size=8,
                stages=stages or Silent(),
                executor=executor,
            )

    def audit(self, folder: Path, **where: Any) -> None:
        recipe = make_recipe(self.model, [EditGroup(self.dictionary, [Edit.plain(3, 4.0)])])
        audit(self.model, folder, recipe=recipe, settings=AuditSettings(draws=50), **where)

    def interpret(
        self, folder: Path, *, stages: Stages | None = None, executor: Executor | None = None
    ) -> None:
        self.extract(folder)
        source = open_source(folder, None, word_sets=(), seed=0, device="cpu", default=folder)
        settings = InterpretSettings(scores=("detection", "fuzz"), text=self.text)
        with source.reader:
            found = interpret(source, settings, stages=stages, executor=executor).scores
        assert all(summary.features > 2 for summary in found[0].summaries)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("given")
    save_model(LanguageModel.from_hf(tiny_hf("llama"), make_byte_tokenizer(), "tiny"), folder / "model")
    write_saelens(random_dictionary(d_in=32, d_sae=24), folder / "sae")
    generator = torch.Generator().manual_seed(0)
    letters = torch.randint(97, 123, (_DOCUMENTS, 200), generator=generator).tolist()
    (folder / "documents").mkdir()
    for number, row in enumerate(letters):
        (folder / "documents" / f"{number:03d}.txt").write_text("".join(map(chr, row)))
    return Given(
        load_model(str(folder / "model")), load_dictionary(path=folder / "sae"), str(folder / "documents")
    )


def _contents(folder: Path) -> dict[str, str]:
    """Hash of every file; of the catalogue, of what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "catalog.sqlite":
            with sqlite3.connect(path) as connection:
                content = "\n".join(connection.iterdump()).encode()
        elif path.suffix in (".safetensors", ".json"):
            content = path.read_bytes()
        else:
            continue
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


@pytest.mark.parametrize(
    ("command", "stage"),
    [
        ("extract", "Contexts"),
        ("senses", "Reading text"),
        ("audit", "Scoring"),
        ("interpret", "Texts where features do not fire"),
        ("interpret", "Scoring word sets"),
    ],
)
def test_a_cluster_that_loses_a_node_writes_the_files_of_one_process(
    given: Given,
    cluster: Any,
    executor: Executor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    stage: str,
) -> None:
    monkeypatch.setattr(audit_module, "suite", lambda name: [_Letters()])
    monkeypatch.setattr("onesense.bias.measuring.ITEMS_PER_SHARD", 64)
    monkeypatch.setattr("onesense.explain.lexical_scores._FEATURES_AT_ONCE", 4)
    torch.set_num_threads(1)
    run = getattr(given, command)
    run(tmp_path / "here")
    extra = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    stages = _NodeGoesDown(stage, lambda: cluster.remove_node(extra, allow_graceful=False))
    run(tmp_path / "there", executor=executor, stages=stages)
    assert stages.happened
    here = _contents(tmp_path / "here")
    assert len(here) > 2
    assert _contents(tmp_path / "there") == here


def test_weights_are_not_sent_and_others_at_their_place_are_refused(
    given: Given, cluster: Any, executor: Executor, tmp_path: Path
) -> None:
    assert len(cloudpickle.dumps(given.model)) < 1_000
    assert len(cloudpickle.dumps(given.dictionary.to(dtype=torch.bfloat16))) < 1_000
    other = LanguageModel.from_hf(tiny_hf("llama", seed=5), make_byte_tokenizer(), given.model.name)
    with pytest.raises(IncompatibleError, match="has other weights on this machine"):
        executor.evaluate(lambda number, model=other: model.name, [1])


def test_a_folder_called_demo_is_not_taken_for_the_demo(demo_model: LanguageModel) -> None:
    Path("demo").mkdir()
    assert demo_model.__reduce__()[1][0] == "demo"


def test_a_dictionary_that_was_changed_in_memory_is_sent_whole(given: Given) -> None:
    folded = given.dictionary.fold_decoder_norm()
    again = cloudpickle.loads(cloudpickle.dumps(folded))
    assert torch.equal(again.W_dec, folded.W_dec)
    assert again.origin.fingerprint == folded.origin.fingerprint != given.dictionary.origin.fingerprint
