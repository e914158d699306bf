"""A function runs inside a network namespace; all other threads stay outside."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import frozen

from runner.platforms.swarm.netns import run_inside

AMPLE = 120.0
"""Seconds that nothing here needs."""

SERVE = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(sys.argv[1].encode())
"""


@frozen
class Container:
    """A process with a network namespace of its own, and a server that listens only there."""

    pid: int
    port: int

    def ask(self) -> str:
        """Connect to the server from the namespace of this thread."""
        with socket.create_connection(("127.0.0.1", self.port), AMPLE) as connection:
            return connection.recv(100).decode()


Start = Callable[[str], Container]


@pytest.fixture
def start(unshare: str) -> Generator[Start]:
    """Start containers: ``start("what it says")``."""
    with contextlib.ExitStack() as stack:

        def make(says: str) -> Container:
            process = stack.enter_context(
                subprocess.Popen(
                    [unshare, "--net", sys.executable, "-c", SERVE, says],
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            return Container(process.pid, int(process.stdout.readline()))

        yield make


def network(whose: int | str) -> str:
    return str(Path(f"/proc/{whose}/ns/net").readlink())


def here() -> str:
    """Name the network namespace of this very thread."""
    return network("thread-self")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_listens_only_there_is_reached_only_from_inside(start: Start) -> None:
    """From outside nothing listens; the thread that asked is still outside."""
    container = start("hello")
    outside = here()
    with pytest.raises(ConnectionRefusedError):
        container.ask()
    assert run_inside(container.pid, container.ask) == "hello"
    with pytest.raises(ConnectionRefusedError):
        container.ask()
    assert here() == outside


def test_it_is_another_namespace_and_another_thread(start: Start) -> None:
    """The namespace belongs to a thread that ends with it: nothing is left behind."""
    container = start("")
    before = threading.active_count()
    files = open_files()
    inside, thread = run_inside(container.pid, lambda: (here(), threading.get_ident()))
    assert inside == network(container.pid) != here()
    assert thread != threading.get_ident()
    for _ in range(20):
        run_inside(container.pid, here)
    assert threading.active_count() == before
    assert open_files() <= files


def test_a_thread_is_where_it_was_started(start: Start) -> None:
    """One that is started inside is inside; the others of this process are not."""
    container = start("")
    outside = here()
    with ThreadPoolExecutor(1) as old, ThreadPoolExecutor(1) as new:
        assert old.submit(here).result(AMPLE) == outside

        def look() -> tuple[str, str]:
            return old.submit(here).result(AMPLE), new.submit(here).result(AMPLE)

        assert run_inside(container.pid, look) == (outside, network(container.pid))


def test_several_functions_run_at_once(start: Start) -> None:
    """Each by itself, on one and the same port number or not."""
    containers = {says: start(says) for says in ("one", "two", "three")}
    with ThreadPoolExecutor(len(containers)) as pool:
        asked = {s: pool.submit(run_inside, c.pid, c.ask) for s, c in containers.items()}
        assert {s: future.result(AMPLE) for s, future in asked.items()} == {
            "one": "one",
            "two": "two",
            "three": "three",
        }


def test_one_can_be_inside_one_from_inside_another(start: Start) -> None:
    """And comes back to where it was."""
    one, two = start("one"), start("two")

    def nested() -> tuple[str, str, str]:
        return one.ask(), run_inside(two.pid, two.ask), one.ask()

    assert run_inside(one.pid, nested) == ("one", "two", "one")


class _OddError(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("of its own"), OSError(5, "x"), _OddError()])
def test_what_goes_wrong_inside_comes_out(start: Start, error: BaseException) -> None:
    """The very exception, and the caller's place is unchanged."""
    container = start("")
    outside = here()

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        run_inside(container.pid, fail)
    assert caught.value is error
    assert here() == outside


def never() -> None:
    pytest.fail("it ran, and not inside")


def test_a_process_that_has_gone_cannot_be_entered() -> None:
    """Reaped, or a zombie; or not a pid of a process. Nothing is run."""
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises((FileNotFoundError, ProcessLookupError)):
            run_inside(process.pid, never)
    for pid in (process.pid, 0, -1, 2**22 + 1, 2**40):
        with pytest.raises((FileNotFoundError, ProcessLookupError)):
            run_inside(pid, never)


ENTER = """
import os, sys
from runner.platforms.swarm.netns import run_inside
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    run_inside(int(sys.argv[1]), lambda: print("it ran"))
except PermissionError as error:
    print(error.strerror)
"""


def test_a_missing_permission_to_enter_is_reported(
    start: Start, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Neither another user's process nor one's own: that takes root. Nothing is run."""
    container = start("")
    for pid in (container.pid, os.getpid()):
        done = run_python(ENTER, str(pid), limited=True)
        assert done.stdout.strip() in {"Permission denied", "Operation not permitted"}, done
