"""The SQLite file of a journal: its schema, opening, transactions. The only importer of sqlite3.

Durable means: with ``synchronous=EXTRA`` a transaction is on the disk, directory entry included,
when COMMIT returns (https://sqlite.org/pragma.html#pragma_synchronous). SQLite's rollback journal
is used instead of WAL: one file, and a concurrent reader needs no shared memory.
"""

import contextlib
import os
import sqlite3
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from runner.reconcile.errors import JournalError

APPLICATION_ID: Final = 0x77726563
"""``wrec``: marks a journal, so that no other SQLite database is taken for one."""
SCHEMA: Final = 1
BUSY: Final = 5.0
"""Seconds to wait for a reader in the middle of a read. Runs exclude each other by ``lock.py``."""

_DDL: Final = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA};
CREATE TABLE release (
    digest  TEXT PRIMARY KEY,
    label   TEXT NOT NULL,
    version TEXT NOT NULL
) STRICT;
CREATE TABLE attempt (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT NOT NULL UNIQUE,
    begun     REAL NOT NULL,
    ended     REAL,
    state     TEXT NOT NULL,
    release   TEXT NOT NULL DEFAULT '',
    note      TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX one_open_attempt ON attempt (ended IS NULL) WHERE ended IS NULL;
CREATE TABLE entry (
    attempt INTEGER NOT NULL REFERENCES attempt ON DELETE CASCADE,
    at      REAL NOT NULL,
    state   TEXT NOT NULL,
    entry   TEXT NOT NULL
) STRICT;
CREATE INDEX entry_of_attempt ON entry (attempt);
CREATE TABLE proven (
    rank         INTEGER PRIMARY KEY AUTOINCREMENT,
    digest       TEXT NOT NULL UNIQUE REFERENCES release,
    committed_at REAL NOT NULL,
    evidence     TEXT NOT NULL
) STRICT;
CREATE TABLE quarantine (
    digest TEXT PRIMARY KEY REFERENCES release,
    reason TEXT NOT NULL,
    since  REAL NOT NULL,
    until  REAL NOT NULL
) STRICT;
"""

Value: TypeAlias = str | float | int | None
DiskRow: TypeAlias = tuple[Value, ...]
_T = TypeVar("_T", str, float, int)


class Database:
    """One open journal file; every failure is raised as a ``JournalError``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Value] = ()) -> list[DiskRow]:
        """Run one statement and return all its rows."""
        with _translated(self._path):
            return self._connection.execute(sql, list(map(_storable, values))).fetchall()

    def typed(self, kind: type[_T], value: Value) -> _T:
        """Return a column's value if it has this type.

        Raises:
            JournalError: it has another type; it is never converted.
        """
        if not isinstance(value, kind):
            raise self.damaged(f"{value!r} is no {kind.__name__}")
        return value

    def damaged(self, why: str) -> JournalError:
        """Make the error for content that this program never writes."""
        return _unreadable(self._path, why)

    def begin(self) -> None:
        """Open a transaction, unless one is open."""
        if not self._connection.in_transaction:
            self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make every change since ``begin`` durable."""
        if self._connection.in_transaction:
            self.execute("COMMIT")

    def close(self) -> None:
        """Close the file and discard uncommitted changes."""
        self._connection.close()


def _storable(value: Value) -> Value:
    """Escape characters that UTF-8 can't encode: surrogates, from file names in other encodings."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def create(path: Path) -> None:
    """Create an empty journal atomically.

    Raises:
        JournalError: the file can't be written.
    """
    draft = path.with_suffix(".new")
    with _translated(path):
        draft.unlink(missing_ok=True)
        connection = sqlite3.connect(draft, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.executescript(_DDL)
        draft.chmod(0o600)
        draft.rename(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def connect(path: Path, *, read_only: bool = False) -> Database:
    """Open an existing journal.

    Raises:
        JournalError: the file is not a journal, damaged, or of another schema. It stays unchanged.
    """
    with _translated(path):
        if path.stat().st_size == 0:
            raise _unreadable(path, "the file is empty")
        uri = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY)
    database = Database(path, connection)
    try:
        _check(path, database)
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA synchronous = EXTRA")
        if read_only:
            database.execute("PRAGMA query_only = ON")
    except JournalError:
        database.close()
        raise
    return database


def _check(path: Path, database: Database) -> None:
    ((application,),) = database.execute("PRAGMA application_id")
    ((schema,),) = database.execute("PRAGMA user_version")
    if application != APPLICATION_ID:
        raise _unreadable(path, "it is an SQLite database of another program")
    if schema != SCHEMA:
        raise JournalError(
            f"the journal {path} has schema {schema}, this version knows {SCHEMA}",
            hint="run the version that wrote it; nothing was changed",
        )


def _unreadable(path: Path, why: str) -> JournalError:
    return JournalError(
        f"the journal {path} can't be read: {why}",
        hint="restore it from a backup; or, if the app may start from nothing, move"
        f" {path.parent} away",
    )


@contextlib.contextmanager
def _translated(path: Path) -> Generator[None]:
    """Turn errors of SQLite and the kernel into ``JournalError``, in one place."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise JournalError(
            f"the journal {path} can't be used: {error}",
            hint="is the disk full or read-only? Without a journal nothing is deployed",
        ) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # damaged bytes, also in messages
        raise _unreadable(path, str(error)) from error
    except OSError as error:
        raise JournalError(f"the journal {path} can't be used: {error.strerror}") from error
