"""The tables of the catalogue, as numbered steps that are applied once and recorded by name.

A step is never edited after a release: a later change is a later step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from onesense.errors import FormatError, IncompatibleError

Migration = Callable[[sqlite3.Connection], None]


def m001_features(connection: sqlite3.Connection) -> None:
    """One row a feature: its lens statistics and how often and how strongly it fires."""
    connection.execute(
        """
        CREATE TABLE features (
            feature INTEGER PRIMARY KEY,
            mean REAL, std REAL, skewness REAL, kurtosis REAL,
            sparsity REAL, density REAL, max_activation REAL,
            top_tokens TEXT NOT NULL, bottom_tokens TEXT NOT NULL
        )
        """
    )


def m002_explanations(connection: sqlite3.Connection) -> None:
    """What a feature is said to mean, and whether that came back well."""
    connection.execute(
        """
        CREATE TABLE explanations (
            feature INTEGER PRIMARY KEY,
            status TEXT NOT NULL
                CHECK (status IN ('ok', 'refused', 'truncated', 'unparseable', 'http_error')),
            text TEXT NOT NULL
        )
        """
    )


def m003_search(connection: sqlite3.Connection) -> None:
    """Full-text index; its rowid is the feature."""
    connection.execute(
        """
        CREATE VIRTUAL TABLE search USING fts5 (
            promoted, suppressed, explanation, tokenize = 'unicode61 remove_diacritics 0'
        )
        """
    )


def m004_facts(connection: sqlite3.Connection) -> None:
    """Facts about the catalogue itself, such as the digest of its features."""
    connection.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)")


def m005_candidates(connection: sqlite3.Connection) -> None:
    """What debias knows of features that may carry bias; they come from several hook points."""
    connection.execute(
        """
        CREATE TABLE candidates (
            hook_point TEXT NOT NULL, feature INTEGER NOT NULL,
            bias REAL, toward_women REAL, fact REAL, kl REAL, density REAL, swapped REAL, gender_words REAL,
            factor REAL, without_spread REAL,
            promoted TEXT NOT NULL, suppressed TEXT NOT NULL,
            PRIMARY KEY (hook_point, feature)
        ) WITHOUT ROWID
        """
    )


def m006_senses(connection: sqlite3.Connection) -> None:
    """How many senses units have: features, neurons, coordinates of the stream."""
    connection.execute(
        """
        CREATE TABLE senses (
            unit_set TEXT NOT NULL, unit INTEGER NOT NULL,
            number INTEGER, effective REAL, several REAL, separation REAL, token_entropy REAL, density REAL,
            documents INTEGER NOT NULL, tokens TEXT NOT NULL,
            PRIMARY KEY (unit_set, unit)
        ) WITHOUT ROWID
        """
    )


def m007_who_explains(connection: sqlite3.Connection) -> None:
    """Several explanations of a feature, of its senses too, and their scores."""
    connection.execute("ALTER TABLE explanations RENAME TO explanations_before")
    connection.execute(
        """
        CREATE TABLE explanations (
            feature INTEGER NOT NULL, sense INTEGER NOT NULL, method TEXT NOT NULL, model TEXT NOT NULL,
            status TEXT NOT NULL
                CHECK (status IN ('ok', 'refused', 'truncated', 'unparseable', 'http_error')),
            text TEXT NOT NULL, detail TEXT NOT NULL,
            prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, made_from TEXT NOT NULL,
            PRIMARY KEY (feature, sense, method, model)
        ) WITHOUT ROWID
        """
    )
    connection.execute(
        "INSERT INTO explanations SELECT feature, -1, 'llm', '', status, text, '', 0, 0, '' FROM explanations_before"
    )
    connection.execute("DROP TABLE explanations_before")
    connection.execute(
        """
        CREATE TABLE scores (
            feature INTEGER NOT NULL, sense INTEGER NOT NULL, method TEXT NOT NULL, model TEXT NOT NULL,
            kind TEXT NOT NULL, judge TEXT NOT NULL,
            value REAL, low REAL, high REAL, auroc REAL, baseline REAL,
            items INTEGER NOT NULL, missing INTEGER NOT NULL, detail TEXT NOT NULL,
            PRIMARY KEY (feature, sense, method, model, kind, judge)
        ) WITHOUT ROWID
        """
    )


MIGRATIONS: tuple[Migration, ...] = (
    m001_features,
    m002_explanations,
    m003_search,
    m004_facts,
    m005_candidates,
    m006_senses,
    m007_who_explains,
)


def applied(connection: sqlite3.Connection) -> list[str]:
    """Names of the steps that this database has been through; empty for a new one."""
    table = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations'")
    if table.fetchone() is None:
        return []
    return [str(row[0]) for row in connection.execute("SELECT name FROM migrations ORDER BY number")]


def check_known(connection: sqlite3.Connection, where: str) -> None:
    """Refuse a database that a newer onesense has changed, and one of another program.

    Raises:
        FormatError: It has tables, but not ours.
        IncompatibleError: It went through a step that this version does not have.
    """
    known = {step.__name__ for step in MIGRATIONS}
    found = applied(connection)
    if not found and connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
        raise FormatError(f"{where} is not a catalogue.", hint="Choose another folder with --run-folder.")
    unknown = [name for name in found if name not in known]
    if unknown:
        raise IncompatibleError(
            f"{where} was written by a newer onesense ({', '.join(unknown)}).",
            hint="Upgrade onesense, or choose another folder with --run-folder.",
        )


def check_complete(connection: sqlite3.Connection, where: str) -> None:
    """Refuse to read a database that lacks tables: empty, foreign, or of an older version.

    Raises:
        FormatError: It is no catalogue.
        IncompatibleError: Steps are missing; a writer will apply them.
    """
    found = applied(connection)
    if not found:
        raise FormatError(f"{where} is not a catalogue.", hint="Delete it and run the command again.")
    missing = [step.__name__ for step in MIGRATIONS if step.__name__ not in found]
    if missing:
        raise IncompatibleError(
            f"{where} was written by an older onesense (it lacks {', '.join(missing)}).",
            hint="Run the command that made it again; it will be brought up to date.",
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the missing steps, all or none. The connection must be in autocommit mode."""
    if len(applied(connection)) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = applied(connection)  # asked again: another process may have been at it
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)"
        )
        for step in (step for step in MIGRATIONS if step.__name__ not in done):
            step(connection)
            connection.execute("INSERT INTO migrations (name) VALUES (?)", (step.__name__,))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
