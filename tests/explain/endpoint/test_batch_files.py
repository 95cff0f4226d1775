from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain.endpoint.batch_server import answered, completion, lines, not_answered
from explain.endpoint.questions import question
from onesense.errors import ConfigurationError, StorageError
from onesense.explain.endpoint.batch_files import (
    NOT_ANSWERED,
    BatchResult,
    ResultFaults,
    custom_ids,
    read_results,
    write_batch_files,
)
from onesense.explain.endpoint.chat import ChatRequest


def body(request: ChatRequest[Any]) -> Mapping[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": request.user}], "max_tokens": 5}


def read(
    tmp_path: Path, asked: list[str], *files: bytes
) -> tuple[dict[str, BatchResult], list[BatchResult], ResultFaults]:
    paths = []
    for number, content in enumerate(files):
        paths.append(tmp_path / f"results-{number}")
        paths[-1].write_bytes(content)
    faults = ResultFaults()
    results = list(read_results(asked, paths, faults, lambda text: text))
    return {result.custom_id: result for result in results}, results, faults


def test_a_line_is_what_the_interface_takes(tmp_path: Path) -> None:
    (file,) = write_batch_files([("7/explain", question("she\u2028her\ud800"))], tmp_path, body)
    content = (tmp_path / file.name).read_bytes()
    assert content.endswith(b"\n")
    assert len(content.splitlines()) == 1
    assert content.isascii()
    assert json.loads(content) == {
        "custom_id": "7/explain",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body(question("she\u2028her\ud800")),
    }
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_files_are_split_and_equal_questions_give_equal_files(tmp_path: Path) -> None:
    questions = [(f"{number}/explain", question(f"word {number}")) for number in range(10)]
    files = write_batch_files(questions, tmp_path, body, most_requests=4)
    assert [file.requests for file in files] == [4, 4, 2]
    assert [name for file in files for name in custom_ids(tmp_path / file.name)] == [
        name for name, _ in questions
    ]
    assert write_batch_files(questions, tmp_path, body, most_requests=4) == files
    assert len(list(tmp_path.iterdir())) == 3


def test_no_file_is_larger_than_the_interface_takes(tmp_path: Path) -> None:
    questions = [(str(number), question("x" * (number * 37 % 400))) for number in range(40)]
    files = write_batch_files(questions, tmp_path, body, most_bytes=1000)
    assert all((tmp_path / file.name).stat().st_size <= 1000 for file in files)
    assert sum(file.requests for file in files) == 40


def test_questions_that_no_batch_can_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing to ask"):
        write_batch_files([], tmp_path, body)
    with pytest.raises(ConfigurationError, match="are called '1'"):
        write_batch_files([("1", question()), ("1", question("other"))], tmp_path, body)
    with pytest.raises(ConfigurationError, match="'big' has"):
        write_batch_files([("big", question("x" * 2000))], tmp_path, body, most_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError):
        write_batch_files([("1", question())], tmp_path / "taken", body)


def test_results_come_in_any_order_and_from_both_files(tmp_path: Path) -> None:
    output = lines(answered("c"), answered("a"))
    errors = lines(
        not_answered("b", "batch_expired", "This request could not be executed\nbefore it expired.")
    )
    results, order, faults = read(tmp_path, ["a", "b", "c", "d"], output, errors)
    assert [result.custom_id for result in order] == ["c", "a", "b", "d"]
    assert results["a"].completion == answered("a")["response"]["body"]
    assert results["b"] == BatchResult("b", None, "This request could not be executed before it expired.")
    assert results["d"] == BatchResult("d", None, NOT_ANSWERED)
    assert str(faults) == ""


def test_half_a_line_unknown_and_repeated_questions_are_left_out_and_counted(tmp_path: Path) -> None:
    second = answered("a", completion("another"))
    output = lines(answered("a"), answered("x"), second) + lines(answered("b"))[:-30]
    results, order, faults = read(tmp_path, ["a", "b"], output)
    assert len(order) == 2
    assert results["a"].completion == answered("a")["response"]["body"]
    assert results["b"].detail == NOT_ANSWERED
    assert (faults.unreadable, faults.unknown, faults.repeated) == (1, 1, 1)
    assert str(faults).startswith(
        "left out lines of the results: 1 cut or damaged, 1 about questions that were not"
    )


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (
            answered("a", {"error": {"message": "Bad \x1b[31mschema", "code": "x"}}, 400),
            "HTTP 400: Bad [31mschema",
        ),
        (answered("a", {"error": "text"}, 500), "HTTP 500"),
        (answered("a", status=429), "HTTP 429"),
        ({"custom_id": "a", "response": None, "error": {"code": "batch_cancelled"}}, "batch_cancelled"),
        ({"custom_id": "a", "response": None, "error": None}, NOT_ANSWERED),
        (
            {"custom_id": "a", "response": {"status_code": "200", "body": {}}, "error": {"message": 3}},
            NOT_ANSWERED,
        ),
        ({"custom_id": "a"}, NOT_ANSWERED),
        ({"custom_id": "a", "response": [1], "error": "x"}, NOT_ANSWERED),
    ],
)
def test_why_a_question_has_no_answer(tmp_path: Path, line: dict[str, Any], detail: str) -> None:
    results, _, _ = read(tmp_path, ["a"], lines(line))
    assert results["a"] == BatchResult("a", None, detail)


def test_what_the_endpoint_says_is_cleaned_and_cut(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(lines(not_answered("a", "x", "key sk-canary " + "long " * 200)))
    faults = ResultFaults()
    (result,) = read_results(["a"], [tmp_path / "r"], faults, lambda text: text.replace("sk-canary", "[key]"))
    assert result.detail.startswith("key [key] long")
    assert len(result.detail) <= 300


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60), st.sampled_from([*lines(answered("a"), answered("b")).splitlines()])
        )
    )
)
def test_whatever_the_file_is_every_question_has_one_result(
    tmp_path_factory: pytest.TempPathFactory, content: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("results")
    results, order, _ = read(folder, ["a", "b"], b"\n".join(content))
    assert len(order) == len(results) == 2


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"custom_id": ["a"]}', b"null", b"\xff\xfe", b'"a"', b"NaN"]
)
def test_lines_that_are_no_results(tmp_path: Path, line: bytes) -> None:
    results, _, faults = read(tmp_path, ["a"], line + b"\n" + lines(answered("a")))
    assert results["a"].completion is not None
    assert faults.unreadable == 1
