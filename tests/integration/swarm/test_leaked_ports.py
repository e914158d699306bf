"""Dockerd comes back from a power cut with leaked ports.

No task that publishes such a port can start then: the run blames no release, and reports the
command that frees the ports.
"""

import pytest

from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.leaked_ports import find_leaks
from swarm.harness import NEW, OLD, Host
from swarm.healthy import assert_serving, make_last_good, prepare, proven, quarantined
from swarm.leak import forget_sandboxes
from swarm.network import wait_for

pytestmark = pytest.mark.swarm

FIRST = f"1.0.0+v{OLD}"
SECOND = f"2.0.0+v{NEW}"
DENIED = "port is already allocated"


@pytest.fixture
def host(host: Host) -> Host:
    """Configure short runs, with more time than a container may take to give its ports back."""
    prepare(host, deadline=40)
    make_last_good(host, FIRST)
    return host


def leak_ports(host: Host) -> None:
    """Cut the power so that dockerd comes back with leaked ports, and tasks fail."""
    host.engine.cut_power()
    forget_sandboxes(host.engine.home / "data" / "network" / "files" / "local-kv.db")
    host.engine.start()

    def is_denied() -> bool | None:
        form = ("--no-trunc", "--format={{.Error}}")
        said = host.engine.docker("service", "ps", *form, host.service)
        return True if DENIED in said else None

    wait_for(is_denied, "a task that is denied its ports")


def assert_stuck(host: Host) -> None:
    """Check that a run decides nothing, and reports the cause and the command that helps."""
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (23, "undecided", None), ran
    assert "holds port 443 although no container uses it" in ran.reason
    assert "systemctl restart docker.service" in ran.reason
    assert (proven(host), quarantined(host)) == ([FIRST], {})


def leaked_ports(host: Host) -> frozenset[int]:
    """Find leaked ports as ``free-ports`` does."""
    pid = int((host.engine.home / "pid").read_text())
    return find_leaks(Engine(str(host.engine.socket)), pid)


def test_last_good_is_no_worse_for_it(host: Host) -> None:
    """It comes back with dockerd; the leaked ports are found, and no others."""
    assert leaked_ports(host) == frozenset()
    leak_ports(host)
    assert leaked_ports(host) == {80, 443}
    assert_stuck(host)
    host.engine.restart()
    assert leaked_ports(host) == frozenset()
    ran = host.run()
    assert (ran.code, ran.serving) == (0, FIRST), ran
    assert_serving(host, FIRST)


def test_a_candidate_is_not_blamed(host: Host) -> None:
    """A rollback was begun, and is finished first; then the candidate is tried."""
    leak_ports(host)
    host.release(SECOND)
    assert_stuck(host)
    host.engine.restart()
    ran = host.run()
    assert (ran.code, ran.serving, quarantined(host)) == (12, FIRST, {}), ran
    ran = host.run()
    assert (ran.code, ran.serving) == (0, SECOND), ran
    assert_serving(host, SECOND)
