"""The output of a run: on a terminal, in a log, and as report and exit code."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TextIO, get_args

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.config.app import Retention
from runner.exit_codes import ExitCode
from runner.reconcile.attempt import Attempt
from runner.reconcile.errors import ReconcileError
from runner.reconcile.events import CandidateFound, Event, Judged, NoFallback
from runner.reconcile.gate import GatePolicy, Progress
from runner.reconcile.machine import FINAL, State
from runner.reconcile.model import (
    Deployment,
    Healthy,
    Inconclusive,
    Outcome,
    ProbeResult,
    Release,
    Unhealthy,
    Verdict,
)
from runner.report import EXIT, Report, name_attempt
from runner.storage.journal import open_journal
from runner.storage.lock import hold
from runner.storage.paths import open_state
from runner.terminal.progress import LogWatcher, TerminalWatcher, choose_watcher
from runner.terminal.text import format_event
from runner.warm_reconcile import main

OLD = Release("3.3.0+v3.4.0", "3.4.0", "a" * 64)
NEW = Release("3.4.0+v3.5.1", "3.5.1", "b" * 64)
DEPLOYMENT = Deployment(NEW, "t-1")
GOOD = ProbeResult("ping", Outcome.PASS, "status 200 as expected", "a.service")
BAD = ProbeResult("page", Outcome.FAIL, "status 500, expected 200", "a.service")


# The log -----------------------------------------------------------------------------------------


def logged(reason: str, *, journald: bool = False, state: State = State.STRANDED) -> str:
    out = io.StringIO()
    watcher = LogWatcher(out, "traefik", journald=journald)
    watcher.entered(state, Attempt("0123456789abcdef", candidate=NEW), NoFallback(reason))
    return out.getvalue()


def read_logfmt(line: str) -> dict[str, str]:
    """Read a line as a log collector does."""
    pairs: dict[str, str] = {}
    while line:
        found = re.match(r'([^\s=]+)=("((?:[^"\\]|\\.)*)"|[^\s"]*)(?: |$)', line)
        assert found, line
        quoted = found.group(3)
        pairs[found.group(1)] = found.group(2) if quoted is None else json.loads(found.group(2))
        line = line[found.end() :]
    return pairs


def test_an_event_is_one_line_of_pairs() -> None:
    """Every field is there, quoted if necessary."""
    assert (
        "app=traefik attempt=0123456789ab state=STRANDED release=3.4.0+v3.5.1"
        ' event=NoFallback msg="no release is left"\n'
    ) == logged("no release is left")


@pytest.mark.parametrize(
    ("reason", "written"),
    [
        ("plain", "msg=plain"),
        ("a/b:c.d_e+f-g", "msg=a/b:c.d_e+f-g"),
        ("", 'msg=""'),
        ("two words", 'msg="two words"'),
        ("a=b", 'msg="a=b"'),
        ('say "no"', r'msg="say \"no\""'),
        ("back\\slash", r'msg="back\\slash"'),
        ("\\n is no newline", r'msg="\\n is no newline"'),
        ("one\ntwo", r'msg="one\ntwo"'),
    ],
)
def test_a_value_is_quoted_if_a_reader_needs_it(reason: str, written: str) -> None:
    """Quotes, backslashes and line feeds are escaped."""
    assert logged(reason).rstrip("\n").endswith(written)


@given(reason=st.text())
@example(reason="\r")
@example(reason="\0")
@example(reason="\x1b[2J")
@example(reason="\x85\u2028")
@example(reason="é")
def test_any_reason_is_one_line_and_is_read_back(reason: str) -> None:
    """No text breaks the line, reaches a terminal as a command, or gets lost."""
    written = logged(reason)
    assert 1 == len(written.splitlines())
    assert not [c for c in written[:-1] if ord(c) < 32 or 127 <= ord(c) < 160]
    assert reason == read_logfmt(written.removesuffix("\n"))["msg"]


def test_priorities_are_for_the_journal_alone() -> None:
    """Journald reads <N>; a file must not be cluttered with it."""
    assert logged("x", journald=True, state=State.CHOOSING).startswith("<4>app=traefik ")
    assert logged("x", journald=True, state=State.DEPLOYING).startswith("<6>app=traefik ")
    assert logged("x", journald=False).startswith("app=traefik ")


@pytest.mark.parametrize("state", State)
def test_a_state_that_needs_attention_is_a_warning(state: State) -> None:
    """Failed and undecided states are warnings, the rest is information."""
    bad = {State.CHOOSING, State.ROLLED_BACK, State.STRANDED, State.UNDECIDED}
    assert (4 if state in bad else 6) == int(logged("x", journald=True, state=state)[1])


def test_a_warning_and_a_round_in_the_log() -> None:
    """A failed cleanup is a line; a round of the gate is none."""
    out = io.StringIO()
    watcher = LogWatcher(out, "traefik", journald=True)
    watcher.gate(Progress(1, 0, 0.0, 1.0, GatePolicy(), (BAD,)))
    watcher.warn(ReconcileError("no space left"))
    assert '<4>app=traefik msg="no space left"\n' == out.getvalue()


@pytest.mark.parametrize(
    ("stream", "expected"),
    [("{0.st_dev}:{0.st_ino}", "<4>app="), ("1:{0.st_ino}", "app="), ("", "app="), (None, "app=")],
    ids=["this one", "another device", "empty", "unset"],
)
def test_the_journal_is_recognized_by_its_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str | None, expected: str
) -> None:
    """Only if $JOURNAL_STREAM names this very file does journald read it."""
    with (tmp_path / "log").open("w+") as out:
        if stream is None:
            monkeypatch.delenv("JOURNAL_STREAM", raising=False)
        else:
            monkeypatch.setenv("JOURNAL_STREAM", stream.format(os.fstat(out.fileno())))
        watcher = choose_watcher(out, "traefik")
        watcher.entered(State.STRANDED, Attempt("a"), NoFallback("none"))
        out.seek(0)
        assert out.read().startswith(expected)


def test_a_stream_without_a_descriptor_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written to without priorities."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    out = io.StringIO()
    choose_watcher(out, "traefik").warn(ReconcileError("x"))
    assert "app=traefik msg=x\n" == out.getvalue()


# The terminal ------------------------------------------------------------------------------------


class Terminal:
    """A pseudo-terminal: ``out`` is what a program writes to, ``shown`` what came through."""

    def __init__(self, columns: int) -> None:
        self._master, slave = pty.openpty()
        self.out: TextIO = os.fdopen(slave, "w")
        self.resize(columns)
        os.set_blocking(self._master, False)

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self.out.fileno(), (24, columns))

    def shown(self) -> str:
        pieces: list[bytes] = []
        while True:
            try:
                pieces.append(os.read(self._master, 65536))
            except BlockingIOError:
                return b"".join(pieces).decode()

    def close(self) -> None:
        self.out.close()
        os.close(self._master)


@pytest.fixture
def terminal() -> Generator[Terminal]:
    with closing(Terminal(80)) as made:
        yield made


def progress(*last: ProbeResult) -> Progress:
    return Progress(5, 2, 4.0, 12.3, GatePolicy(rise=3, window=10, deadline=60), last)


def test_the_gate_is_one_live_line_that_is_cleared(terminal: Terminal) -> None:
    """Each round overwrites the last one, and a step begins on a clean line."""
    watcher = choose_watcher(terminal.out, "traefik")
    assert isinstance(watcher, TerminalWatcher)
    watcher.gate(progress(GOOD))
    shown = terminal.shown()
    assert shown.startswith("\r\x1b[K")
    assert "gate: 2/3 passes, 48 s left; held 4.0 of 10 s" in shown
    assert "\n" not in shown
    watcher.gate(progress(GOOD, BAD))
    assert "gate: 2/3 passes, 48 s left; page: status 500, expected 200" in terminal.shown()
    watcher.entered(State.DEPLOYING, Attempt("a"), CandidateFound(NEW))
    shown = terminal.shown()
    assert shown.startswith("\r\x1b[K")
    assert shown.endswith(
        "deploying     3.4.0+v3.5.1 is the latest and not last-good: it goes on trial\r\n"
    )
    watcher.warn(ReconcileError("no space left"))
    assert "\r\x1b[Kwarning: no space left\r\n" == terminal.shown()


@pytest.mark.parametrize("columns", [40, 11, 2, 1])
def test_the_live_line_never_wraps(terminal: Terminal, columns: int) -> None:
    """A line that wraps can't be overwritten; the terminal may be resized at any time."""
    watcher = TerminalWatcher(terminal.out)
    watcher.gate(progress(GOOD))
    assert len(terminal.shown()) > 40
    terminal.resize(columns)
    watcher.gate(progress(BAD))
    assert columns - 1 == len(terminal.shown().removeprefix("\r\x1b[K"))


def test_a_terminal_without_a_size_is_written_to(terminal: Terminal) -> None:
    """Some terminals report 0 columns: the line is still shown."""
    terminal.resize(0)
    TerminalWatcher(terminal.out).gate(progress(GOOD))
    assert "gate: 2/3 passes" in terminal.shown()


def test_output_to_a_file_has_no_live_line_and_no_escapes() -> None:
    """The same lines as on a terminal, without anything to clear."""
    out = io.StringIO()
    watcher = TerminalWatcher(out)
    watcher.gate(progress(GOOD))
    watcher.warn(ReconcileError("no space left"))
    watcher.entered(State.STRANDED, Attempt("a"), NoFallback("none is left"))
    warning, step = out.getvalue().splitlines()
    assert "warning: no space left" == warning
    assert step.endswith("stranded      none is left")
    assert "\x1b" not in out.getvalue()


# Sentences ---------------------------------------------------------------------------------------

VERDICTS: list[Verdict] = [
    Healthy(DEPLOYMENT, (GOOD,), 3, 10.04),
    Unhealthy(DEPLOYMENT, "page: status 500", (BAD,), 3),
    Inconclusive(DEPLOYMENT, "no sockets", (), 3),
]


def event_of(kind: type[Any]) -> Event:
    values: dict[str, object] = {"release": NEW, "candidate": NEW, "deployment": DEPLOYMENT}
    values |= {
        "verdict": VERDICTS[0],
        "reason": "the reason",
        "remark": "the remark",
        "guilty": True,
    }
    fields = [field.name for field in attrs.fields(kind)]
    event: Event = kind(**{name: values[name] for name in fields})
    return event


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_event_has_a_sentence(kind: type[Any]) -> None:
    """It names the release or the reason, in one line."""
    sentence = format_event(event_of(kind))
    assert NEW.label in sentence or "the reason" in sentence
    assert 1 == len(sentence.splitlines())


def test_every_verdict_has_a_sentence() -> None:
    """The time that it held, or the reason why it did not."""
    assert [
        "3.4.0+v3.5.1 is healthy: held 10.0 s over 3 rounds",
        "3.4.0+v3.5.1 is unhealthy: page: status 500",
        "3.4.0+v3.5.1 can't be judged: no sockets",
    ] == [format_event(Judged(verdict)) for verdict in VERDICTS]


def test_an_attempt_is_named_by_its_release() -> None:
    """The candidate, or the restored release, or a dash."""
    assert [NEW.label, OLD.label, "-"] == [
        name_attempt(Attempt("a", candidate=NEW, target=OLD)),
        name_attempt(Attempt("a", target=OLD)),
        name_attempt(Attempt("a")),
    ]


# The report --------------------------------------------------------------------------------------

ENDED = Attempt("a", candidate=NEW, deployment=Deployment(OLD, "t-2"), note="page: status 500")


@pytest.mark.parametrize(
    ("final", "plain", "detailed", "text"),
    [
        (State.UNCHANGED, 0, 0, "unchanged: 3.3.0+v3.4.0 is serving; nothing was touched"),
        (State.COMMITTED, 0, 10, "committed: 3.3.0+v3.4.0 is serving, and is last-good now"),
        (State.RESTORED, 0, 11, "restored: 3.3.0+v3.4.0 is serving again"),
        (
            State.ROLLED_BACK,
            12,
            12,
            "rolled back: 3.3.0+v3.4.0 is serving; 3.4.0+v3.5.1 was rolled back",
        ),
        (State.STRANDED, 20, 20, "stranded: no release that passed its gate is serving"),
        (
            State.UNDECIDED,
            21,
            21,
            "undecided: there is no verdict; nothing was committed; the next run resumes",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, State) else "",
)
def test_an_outcome_has_a_text_and_a_code(
    final: State, plain: int, detailed: int, text: str
) -> None:
    """One sentence for a person, one code for a unit, and no two outcomes alike."""
    report = Report.of("traefik", final, ENDED, (OLD,), 12.3456, 0.25)
    assert (
        f"traefik: {text} (12.3 s, 0.2 s without an answer)\n  because: page: status 500"
        == report.to_text()
    )
    assert (plain, detailed) == (
        report.exit_code(detailed=False),
        report.exit_code(detailed=True),
    )
    serving = OLD.label if detailed < 20 else None
    assert {
        "app": "traefik",
        "outcome": final.value,
        "exit": detailed,
        "candidate": NEW.label,
        "serving": serving,
        "last_good": OLD.label,
        "reason": "page: status 500",
        "attempt": "a",
        "seconds": 12.346,
        "downtime": 0.25,
    } == json.loads(report.to_json())


@pytest.mark.parametrize(
    ("terminal", "final", "code"),
    [
        (True, State.UNDECIDED, 23),
        (False, State.UNDECIDED, 21),
        (True, State.ROLLED_BACK, 12),
    ],
)
def test_a_stuck_dockerd_has_an_exit_code_of_its_own(
    final: State, code: int, *, terminal: bool
) -> None:
    """Only for an undecided run: the unit that restarts dockerd goes by it."""
    deployment = Deployment(OLD, "t-2")
    stuck = ProbeResult("tasks", Outcome.INCONCLUSIVE, "port", "a.service", terminal=terminal)
    verdict = Inconclusive(deployment, "tasks: port", (GOOD, stuck), 3)
    attempt = attrs.evolve(ENDED, verdict=verdict)
    report = Report.of("traefik", final, attempt, (OLD,), 12.3456, None)
    assert (report.exit, report.exit_code(detailed=False)) == (code, code)


def test_every_final_state_has_its_own_code() -> None:
    """The exit code shows the path that was taken."""
    assert set(EXIT) == FINAL
    assert len(FINAL) == len(set(EXIT.values()))


def test_a_report_about_nothing_has_no_reason_and_no_names() -> None:
    """As for an app that was never deployed."""
    report = Report.of("traefik", State.STRANDED, Attempt("a"), (), 0.0, None)
    assert "\n" not in report.to_text()
    assert ("-", None, None) == (report.candidate, report.serving, report.last_good)


# The command -------------------------------------------------------------------------------------

Run = Callable[..., subprocess.CompletedProcess[str]]
ENTRY = [sys.executable, "-m", "runner.warm_reconcile"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write the config of an app whose source offers no release."""
    (tmp_path / "releases").mkdir()
    probe = {"kind": "identity", "target_unit": "a.service", "url": "http://127.0.0.1:9/"}
    data = {
        "state_dir": str(tmp_path / "state"),
        "caller": "a.service",
        "source": {"kind": "directory", "path": str(tmp_path / "releases")},
        "probes": [probe],
    }
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "traefik.json").write_text(json.dumps(data))
    return tmp_path / "etc" / "traefik.json"


def run(
    *arguments: str | Path, env: Mapping[str, str] | None = None, limit: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the entry point as systemd does; ``limit`` is a command of the shell before it."""
    command = [*ENTRY, *map(str, arguments)]
    if limit:
        uncovered = "unset COVERAGE_PROCESS_CONFIG COVERAGE_PROCESS_START"  # it writes a report
        command = ["sh", "-c", f'{uncovered}; {limit}; exec "$@"', "sh", *command]
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )


def error_text(done: subprocess.CompletedProcess[str]) -> str:
    """Read an error: one or two lines, no traceback, nothing on stdout."""
    assert "" == done.stdout
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: app"),
        (["traefik", "more"], "unrecognized arguments: more"),
        (["traefik", "--colour"], "unrecognized arguments: --colour"),
        (["traefik", "--wait"], "expected one argument"),
        (["traefik", "--wait", "soon"], "argument --wait: "),
        (["traefik", "--wait", "-1"], "argument --wait: "),
        (["traefik", "--wait", "inf"], "argument --wait: "),
        (["traefik", "--wait=nan"], "argument --wait: "),
    ],
)
def test_a_wrong_command_line_is_64_with_a_hint(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    """The message says what is wrong, without internal names, and where to look."""
    assert ExitCode.USAGE == main(arguments)
    message, hint = capsys.readouterr().err.splitlines()
    assert expected in message
    assert "_seconds" not in message
    assert "hint: see warm_reconcile.py --help" == hint


@pytest.mark.parametrize("name", ["../traefik", ".traefik", "", "a/b", "a b"])
@pytest.mark.parametrize("option", ["--config", "--config-dir"])
def test_a_name_is_checked_however_the_config_is_found(
    config: Path, capsys: pytest.CaptureFixture[str], name: str, option: str
) -> None:
    """A config given by --config doesn't make an unsafe name safe."""
    place = config if option == "--config" else config.parent
    assert ExitCode.USAGE == main([option, str(place), "--", name])
    assert "error: not an app name: " in capsys.readouterr().err


def test_a_command_without_an_app_is_64() -> None:
    """The same as a process: a code, two lines, no traceback."""
    done = run()
    assert ExitCode.USAGE == done.returncode
    assert 2 == len(error_text(done).splitlines())


def test_an_unknown_or_unsafe_app_is_64(config: Path) -> None:
    """Whether it is looked up or given a config, the name is checked."""
    done = run("treafik", "--config-dir", config.parent)
    assert ExitCode.USAGE == done.returncode
    assert "unknown app: treafik" in error_text(done)
    assert "hint: known: traefik" in done.stderr
    done = run("--config", config, "../traefik")
    assert ExitCode.USAGE == done.returncode
    assert "not an app name" in error_text(done)


def test_a_bad_config_is_78_with_every_mistake(config: Path) -> None:
    """Each mistake has its line."""
    config.write_text('{"probes": [], "colour": "red"}')
    done = run("traefik", "--config-dir", config.parent)
    assert ExitCode.CONFIG == done.returncode
    assert 6 == len(error_text(done).splitlines())
    assert "hint: docs/reference/configuration.md" in done.stderr
    done = run("traefik", "--config", config.parent / "missing.toml")
    assert ExitCode.CONFIG == done.returncode
    assert "No such file" in error_text(done)


def test_help_is_0_and_names_every_exit_code() -> None:
    """The codes are an API, so they stand in the help."""
    done = run("--help")
    assert (0, "") == (done.returncode, done.stderr)
    assert [] == [code for code in ExitCode if not re.search(rf"\b{code}\b", done.stdout)]


def test_an_app_without_any_release_is_stranded(config: Path) -> None:
    """The whole way through: config, state, lock, journal, decision, report."""
    done = run("traefik", "--config-dir", config.parent)
    assert ExitCode.STRANDED == done.returncode
    assert done.stdout.startswith("traefik: stranded: no release that passed its gate is serving")
    assert "because: no release is proven, and the latest is unknown" in done.stdout
    assert done.stderr.startswith("app=traefik attempt=")
    assert "event=NothingDeployable" in done.stderr


def test_the_config_directory_can_come_from_the_environment(config: Path) -> None:
    """And the answer can be JSON, with nothing else on stdout."""
    done = run("traefik", "--json", env={"WARM_RECONCILE_CONFIG_DIR": str(config.parent)})
    assert ExitCode.STRANDED == done.returncode
    assert ("stranded", 20) == (
        (answer := json.loads(done.stdout))["outcome"],
        answer["exit"],
    )


def test_a_refused_state_or_journal_is_74(config: Path, tmp_path: Path) -> None:
    """No run without a journal, or on a state directory that others may write."""
    state = open_state(tmp_path / "state", "traefik")
    state.journal.write_bytes(b"no journal")
    done = run("traefik", "--config", config)
    assert ExitCode.STATE == done.returncode
    assert "can't be read: file is not a database" in error_text(done)
    state.root.chmod(0o777)
    done = run("traefik", "--config", config)
    assert ExitCode.STATE == done.returncode
    assert "can be written by others" in error_text(done)
    assert f"hint: chmod go-w {state.root}" in done.stderr


def test_a_second_run_is_75_and_names_the_first(config: Path, tmp_path: Path) -> None:
    """For example a timer that overtakes its own unit."""
    with hold(open_state(tmp_path / "state", "traefik").lock):
        done = run("traefik", "--config", config, "--wait", "0.1")
    assert ExitCode.LOCKED == done.returncode
    assert f"another run holds traefik: process {os.getpid()}, since " in error_text(done)


def test_a_full_disk_is_74_and_changes_nothing(config: Path, tmp_path: Path) -> None:
    """A run that can't write its journal does nothing and reports that."""
    state = open_state(tmp_path / "state", "traefik")
    open_journal(state, Retention(), lambda: 0.0).close()
    before = state.journal.read_bytes()
    done = run("traefik", "--config", config, limit="ulimit -f 0")
    assert ExitCode.STATE == done.returncode
    assert "Traceback" not in done.stderr
    assert "is the disk full" in done.stderr
    assert before == state.journal.read_bytes()


def test_a_full_disk_before_the_first_run_is_74(config: Path, tmp_path: Path) -> None:
    """Without a journal there is no run."""
    open_state(tmp_path / "state", "traefik")
    done = run("traefik", "--config", config, limit="ulimit -f 0")
    assert ExitCode.STATE == done.returncode
    assert "is the disk full" in error_text(done)


def test_a_real_full_disk_is_74(config: Path, small_disk: Path | None, tmp_path: Path) -> None:
    """The kernel's ENOSPC ends like every other trouble with the state."""
    place = small_disk or tmp_path / "state"
    data = json.loads(config.read_text())
    config.write_text(json.dumps({**data, "state_dir": str(place)}))
    open_journal(open_state(place, "traefik"), Retention(), lambda: 0.0).close()
    if small_disk is not None:
        with (small_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(b"x" * 4096)
    done = run("traefik", "--config", config, limit="" if small_disk else "ulimit -f 0")
    assert ExitCode.STATE == done.returncode
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
@pytest.mark.parametrize("kind", ["gone", "full"])
def test_a_closed_or_full_output_does_not_change_how_a_run_ends(
    config: Path, stream: str, kind: str
) -> None:
    """`| head`, a closed terminal or a full log must neither stop a rollback nor make it a 0."""
    reader, writer = os.pipe()
    os.close(reader)
    broken = writer if kind == "gone" else os.open("/dev/full", os.O_WRONLY)
    done = subprocess.run(
        [*ENTRY, "traefik", "--config", str(config)],
        check=False,
        stdout=broken if stream != "stderr" else subprocess.DEVNULL,
        stderr=broken if stream != "stdout" else subprocess.DEVNULL,
    )
    for descriptor in {writer, broken}:
        os.close(descriptor)
    assert ExitCode.STRANDED == done.returncode
    history = subprocess.run(
        [sys.executable, "-m", "runner.cli.main", "history", "traefik", "--config", str(config)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "stranded" in history.stdout


def test_an_interrupt_is_130_with_a_hint(
    config: Path, tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    """Ctrl-C is an expected way to end: nothing is lost."""
    lock = open_state(tmp_path / "state", "traefik").lock
    with hold(lock):
        process = subprocess.Popen(
            # Ctrl-C is ignored in a background job of a shell, and by what it starts.
            ["env", "--default-signal=INT", *ENTRY, "traefik", f"--config={config}", "--wait=600"],
            stderr=subprocess.PIPE,
            text=True,
        )
        opened = Path(f"/proc/{process.pid}/fd")
        until(lambda: str(lock) in {os.path.realpath(fd) for fd in opened.iterdir()})
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert "error: interrupted\nhint: nothing is lost: the next run resumes\n" == err
    assert 130 == process.returncode


def test_priorities_reach_the_journal(config: Path, tmp_path: Path) -> None:
    """Under systemd, stderr is the journal's stream, and each line has its priority."""
    with (tmp_path / "journal").open("w") as journal:
        info = os.fstat(journal.fileno())
        subprocess.run(
            [*ENTRY, "traefik", "--config", str(config)],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=journal,
            env={**os.environ, "JOURNAL_STREAM": f"{info.st_dev}:{info.st_ino}"},
        )
    assert (tmp_path / "journal").read_text().startswith("<4>app=traefik ")
