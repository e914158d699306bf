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

TOOLS: Final = (
    *("busybox", "containerd", "docker", "dockerd", "git", "ip", "iptables", "nsenter", "unshare"),
)
QUICK: Final = frozenset(
    {
        "test_only_this_host_can_read_the_identity_of_a_task[ours-3.7.15]",
        "test_a_preflight_spares_last_good[exits at once]",
        "test_the_gate_rolls_it_back[is another version under the right tag]",
        "test_a_first_release_is_committed_without_any_certificate[3.7.15]",
        "test_a_rerun_touches_nothing",
        "test_no_engine_at_the_beginning",
        "test_no_socket",
        "test_an_engine_without_a_swarm",
        "test_a_change_by_someone_else_is_reported_and_reverted[a rollback by Swarm]",
        "test_the_next_run_makes_it_good[an update-amid docker stack deploy]",
    }
)
"""The tests that `make test` has the time for; all others here are slow, and run in CI."""
OUTSIDE: Final = "172.31.255.2"
"""The address of another host, from a range that Docker's own networks use, too."""
THERE: Final = "172.31.255.1"
"""The address of this host for other hosts."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each of these tests takes tens of seconds: a selection stands for them all."""
    for item in items:
        if item.get_closest_marker("swarm") and item.name not in QUICK:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def able(need: Callable[[str], str], missing: Callable[[str], NoReturn]) -> None:
    """Skip a test if no dockerd can be started; in CI it fails."""
    if os.geteuid() != 0:
        missing("only root can start an engine of its own")
    for tool in TOOLS:
        need(tool)


@pytest.fixture(scope="session")
def engine(
    able: None,
    need: Callable[[str], str],
    missing: Callable[[str], NoReturn],
    real: dict[str, Binary],
) -> Iterator[Engine]:
    """Start a swarm of one, with an image of each Traefik: ``traefik:v3.7.15``."""
    del able
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
    """Make the app of a test; remove it afterwards, also after a failure of dockerd."""
    host = Host(engine, tmp_path / "host")
    yield host
    host.stop()


@pytest.fixture
def outsider(engine: Engine) -> Iterator[Network]:
    """Make another host, which reaches this one at ``THERE``."""
    network = Network(f"{engine.name}-out")
    try:
        with engine.network.joined(network, f"{THERE}/24", f"{OUTSIDE}/24"):
            yield network
    finally:
        network.remove()
