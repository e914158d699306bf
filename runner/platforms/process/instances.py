"""Starts, lists and stops the Traefik processes of one app.

There is no pid file: running instances are found in /proc. Every instance has the path of its own
directory on its command line, and that path ends in the token of its deployment; so the next run
finds what a killed run left, and a pid that the kernel assigned again is not mistaken for it.
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
"""Seconds for the kernel to end a process after SIGKILL."""
EXIT_TIMEOUT: Final = 1.0
"""Seconds that a process may take from leaving the process list to its exit status."""
RELEASE_POLL: Final = 0.01
"""Seconds between two checks of an instance that is stopping."""
LOG_TAIL: Final = 2000
"""Bytes at the end of an instance's log that are searched for its last line."""
NOT_INHERITED: Final = frozenset({"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"})
"""Variables of systemd's protocols with the caller; an instance must not take part in them."""


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
        """Return the deployment of a token; None if its record is missing or damaged."""
        try:
            text = (self._directory / token / RECORD).read_text()
        except (OSError, ValueError):
            return None
        deployment = record_from_text(text, Deployment)
        return deployment if deployment is not None and deployment.token == token else None

    def prepare(self, deployment: Deployment, files: Path, gate: str) -> Path:
        """Create the directory of an instance; leftovers of a killed run are removed.

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
            raise DeployError(
                f"the instance's directory can't be written: {_why(error)}"
            ) from error
        return home

    def start(self, deployment: Deployment, binary: Path) -> None:
        """Start the instance in the directory that ``prepare`` made; it outlives this process.

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
        """Stop every instance: SIGTERM, and after ``timeout`` seconds SIGKILL.

        Raises:
            DeployError: one still runs after that.
        """
        self.await_end(self.terminate_all(), timeout)

    def terminate_all(self) -> list[psutil.Process]:
        """Send SIGTERM to every instance; return their processes."""
        processes = [process for group in self.running().values() for process in group]
        for process in processes:
            _signal(process, signal.SIGTERM)
            _signal(process, signal.SIGCONT)  # a stopped process can't see its SIGTERM
        return processes

    def await_release(self, processes: list[psutil.Process], timeout: float) -> None:
        """Wait until these processes have closed their listening sockets, for the new instance.

        On SIGTERM Traefik closes its listeners at once, and then serves open connections for up to
        ten seconds (``graceTimeOut``): waiting for its end would be an outage for new ones.

        Raises:
            DeployError: one survived SIGKILL.
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
        """Wait ``timeout`` seconds for these processes to end, then send SIGKILL.

        Returns early if the instance with the token ``successor`` has ended: the gate must see that
        now, and the next deployment sends SIGTERM again.

        Raises:
            DeployError: one still runs after that.
        """
        for process in _await_end(processes, timeout, lambda: self._has_status(successor)):
            if self._has_status(successor):
                return
            _signal(process, signal.SIGKILL)
        left = _await_end(processes, KILL_TIMEOUT, lambda: False)
        for child in self._children.values():
            child.poll()  # reap it: this process is its parent
        if left:
            raise DeployError(f"process {left[0].pid} survived SIGKILL for {KILL_TIMEOUT:g} s")

    def exit_status(self, token: str, *, gone: bool = False) -> int | None:
        """Return the exit status of an instance that this very process started; None while it runs.

        With ``gone``, it is no longer in the process list: then wait a little, as a dying program
        leaves that list shortly before it has a status.
        """
        child = self._children.get(token)
        if child is None or not gone:
            return child.poll() if child else None
        try:
            return child.wait(EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            return None

    def _has_status(self, token: str) -> bool:
        return self.exit_status(token) is not None

    def last_log_line(self, token: str) -> str:
        """Return the last line of an instance's log; empty if there is none."""
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
    """Send a signal to a process; no error if it has ended.

    Raises:
        DeployError: it belongs to another user.
    """
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied as error:
        raise DeployError(
            f"process {process.pid} belongs to another user: it can't be signalled"
        ) from error


def _await_end(
    processes: list[psutil.Process], timeout: float, is_moot: Callable[[], bool]
) -> list[psutil.Process]:
    """Wait until these have ended, or ``is_moot``; return those that have not.

    Not ``psutil.wait_procs``: it takes the exit status of our children away from ``Popen``, which
    then reports 0, and it waits for zombies of other processes, which have ended.
    """
    deadline = time.monotonic() + timeout
    while left := [process for process in processes if not _has_ended(process)]:
        if time.monotonic() >= deadline or is_moot():
            break
        time.sleep(RELEASE_POLL)
    return left


def _has_ended(process: psutil.Process) -> bool:
    """Check with a pidfd: a zombie whose other threads still run, and listen, has not ended."""
    try:
        if not process.is_running():  # another process has its pid by now
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
    """Format the reasons of an error, also of one that shutil collected from many files."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        copies = cast("list[tuple[str, str, str]]", error.args[0])
        return "; ".join(why for _, _, why in copies)
    return error.strerror or str(error)


def is_listening(process: psutil.Process) -> bool:
    """Return whether a process has a listening TCP socket, or a UDP one."""
    try:
        sockets = process.net_connections(kind="inet")
    except psutil.Error:  # it has ended, or is a zombie
        return False
    return any(s.status == psutil.CONN_LISTEN or s.type == socket.SOCK_DGRAM for s in sockets)
