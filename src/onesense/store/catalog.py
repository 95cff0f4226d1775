"""The catalogue of a run: features in SQLite, with full-text search.

One process writes, any number read meanwhile (write-ahead log). Equal rows give equal content, so a run that
was killed in a transaction and resumed ends with the same database as one that was not.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from onesense.errors import ConfigurationError, NotFoundError
from onesense.store.candidates import COLUMNS as CANDIDATE_COLUMNS
from onesense.store.candidates import SORT_COLUMNS as CANDIDATE_SORT_COLUMNS
from onesense.store.candidates import CandidateRow, read_candidate, stored_candidate
from onesense.store.catalog_connection import open_reader, open_writer
from onesense.store.incoming_rows import incoming_rows, unchanged
from onesense.store.sqlite_errors import sqlite_errors, stored_list

SORT_COLUMNS = (
    "feature",
    "mean",
    "std",
    "skewness",
    "kurtosis",
    "sparsity",
    "density",
    "max_activation",
)
"""What :meth:`Catalog.page` can sort by."""

ExplanationStatus = Literal["ok", "refused", "truncated", "unparseable", "http_error"]

_MAX_INTEGER = 2**63 - 1
_MAX_QUERY_CHARACTERS = 1000
_MAX_QUERY_WORDS = 32
_QUERY_PARTS = re.compile(r'"([^"]+)"|(\S+)')
# How byte-level and SentencePiece vocabularies spell a space or a line break: no part of the word.
_WORD_MARKS = re.compile("[\u0120\u2581\u010a]")


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One feature of the catalogue. A number that is unknown or NaN is None.

    Attributes:
        feature: Id of the latent.
        mean: Mean of its logit-lens vector.
        std: Population standard deviation.
        skewness: E[z^3].
        kurtosis: E[z^4], not excess.
        sparsity: log10(firing frequency + 1e-10).
        density: Share of tokens on which it fires, in our contexts.
        max_activation: Largest activation in our contexts.
        top_tokens: Tokens that it promotes most, strongest first.
        bottom_tokens: Tokens that it suppresses most, strongest first.
    """

    feature: int
    mean: float | None = None
    std: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None
    sparsity: float | None = None
    density: float | None = None
    max_activation: float | None = None
    top_tokens: Sequence[str] = ()
    bottom_tokens: Sequence[str] = ()


_COLUMNS = tuple(field.name for field in fields(FeatureRow))
_INSERT = f"INSERT INTO features ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_INSERT_CANDIDATE = (
    f"INSERT INTO candidates ({', '.join(CANDIDATE_COLUMNS)})"
    f" VALUES ({', '.join('?' * len(CANDIDATE_COLUMNS))})"
)
_SELECT = f"SELECT {', '.join(f'features.{name}' for name in _COLUMNS)} FROM features"


class Catalog:
    """The database of one run folder. Use it as a context manager, or call :meth:`close`.

    Args:
        path: The file, `catalog.sqlite`.
        read_only: Look on without ever writing; the file must exist.

    Raises:
        NotFoundError: Read-only, and there is no such file.
        FormatError: The file is damaged or no catalogue.
        IncompatibleError: A newer onesense wrote it.
        StorageError: It cannot be opened or written.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        self.path = Path(path)
        with sqlite_errors(self.path):
            self._connection = open_reader(self.path) if read_only else open_writer(self.path)

    def close(self) -> None:
        """Close the connection; the last one folds the write-ahead log into the file."""
        with sqlite_errors(self.path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def replace_features(self, rows: Iterable[FeatureRow]) -> None:
        """Put these features in place of all there are, in one transaction.

        Rows that the catalogue already holds are left alone, so doing it again changes no byte.

        Raises:
            StorageError: The disk is full; the old features are still there.
        """
        with (
            self.transaction() as connection,
            incoming_rows(connection, "features", _COLUMNS, map(_storable, rows)) as values,
        ):
            if unchanged(connection, "features", _COLUMNS, values) and _is_searchable(connection):
                return
            if not _is_searchable(connection):  # else words of rows that are gone stay in the index
                connection.execute("INSERT INTO search (search) VALUES ('rebuild')")
            connection.execute("DELETE FROM features")
            connection.execute("DELETE FROM search")
            connection.executemany(_INSERT, values)
            explanations = dict(
                connection.execute(
                    "SELECT feature, group_concat(text, char(10)) FROM explanations"
                    " WHERE status = 'ok' GROUP BY feature"
                ).fetchall()
            )
            connection.executemany(
                "INSERT INTO search (rowid, promoted, suppressed, explanation) VALUES (?, ?, ?, ?)",
                (
                    (value[0], _words(value[-2]), _words(value[-1]), explanations.get(value[0], ""))
                    for value in values
                ),
            )

    def search(self, query: str, limit: int = 20, *, min_score: float | None = None) -> list[FeatureRow]:
        """Features whose tokens or explanations hold every word of `query`, best match first.

        Every character is taken as text, except that a `*` at the end of a word stands for any ending, that
        quotes hold words together, and that `OR` between words asks for either side.

        Args:
            query: The words.
            limit: How many at most.
            min_score: Only features with an explanation that was scored so high, or higher, by detection or
                fuzzing: balanced accuracy, 0.5 is chance.

        Raises:
            ConfigurationError: A negative limit, or a score that is no share.
        """
        expression = match_expression(query)
        check_range("limit", limit)
        if min_score is not None and not 0 <= min_score <= 1:
            raise ConfigurationError(
                f"A score cannot be {min_score}.", hint="Give a balanced accuracy, 0 to 1."
            )
        if expression is None:
            return []
        with sqlite_errors(self.path):
            found = self._connection.execute(
                f"{_SELECT} JOIN search ON search.rowid = features.feature WHERE search MATCH ?1"
                " AND (?2 IS NULL OR EXISTS (SELECT 1 FROM scores WHERE scores.feature = features.feature"
                " AND kind != 'intruder' AND value >= ?2))"
                " ORDER BY search.rank, features.feature LIMIT ?3",
                (expression, min_score, limit),
            ).fetchall()
        return [_row(values) for values in found]

    def feature(self, feature: int) -> FeatureRow:
        """One feature.

        Raises:
            NotFoundError: The catalogue has no such feature; the message gives the range.
        """
        with sqlite_errors(self.path):
            found = None
            if 0 <= feature <= _MAX_INTEGER:
                found = self._connection.execute(f"{_SELECT} WHERE feature = ?", (feature,)).fetchone()
            if found is None:
                low, high = self._connection.execute(
                    "SELECT min(feature), max(feature) FROM features"
                ).fetchone()
                hint = "It has none." if high is None else f"It has features {low} to {high}."
                raise NotFoundError(f"{self.path} has no feature {feature}.", hint=hint)
        return _row(found)

    def count(self) -> int:
        """Number of features."""
        with sqlite_errors(self.path):
            return int(self._connection.execute("SELECT count(*) FROM features").fetchone()[0])

    def page(
        self, sort: str = "feature", descending: bool = False, offset: int = 0, limit: int = 50
    ) -> list[FeatureRow]:
        """A stretch of the features in the order of a column; unknown values last, ties by feature.

        Raises:
            ConfigurationError: Not one of :data:`SORT_COLUMNS`, or a negative offset or limit.
        """
        check_sort(sort, SORT_COLUMNS)
        check_range("offset", offset)
        check_range("limit", limit)
        direction = "DESC" if descending else "ASC"
        with sqlite_errors(self.path):
            found = self._connection.execute(
                f"{_SELECT} ORDER BY {sort} IS NULL, {sort} {direction}, feature LIMIT ? OFFSET ?",
                (limit, offset),
            ).fetchall()
        return [_row(values) for values in found]

    def replace_candidates(self, rows: Iterable[CandidateRow]) -> None:
        """Put these candidates in place of all there are, in one transaction.

        Where the catalogue holds just these already, no byte changes.

        Raises:
            StorageError: The disk is full; the old candidates are still there.
        """
        values = sorted((stored_candidate(row) for row in rows), key=lambda value: value[:2])
        with self.transaction() as connection:
            if unchanged(connection, "candidates", CANDIDATE_COLUMNS, values):
                return
            connection.execute("DELETE FROM candidates")
            connection.executemany(_INSERT_CANDIDATE, values)

    def candidates(
        self,
        sort: str = "bias",
        descending: bool = True,
        *,
        hook_point: str | None = None,
        edited: bool = False,
        limit: int = 50,
    ) -> list[CandidateRow]:
        """Candidates in the order of a number; unknown values last, ties by hook point and feature.

        Args:
            sort: One of ``onesense.store.candidates.SORT_COLUMNS``.
            descending: The largest first.
            hook_point: Only those there.
            edited: Only those that the chosen recipe edits.
            limit: How many at most.

        Raises:
            ConfigurationError: No number of a candidate, or a negative limit.
        """
        check_sort(sort, CANDIDATE_SORT_COLUMNS)
        check_range("limit", limit)
        with sqlite_errors(self.path):
            found = self._connection.execute(
                f"SELECT {', '.join(CANDIDATE_COLUMNS)} FROM candidates"
                " WHERE (?1 IS NULL OR hook_point = ?1) AND (NOT ?2 OR factor IS NOT NULL)"
                f" ORDER BY {sort} IS NULL, {sort} {'DESC' if descending else 'ASC'}, hook_point, feature LIMIT ?3",
                (hook_point, edited, limit),
            ).fetchall()
        return [read_candidate(values) for values in found]

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a query gives, for the tables that other modules describe.

        Raises:
            StorageError, FormatError: See ``sqlite_errors``.
        """
        with sqlite_errors(self.path):
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside, or nothing.

        Raises:
            StorageError: The disk is full; all is as it was.
        """
        with sqlite_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled it back already
                    self._connection.execute("ROLLBACK")
                raise


def match_expression(query: str) -> str | None:
    """The FTS5 expression that asks for every word of `query`, each a quoted phrase; None for no words.

    FTS5 reads no operator inside quotes, so nothing that a user types can be syntax but what is let through: `OR`
    between words, which binds less tightly than words side by side
    (https://www.sqlite.org/fts5.html#full_text_query_syntax).
    """
    text = well_formed(query[:_MAX_QUERY_CHARACTERS]).replace("\0", " ")
    sides: list[list[str]] = [[]]
    for held, word in _QUERY_PARTS.findall(text)[:_MAX_QUERY_WORDS]:
        if word == "OR":
            sides.append([])
            continue
        stem = held or word.rstrip("*")
        if any(character.isalnum() for character in stem):
            quoted = stem.replace('"', '""')
            sides[-1].append(f'"{quoted}"{"*" if not held and word != stem else ""}')
    return " OR ".join(" ".join(phrases) for phrases in sides if phrases) or None


def _is_searchable(connection: sqlite3.Connection) -> bool:
    """Whether the index of words agrees with the text that it was made from."""
    try:
        connection.execute("INSERT INTO search (search) VALUES ('integrity-check')")
    except sqlite3.DatabaseError:
        return False
    return True


def _storable(row: FeatureRow) -> tuple[Any, ...]:
    numbers = [_finite(getattr(row, name)) for name in _COLUMNS[1:-2]]
    return (int(row.feature), *numbers, json.dumps(list(row.top_tokens)), json.dumps(list(row.bottom_tokens)))


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)


def _row(values: Sequence[Any]) -> FeatureRow:
    named = dict(zip(_COLUMNS, values, strict=True))
    for name in ("top_tokens", "bottom_tokens"):
        named[name] = stored_list(named[name])
    return FeatureRow(**named)


def _words(tokens: str) -> str:
    return well_formed(_WORD_MARKS.sub(" ", " ".join(map(str, stored_list(tokens)))))


def well_formed(text: str) -> str:
    """Text that UTF-8 can hold: halves of surrogate pairs become question marks."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def check_sort(sort: str, columns: Sequence[str]) -> None:
    """Refuse a column that nothing can be sorted by, with the nearest name.

    Raises:
        ConfigurationError: Not one of the columns.
    """
    if sort not in columns:
        near = difflib.get_close_matches(sort, columns, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise ConfigurationError(
            f"Cannot sort features by {sort!r}.{meant}", hint=f"Choose from: {', '.join(columns)}."
        )


def check_range(name: str, value: int) -> None:
    """Refuse a negative number.

    Raises:
        ConfigurationError: Below 0, or beyond what SQLite counts.
    """
    if not 0 <= value <= _MAX_INTEGER:
        raise ConfigurationError(f"{name} cannot be {value}.", hint="Give a number from 0 up.")
