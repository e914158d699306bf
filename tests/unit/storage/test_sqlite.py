"""A file that is not a complete journal is refused and stays unchanged."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import contextlib
import sqlite3  # noqa: TID251 - the test looks at the file without the code under test
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from runner.config.app import Retention
from runner.exit_codes import ExitCode
from runner.reconcile.errors import JournalError
from runner.reconcile.events import CandidateFound, Commit, Committed, Deploy
from runner.reconcile.machine import State
from runner.reconcile.model import Deployment, Healthy, Release
from runner.storage import sqlite
from runner.storage.history import open_history
from runner.storage.journal import open_journal
from runner.storage.paths import StateDir, find_state, open_state

GOOD = Release("3.4.0+v3.5.1", "3.5.1", "a" * 64)
NEXT = Release("3.5.0+v3.6.0", "3.6.0", "b" * 64)


def fill(state: StateDir) -> None:
    """Leave a journal with a proven release and an open attempt."""
    with contextlib.closing(open_journal(state, Retention(), time.time)) as journal:
        verdict = Healthy(Deployment(GOOD, "t"), (), 3, 10.0)
        attempt = journal.begin()
        journal.intend(State.COMMITTING, Commit(verdict))
        journal.commit(verdict)
        journal.observe(Committed(GOOD), State.COMMITTED, evolve(attempt, candidate=GOOD))
        attempt = evolve(journal.begin(), candidate=NEXT)
        journal.observe(CandidateFound(NEXT), State.DEPLOYING, attempt)
        journal.intend(State.DEPLOYING, Deploy(Deployment(NEXT, attempt.next_token)))


@pytest.fixture
def filled(state: StateDir) -> StateDir:
    fill(state)
    return state


def change(state: StateDir, sql: str) -> None:
    """Change the file as another program would."""
    with contextlib.closing(sqlite3.connect(state.journal)) as other:
        other.execute(sql)
        other.commit()


def refusal(state: StateDir) -> JournalError:
    """Begin a run, which must be refused and must not change one byte."""
    before = {path.name: path.read_bytes() for path in state.home.iterdir() if path.is_file()}
    with (
        pytest.raises(JournalError) as caught,
        contextlib.closing(open_journal(state, Retention(), time.time)) as journal,
    ):
        journal.begin()
    assert before == {
        path.name: path.read_bytes() for path in state.home.iterdir() if path.is_file()
    }
    assert ExitCode.STATE == caught.value.exit_code
    assert caught.value.hint
    return caught.value


# Files that are no journal -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "can't be read: the file is empty"),
        (b"\x00", "can't be read: "),
        (b"\xa5" * 5000, "can't be read: file is not a database"),
        (b"SQLite format 3\x00", "can't be read: "),
        (b"SQLite format 3\x00" + b"\x00" * 5000, "can't be read: "),
        (b'{"proven": []}\n', "can't be read: "),
    ],
    ids=["empty", "one byte", "noise", "half a header", "a header and nothing", "JSON"],
)
def test_a_file_that_is_no_database_is_refused(
    state: StateDir, content: bytes, expected: str
) -> None:
    """A file that is no database is refused; no new journal is created in its place."""
    state.journal.write_bytes(content)
    error = refusal(state)
    assert f"the journal {state.journal} {expected}" in error.message
    assert f"if the app may start from nothing, move {state.home} away" in error.hint


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_another_programs_database_is_refused(state: StateDir, mode: str) -> None:
    """A database of another program is refused and not written to."""
    with contextlib.closing(sqlite3.connect(state.journal)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("CREATE TABLE attempt (number INTEGER)")
    assert "it is an SQLite database of another program" in refusal(state).message


@pytest.mark.parametrize("schema", [0, sqlite.SCHEMA + 1])
def test_a_journal_of_another_schema_is_refused(filled: StateDir, schema: int) -> None:
    """A journal of another schema is refused: an older program must not write into it."""
    change(filled, f"PRAGMA user_version = {schema}")
    error = refusal(filled)
    assert f"has schema {schema}, this version knows {sqlite.SCHEMA}" in error.message
    assert "nothing was changed" in error.hint


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE attempt SET state = 'hibernating' WHERE ended IS NULL",
        "UPDATE attempt SET state = 'IDLE' WHERE ended IS NULL",
        "UPDATE entry SET state = 'hibernating'",
        """UPDATE entry SET entry = '{"is":"Teleport"}'""",
        """UPDATE entry SET entry = replace(entry, '"token":', '"nonce":"n","token":')""",
        """UPDATE entry SET entry = replace(entry, '"token":', '"nonce":')""",
        "UPDATE entry SET entry = ''",
        "UPDATE entry SET entry = substr(entry, 1, 20)",
        "UPDATE entry SET entry = CAST(x'ff' AS TEXT)",
        "DROP TABLE entry",
        "ALTER TABLE attempt RENAME COLUMN state TO phase",
    ],
    ids=[
        *("unknown state", "state in capitals", "unknown state of an entry", "unknown entry"),
        *("extra key", "other key", "no text", "half a text", "no UTF-8", "no table", "no column"),
    ],
)
def test_a_word_that_this_version_does_not_know_is_refused(filled: StateDir, sql: str) -> None:
    """A journal with an unreadable entry is refused, so that no attempt is resumed wrongly."""
    change(filled, sql)
    refusal(filled)


def test_a_second_open_attempt_is_refused(filled: StateDir) -> None:
    """Two open attempts (without the index that forbids them) are reported as damage."""
    change(filled, "DROP INDEX one_open_attempt")
    change(filled, "INSERT INTO attempt (id, begun, state) VALUES ('x', 0, 'idle')")
    refusal(filled)


@pytest.mark.parametrize("name", ["releases", "instances"])
def test_a_missing_journal_is_not_taken_for_a_new_app(state: StateDir, name: str) -> None:
    """If releases or instances exist without a journal, the run is refused."""
    (state.home / name).mkdir(mode=0o700)
    error = refusal(state)
    assert f"the journal {state.journal} is missing, but releases of traefik exist" == error.message
    assert not state.journal.exists()


def test_a_directory_for_a_journal_is_refused(state: StateDir) -> None:
    """A journal that can't be opened is reported with the reason."""
    state.journal.mkdir()
    assert "can't be used" in refusal(state).message


@pytest.fixture(scope="module")
def whole_journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one good journal."""
    state = open_state(tmp_path_factory.mktemp("whole"), "traefik")
    fill(state)
    return state.journal


@given(
    changes=st.lists(
        st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=8)), min_size=1, max_size=3
    ),
    kept=st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.1, 0.01]),
)
@example(changes=[(2743, b"\x80")], kept=1.0)  # SQLite quotes what is no UTF-8
@example(changes=[(2**16, b"\0\0\0\0\0")], kept=1.0)  # NULL where the table forbids it
def test_a_damaged_journal_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    whole_journal: Path,
    changes: list[tuple[int, bytes]],
    kept: float,
) -> None:
    """Changed or lost bytes raise no other exception than JournalError."""
    content = bytearray(whole_journal.read_bytes())
    for place, piece in changes:
        at = place % (len(content) - len(piece))
        content[at : at + len(piece)] = piece
    state = open_state(tmp_path_factory.getbasetemp() / "damaged", "traefik")
    for left in state.home.iterdir():
        left.unlink()
    state.journal.write_bytes(bytes(content[: int(len(content) * kept)]))
    with (
        contextlib.suppress(JournalError),
        contextlib.closing(open_journal(state, Retention(), time.time)) as journal,
    ):
        journal.proven()
        journal.needed()
        journal.quarantined()
        journal.begin()
        journal.intend(State.DEPLOYING, Deploy(Deployment(NEXT, "t")))
    with contextlib.suppress(JournalError), open_history(state) as history:
        assert history is not None
        for past in history.attempts(10):
            history.story(past.number)
        history.quarantine(0.0)
        history.open_attempt()


# Making one --------------------------------------------------------------------------------------


def test_a_new_journal_is_closed_to_others(filled: StateDir) -> None:
    """A new journal has mode 0600: a writer of the journal could choose what is deployed."""
    assert 0o100600 == filled.journal.stat().st_mode


def test_a_draft_left_by_a_killed_run_is_replaced(state: StateDir) -> None:
    """A draft is not taken for a journal, and is replaced by the next run."""
    for suffix in (".new", ".new-journal"):
        state.journal.with_suffix(suffix).write_bytes(b"half of one")
    fill(state)
    assert GOOD in read_proven(state)
    assert [state.journal.name] == [
        path.name for path in state.home.iterdir() if "half of one" not in path.read_text("latin-1")
    ]


def read_proven(state: StateDir) -> tuple[Release, ...]:
    with contextlib.closing(open_journal(state, Retention(), time.time)) as journal:
        return journal.proven()


@pytest.mark.parametrize("name", ["what?", "a#b", "100%41", "it's", "two words", "é", "a?mode=ro"])
def test_any_directory_can_hold_a_journal(tmp_path: Path, name: str) -> None:
    """Characters with a meaning in a URI are allowed in the path."""
    state = open_state(tmp_path / name, "traefik")
    fill(state)
    assert (GOOD,) == read_proven(state)
    assert [name] == [path.name for path in tmp_path.iterdir()]


def test_a_journal_that_cannot_be_made_is_an_error_of_the_state(state: StateDir) -> None:
    """Without its directory, the journal can't be created: the error has the kernel's reason."""
    state.home.rmdir()
    with pytest.raises(JournalError, match="can't be used"):
        open_journal(state, Retention(), time.time)


# A full disk -------------------------------------------------------------------------------------

WRITE_UNTIL_FULL = """
import resource, sys, time
from pathlib import Path
from runner.reconcile.errors import JournalError
from runner.storage.journal import Retention, open_journal
from runner.reconcile.machine import State
from runner.storage.paths import open_state
from runner.reconcile.events import Deploy
from runner.reconcile.model import Deployment, Release

state = open_state(Path(sys.argv[1]), "traefik")
journal = open_journal(state, Retention(), time.time)
attempt = journal.begin()
if sys.argv[2:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
deployment = Deployment(Release("x" * 5000, "3.5.1", "d" * 64), "t")
done = 0
try:
    while True:
        journal.intend(State.DEPLOYING, Deploy(deployment))
        done += 1
except JournalError as error:
    print(done, error.exit_code, error.message, error.hint, sep="\\n")
"""


def write_until_full(
    run_python: Callable[..., subprocess.CompletedProcess[str]], state: StateDir, *limit: str
) -> None:
    """Write until the disk is full; exactly the reported entries, and all before, must be there."""
    fill(state)
    done = run_python(WRITE_UNTIL_FULL, state.root, *limit, limited=True)
    assert ("", 0) == (done.stderr, done.returncode)
    written, code, message, hint = done.stdout.splitlines()
    assert int(written) > 0
    assert ExitCode.STATE == int(code)
    assert f"the journal {state.journal} can't be used" in message
    assert "is the disk full" in hint
    with open_history(find_state(state.root, "traefik")) as history:
        assert history is not None
        attempt = history.open_attempt()
        assert attempt is not None
        assert 1 + int(written) == attempt.deploys
        assert (GOOD,) == history.proven(4, time.time())


def test_a_full_disk_loses_nothing(
    small_disk: Path | None,
    tmp_path: Path,
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Entries for which ``intend`` returned are kept; those for which it raised are not there."""
    if small_disk is not None:
        write_until_full(run_python, open_state(small_disk / "state", "traefik"))
    else:
        write_until_full(run_python, open_state(tmp_path / "state", "traefik"), "300000")


def test_a_file_that_may_not_grow_loses_nothing(
    state: StateDir, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A file size limit is handled as a full disk."""
    write_until_full(run_python, state, "300000")


@pytest.mark.parametrize("limit", [0, 1000])
def test_a_journal_that_cannot_be_begun_leaves_no_journal(
    state: StateDir, run_python: Callable[..., subprocess.CompletedProcess[str]], limit: int
) -> None:
    """A first run on a full disk leaves no file that could be taken for a journal."""
    done = run_python(
        "import resource, sys, time; from pathlib import Path\n"
        "from runner.reconcile.errors import JournalError\n"
        "from runner.config.app import Retention\n"
        "from runner.storage.journal import open_journal\n"
        "from runner.storage.paths import open_state\n"
        "state = open_state(Path(sys.argv[1]), 'traefik')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))\n"
        "try: open_journal(state, Retention(), time.time)\n"
        "except JournalError as error: print(error.hint)\n",
        state.root,
        str(limit),
        limited=True,
    )
    assert ("", 0) == (done.stderr, done.returncode)
    assert "is the disk full" in done.stdout
    assert not state.journal.exists()
    fill(state)
    assert (GOOD,) == read_proven(state)


# Reading beside a run ----------------------------------------------------------------------------


def test_a_reader_sees_durable_entries_while_a_run_writes(filled: StateDir) -> None:
    """``status`` and ``history`` do not wait for a run, and see only committed transactions."""
    with contextlib.closing(open_journal(filled, Retention(), time.time)) as journal:
        journal.begin()
        with open_history(filled) as history:
            assert history is not None
            attempt = history.open_attempt()
            assert attempt is not None
            assert (NEXT, 0) == (attempt.candidate, attempt.crashes)
            assert [(2, State.DEPLOYING), (1, State.COMMITTED)] == [
                (past.number, past.state) for past in history.attempts(10)
            ]


def test_a_reader_cannot_write(filled: StateDir) -> None:
    """A read-only connection can't change the journal."""
    with open_history(filled) as history:
        assert history is not None
        with pytest.raises(JournalError, match="readonly"):
            history.db.execute("DELETE FROM proven")


def test_the_history_of_an_app_that_never_ran_is_none(state: StateDir) -> None:
    """Reading creates no journal."""
    with open_history(state) as history:
        assert history is None
    assert [] == list(state.home.iterdir())


def test_the_entries_of_an_attempt_are_read_in_order(filled: StateDir) -> None:
    """Entries of the given attempt are returned with their times."""
    with open_history(filled) as history:
        assert history is not None
        assert [CandidateFound(NEXT), Deploy] == [
            entry if isinstance(entry, CandidateFound) else type(entry)
            for _, entry in history.story(2)
        ]
        assert [NEXT.label, GOOD.label] == [past.release for past in history.attempts(2)]
        assert [NEXT.label] == [past.release for past in history.attempt(2)]
        assert [] == history.attempt(3)
        assert [] == history.story(3)
