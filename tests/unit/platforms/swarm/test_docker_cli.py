"""The ``docker`` command, played by a script: how it ends, what it is given, what is left of it."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.platforms.swarm.docker_cli import Docker, RefusedError
from runner.reconcile.errors import EngineUnreachableError

AMPLE = 120.0
"""Seconds that no command needs: whatever takes so long hangs."""
SHORT = 0.5
"""Seconds for a command that never ends."""
URL = "unix:///run/some.sock"
DOCKER = Docker(URL)
ENVIRONMENT = 'tr "\\0" "\\n" < /proc/$$/environ'
"""What the command was given, as the kernel has it: a shell adds some of its own."""

Play = Callable[[str], Path]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Put a ``docker`` of our own on the PATH: ``play("echo out")``."""

    def make(script: str) -> Path:
        program = tmp_path / "bin" / "docker"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        return program

    return make


def run(*arguments: str, timeout: float = AMPLE) -> str:
    return DOCKER.run(*arguments, timeout=timeout).decode()


def has_ended(pid: int) -> bool:
    """Say whether a process is gone, or dead and only not yet buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_output_is_returned(play: Play) -> None:
    """As bytes, without stderr; stdin is empty."""
    play("echo warning >&2; echo \"$# $1 $3\"; cat; printf '\\377'")
    answer = DOCKER.run("stack", "config", "a b", timeout=AMPLE)
    assert answer == b"3 stack a b\n\xff"


@pytest.mark.parametrize(
    ("said", "status", "message"),
    [
        ("services.app.image must be a string", 1, "services.app.image must be a string"),
        ("", 1, "no reason given"),
        ("unknown flag: --x", 125, "unknown flag: --x"),
        (
            (
                "failed to update service s_app: Error response from daemon: rpc error:"
                " code = Unknown desc = update out of sequence"
            ),
            1,
            "update out of sequence",
        ),
    ],
)
def test_a_refusal_has_the_message_of_docker(
    play: Play, said: str, status: int, message: str
) -> None:
    """Whatever it printed before doesn't count."""
    play(f"echo out; echo '{said}' >&2; exit {status}")
    with pytest.raises(RefusedError) as caught:
        run("stack", "deploy", "--prune", "s")
    assert caught.value.message.startswith("`docker stack deploy` failed: ")
    assert caught.value.message.endswith(message)


@pytest.mark.parametrize(
    "said",
    [
        "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
        (
            "failed to connect to the docker API at unix:///x; check if the path is correct and if"
            " the daemon is running: dial unix /x: connect: no such file or directory"
        ),
        ("permission denied while trying to connect to the docker API at unix:///x"),
        'error during connect: Get "http://docker/v1.50/info": EOF',
        (
            "Error response from daemon: rpc error: code = DeadlineExceeded desc ="
            " context deadline exceeded"
        ),
    ],
    ids=["20.10 to 28", "29", "no permission in 29", "broken off", "no quorum in time"],
)
def test_docker_unreachable_is_not_a_refusal(play: Play, said: str) -> None:
    """Docker did not see the request: the release is not to blame."""
    play(f"echo 'Since --detach=false was not specified, ...' >&2; echo '{said}' >&2; exit 1")
    with pytest.raises(EngineUnreachableError, match="`docker stack deploy`: "):
        run("stack", "deploy", "s")


@pytest.mark.parametrize(
    "said",
    [
        (
            "Error response from daemon: rpc error: code = Unknown desc = The swarm does not have a"
            " leader. It's possible that too few managers are online."
        ),
        'this node is not a swarm manager. Use "docker swarm init"',
        "permission denied while trying to connect to the Docker daemon socket at unix:///x",
        "Error response from daemon: rpc error: code = Unavailable desc = connection error",
    ],
    ids=["no leader", "no manager", "no permission", "unavailable"],
)
def test_a_swarm_that_cannot_decide_is_no_refusal(play: Play, said: str) -> None:
    """It is the host that lacks something, and not the release."""
    # dash has no quotes in quotes: the words come from a file.
    words = play("").parent / "words"
    words.write_text(said)
    play(f"cat {words} >&2; exit 1")
    with pytest.raises(EngineUnreachableError):
        run("stack", "deploy", "s")


def test_a_command_killed_by_a_signal_has_failed(play: Play) -> None:
    """For example out of memory: an error like any other, never an output."""
    play("echo half; kill -9 $$")
    with pytest.raises(RefusedError, match="no reason given"):
        run("stack", "config")


def test_a_host_without_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnreachableError, match="No such file or directory") as caught:
        run("info")
    assert "install" in caught.value.hint


def test_a_command_that_the_kernel_refuses(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there, but no program."""
    program = play("")
    program.write_bytes(b"\x7fELF")
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(EngineUnreachableError, match="can't be run: Exec format error"):
        run("info")


@pytest.mark.parametrize(
    "script",
    ["sleep 600 & echo $! >> {}; wait", "sleep 600 & echo $! >> {}; exit 0"],
    ids=["waits for its child", "leaves its child behind"],
)
def test_the_time_is_for_all_that_it_started(
    play: Play,
    tmp_path: Path,
    until: Callable[[Callable[[], bool]], None],
    enough: Callable[[Callable[[float], bool]], None],
    script: str,
) -> None:
    """At the timeout its whole session is killed."""
    pids = tmp_path / "pids"
    play(f"echo $$ > {pids}; {script.format(pids)}")

    def both_have_begun(seconds: float) -> bool:
        pids.write_text("")
        took = rf"`docker image pull` took more than {seconds:g} s"
        with pytest.raises(EngineUnreachableError, match=took):
            run("image", "pull", "x", timeout=seconds)
        return pids.read_text().count("\n") == 2

    enough(both_have_begun)
    ours, its_child = map(int, pids.read_text().split())
    until(lambda: has_ended(ours) and has_ended(its_child))


def test_a_command_that_ignores_signals_ends_all_the_same(play: Play) -> None:
    """SIGKILL can't be caught."""
    play(f"trap '' {int(signal.SIGTERM)} {int(signal.SIGINT)}; while :; do sleep 0.1; done")
    with pytest.raises(EngineUnreachableError, match="took more than"):
        run("info", timeout=SHORT)


def test_it_gets_what_it_is_given_and_nothing_of_the_operators(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of the caller would end up in the rendered document, and so in the release."""
    program = play(ENVIRONMENT)
    monkeypatch.setenv("HOME", "/home/op")
    monkeypatch.setenv("DOCKER_CONFIG", "/home/op/.docker")
    for name in ("STACK_NAME", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "COMPOSE_FILE", "LANG"):
        monkeypatch.setenv(name, "of-the-operator")
    monkeypatch.setenv("DOCKER_HOST", "tcp://other")
    given = {"STACK_NAME": "s", "EMPTY": "", "SPACES": "a b", "DOCKER_HOST": "tcp://of-the-file"}
    lines = DOCKER.run("stack", "config", timeout=AMPLE, environment=given).decode().splitlines()
    assert dict(line.split("=", 1) for line in lines) == {
        "STACK_NAME": "s",
        "EMPTY": "",
        "SPACES": "a b",
        "DOCKER_HOST": URL,
        "HOME": "/home/op",
        "DOCKER_CONFIG": "/home/op/.docker",
        "PATH": f"{program.parent}:/usr/bin:/bin",
    }


def test_without_any_environment_only_docker_host_is_set(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under systemd there may be no HOME; then there is none for the command."""
    play(ENVIRONMENT)
    for name in ("HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert {line.split("=")[0] for line in run("info").splitlines()} == {"PATH", "DOCKER_HOST"}


def test_an_environment_that_no_program_can_have(play: Play) -> None:
    """A NUL in a value, out of a broken .env, is an error with a sentence."""
    play("echo never")
    with pytest.raises((RefusedError, EngineUnreachableError)):
        DOCKER.run("info", timeout=AMPLE, environment={"A": "\0"})


def test_a_flood_is_taken_whole(play: Play, tmp_path: Path) -> None:
    """Both streams at once, more than a pipe holds."""
    flood = tmp_path / "flood"
    flood.write_bytes(b"x" * 10**6)
    play(f"cat {flood} >&2; cat {flood}")
    assert run("stack", "config") == "x" * 10**6
