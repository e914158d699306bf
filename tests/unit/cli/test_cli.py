"""The commands that only read: they print the state and leave it unchanged."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import contextlib
import json
import sqlite3  # noqa: TID251 - the test looks at the connections of the code under test
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from runner.cli.main import main
from runner.config.app import Retention
from runner.exit_codes import ExitCode
from runner.reconcile import events
from runner.reconcile.machine import State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    Outcome,
    ProbeResult,
    Release,
    Unhealthy,
)
from runner.storage.journal import SqliteJournal, open_journal
from runner.storage.lock import hold
from runner.storage.paths import StateDir, open_state

OLD, GOOD, BAD = (Release(f"{n}.0.0+v3.{n}", f"3.{n}", str(n) * 64) for n in (1, 2, 3))
OK = ProbeResult("ping", Outcome.PASS, "status 200 as expected", "a.service", 0.0123, 200, "OK")
FAILED = ProbeResult("page", Outcome.FAIL, "status 500, expected 200", "a.service", 0.02, 500)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def ask(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command of the app: ``ask("history", "-n", "3")`` is its code and its two outputs."""
    probe = {"kind": "identity", "target_unit": "a.service", "url": "http://127.0.0.1:9/"}
    config = tmp_path / "traefik.json"
    config.write_text(
        json.dumps(
            {
                "state_dir": str(tmp_path / "state"),
                "caller": "a.service",
                "source": {"kind": "directory", "path": str(source)},
                "probes": [probe],
            }
        )
    )

    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        code = main([command, "traefik", "--config", str(config), *arguments])
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return code, told.out, told.err

    return run


Ask = Callable[..., tuple[int, str, str]]


def deployment(release: Release) -> Deployment:
    return Deployment(release, f"token-{release.version}")


def commit(journal: SqliteJournal, release: Release) -> None:
    attempt = evolve(journal.begin(), candidate=release)
    verdict = Healthy(deployment(release), (OK,), 3, 10.0)
    journal.intend(State.IDLE, events.Assess())
    journal.observe(events.CandidateFound(release), State.DEPLOYING, attempt)
    journal.intend(State.DEPLOYING, events.Deploy(deployment(release)))
    journal.observe(events.Deployed(deployment(release)), State.GATING, attempt)
    journal.intend(State.GATING, events.RunGate(deployment(release)))
    journal.observe(events.Judged(verdict), State.COMMITTING, attempt)
    journal.intend(State.COMMITTING, events.Commit(verdict))
    journal.commit(verdict)
    journal.observe(events.Committed(release), State.COMMITTED, attempt)


@pytest.fixture
def past(tmp_path: Path) -> StateDir:
    """Leave a history: two commits and a rollback that put a release into quarantine."""
    state = open_state(tmp_path / "state", "traefik")
    with contextlib.closing(open_journal(state, Retention(), time.time)) as journal:
        commit(journal, OLD)
        commit(journal, GOOD)
        attempt = evolve(
            journal.begin(),
            candidate=BAD,
            against="page: status 500, expected 200",
            guilty=True,
            fallbacks=(GOOD,),
            note="page: status 500, expected 200",
        )
        verdict = Unhealthy(deployment(BAD), "page: status 500, expected 200", (OK, FAILED), 4)
        journal.observe(events.Judged(verdict), State.CHOOSING, attempt)
        verdict_2 = Healthy(deployment(GOOD), (OK,), 3, 10.0)
        journal.observe(events.Judged(verdict_2), State.ROLLED_BACK, attempt)
    return state


def interrupt(state: StateDir, *, decided: bool = False) -> None:
    """Leave an attempt as a killed run does."""
    with contextlib.closing(open_journal(state, Retention(), time.time)) as journal:
        attempt = evolve(journal.begin(), candidate=BAD)
        journal.observe(events.CandidateFound(BAD), State.DEPLOYING, attempt)
        journal.intend(State.DEPLOYING, events.Deploy(deployment(BAD)))
        if decided:
            journal.observe(
                events.DeployFailed(deployment(BAD), "no disk", guilty=True),
                State.CHOOSING,
                attempt,
            )
            journal.intend(State.ROLLING_BACK, events.Deploy(deployment(GOOD)))


def snapshot(place: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [place, *place.rglob("*")]
        if path.exists()
    }


READING = ["status", "plan", "history", "explain", "releases"]


@pytest.mark.parametrize("command", READING)
def test_reading_leaves_everything_as_it_is(
    ask: Ask, past: StateDir, tmp_path: Path, command: str
) -> None:
    """Not a byte and not a time stamp of the state directory changes, even beside a run."""
    interrupt(past)
    with hold(past.lock):
        before = snapshot(tmp_path)
        assert ExitCode.OK == ask(command)[0]
        assert before == snapshot(tmp_path)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("status", "last-good   none: no release has passed its gate yet"),
        ("plan", "would do nothing"),
        ("history", "traefik never ran"),
        ("releases", "the latest is unknown: the source offers no release"),
        ("forget-quarantine", "0 releases may be tried again"),
    ],
)
def test_reading_an_app_that_never_ran_succeeds_and_creates_nothing(
    ask: Ask, tmp_path: Path, command: str, told: str
) -> None:
    """In particular no state directory."""
    code, out, err = ask(command)
    assert (ExitCode.OK, "") == (code, err)
    assert told in out
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", [*READING, "forget-quarantine"])
def test_every_answer_can_be_json(ask: Ask, past: StateDir, command: str) -> None:
    """The JSON output parses."""
    interrupt(past, decided=True)
    code, out, err = ask(command, "--json")
    assert (ExitCode.OK, "") == (code, err)
    json.loads(out)


@pytest.mark.parametrize("command", ["status", "plan", "history", "explain", "releases"])
def test_a_journal_that_cannot_be_read_is_74(ask: Ask, past: StateDir, command: str) -> None:
    """No command guesses: stdout stays empty."""
    past.journal.write_bytes(b"no journal")
    code, out, err = ask(command)
    assert (ExitCode.STATE, "") == (code, out)
    assert "error: the journal" in err


@pytest.fixture
def opened() -> Generator[list[sqlite3.Connection]]:
    """List the connections that are opened during the test; a reference keeps each alive."""
    connections: list[sqlite3.Connection] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "sqlite3.connect/handle" and listening:
            connections.extend(
                found for found in arguments if isinstance(found, sqlite3.Connection)
            )

    listening = True
    sys.addaudithook(note)  # can't be removed again
    yield connections
    listening = False
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        *((command, ExitCode.OK) for command in [*READING, "forget-quarantine"]),
        ("explain --number 99", ExitCode.USAGE),
        ("history", ExitCode.STATE),
        ("forget-quarantine", ExitCode.STATE),
    ],
)
def test_every_command_closes_the_journal(
    ask: Ask, past: StateDir, opened: list[sqlite3.Connection], command: str, expected: ExitCode
) -> None:
    """Also one that fails; Python 3.13 and newer warn of a connection that is left open."""
    if expected is ExitCode.STATE:
        with contextlib.closing(sqlite3.connect(past.journal)) as other:
            other.execute("DROP TABLE quarantine")
            other.execute("UPDATE attempt SET state = 'no state'")
            other.commit()
    before = len(opened)
    assert expected == ask(*command.split())[0]
    assert opened[before:]
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


# status ------------------------------------------------------------------------------------------


def test_status_lists_proven_and_quarantined_releases(ask: Ask, past: StateDir) -> None:
    """Last-good, live, older proven releases, the quarantine with its reason, the last run."""
    lines = ask("status")[1].splitlines()
    assert "traefik" == lines[0]
    assert f"  last-good   {GOOD.label}" in lines
    assert "  live        nothing" in lines
    assert f"  proven      {OLD.label}" in lines
    (quarantine,) = [line for line in lines if line.startswith("  quarantine")]
    assert BAD.label in quarantine
    assert quarantine.endswith("page: status 500, expected 200")
    (last,) = [line for line in lines if line.startswith("  last run")]
    assert "#3" in last
    assert "rolled back" in last
    data = json.loads(ask("status", "--json")[1])
    assert (GOOD.label, None, [GOOD.label, OLD.label], None) == (
        data["last_good"],
        data["live"],
        data["proven"],
        data["running_pid"],
    )
    assert past.journal.exists()


def test_status_distinguishes_a_current_run_from_an_interrupted_one(
    ask: Ask, past: StateDir
) -> None:
    """A held lock is a current run; an open attempt without a lock was interrupted."""
    interrupt(past)
    assert "interrupted the next run resumes it" in ask("status")[1]
    with hold(past.lock):
        out = ask("status")[1]
    assert "  running     process " in out
    assert "interrupted" not in out


# plan --------------------------------------------------------------------------------------------


def plan(ask: Ask, *arguments: str) -> dict[str, Any]:
    code, out, _ = ask("plan", "--json", *arguments)
    assert ExitCode.OK == code
    answer: dict[str, Any] = json.loads(out)
    text = ask("plan", *arguments)[1]
    assert answer["does"] in text
    assert answer["because"] in text
    return answer


def test_a_new_release_would_go_on_trial(
    ask: Ask, past: StateDir, make_release: Callable[..., Path]
) -> None:
    """The plan names it, and its fallbacks."""
    make_release("4.0.0+v3.4")
    answer = plan(ask)
    assert "CandidateFound" == answer["event"]
    assert "deploy 4.0.0+v3.4, gate it, commit it if it is healthy" == answer["does"]
    assert [GOOD.label, OLD.label] == answer["if_it_fails"]
    assert not past.releases.exists()


def test_without_a_new_release_last_good_would_be_restored(ask: Ask, past: StateDir) -> None:
    """Nothing is live and the source offers nothing: the run would deploy last-good."""
    answer = plan(ask)
    assert "LastGoodAbsent" == answer["event"]
    assert f"deploy {GOOD.label} again and gate it" == answer["does"]
    assert past.journal.exists()


def test_the_plan_reports_that_nothing_may_be_deployed(ask: Ask) -> None:
    """It does not promise to verify a live release."""
    answer = plan(ask)
    assert "NothingDeployable" == answer["event"]
    assert "nothing" in answer["does"]
    assert "live" not in answer["does"]


def test_the_plan_names_an_interrupted_rollback(ask: Ask, past: StateDir) -> None:
    """It will change the live release, so it must not say that it might not."""
    interrupt(past, decided=True)
    answer = plan(ask)
    assert "RollbackDue" == answer["event"]
    assert "change nothing" not in answer["does"]
    assert f"fall back from {BAD.label}" == answer["does"]
    assert [GOOD.label, OLD.label] == answer["if_it_fails"]


# history and explain -----------------------------------------------------------------------------


def test_the_history_is_newest_first_and_bounded(ask: Ask, past: StateDir) -> None:
    """One line an attempt, as many as were asked for."""
    assert ["#3", "#2", "#1"] == [line.split()[0] for line in ask("history")[1].splitlines()]
    assert ["#3", "#2"] == [line.split()[0] for line in ask("history", "-n", "2")[1].splitlines()]
    assert past.journal.exists()


def test_an_attempt_is_explained_with_the_evidence(ask: Ask, past: StateDir) -> None:
    """The last one, or the one that was asked for, step by step."""
    out = ask("explain")[1]
    assert f"{BAD.label} is unhealthy: page: status 500, expected 200" in out
    assert "page: FAILED: status 500, expected 200 (20 ms, served by a.service)" in out
    assert "ping: ok: status 200 as expected (12 ms, served by a.service); saw: OK" in out
    assert f"{GOOD.label} is healthy: held 10.0 s over 3 rounds" in out
    first = ask("explain", "--number", "1")[1]
    assert first.startswith("#1 ")
    assert f"{OLD.label} is last-good now" in first
    assert past.journal.exists()


def test_explain_reports_an_interruption(ask: Ask, past: StateDir) -> None:
    """The output says that a run was killed."""
    interrupt(past)
    interrupt(past)
    assert "the previous run was killed; this run resumes it" in ask("explain")[1]


@pytest.mark.parametrize("number", ["4", "999999"])
def test_an_attempt_that_is_not_there_is_64(ask: Ask, past: StateDir, number: str) -> None:
    """For any number that has no attempt."""
    code, out, err = ask("explain", f"--number={number}")
    assert (ExitCode.USAGE, "") == (code, out)
    assert f"traefik has no attempt {number}" in err
    assert "hint: warm-reconcile history traefik" in err
    assert past.journal.exists()


@pytest.mark.parametrize("number", ["0", "-1", "1" + "0" * 30, "-1" + "0" * 30, "first"])
def test_a_number_that_no_attempt_can_have_is_64(ask: Ask, past: StateDir, number: str) -> None:
    """More than the database can count to is a wrong command line, not a broken journal."""
    assert ExitCode.USAGE == ask("explain", f"--number={number}")[0]
    assert past.journal.exists()


def test_an_app_without_any_attempt_cannot_be_explained(ask: Ask) -> None:
    """There is nothing to explain yet."""
    assert ExitCode.USAGE == ask("explain")[0]


@pytest.mark.parametrize("lines", ["0", "-1", "1" + "0" * 30, "many", ""])
def test_a_number_of_lines_that_is_none_is_64(ask: Ask, past: StateDir, lines: str) -> None:
    """A typing error is a usage error."""
    code, out, err = ask("history", f"--lines={lines}")
    assert (ExitCode.USAGE, "") == (code, out)
    assert "error: argument -n/--lines: " in err
    assert past.journal.exists()


# releases and forget-quarantine ------------------------------------------------------------------


def test_releases_are_listed_with_their_marks(
    ask: Ask, past: StateDir, make_release: Callable[..., Path]
) -> None:
    """Those of the source and those of the journal, together."""
    make_release("4.0.0+v3.4")
    data = {each["release"]: each["is"] for each in json.loads(ask("releases", "--json")[1])}
    assert {
        "4.0.0+v3.4": ["latest"],
        GOOD.label: ["last-good"],
        OLD.label: ["proven"],
        BAD.label: ["quarantine"],
    } == data
    assert past.journal.exists()


def test_an_unreachable_source_is_reported_and_the_rest_still_listed(
    ask: Ask, past: StateDir, source: Path
) -> None:
    """The releases of the journal don't depend on it."""
    source.rmdir()
    out = ask("releases")[1]
    assert "the latest is unknown: " in out
    assert GOOD.label in out
    assert past.journal.exists()


def test_a_quarantine_is_forgotten_and_counted(ask: Ask, past: StateDir) -> None:
    """One label or all; a second call finds none left."""
    assert (
        "traefik: 0 releases may be tried again\n"
        == ask("forget-quarantine", "--label", "unknown")[1]
    )
    assert "traefik: 1 release may be tried again\n" == ask("forget-quarantine")[1]
    assert {"app": "traefik", "forgotten": 0} == json.loads(ask("forget-quarantine", "--json")[1])
    assert "quarantine" not in ask("status")[1]
    assert past.journal.exists()


def test_forgetting_beside_a_run_is_75(ask: Ask, past: StateDir) -> None:
    """It writes, so it needs the lock; it does not wait for it."""
    with hold(past.lock):
        assert ExitCode.LOCKED == ask("forget-quarantine")[0]


# The command line --------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["dance"], ["status"], ["run"], ["status", "a", "-x"]])
def test_a_wrong_command_line_is_64(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """An error and a hint, as everywhere."""
    assert ExitCode.USAGE == main(arguments)
    told = capsys.readouterr()
    assert "" == told.out
    assert ["error", "hint"] == [line.partition(":")[0] for line in told.err.splitlines()]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]])
def test_asking_for_help_is_0(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """Help goes to stdout, and that of ``run`` lists the exit codes."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert 0 == (caught.value.code or 0)
    assert "" == capsys.readouterr().err


def test_a_closed_pipe_is_no_failure(past: StateDir, tmp_path: Path) -> None:
    """`warm-reconcile history traefik | head -1` ends quietly."""
    del past
    config = tmp_path / "traefik.json"
    probe = {"kind": "identity", "target_unit": "a.service", "url": "http://127.0.0.1:9/"}
    data = {"state_dir": str(tmp_path / "state"), "caller": "a.service", "probes": [probe]}
    config.write_text(json.dumps({**data, "source": {"kind": "directory", "path": "/r"}}))
    done = subprocess.run(
        [
            "sh",
            "-c",
            '"$@" | true',
            "sh",
            sys.executable,
            "-m",
            "runner.cli.main",
            "history",
            "traefik",
            "--config",
            str(config),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ("", "") == (done.stdout, done.stderr)
