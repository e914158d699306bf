"""The fixtures of the tests on a real swarm: one engine for a worker, one app for a test.

They need root, Docker's engine and its command, iptables and iproute2, and a static busybox. Every
engine lives in a network namespace of its own, so that workers and the host don't meet; the ports
80 and 443 in it are the test's.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest
from traefik.conftest import real
from traefik.harness import Binary

from swarm.engine import Engine
from swarm.harness import Host
from swarm.images import make_image
from swarm.network import Network

__all__ = ["real"]

TOOLS: Final = ("dockerd", "containerd", "docker", "ip", "iptables", "nsenter", "unshare", "git")
OUTSIDE: Final = "172.31.255.2"
"""The address of somebody outside: one of those that Docker's own networks have, too."""
THERE: Final = "172.31.255.1"
"""Where somebody outside finds the host."""


@pytest.fixture(scope="session")
def engine(
    need: Callable[[str], str], missing: Callable[[str], NoReturn], real: dict[str, Binary]
) -> Iterator[Engine]:
    """Start a swarm of one, with an image of each Traefik: ``traefik:v3.7.15``."""
    if os.geteuid() != 0:
        missing("only root can start an engine of its own")
    for tool in TOOLS:
        need(tool)
    known = subprocess.run(
        ["docker", "stack", "config", "--help"], capture_output=True, check=False
    )
    if known.returncode != 0:
        missing("docker has no `stack config`: its command line must be 25 or newer")
    busybox = Path(need("busybox"))

    def furnish(engine: Engine) -> None:
        for version, binary in real.items():
            make_image(engine, f"traefik:v{version}", busybox, binary.path)

    try:
        engine = Engine(furnish)
    except subprocess.CalledProcessError:
        missing("no network namespace can be made here")
    try:
        engine.begin()
        yield engine
    finally:
        engine.end()


@pytest.fixture
def host(engine: Engine, tmp_path: Path) -> Iterator[Host]:
    """Make the app of a test; take it off afterwards, whatever happened to the engine."""
    host = Host(engine, tmp_path / "host")
    yield host
    host.stop()


@pytest.fixture
def outsider(engine: Engine) -> Iterator[Network]:
    """Be somebody on another host, which reaches this one at ``THERE``."""
    network = Network(f"{engine.name}-out")
    try:
        with engine.network.joined(network, f"{THERE}/24", f"{OUTSIDE}/24"):
            yield network
    finally:
        network.remove()
