"""Fixtures of several unit tests: a state directory, a release, a Python process, a small disk."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NoReturn

import pytest
from fake_docker import FakeDocker, running_docker
from recorded import Systemctl
from servers import Certificate

from runner.platforms.swarm.docker_cli import Docker
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.stack import Stacks
from runner.storage.paths import StateDir, open_state

PATIENCE = 120.0
"""Seconds until a wait for a condition gives up; no passing test waits so long."""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """Make the state directory of an app that never ran."""
    return open_state(tmp_path / "state", "traefik")


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[[str], Path]:
    """Unpack a state directory that an older version wrote: ``unpack("dbd8bb8-process")``."""

    def make(name: str) -> Path:
        archive = Path(__file__).parents[1] / "frozen" / f"{name}.tar.gz"
        place = tmp_path / "older"
        place.mkdir(mode=0o700)
        command = ["tar", "--extract", "--gzip", "--no-same-owner", f"--file={archive}"]
        subprocess.run([*command, f"--directory={place}"], check=True)
        return place

    return make


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait for a condition: ``until(lambda: path.exists())``."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "what must happen did not happen"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def unshare(need: Callable[[str], str], missing: Callable[[str], NoReturn]) -> str:
    """Find the command for a network namespace, if this user may make one and has the tools."""
    program = need("unshare")
    need("ip")
    if subprocess.run([program, "--net", "true"], check=False, capture_output=True).returncode:
        missing("this user may not make a network namespace")
    return program


@pytest.fixture(scope="session")
def start_python() -> Generator[Callable[..., subprocess.Popen[str]]]:
    """Start Python on some code with arguments; kill it at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python on some code with arguments, to its end.

    ``limited`` code takes away from itself what coverage needs for its report, so it goes without.
    """

    def run(
        code: str, *arguments: str | Path, limited: bool = False
    ) -> subprocess.CompletedProcess[str]:
        without = "COVERAGE_" if limited else "\0"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            env={**kept, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
        )

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path | None]:
    """Mount a file system of 1 MiB; None where this user may not mount."""
    place = tmp_path / "disk"
    place.mkdir()
    options = f"size=1m,mode=0700,uid={os.geteuid()}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        yield None
        return
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def make_release(tmp_path: Path) -> Callable[..., Path]:
    """Write a release below ``source/``: ``make_release("3.4.0+v3.5.1")`` is its directory."""

    def make(label: str, *, binary: bytes = b"#!/bin/sh\n", version: str = "3.5.1") -> Path:
        place = tmp_path / "source" / label
        (place / "dynamic").mkdir(parents=True)
        (place / "traefik.yml").write_text(f"# {label}\n")
        (place / "dynamic" / "routes.yml").write_text("http: {}\n")
        program = tmp_path / "programs" / hashlib.sha256(binary).hexdigest()
        program.parent.mkdir(exist_ok=True)
        program.write_bytes(binary)
        (place / "release.toml").write_text(
            f'version = "{version}"\nbinary = "{program}"\nbinary_sha256 = "{program.name}"\n'
        )
        return place

    return make


@pytest.fixture
def systemctl_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    """Put a ``systemctl`` on the PATH that prints the given text for each of its commands.

    ``systemctl_says(show="...", list_jobs="...")``; ``script=`` says all of it.
    """
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def make(*, script: str = "", **texts: str) -> None:
        for command, text in texts.items():
            (tmp_path / command.replace("_", "-")).write_text(text)
        program.write_text("#!/bin/sh\n" + (script or f"cat '{tmp_path}'/$1") + "\n")
        program.chmod(0o755)

    return make


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[FakeDocker]:
    """Run a fake Docker, with its command on the PATH."""
    home = tmp_path / "docker"
    home.mkdir()
    monkeypatch.setenv("PATH", f"{home / 'bin'}:/usr/bin:/bin")
    with running_docker(home) as made:
        yield made


@pytest.fixture
def stacks(docker: FakeDocker, tmp_path: Path) -> Stacks:
    """Make the stacks of the fake Docker, and a place for their records."""
    engine = Engine(str(docker.path), PATIENCE)
    return Stacks(engine, Docker(engine.url), tmp_path / "records")


@pytest.fixture(scope="session")
def make_certificate(
    tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]
) -> Callable[[], Certificate]:
    """Make a certificate for 127.0.0.1 and site.invalid that no authority has signed."""

    def make() -> Certificate:
        place = tmp_path_factory.mktemp("tls")
        made = Certificate(place / "cert.pem", place / "key.pem")
        command = [need("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
        command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=test"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:site.invalid"]
        command += ["-keyout", str(made.key), "-out", str(made.certificate)]
        subprocess.run(command, check=True, capture_output=True)
        return made

    return make
