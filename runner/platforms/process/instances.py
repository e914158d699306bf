"""Traefik processes of one app: start one, stop all, see which are there.

No pid file: what runs is read from the kernel. Every instance is started with the path of its own
directory on its command line, and that path ends in the token of its deployment; so a killed run
leaves nothing behind that the next one can't find, and a pid that was used again fools nobody.
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import psutil

from runner.reconcile.errors import DeployError
from runner.reconcile.model import Deployment
from runner.reconcile.replies import without_colours
from runner.storage.atomic import prune
from runner.storage.codec import record_from_text, record_to_text

RECORD: Final = "deployment.json"
LOG: Final = "traefik.log"
TOKEN_VARIABLE: Final = "WARM_RECONCILE_TOKEN"  # noqa: S105 - the name of a variable
KILL_TIMEOUT: Final = 5.0
"""Seconds that the kernel gets to end a process after SIGKILL."""
DYING: Final = 1.0
"""Seconds that a program may take from its last thread to its exit status."""
RELEASE_POLL: Final = 0.01
"""Seconds between two looks at the sockets of an instance that is stopping."""
LOG_TAIL: Final = 2000
"""Bytes of an instance's log that are searched for its last words."""
NOT_INHERITED: Final = frozenset({"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"})
"""Variables by which systemd speaks to the caller; the instance is no part of that talk."""


class Instances:
    """The instances of one app below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def running(self) -> dict[str, list[psutil.Process]]:
        """List the processes of this app by the token of their deployment."""
        prefix = f"--configFile={self._directory}/"
        found: dict[str, list[psutil.Process]] = {}
        for process in psutil.process_iter(["cmdline"]):
            for argument in process.info["cmdline"] or ():
                if argument.startswith(prefix):
                    token = argument.removeprefix(prefix).partition("/")[0]
                    found.setdefault(token, []).append(process)
        return found

    def read(self, token: str) -> Deployment | None:
        """Read what was deployed under a token; None if that was never written whole."""
        try:
            text = (self._directory / token / RECORD).read_text()
        except (OSError, ValueError):
            return None
        deployment = record_from_text(text, Deployment)
        return deployment if deployment is not None and deployment.token == token else None

    def prepare(self, deployment: Deployment, files: Path, gate: str) -> Path:
        """Lay out the directory of an instance, whatever a killed run left there.

        Raises:
            DeployError: it can't be written.
        """
        home = self._directory / deployment.token
        try:
            shutil.rmtree(home, ignore_errors=True)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            shutil.copytree(files, home)
            (home / "dynamic").mkdir(exist_ok=True)
            (home / "dynamic" / "warm-reconcile.yml").write_text(gate)
            (home / RECORD).write_text(record_to_text(deployment))
        except OSError as error:
            raise DeployError(f"the instance can't be laid out: {_why(error)}") from error
        return home

    def start(self, deployment: Deployment, binary: Path) -> None:
        """Start the instance that ``prepare`` laid out; it outlives this process.

        Raises:
            DeployError: the kernel refuses to execute it.
        """
        home = self._directory / deployment.token
        environment = {k: v for k, v in os.environ.items() if k not in NOT_INHERITED}
        environment[TOKEN_VARIABLE] = deployment.token
        try:
            with (home / LOG).open("wb") as log:
                self._children[deployment.token] = subprocess.Popen(  # noqa: S603 - no shell
                    [binary, f"--configFile={home}/traefik.yml"],
                    cwd=home,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise DeployError(f"{binary} can't be executed: {error.strerror}") from error

    def stop_all(self, timeout: float) -> None:
        """End every instance: SIGTERM, and after ``timeout`` seconds SIGKILL.

        Raises:
            DeployError: one is still there after that.
        """
        self.await_end(self.ask_to_stop(), timeout)

    def ask_to_stop(self) -> list[psutil.Process]:
        """Send SIGTERM to every instance; list them."""
        processes = [process for group in self.running().values() for process in group]
        for process in processes:
            _signal(process, signal.SIGTERM)
            _signal(process, signal.SIGCONT)  # a stopped process can't see its SIGTERM
        return processes

    def await_release(self, processes: list[psutil.Process], timeout: float) -> None:
        """Wait until these hold no internet socket that a new instance may want.

        On SIGTERM Traefik closes its listeners at once, and then serves what is open for up to ten
        seconds (``graceTimeOut``): waiting for its end would make that an outage for everybody
        else.

        Raises:
            DeployError: one can't be ended, not even with SIGKILL.
        """
        deadline = time.monotonic() + timeout
        while any(map(is_listening, processes)):
            if time.monotonic() > deadline:
                self.await_end(processes, 0.0)
                return
            time.sleep(RELEASE_POLL)

    def await_end(
        self, processes: list[psutil.Process], timeout: float, successor: str = ""
    ) -> None:
        """Wait ``timeout`` seconds for these to end, then SIGKILL them.

        Where the instance with the token ``successor`` has ended meanwhile, leave them as they are:
        the gate must hear of it now, and whatever is deployed next will ask them to stop again.

        Raises:
            DeployError: one is still there after that.
        """
        for process in _await_end(processes, timeout, lambda: self._has_status(successor)):
            if self._has_status(successor):
                return
            _signal(process, signal.SIGKILL)
        left = _await_end(processes, KILL_TIMEOUT, lambda: False)
        for child in self._children.values():
            child.poll()  # collect its status: nobody else will
        if left:
            raise DeployError(f"process {left[0].pid} survived SIGKILL for {KILL_TIMEOUT:g} s")

    def exit_status(self, token: str, *, gone: bool = False) -> int | None:
        """Tell the exit status of an instance that this very process started, if it has ended.

        ``gone`` says that it is no longer in the list of processes: the main thread of a dying
        program leaves that list a little before the program has a status.
        """
        child = self._children.get(token)
        if child is None or not gone:
            return child.poll() if child else None
        try:
            return child.wait(DYING)
        except subprocess.TimeoutExpired:
            return None

    def _has_status(self, token: str) -> bool:
        return self.exit_status(token) is not None

    def last_words(self, token: str) -> str:
        """Quote the last line of an instance's log."""
        try:
            with (self._directory / token / LOG).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL))
                lines = log.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return without_colours(lines[-1]) if lines else ""

    def prune(self, keep: frozenset[str]) -> None:
        """Remove the directories of all tokens but these."""
        prune(self._directory, keep)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process that may have gone meanwhile.

    Raises:
        DeployError: it is not ours to signal.
    """
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied as error:
        raise DeployError(f"process {process.pid} belongs to somebody else") from error


def _await_end(
    processes: list[psutil.Process], timeout: float, is_moot: Callable[[], bool]
) -> list[psutil.Process]:
    """Wait until these have ended, or it no longer matters; list those that have not.

    Not ``psutil.wait_procs``: it collects the exit status of our children, which ``Popen`` then
    makes up, and waits for the zombies of others, which have ended.
    """
    deadline = time.monotonic() + timeout
    while left := [process for process in processes if not _has_ended(process)]:
        if time.monotonic() >= deadline or is_moot():
            break
        time.sleep(RELEASE_POLL)
    return left


def _has_ended(process: psutil.Process) -> bool:
    """Ask the kernel: a zombie whose other threads still run, and listen, has not ended."""
    try:
        if not process.is_running():  # somebody else has its pid by now
            return True
        descriptor = os.pidfd_open(process.pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    finally:
        os.close(descriptor)


def _why(error: OSError) -> str:
    """Tell the reasons of an error, also of one that shutil collected from many files."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        copies = cast("list[tuple[str, str, str]]", error.args[0])
        return "; ".join(why for _, _, why in copies)
    return error.strerror or str(error)


def is_listening(process: psutil.Process) -> bool:
    """Say whether a process holds an internet socket that somebody could connect to."""
    try:
        sockets = process.net_connections(kind="inet")
    except psutil.Error:  # it has gone, or is a zombie
        return False
    return any(s.status == psutil.CONN_LISTEN or s.type == socket.SOCK_DGRAM for s in sockets)
