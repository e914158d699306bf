"""A machine in systemd-nspawn: with its own systemd, network and dockerd, on this host's kernel."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

from swarm.network import Load, Network, Reply, clean_environment, wait_for
from typing_extensions import override

from proofs.machines.machine import RUN_LIMIT, Done, ProofError

CGROUPS: Final = Path("/sys/fs/cgroup")
BOOT_LIMIT: Final = 300.0
OFF_LIMIT: Final = 300.0
FLAGS: Final = (
    *("--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe"),
    "--system-call-filter=bpf @keyring",  # for runc and containerd
)


class Inside(Network):
    """The network namespace of a machine that runs; it ends with the machine."""

    def __init__(self, leader: int) -> None:
        self._namespace = Path(f"/proc/{leader}/ns/net")
        super().__init__(f"machine {leader}")

    @override
    def _make(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, self.name, self._enter)

    @property
    @override
    def path(self) -> Path:
        return self._namespace

    @override
    def remove(self) -> None:
        self._entered.shutdown()


class Nspawn:
    """A machine whose disk is the directory ``root``."""

    def __init__(self, name: str, root: Path, console: Path) -> None:
        """Args: ``console`` is the file that gets what the machine prints."""
        self.name = name
        self.slowness = 1.0
        self._root = root
        self._console = console
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._network: Inside | None = None

    # Its life ------------------------------------------------------------------------------------

    def boot(self) -> None:
        assert self._process is None
        groups = _make_groups(self.name)
        with self._console.open("ab") as console:
            self._process = _start(self.name, self._root, groups, console)
        self._leader = wait_for(self._find_leader, f"a leader of {self.name}", BOOT_LIMIT)
        self._network = Inside(self._leader)
        wait_for(self._is_up, f"systemd in {self.name}; see {self._console}", BOOT_LIMIT)

    def _find_leader(self) -> int | None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ProofError(f"{self.name} did not start: {self._console.read_text()[-800:]}")
        pid = self._process.pid
        # A child may end meanwhile: nspawn starts short-lived ones before systemd.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            names = [(child, Path(f"/proc/{child}/comm")) for child in children]
            return next((int(c) for c, comm in names if comm.read_text() == "systemd\n"), None)
        return None

    def _is_up(self) -> bool | None:
        asked = self.run("systemctl", "show", "--property=UserspaceTimestampMonotonic")
        return True if asked.code == 0 and not asked.out.strip().endswith("=0") else None

    def power_off(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(OFF_LIMIT)
        except subprocess.TimeoutExpired as error:
            raise ProofError(f"{self.name} did not shut down in {OFF_LIMIT:g} s") from error
        finally:
            self.cut_power()

    def cut_power(self) -> None:
        if self._process is None:
            return
        if self._network is not None:
            self._network.remove()
            self._network = None
        if self._process.poll() is None:
            _kill(self._leader or self._process.pid)
            # nspawn ends by itself as soon as its leader, its only child, is gone.
            self._process.wait(OFF_LIMIT)
        self._process = None
        self._leader = 0
        _remove_groups(self.name)

    # Requests and commands -----------------------------------------------------------------------

    def run(self, *command: str, timeout: float = RUN_LIMIT) -> Done:
        enter = ("nsenter", f"--target={self._leader}", "--all")
        try:
            done = subprocess.run(
                [*enter, *command],
                env={"PATH": "/usr/local/bin:/usr/bin:/usr/sbin", "HOME": "/root"},
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProofError(f"{' '.join(command)}: no end in {timeout:g} s") from error
        return Done(command, done.returncode, done.stdout, done.stderr)

    def get(self, url: str, *, host: str | None = None, timeout: float = 2.0) -> Reply | None:
        assert self._network is not None
        return self._network.get(url, address="127.0.0.1", host=host, timeout=timeout)

    @contextlib.contextmanager
    def load(self, url: str, *, host: str | None = None, pause: float = 0.02) -> Generator[Load]:
        """Request a URL on its loopback repeatedly and count answers; ``pause`` in seconds."""
        assert self._network is not None
        with self._network.load(url, address="127.0.0.1", host=host, pause=pause) as load:
            yield load


def _start(
    name: str, root: Path, groups: list[Path], console: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start nspawn in its own cgroups: two machines in one would share their units' cgroups."""
    join = "".join(f"echo 0 >{group}/cgroup.procs && " for group in groups)
    return subprocess.Popen(
        [
            *("sh", "-c", f'{join}exec "$@"', "sh"),
            *("systemd-nspawn", *FLAGS, f"--directory={root}", f"--machine={name}"),
            *("--boot", "--", "systemd.log_target=journal"),
        ],
        # Without it, Docker finds version 1 cgroups, read-only.
        env={**clean_environment(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=console,
    )


def _group_places(name: str) -> list[Path]:
    """Return the paths of a cgroup: in systemd's and the unified hierarchy, or in the only one."""
    hybrid = [CGROUPS / part for part in ("systemd", "unified") if (CGROUPS / part).is_dir()]
    return [place / name for place in hybrid or [CGROUPS]]


def _make_groups(name: str) -> list[Path]:
    places = _group_places(name)
    for place in places:
        place.mkdir(exist_ok=True)
    return places


def _remove_groups(name: str) -> None:
    for place in _group_places(name):
        for directory, _, _ in os.walk(place, topdown=False):
            _remove_group(Path(directory))


def _remove_group(group: Path) -> None:
    def look() -> bool | None:
        with contextlib.suppress(OSError):  # killed processes may still be ending
            group.rmdir()
        return None if group.exists() else True

    wait_for(look, f"the end of {group}", OFF_LIMIT)


def _kill(pid: int) -> None:
    """Kill a process, and wait for its end."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], OFF_LIMIT)
    finally:
        os.close(descriptor)
