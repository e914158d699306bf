"""An app as processes of this host: its releases run a small program in the place of Traefik."""

import contextlib
import hashlib
import shlex
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

import psutil
from attrs import define, evolve, field
from safe_probes import CALLER, proven

from runner.config.app import AppConfig, DirectorySource, ProcessPlatformConfig
from runner.platforms.build import BuiltPlatform, make_platform
from runner.platforms.process.instances import Instances
from runner.platforms.process.platform import IDENTITY_PATH, ProcessPlatform
from runner.reconcile.gate import GatePolicy
from runner.reconcile.model import Deployment, Release
from runner.reconcile.probes import Identity
from runner.storage.paths import StateDir

AMPLE: Final = 20.0
"""Seconds; no step of a good run takes as long."""
PROGRAM: Final = """
import os, select, signal, socket, sys, time
with open(sys.argv[1].removeprefix("--configFile=")) as file:
    settings = dict(line.split(": ", 1) for line in file.read().splitlines())
fault = settings.get("fault", "")
print("\\x1b[31mERR\\x1b[0m fault=" + (fault or "none"), flush=True)
if fault == "exits":
    sys.exit(3)
stop, stopped = os.pipe()
if fault == "ignores":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os.write(stopped, b"x"))
token = os.environ["WARM_RECONCILE_TOKEN"]
head = f"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nX-Warm-Reconcile-Token: {token}\\r\\n"
body = '{"Version": "%s"}' % settings["version"]
answer = f"{head}Content-Length: {len(body)}\\r\\n\\r\\n{body}".encode()
if fault == "deaf":
    select.select([stop], [], [])
    sys.exit(0)
with socket.create_server(("127.0.0.1", int(settings["port"]))) as listener:
    while stop not in (ready := select.select([listener, stop], [], [])[0]):
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)
    ends = time.monotonic() + 0.5
    while fault == "clings" and time.monotonic() < ends:
        if os.path.exists("../next/traefik.log"):
            break
        time.sleep(0.01)
if fault == "lingers":
    signal.pause()
if fault == "drains":
    time.sleep(0.3)
with open("ended", "w") as file:
    file.write("beside the next" if os.path.exists("../next/traefik.log") else "by itself")
"""
"""Answers identity probes as Traefik would, and has one fault if its settings say so."""


def hold_port() -> socket.socket:
    """Bind a port without listening: no other program gets it meanwhile, but ours may."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


@define
class ProcessApp:
    """One app; each of its releases runs the same program with settings of its own."""

    home: Path
    _held: socket.socket = field(factory=hold_port, init=False)
    config: AppConfig = field(init=False)
    _instances: list[Instances] = field(factory=list[Instances], init=False)
    """Of every platform that was wired: they hold the processes that they started."""

    def __attrs_post_init__(self) -> None:
        (self.home / "source").mkdir(parents=True)
        (self.home / "standin.py").write_text(PROGRAM)
        python, program = shlex.quote(sys.executable), shlex.quote(f"{self.home}/standin.py")
        self.binary.write_text(f'#!/bin/sh\nexec {python} -IS {program} "$@"\n')
        self.config = AppConfig(
            state_dir=str(self.home / "state"),
            caller=CALLER,
            source=DirectorySource(path=str(self.home / "source")),
            probes=(
                Identity(target_unit=CALLER, url=f"http://127.0.0.1:{self.port}{IDENTITY_PATH}"),
            ),
            platform=ProcessPlatformConfig(stop_timeout=AMPLE),
            gate=GatePolicy(rise=2, window=0.0, deadline=AMPLE, verify_deadline=AMPLE),
        )

    @property
    def port(self) -> int:
        port: int = self._held.getsockname()[1]
        return port

    @property
    def binary(self) -> Path:
        return self.home / "traefik"

    def configure(self, **platform: object) -> None:
        """Change the options of the platform."""
        assert isinstance(self.config.platform, ProcessPlatformConfig)
        changed = evolve(self.config.platform, **platform)  # type: ignore[arg-type]
        self.config = evolve(self.config, platform=changed)

    def release(self, label: str, *, fault: str = "", says: str = "") -> None:
        """Offer a release.

        Args:
            label: such as ``1.0.0+v3.5.1``.
            fault: of its program.
            says: another version that it answers with.
        """
        version = label.rpartition("+v")[2]
        place = self.home / "source" / label
        place.mkdir()
        settings = {"port": self.port, "version": says or version, "fault": fault}
        lines = "".join(f"{key}: {value}\n" for key, value in settings.items() if value)
        (place / "traefik.yml").write_text(lines)
        digest = hashlib.sha256(self.binary.read_bytes()).hexdigest()
        (place / "release.toml").write_text(
            f'version = "{version}"\nbinary = "{self.binary}"\nbinary_sha256 = "{digest}"\n'
        )

    @contextlib.contextmanager
    def wired(self, state: StateDir) -> Generator[BuiltPlatform]:
        """Wire it as a run does."""
        probes = tuple(proven(probe) for probe in self.config.probes)
        with make_platform(self.config, state, probes) as wired:
            yield wired

    @contextlib.contextmanager
    def platform(self, state: StateDir) -> Generator[ProcessPlatform]:
        with self.wired(state) as wired:
            assert isinstance(wired.platform, ProcessPlatform)
            self._instances.append(wired.platform.instances)
            yield wired.platform

    def processes(self, state: StateDir) -> dict[str, list[psutil.Process]]:
        return Instances(state.instances).running()

    def end(self, state: StateDir) -> None:
        """End what a test left, and collect the exit status of each child of this process."""
        for processes in self.processes(state).values():
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._held.close()
        for instances in self._instances:
            for child in instances._children.values():
                child.wait(AMPLE)


def latest(platform: ProcessPlatform, token: str = "token-1") -> Deployment:  # noqa: S107 - no password
    """Store the newest release, and make a deployment of it."""
    release = platform.latest()
    assert isinstance(release, Release), release
    return Deployment(release, token)
