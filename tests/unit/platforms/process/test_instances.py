"""Real processes, found by the kernel's word alone, and ended whatever state they are in."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import cattrs
import psutil
import pytest

from runner.platforms.process.instances import LOG, LOG_TAIL, RECORD, TOKEN_VARIABLE, Instances
from runner.reconcile.errors import DeployError
from runner.reconcile.model import Deployment, Release

RELEASE = Release("3.4.0+v3.5.1", "3.5.1", "d" * 64)
GATE = "# the gate\n"
AMPLE = 120.0

WAIT = "mkfifo pipe; echo ready; while :; do read line < pipe; done\n"
OBEDIENT = WAIT
STUBBORN = f"trap '' TERM\n{WAIT}"

Until = Callable[[Callable[[], bool]], None]


def deployment(token: str) -> Deployment:
    return Deployment(RELEASE, token)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "instances"


@pytest.fixture
def instances(place: Path, until: Until) -> Generator[Instances]:
    """Keep the instances of one app; those that are left at the end are killed and collected."""
    made = Instances(place)
    yield made
    for processes in made.running().values():
        for process in processes:
            process.kill()
    until(lambda: made.running() == {})
    for home in place.glob("*"):
        made.exit_status(home.name)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Lay out the files of a release as the store has them."""
    made = tmp_path / "files"
    (made / "dynamic").mkdir(parents=True)
    (made / "traefik.yml").write_text("# static\n")
    (made / "dynamic" / "routes.yml").write_text("# dynamic\n")
    return made


@pytest.fixture
def binary(tmp_path: Path) -> Callable[[str], Path]:
    """Write a program that stands in for Traefik."""

    def write(script: str) -> Path:
        program = tmp_path / "traefik"
        program.write_text(f"#!/bin/sh\n{script}")
        program.chmod(0o755)
        return program

    return write


Start = Callable[[str, str], psutil.Process]


@pytest.fixture
def start(
    instances: Instances,
    place: Path,
    files: Path,
    binary: Callable[[str], Path],
    until: Until,
) -> Start:
    """Start an instance and wait until it prints that it is ready: ``start(OBEDIENT, "t-1")``."""

    def run(script: str, token: str) -> psutil.Process:
        instances.prepare(deployment(token), files, GATE)
        instances.start(deployment(token), binary(script))
        until(lambda: b"ready\n" in (place / token / LOG).read_bytes())
        (process,) = instances.running()[token]
        return process

    return run


# Seeing ------------------------------------------------------------------------------------------


def test_nothing_runs_at_first(instances: Instances, place: Path) -> None:
    """An app that was never started has no instances, and looking makes none."""
    assert {} == instances.running()
    assert not place.exists()


def test_instances_are_found_by_their_command_line(
    instances: Instances, start: Start, place: Path
) -> None:
    """Another run, which started none of them, sees the same ones under the same tokens."""
    first, second = start(OBEDIENT, "t-1"), start(OBEDIENT, "t-2")
    assert {"t-1": [first], "t-2": [second]} == Instances(place).running()
    assert Instances(place).exit_status("t-1") is None
    assert {"t-1": [first], "t-2": [second]} == instances.running()


def test_processes_of_others_are_not_found(place: Path, start: Start, tmp_path: Path) -> None:
    """Another app, a directory that merely begins alike, or a process that mentions us."""
    start(OBEDIENT, "t-1")
    assert {} == Instances(tmp_path / "inst").running()
    assert {} == Instances(tmp_path / "instances-2").running()
    command = ["sh", "-c", "read line", f"--config={place}/t-7", f"x--configFile={place}/t-8"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as looker:
        assert {"t-1"} == set(Instances(place).running())
        assert looker.poll() is None


def test_an_instance_that_has_ended_is_not_running(
    instances: Instances, start: Start, until: Until
) -> None:
    """A zombie serves no client."""
    process = start(OBEDIENT, "t-1")
    process.kill()
    until(lambda: {} == instances.running())


# Ending ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [OBEDIENT, STUBBORN], ids=["obedient", "ignores SIGTERM"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_every_instance_is_ended(
    instances: Instances,
    start: Start,
    script: str,
    stopped: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """SIGTERM is enough for most, SIGKILL for the rest, and a stopped one is woken up for it."""
    processes = [start(script, "t-1"), start(script, "t-2")]
    if stopped:
        for process in processes:
            process.suspend()
    instances.stop_all(AMPLE if script is OBEDIENT else 0.2)
    assert {} == instances.running()
    assert [False, False] == [process.is_running() for process in processes]


@pytest.fixture
def never_waits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let any waiting fail from then on: ``never_waits()``."""

    def wait(seconds: float) -> None:
        pytest.fail(f"it waits {seconds} s for nothing")

    return lambda: monkeypatch.setattr(time, "sleep", wait)


def test_ending_nothing_is_done_at_once(
    instances: Instances, place: Path, never_waits: Callable[[], None]
) -> None:
    """A first deployment has nothing to stop: nothing is waited for, and nothing is made."""
    never_waits()
    assert [] == instances.terminate_all()
    instances.await_release([], AMPLE)
    instances.stop_all(AMPLE)
    assert not place.exists()


START_AND = """
import sys
from pathlib import Path
from runner.platforms.process.instances import Instances
from runner.reconcile.model import Deployment, Release
place, files, binary = map(Path, sys.argv[1:4])
deployment = Deployment(Release("3.4.0+v3.5.1", "3.5.1", "d" * 64), "t-9")
instances = Instances(place)
instances.prepare(deployment, files, "")
instances.start(deployment, binary)
print("started", flush=True)
"""


@pytest.fixture
def start_elsewhere(
    place: Path,
    files: Path,
    binary: Callable[[str], Path],
    until: Until,
    start_python: Callable[..., subprocess.Popen[str]],
) -> Callable[[str, str], None]:
    """Start the instance t-9 from another process, which then does something else."""

    def run(script: str, afterwards: str) -> None:
        process = start_python(START_AND + afterwards, place, files, binary(script))
        assert process.stdout is not None
        assert "started\n" == process.stdout.readline()
        until(lambda: b"ready\n" in (place / "t-9" / LOG).read_bytes())
        if not afterwards:
            process.wait()

    return run


@pytest.mark.parametrize("script", [OBEDIENT, STUBBORN], ids=["obedient", "ignores SIGTERM"])
def test_an_instance_of_an_earlier_run_is_found_and_ended(
    instances: Instances, start_elsewhere: Callable[[str, str], None], script: str
) -> None:
    """It outlives the run that started it, and no pid file is needed to find it again."""
    start_elsewhere(script, "")
    assert ["t-9"] == list(instances.running())
    assert deployment("t-9") == instances.read("t-9")
    instances.stop_all(AMPLE if script is OBEDIENT else 0.2)
    assert {} == instances.running()


def test_a_zombie_has_ended(
    instances: Instances, start_elsewhere: Callable[[str, str], None]
) -> None:
    """Its parent may be busy, or a container may lack an init: a zombie counts as ended."""
    start_elsewhere(OBEDIENT, "sys.stdin.read()\n")
    (process,) = instances.running()["t-9"]
    instances.stop_all(0.5)
    assert {} == instances.running()
    assert psutil.STATUS_ZOMBIE == process.status()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as somebody else")
def test_a_process_of_another_user_is_reported(
    place: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A foreign process with our command line is a named error, not a traceback."""
    done = run_python(
        "import os, subprocess, sys, time; from pathlib import Path\n"
        "from runner.reconcile.errors import DeployError\n"
        "from runner.platforms.process.instances import Instances\n"
        "argument = f'--configFile={sys.argv[1]}/t/traefik.yml'\n"
        "other = subprocess.Popen(['sh', '-c', 'read x', argument], stdin=subprocess.PIPE)\n"
        "os.setresuid(65534, 65534, 0)\n"
        "instances = Instances(Path(sys.argv[1]))\n"
        "for _ in range(6000):\n"
        "    if instances.running(): break\n"
        "    time.sleep(0.01)\n"
        "try: instances.stop_all(0.2)\n"
        "except DeployError as error: print(error.message)\n"
        "os.seteuid(0)\n"
        "other.kill()\n"
        "other.wait()\n",
        place,
    )
    assert ("", 0) == (done.stderr, done.returncode)
    assert "process " in done.stdout


LISTENING = f"""\
exec "{sys.executable}" -S -c '
import signal, socket
listener = socket.create_server(("127.0.0.1", 0), family=socket.AF_INET)
if %s: signal.signal(signal.SIGTERM, lambda *_: listener.close())
else: signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: signal.pause()
' "$@"
"""


def test_a_draining_instance_is_waited_for_only_until_it_listens_no_more(
    instances: Instances, start: Start
) -> None:
    """It may serve open connections while the next one starts; it is ended afterwards."""
    process = start(LISTENING % True, "t-1")
    asked = instances.terminate_all()
    assert [process] == asked
    instances.await_release(asked, AMPLE)
    assert process.is_running()
    assert [] == process.net_connections(kind="inet")
    instances.await_end(asked, 0.1)
    assert {} == instances.running()


def test_an_instance_that_goes_on_listening_is_killed(instances: Instances, start: Start) -> None:
    """The next one needs its ports, even if it ignores SIGTERM."""
    process = start(LISTENING % False, "t-1")
    instances.await_release(instances.terminate_all(), 0.1)
    assert not process.is_running()
    assert {} == instances.running()


def test_an_instance_that_has_gone_holds_nothing(
    instances: Instances, start: Start, never_waits: Callable[[], None]
) -> None:
    """An instance that ends between two checks is not waited for, and is no error."""
    process = start(OBEDIENT, "t-1")
    asked = instances.terminate_all()
    assert [process] == asked
    process.wait(AMPLE)
    never_waits()
    instances.await_release(asked, AMPLE)
    instances.await_end(asked, AMPLE)
    assert {} == instances.running()


# The exit status ---------------------------------------------------------------------------------


def test_the_exit_status_of_our_own_instance_is_known(
    instances: Instances, files: Path, binary: Callable[[str], Path], until: Until
) -> None:
    """A crash-loop is recognised by the exit status."""
    instances.prepare(deployment("t-1"), files, GATE)
    instances.start(deployment("t-1"), binary("exit 3\n"))
    until(lambda: instances.exit_status("t-1") is not None)
    assert 3 == instances.exit_status("t-1")
    assert instances.exit_status("unknown") is None


def test_a_signal_is_a_negative_status(instances: Instances, start: Start, until: Until) -> None:
    """A program that was killed did not exit by itself."""
    process = start(OBEDIENT, "t-1")
    assert instances.exit_status("t-1") is None
    process.send_signal(signal.SIGKILL)
    until(lambda: instances.exit_status("t-1") is not None)
    assert -signal.SIGKILL == instances.exit_status("t-1")


@pytest.mark.parametrize(
    ("script", "expected"),
    [(OBEDIENT, -signal.SIGTERM), (STUBBORN, -signal.SIGKILL)],
    ids=["SIGTERM", "SIGKILL"],
)
def test_the_status_is_right_after_we_ended_it_ourselves(
    instances: Instances, start: Start, script: str, expected: int
) -> None:
    """The real status is reported, not a made-up 0."""
    start(script, "t-1")
    instances.stop_all(AMPLE if script is OBEDIENT else 0.2)
    assert expected == instances.exit_status("t-1")


# Starting ----------------------------------------------------------------------------------------


def test_an_instance_knows_its_token_and_nothing_of_systemd(
    start: Start, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in its own directory and session, without a terminal or the caller's sockets."""
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("KEPT", "yes")
    monkeypatch.setenv(TOKEN_VARIABLE, "of an outer run")
    process = start(OBEDIENT, "t-1")
    environment = process.environ()
    assert "t-1" == environment[TOKEN_VARIABLE]
    assert "yes" == environment["KEPT"]
    assert set() == {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} & set(
        environment
    )
    assert str(place / "t-1") == process.cwd()
    assert process.pid == os.getsid(process.pid)
    assert os.devnull == str(Path(f"/proc/{process.pid}/fd/0").readlink())


def test_an_instance_inherits_no_file_of_the_run(start: Start, tmp_path: Path) -> None:
    """It must keep neither the lock nor the journal of the run that started it."""
    with (tmp_path / "held").open("w") as held:
        process = start(OBEDIENT, "t-1")
        inherited = {
            str(descriptor.readlink()) for descriptor in Path(f"/proc/{process.pid}/fd").iterdir()
        }
        assert held.name not in inherited


@pytest.mark.parametrize("kind", ["missing", "not executable", "no program", "directory"])
def test_a_binary_that_cannot_be_executed_is_reported(
    instances: Instances, files: Path, tmp_path: Path, kind: str
) -> None:
    """The kernel's reason is reported."""
    program = tmp_path / "traefik"
    if kind == "directory":
        program.mkdir()
    elif kind != "missing":
        program.write_bytes(b"\x7fELF and nothing")
        program.chmod(0o644 if kind == "not executable" else 0o755)
    instances.prepare(deployment("t-1"), files, GATE)
    with pytest.raises(DeployError, match=f"{program} can't be executed: ") as caught:
        instances.start(deployment("t-1"), program)
    assert "None" not in caught.value.message
    assert {} == instances.running()
    assert instances.exit_status("t-1") is None


# The log -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ""),
        (b"\n\n", ""),
        (b"one\n", "one"),
        (b"one\ntwo\n\n \n", "two"),
        (b"\x1b[31mERR\x1b[0m \x1b[1;36mno port\x1b[0m\n", "ERR no port"),
        (b"one\r\ntwo\r\n", "two"),
        (b"caf\xe9\n", "caf�"),
        (b"x" * 10 * LOG_TAIL + b"\nlast\n", "last"),
        ("é".encode() * LOG_TAIL + b"\nlast", "last"),
        (b"\x1b]0;title\x07\x1b[2Jbell\n", "bell"),
    ],
    ids=[
        *("empty", "blank", "one line", "blank lines at the end", "colours", "carriage returns"),
        *("no UTF-8", "long", "cut in a character", "other escape sequences"),
    ],
)
def test_the_last_log_line_is_plain_text(
    instances: Instances, place: Path, content: bytes, expected: str
) -> None:
    """Control sequences for a terminal are removed."""
    (place / "t-1").mkdir(parents=True)
    (place / "t-1" / LOG).write_bytes(content)
    assert expected == instances.last_log_line("t-1")


def test_an_instance_without_a_log_said_nothing(instances: Instances, place: Path) -> None:
    """No log, no directory, or a directory for a log: no line."""
    assert "" == instances.last_log_line("t-1")
    (place / "t-1" / LOG).mkdir(parents=True)
    assert "" == instances.last_log_line("t-1")


def test_both_outputs_go_to_the_log_and_an_old_log_is_gone(
    instances: Instances, place: Path, files: Path, binary: Callable[[str], Path], until: Until
) -> None:
    """The last line is of this instance, on stdout or stderr."""
    instances.prepare(deployment("t-1"), files, GATE)
    (place / "t-1" / LOG).write_text("older\n")
    instances.start(deployment("t-1"), binary("echo out; echo err >&2\n"))
    until(lambda: instances.exit_status("t-1") is not None)
    assert "out\nerr\n" == (place / "t-1" / LOG).read_text()
    assert "err" == instances.last_log_line("t-1")


# The directory -----------------------------------------------------------------------------------


def test_the_directory_of_an_instance_is_laid_out(
    instances: Instances, place: Path, files: Path
) -> None:
    """The release's files, our gate beside its dynamic ones, and the record."""
    home = instances.prepare(deployment("t-1"), files, GATE)
    assert place / "t-1" == home
    assert {
        "traefik.yml": "# static\n",
        "dynamic/routes.yml": "# dynamic\n",
        "dynamic/warm-reconcile.yml": GATE,
    } == {
        str(path.relative_to(home)): path.read_text()
        for path in home.rglob("*")
        if path.is_file() and path.name != RECORD
    }
    assert deployment("t-1") == instances.read("t-1")
    assert 0o700 == place.stat().st_mode & 0o777


def test_a_release_without_dynamic_files_gets_the_gate_too(
    instances: Instances, files: Path
) -> None:
    """The identity route is ours to add."""
    (files / "dynamic" / "routes.yml").unlink()
    (files / "dynamic").rmdir()
    home = instances.prepare(deployment("t-1"), files, GATE)
    assert GATE == (home / "dynamic" / "warm-reconcile.yml").read_text()


def test_what_a_release_brings_under_our_names_is_replaced(
    instances: Instances, files: Path
) -> None:
    """No release can bring its own identity, or its own gate."""
    (files / RECORD).write_text(json.dumps(cattrs.unstructure(deployment("other"))))
    (files / "dynamic" / "warm-reconcile.yml").write_text("# its own\n")
    home = instances.prepare(deployment("t-1"), files, GATE)
    assert deployment("t-1") == instances.read("t-1")
    assert GATE == (home / "dynamic" / "warm-reconcile.yml").read_text()


def test_leftovers_of_a_killed_run_are_replaced(
    instances: Instances, place: Path, files: Path
) -> None:
    """Laying out the same token again starts from nothing."""
    (place / "t-1" / "dynamic" / "deep").mkdir(parents=True)
    (place / "t-1" / "dynamic" / "left.yml").write_text("left")
    (place / "t-1" / RECORD).mkdir()
    home = instances.prepare(deployment("t-1"), files, GATE)
    assert {"traefik.yml", "dynamic", RECORD} == {path.name for path in home.iterdir()}
    assert not (home / "dynamic" / "left.yml").exists()
    assert deployment("t-1") == instances.read("t-1")


@pytest.mark.parametrize(
    "kind", ["no files", "dynamic is a file", "a link", "a pipe", "in the way"]
)
def test_a_directory_that_cannot_be_written_is_reported(
    instances: Instances, place: Path, files: Path, kind: str
) -> None:
    """Any obstacle on the disk or in the release is an error of this deployment."""
    if kind == "no files":
        files = files / "missing"
    if kind == "dynamic is a file":
        (files / "dynamic" / "routes.yml").unlink()
        (files / "dynamic").rmdir()
        (files / "dynamic").touch()
    if kind == "a link":
        (files / "link").symlink_to("nowhere")
    if kind == "a pipe":
        os.mkfifo(files / "pipe")
    if kind == "in the way":
        place.touch()
    with pytest.raises(DeployError, match="the instance's directory can't be written: ") as caught:
        instances.prepare(deployment("t-1"), files, GATE)
    assert "None" not in caught.value.message


def test_a_full_disk_is_an_error_of_the_deployment(
    place: Path, files: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """It comes before the old instance is stopped, and names the reason."""
    (files / "traefik.yml").write_text("#" * 5000)
    done = run_python(
        "import resource, sys; from pathlib import Path\n"
        "from runner.reconcile.errors import DeployError\n"
        "from runner.platforms.process.instances import Instances\n"
        "from runner.reconcile.model import Deployment, Release\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "deployment = Deployment(Release('1', '1', 'd'), 't-1')\n"
        "try: Instances(Path(sys.argv[1])).prepare(deployment, Path(sys.argv[2]), '')\n"
        "except DeployError as error: print(error.message)\n",
        place,
        files,
        limited=True,
    )
    assert ("", 0) == (done.stderr, done.returncode)
    assert "File too large" in done.stdout


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"null", b"[]", b"5", b"{}", b'{"release": null, "token": "t-1"}'),
        *(b'{"release": [], "token": "t-1"}', b"\xff\xff", b"[" * 2000),
        b'{"release": {"label": "a", "version": "b", "digest": "c"}, "token": "other"}',
        b'{"release": {"label": "a", "version": "b", "digest": "c"}}',
        b'{"release": {"label": "a", "version": "b"}, "token": "t-1"}',
        b'{"release": {"label": 5, "version": [], "digest": null}, "token": "t-1"}',
    ],
    ids=[
        *("empty", "half", "null", "list", "number", "no keys", "no release", "list for a release"),
        *("no text", "deep", "another token", "no token", "no digest", "other types"),
    ],
)
def test_a_damaged_record_is_no_deployment(
    instances: Instances, place: Path, content: bytes
) -> None:
    """A record that is incomplete, or of another token, is not used."""
    (place / "t-1").mkdir(parents=True)
    (place / "t-1" / RECORD).write_bytes(content)
    assert instances.read("t-1") is None


@pytest.mark.parametrize("token", ["unknown", "", ".", "..", "a\0b", "x" * 300])
def test_an_unknown_token_is_no_deployment(instances: Instances, token: str) -> None:
    """Any token on a command line can be read without an exception."""
    assert instances.read(token) is None


def test_pruning_keeps_what_is_asked(instances: Instances, place: Path, files: Path) -> None:
    """The others go, and where there is nothing, nothing is made."""
    instances.prune(frozenset())
    assert not place.exists()
    for token in ("t-1", "t-2", "t-3"):
        instances.prepare(deployment(token), files, GATE)
    instances.prune(frozenset({"t-2"}))
    assert ["t-2"] == [path.name for path in place.iterdir()]
