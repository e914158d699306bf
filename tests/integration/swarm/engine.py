"""A real dockerd of the test's own, in a network namespace, as the one node of a swarm.

Everything it starts lives in its mount namespace or below its cgroup, and that is how it is found
again and ended, whatever a test killed. Its mounts are in a namespace of its own and end with it.
"""

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from swarm.network import Network, clean_environment, wait_for

CGROUPS: Final = Path("/sys/fs/cgroup")
START_LIMIT: Final = 300.0
END_LIMIT: Final = 300.0
COMMAND_LIMIT: Final = 600.0
NETWORK: Final = "proxy"
"""The overlay network that recipes expect."""

_START: Final = """
mkdir -p /run/docker && mount -t tmpfs tmpfs /run/docker || exit
exec "$@"
"""


class Engine:
    """One dockerd. ``start`` it, ``kill`` it, ``start`` it again; ``end`` leaves nothing."""

    def __init__(self, furnish: Callable[["Engine"], None]) -> None:
        """Args: ``furnish`` loads the images that a fresh engine is to have."""
        self._furnish = furnish
        self.home = Path(tempfile.mkdtemp(prefix="wr-", dir="/tmp"))
        self.name = f"wr-{secrets.token_hex(4)}"
        self.socket = self.home / "docker.sock"
        self.network = Network(self.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._mounts: int | None = None
        """The mount namespace, held open so that no other one gets its number."""
        (self.home / "daemon.json").write_text("{}")

    # Its life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start dockerd and wait until it answers; in what is left of the last one, if any."""
        assert self._process is None
        home = self.home
        daemon = [
            "dockerd",
            f"--config-file={home}/daemon.json",
            f"--data-root={home}/data",
            f"--exec-root={home}/exec",
            f"--pidfile={home}/pid",
            f"--host=unix://{self.socket}",
            f"--cgroup-parent=/{self.name}",
            f"--containerd-namespace={self.name}",
            f"--containerd-plugins-namespace={self.name}-plugins",
            "--shutdown-timeout=1",
        ]
        held: tuple[int, ...] = ()
        if self._mounts is None:
            enter = ["unshare", "--mount", "sh", "-c", _START, "sh"]
        else:
            held = (self._mounts,)
            enter = ["nsenter", f"--mount=/proc/self/fd/{self._mounts}"]
        for stale in (home / "pid", self.socket):
            stale.unlink(missing_ok=True)
        with (home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.network.prefix, *enter, *daemon],
                env=clean_environment(),
                pass_fds=held,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, f"an engine; see {home}/log", START_LIMIT)
        if self._mounts is None:
            self._mounts = os.open(f"/proc/{self._process.pid}/ns/mnt", os.O_RDONLY)

    def begin(self) -> None:
        """Make a swarm of one, with the network that recipes expect, and images."""
        self.start()
        local = ("--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377")
        self.docker("swarm", "init", *local)
        self.docker("network", "create", "--driver=overlay", "--attachable", NETWORK)
        self._furnish(self)

    def begin_anew(self) -> None:
        """Forget everything that this engine ever had: it can't be brought in order any more."""
        self.cut_power()
        for left in ("data", "exec"):
            shutil.rmtree(self.home / left, ignore_errors=True)
        self.begin()

    def _answers(self) -> bool | None:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "log").read_text()[-2000:]
        asked = self._command("info", "--format={{.ID}}")
        return True if asked.returncode == 0 and asked.stdout.strip() else None

    def kill(self) -> None:
        """Kill dockerd, and with it its containerd; containers go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(END_LIMIT)
        self._process = None
        # The next dockerd would wait for one that is still ending, or a zombie.
        noted = self.home / "exec" / "containerd" / "containerd.pid"
        _kill(int(noted.read_text()))
        noted.unlink()

    def restart(self) -> None:
        """Kill dockerd and start it again."""
        self.kill()
        self.start()

    def cut_power(self) -> None:
        """Kill everything at once; what memory held is gone: mounts, networks, cgroups."""
        self._kill_everything()
        self._forget()
        self.network.renew()

    def end(self) -> None:
        """Leave nothing: no process, no mount, no namespace, no file."""
        self._kill_everything()
        self._forget()
        self.network.remove()
        shutil.rmtree(self.home)

    def _kill_everything(self) -> None:
        if self._process is not None:
            self.kill()
        while processes := self.processes():  # again: one may have started another
            for pid in processes:
                _kill(pid)

    def _forget(self) -> None:
        if self._mounts is not None:
            os.close(self._mounts)
            self._mounts = None
        for root in self.cgroups():
            for directory, _, _ in os.walk(root, topdown=False):
                _remove_group(Path(directory))

    def cgroups(self) -> list[Path]:
        """Find its cgroups: one in each hierarchy of version 1, or the one of version 2."""
        places = (CGROUPS / self.name, *CGROUPS.glob(f"*/{self.name}"))
        return [place for place in places if place.is_dir()]

    def processes(self) -> list[int]:
        """List what this engine started: in its mounts, or below its cgroup."""
        if self._mounts is None:
            return []
        found: list[int] = []
        mounts = os.fstat(self._mounts).st_ino
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(OSError):  # it ended meanwhile
                if (entry / "ns" / "mnt").stat().st_ino == mounts or self._has(entry):
                    found.append(int(entry.name))
        return found

    def _has(self, entry: Path) -> bool:
        return f":/{self.name}/" in (entry / "cgroup").read_text()

    # Talking to it -------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command that uses this dockerd."""
        return {**clean_environment(), "DOCKER_HOST": f"unix://{self.socket}"}

    def docker(
        self, *arguments: str, given: bytes = b"", environment: dict[str, str] | None = None
    ) -> str:
        """Run one command; return what it printed, without the last line's end."""
        done = self._command(*arguments, given=given, environment=environment)
        assert done.returncode == 0, (arguments, done.stderr.decode("utf-8", "replace"))
        return done.stdout.decode().rstrip("\n")

    def logs(self, container: str) -> str:
        """Read what a container printed; nothing of one that Swarm has removed meanwhile."""
        done = self._command("logs", container)
        is_gone = b"No such container" in done.stderr
        assert done.returncode == 0 or is_gone, done.stderr.decode("utf-8", "replace")
        return done.stdout.decode()

    def _command(
        self, *arguments: str, given: bytes = b"", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["docker", *arguments],
            env={**self.environment, **(environment or {})},
            input=given,
            capture_output=True,
            timeout=COMMAND_LIMIT,
            check=False,
        )

    def inspect(self, kind: str, *names: str) -> list[dict[str, Any]]:
        """Read services, tasks, containers, images with ``docker inspect``."""
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", f"--type={kind}", *names))
        return found

    def listed(self, *arguments: str) -> list[str]:
        """Run a command that prints a line for each thing."""
        return self.docker(*arguments).splitlines()

    def remove_stacks(self, ports: tuple[int, ...] = (80, 443)) -> None:
        """Take every stack off, and wait until nothing of it is left and its ports are free."""
        if self._process is None:
            self.start()
        for stack in self.listed("stack", "ls", "--format={{.Name}}"):
            self.docker("stack", "rm", stack)
        if left := self.listed("ps", "--all", "--quiet"):
            # Nobody waits for their last requests; and one that an engine made and could not start
            # is no business of the next engine's.
            self._command("rm", "--force", *left)

        def is_bare() -> bool | None:
            if self.listed("service", "ls", "--quiet") or self.listed("ps", "--all", "--quiet"):
                return None
            return True if not self.network.listening().intersection(ports) else None

        wait_for(is_bare, "the end of the stacks")
        for kind in ("config", "secret", "volume"):
            if left := self.listed(kind, "ls", "--quiet"):
                self.docker(kind, "rm", *left)


def _kill(pid: int) -> None:
    """End a process, and wait until it has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ready, _, _ = select.select([pidfd], [], [], END_LIMIT)
        assert ready, f"process {pid} survived SIGKILL"
    finally:
        os.close(pidfd)


def _remove_group(group: Path) -> None:
    def look() -> bool | None:
        with contextlib.suppress(OSError):  # what was killed is not quite gone
            group.rmdir()
        return None if group.exists() else True

    wait_for(look, f"the end of {group}", END_LIMIT)
