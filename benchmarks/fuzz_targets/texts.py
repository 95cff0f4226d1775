"""Readers of text: answers of models, corpora, benchmark files, tables of results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.fault_trials.materials import with_tests_modules
from benchmarks.fuzz_targets.files import ChangedFolder, Target
from benchmarks.fuzz_targets.mutation import Choices, changed_bytes, changed_json
from onesense.errors import NotFoundError, OnesenseError
from onesense.explain.endpoint.answers import parse_answer
from onesense.explain.endpoint.batch_files import ResultFaults, read_results
from onesense.explain.table import read_table
from onesense.report.audit_json import read_audit, write_audit
from onesense.report.debias_json import read_result, write_result
from onesense.report.items_csv import read_items
from onesense.report.study_json import read_study, write_study
from onesense.senses.field_metrics.word_pairs import read_word_pairs
from onesense.text.corpus import read_documents

_LINES = 24
_LISTED = 12


class _Answer(BaseModel):
    explanation: str
    confidence: float
    words: list[str] = []
    matches: dict[str, bool] = {}


def answers(_folder: Path) -> Target:
    """What a language model wrote."""
    seeds = (
        b'{"explanation": "words of the sea", "confidence": 0.8, "words": ["sea"], "matches": {"1": true}}',
        b"<think>{\"a\": 1}</think>\n```json\n{'explanation': 'x', 'confidence': 1,}\n```\nSo it is.",
        b'Well: {"explanation": "a", "confidence": 1} or {"explanation": "b", "confidence": "2"}',
    )

    def read(data: bytes) -> None:
        choices = Choices(data)
        seed = choices.of(seeds)
        change = changed_json if seed is seeds[0] else changed_bytes
        text = change(choices, seed).decode("utf-8", errors=choices.of(("replace", "surrogateescape")))
        reading = parse_answer(text, _Answer, finish_reason="stop")
        if reading.status == "ok" and reading.value is not None:
            reading.value.model_dump_json().encode("utf-8")

    return read


def corpus(folder: Path) -> Target:
    """A text, JSON lines and a parquet file."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    made = folder / "made.parquet"
    parquet.write_table(arrow.table({"text": ["one", None, "three é"], "n": [1, 2, 3]}), made)
    lines = "".join(json.dumps({"text": f"line {number} é", "n": number}) + "\n" for number in range(4))
    whole = {"a.txt": b"Some text.\nMore of it.\n", "b.jsonl": lines.encode(), "c.parquet": made.read_bytes()}

    def read(place: Path) -> None:
        failed: OnesenseError | None = None
        for name in target.changed:
            try:
                for document in read_documents(str(place / name)):
                    document.text.encode("utf-8", "surrogatepass")
            except OnesenseError as error:
                failed = error
        if failed is not None:
            raise failed

    target = ChangedFolder(folder / "corpus", whole, read)
    return target


def benchmark_files(folder: Path) -> Target:
    """The beginnings of the published files of every benchmark, as if any content were the published one."""
    from onesense.bias.benchmarks import stereoset
    from onesense.bias.data import folder as data_folder
    from onesense.bias.data.catalogue import data_sets

    mirror = Path(os.environ.get("ONESENSE_DATA", ""))
    if not os.environ.get("ONESENSE_DATA") or not mirror.is_dir():
        raise NotFoundError(
            "The benchmark files are needed as seeds.", hint="Name a mirror of them in ONESENSE_DATA."
        )
    whole: dict[str, bytes] = {}
    for key, data_set in data_sets().items():
        for name in data_set.files:
            path = mirror / key / name
            if path.is_file():
                whole[f"{key}/{name}"] = _beginning(path)
    readers = _readers_of_benchmarks()
    whole = {name: data for name, data in whole.items() if name.partition("/")[0] in readers}
    data_folder._is_published = lambda _path, _file: True
    before = os.environ["ONESENSE_DATA"]

    def read(place: Path) -> None:
        os.environ["ONESENSE_DATA"] = str(place)
        stereoset._read.cache_clear()
        failed: OnesenseError | None = None
        try:
            for key in sorted({name.partition("/")[0] for name in target.changed}):
                for one in readers[key]:
                    try:
                        one()
                    except OnesenseError as error:
                        failed = error
        finally:
            os.environ["ONESENSE_DATA"] = before
        if failed is not None:
            raise failed

    target = ChangedFolder(folder / "benchmarks", whole, read)
    return target


class _Scorer:
    """What a benchmark asks of a model while it builds its items."""

    n_variants = 1
    max_context = 128

    def token_ids(self, text: str) -> list[int]:
        """One token for each byte."""
        return list(text.encode("utf-8", "replace"))


def _readers_of_benchmarks() -> dict[str, list[Callable[[], object]]]:
    from onesense.bias.suites import every_benchmark

    found: dict[str, list[Callable[[], object]]] = {}
    for benchmark in every_benchmark():
        dataset = getattr(benchmark, "dataset", None)
        if dataset:
            found.setdefault(dataset, []).append(partial(_items, benchmark))
    return found


def _items(benchmark: Any) -> None:
    benchmark.items(_Scorer())
    if hasattr(benchmark, "notes"):
        benchmark.notes()


def _beginning(path: Path) -> bytes:
    """A small file of the same kind."""
    if path.suffix != ".json":
        with path.open("rb") as file:
            return b"".join(line for line, _ in zip(file, range(_LINES), strict=False))
    return json.dumps(_shortened(json.loads(path.read_bytes()))).encode()


def _shortened(value: Any) -> Any:
    if isinstance(value, list):
        return [_shortened(one) for one in value[:_LISTED]]
    if isinstance(value, dict):
        return {key: _shortened(one) for key, one in list(value.items())[:_LISTED]}
    return value


def results(folder: Path) -> Target:
    """Tables that other commands read again: audit, debias, study, items, features, word pairs, a batch's answers."""
    with_tests_modules()
    from report import audits, debias_results, study_results

    made = folder / "made"
    made.mkdir()
    write_audit(made / "audit.json", audits.audit())
    write_result(debias_results.result(), made / "result.json")
    write_study(study_results.result(), made / "study.json")
    whole = {path.name: path.read_bytes() for path in made.iterdir()}
    whole["items.csv"] = b'"id","cluster","texts","x [before]","x [after]"\n"a","b","c","1.5",""\n'
    rows = [{"feature": n, "top_activated_words": "Ġsea Ġship", "mean": 0.1, "std": 1.0, "sparsity": -2.0}
            for n in range(3)]  # fmt: skip
    whole["table.json"] = json.dumps(rows).encode()
    pairs = {
        "word": "bank",
        "sentence_1": "the bank of a river",
        "sentence_2": "a bank",
        "label": "different",
    }
    whole["pairs.jsonl"] = (json.dumps(pairs) + "\n").encode()
    answer = {"custom_id": "1/llm", "response": {"status_code": 200, "body": {"choices": []}}, "error": None}
    whole["answers.jsonl"] = (json.dumps(answer) + "\n").encode()
    readers: dict[str, Callable[[Path], object]] = {
        "audit.json": read_audit, "result.json": read_result, "study.json": read_study,
        "items.csv": read_items, "table.json": read_table, "pairs.jsonl": read_word_pairs,
        "answers.jsonl": lambda path: list(read_results(["1/llm"], [path], ResultFaults(), str)),
    }  # fmt: skip

    def read(place: Path) -> None:
        failed: OnesenseError | None = None
        for name in target.changed:
            try:
                readers[name](place / name)
            except OnesenseError as error:
                failed = error
        if failed is not None:
            raise failed

    target = ChangedFolder(folder / "results", whole, read)
    return target
