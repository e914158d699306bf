"""Docker is lost in each phase of a run: no unproven commit, and no release is blamed.

It is killed and comes back, or it hangs and goes on. Where it comes back the containers don't: the
engine ends those that it finds, and Swarm starts others, as after a reboot.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from runner.exit_codes import ExitCode
from swarm.engine import Engine
from swarm.harness import AMPLE, NEW, Host, Ran
from swarm.healthy import assert_serving, make_last_good, prepare, proven, quarantined
from swarm.network import wait_for

pytestmark = pytest.mark.swarm

FIRST: Final = f"1.0.0+v{NEW}"
SECOND: Final = f"2.0.0+v{NEW}"
BROKEN: Final = {"traefik.yml.tmpl": [('address: ":443"', 'address: "nonsense"')]}


@pytest.fixture
def host(host: Host) -> Host:
    """Configure short runs, with time for a dockerd that comes back."""
    prepare(host)
    return host


@contextlib.contextmanager
def hung(engine: Engine) -> Generator[None]:
    """Stop dockerd meanwhile: it accepts connections, and sends nothing."""
    daemon = int((engine.home / "pid").read_text())
    os.kill(daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon, signal.SIGCONT)


def await_state(run: subprocess.Popen[str], state: str) -> str:
    """Read a run's log until it has reached a state; return the log."""
    assert run.stderr is not None
    said = ""
    for line in run.stderr:
        said += line
        if f" state={state} " in line:
            return said
    raise AssertionError(f"the run ended and never came to {state}: {said}")


def assert_no_blame(host: Host) -> None:
    assert quarantined(host) == {}


def assert_undecided(host: Host, ran: Ran, reason: str) -> None:
    """Check that the run decided nothing and reported why."""
    assert (ran.code, ran.outcome, ran.serving) == (21, "undecided", None), ran
    assert reason in ran.reason, ran
    assert_no_blame(host)


def assert_next_run_commits(host: Host, label: str) -> None:
    """Check that a run ends well once dockerd is back."""
    ran = host.run()
    assert (ran.code, ran.serving) == (0, label), ran
    assert_serving(host, label)
    assert_no_blame(host)


# Before a run ------------------------------------------------------------------------------------


def test_no_engine_at_the_beginning(host: Host) -> None:
    """Last-good goes on serving meanwhile: nothing was done, and nothing is decided."""
    make_last_good(host, FIRST)
    host.release(SECOND)
    host.engine.kill()
    ran = host.run()
    assert_undecided(host, ran, "dockerd at")
    host.engine.start()
    assert_next_run_commits(host, SECOND)


@pytest.mark.slow
def test_an_engine_that_hangs_at_the_beginning(host: Host) -> None:
    """The run ends, and doesn't hang with it."""
    make_last_good(host, FIRST)
    host.release(SECOND)
    with hung(host.engine):
        ran = host.run()
    assert_undecided(host, ran, "doesn't answer")
    assert_next_run_commits(host, SECOND)


@pytest.mark.slow
def test_an_engine_that_hangs_for_a_moment(host: Host) -> None:
    """A pause that is shorter than any timeout changes nothing."""
    make_last_good(host, FIRST)
    host.release(SECOND)
    run = host.begin()
    await_state(run, "GATING")
    with hung(host.engine), pytest.raises(subprocess.TimeoutExpired):
        run.wait(3.0)
    ran = host.end(run)
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", SECOND), ran


# During a run ------------------------------------------------------------------------------------


def _killed(host: Host, run: subprocess.Popen[str]) -> None:
    host.engine.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(1.0)
    host.engine.start()


def _hanging(host: Host, run: subprocess.Popen[str]) -> None:
    with hung(host.engine), contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(9.0)  # longer than any timeout of the Docker API


LOSSES: Final = pytest.mark.parametrize(
    "loss",
    [
        pytest.param(_killed, id="killed"),
        pytest.param(_hanging, id="hanging", marks=pytest.mark.slow),
    ],
)
Loss = Callable[[Host, subprocess.Popen[str]], None]


@pytest.mark.slow
@LOSSES
def test_a_loss_during_the_trial(host: Host, loss: Loss) -> None:
    """Last-good was not touched; the candidate is tried again, by this run or the next."""
    prepare(host, preflight=AMPLE)
    make_last_good(host, FIRST)
    host.release(SECOND)
    run = host.begin()
    await_state(run, "DEPLOYING")

    def trial() -> bool | None:
        stacks = host.engine.listed("stack", "ls", "--format={{.Name}}")
        return True if any("-try-" in stack for stack in stacks) else None

    wait_for(trial, "a trial")
    loss(host, run)
    ran = host.end(run)
    assert ran.outcome in {"committed", "undecided", "rolled back"}, ran
    assert_no_blame(host)
    if ran.outcome != "committed":
        assert SECOND not in proven(host)
    assert_next_run_commits(host, SECOND)
    assert host.engine.listed("stack", "ls", "--format={{.Name}}") == [host.stack]


@LOSSES
def test_a_loss_during_the_gate(host: Host, loss: Loss) -> None:
    """A good candidate is committed once it could be probed, or nothing is decided."""
    prepare(host, window=6)
    make_last_good(host, FIRST)
    host.release(SECOND)
    run = host.begin()
    await_state(run, "GATING")
    loss(host, run)
    ran = host.end(run)
    assert ran.outcome in {"committed", "undecided"}, ran
    assert_no_blame(host)
    assert_next_run_commits(host, SECOND)


@pytest.mark.slow
def test_a_loss_right_after_the_stack_was_written(host: Host) -> None:
    """Dockerd dies after it has stored the spec: the tasks that it starts later are gated."""
    make_last_good(host, FIRST)
    host.release(SECOND)
    trace = host.home / "trace"
    run = host.begin_killed(trace, "before observe Deployed")
    assert host.end(run).code == -signal.SIGKILL
    host.engine.restart()
    assert_next_run_commits(host, SECOND)


@pytest.mark.slow
@LOSSES
def test_a_loss_during_a_rollback(host: Host, loss: Loss) -> None:
    """The broken candidate never comes back, and last-good does, in this run or the next."""
    make_last_good(host, FIRST)
    host.release(SECOND, edits=BROKEN)
    run = host.begin()
    await_state(run, "REGATING")
    loss(host, run)
    ran = host.end(run)
    assert ran.outcome in {"rolled back", "undecided", "stranded"}, ran
    again = host.run()
    if again.code == int(
        ExitCode.ENGINE_STUCK
    ):  # the killed dockerd leaked a port: free-ports.service
        host.engine.restart()
        again = host.run()
    assert again.serving == FIRST, again
    assert_serving(host, FIRST)
    assert proven(host) == [FIRST]
    assert list(quarantined(host)) == [SECOND]


@pytest.mark.slow
@LOSSES
def test_a_loss_while_last_good_is_looked_at(host: Host, loss: Loss) -> None:
    """It fails its probes when the run begins, and dockerd goes away before it recovers."""
    make_last_good(host, FIRST)
    (task,) = host.tasks()
    traefik = psutil.Process(task["Status"]["ContainerStatus"]["PID"])
    traefik.suspend()
    run = host.begin()
    await_state(run, "VERIFYING")
    with contextlib.suppress(psutil.NoSuchProcess):
        traefik.resume()
    loss(host, run)
    ran = host.end(run)
    assert ran.outcome in {"unchanged", "undecided", "restored"}, ran
    assert_next_run_commits(host, FIRST)


@pytest.mark.slow
def test_an_engine_that_never_comes_back(host: Host) -> None:
    """The gate can't probe: no commit, no blame, and no rollback is possible.

    The next run takes it up where it stood, and judges what serves.
    """
    make_last_good(host, FIRST)
    host.release(SECOND)
    run = host.begin_until("dockerd at")
    await_state(run, "GATING")
    host.engine.kill()
    ran = host.end(run)
    assert_undecided(host, ran, "dockerd at")
    assert proven(host) == [FIRST]
    host.engine.start()
    assert_next_run_commits(host, SECOND)


# No such engine ----------------------------------------------------------------------------------


@pytest.fixture
def lonely(able: None) -> Iterator[Engine]:
    """Start a dockerd that is not in a swarm."""
    del able
    engine = Engine(lambda _: None)
    try:
        engine.start()
        yield engine
    finally:
        engine.end()


def test_an_engine_without_a_swarm(lonely: Engine, tmp_path: Path) -> None:
    """The message is about the swarm, with the command as hint."""
    host = Host(lonely, tmp_path / "host")
    host.release(FIRST)
    ran = host.run()
    assert_undecided(host, ran, "swarm")
    assert "docker swarm init" in ran.reason + ran.log


def test_no_socket(host: Host) -> None:
    """The message has its path."""
    host.release(FIRST)
    socket = str(host.engine.socket)
    host.config.write_text(host.config.read_text().replace(socket, "/nowhere/docker.sock"))
    ran = host.run()
    assert_undecided(host, ran, "dockerd at /nowhere/docker.sock doesn't answer")


@pytest.mark.slow
def test_no_docker_command(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Last-good is verified; steps that need the command are skipped with a warning."""
    make_last_good(host, FIRST)
    host.release(SECOND)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("nsenter", "git"):
        path = shutil.which(name)
        assert path is not None
        (programs / name).symlink_to(path)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(programs))
        run = host.begin()
    ran = host.end(run)
    assert (ran.code, ran.outcome, ran.serving) == (0, "unchanged", FIRST), ran
    assert "docker command" in ran.reason, ran
    assert_no_blame(host)
    assert_next_run_commits(host, SECOND)
