from __future__ import annotations

import json
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import FormatError, NetworkError, NotFoundError
from onesense.text.corpus import read_documents, text_identity


def texts(*arguments: object, **options: object) -> list[str]:
    return [document.text for document in read_documents(*arguments, **options)]  # type: ignore[arg-type]


def test_the_sample_is_packaged_and_its_documents_are_apart() -> None:
    documents = list(read_documents())
    assert len(documents) >= 1000
    assert [document.index for document in documents] == list(range(len(documents)))
    assert len({document.text for document in documents}) > 0.99 * len(documents)


def test_every_kind_of_source_gives_the_same_texts(tmp_path: Path) -> None:
    wanted = ["One.", "Zwei\nLinien — «mit» Umlauten äöü", "", "4"]
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(json.dumps({"text": text}) for text in wanted) + "\n\n")
    table = tmp_path / "b.parquet"
    parquet.write_table(arrow.table({"text": wanted}), table)
    folder = tmp_path / "folder"
    folder.mkdir()
    for index, text in enumerate(wanted):
        (folder / f"{index}.txt").write_text(text, encoding="utf-8")
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("no")
    assert texts(str(lines)) == texts(str(table)) == texts(str(folder)) == wanted
    assert texts(str(folder / "1.txt")) == [wanted[1]]
    assert texts(str(lines), limit=2) == wanted[:2]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfHello")
    assert texts(str(tmp_path / "a.txt")) == ["Hello"]


def test_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "x"}\n')
    assert texts(str(path), field="content") == ["x"]
    with pytest.raises(FormatError, match="it has: content"):
        texts(str(path))


@pytest.mark.parametrize(
    "line", ["{", "[1]", '"text"', '{"text": 3}', '{"text": null}', "nonsense", "[" * 20000]
)
def test_a_bad_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(FormatError, match="2"):
        texts(str(path))


def test_not_utf8_says_where(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("naïve".encode("latin1"))
    with pytest.raises(FormatError, match="byte 2"):
        texts(str(tmp_path / "a.txt"))


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(FormatError, match="parquet"):
        texts(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    "source", ["./no", "/no/such/file", "no.txt", "no.jsonl", "~/no-such-folder-of-mine"]
)
def test_no_such_file(source: str) -> None:
    with pytest.raises(NotFoundError):
        texts(source)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no text"):
        texts(str(tmp_path))


def test_a_dataset_that_is_not_cached_is_a_network_error_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="neither in the local cache nor reachable"):
        texts("onesense-tests/no-such-dataset")


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=5))
def test_json_lines_round_trip(tmp_path_factory: pytest.TempPathFactory, wanted: list[str]) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in wanted))
    assert texts(str(path)) == wanted


def test_identity_follows_content_not_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("same")
    assert text_identity(str(tmp_path / "one")) == text_identity(str(tmp_path / "two"))
    (tmp_path / "two" / "a.txt").write_text("other")
    assert text_identity(str(tmp_path / "one")) != text_identity(str(tmp_path / "two"))
    assert text_identity(None) == {"name": "sample"}


def test_a_parquet_file_whose_column_names_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for keep_schema in (True, False):
        parquet.write_table(arrow.table({"text": ["a"], "qqqq": ["b"]}), path, store_schema=keep_schema)
        path.write_bytes(path.read_bytes().replace(b"qqqq", b"\xf7\xf7\xf7\xf7"))
        with pytest.raises(FormatError, match="is damaged"):
            texts(str(path))


def test_a_parquet_file_with_damaged_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": [f"text {number}" for number in range(50)]}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 40 + whole[44:])
    with pytest.raises(FormatError, match="damaged"):
        texts(str(path))
