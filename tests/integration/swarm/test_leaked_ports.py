"""The engine comes back from a cut of the power with ports that it holds for nobody.

Nothing can start then, whatever its release: the run blames nobody and says what heals it.
"""

import pytest

from swarm.harness import NEW, OLD, Host
from swarm.healthy import assert_serving, make_last_good, prepare, proven, quarantined
from swarm.network import wait_for

pytestmark = pytest.mark.swarm

FIRST = f"1.0.0+v{OLD}"
SECOND = f"2.0.0+v{NEW}"
DENIED = "port is already allocated"
SANDBOXES = b"docker/network/v1.0/sandbox/"
ELSEWHERE = b"docker/network/v1.0/sandbOx/"
"""As long, and at the same place in the order of the keys."""


@pytest.fixture
def host(host: Host) -> Host:
    """Configure short runs, with more time than a container may take to give its ports back."""
    prepare(host, deadline=40)
    make_last_good(host, FIRST)
    return host


def leak_ports(host: Host) -> None:
    """Cut the power where the engine has forgotten a sandbox, and not yet its endpoints."""
    host.engine.cut_power()
    store = host.engine.home / "data" / "network" / "files" / "local-kv.db"
    written = store.read_bytes()
    assert SANDBOXES in written
    store.write_bytes(written.replace(SANDBOXES, ELSEWHERE))
    host.engine.start()

    def is_denied() -> bool | None:
        form = ("--no-trunc", "--format={{.Error}}")
        said = host.engine.docker("service", "ps", *form, host.service)
        return True if DENIED in said else None

    wait_for(is_denied, "a task that is denied its ports")


def assert_stuck(host: Host) -> None:
    """Check that a run decides nothing, and says why and what to do."""
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (23, "undecided", None), ran
    assert "holds port 443 for no container" in ran.reason
    assert "systemctl restart docker.service" in ran.reason
    assert (proven(host), quarantined(host)) == ([FIRST], {})


def test_last_good_is_no_worse_for_it(host: Host) -> None:
    """It comes back with the engine."""
    leak_ports(host)
    assert_stuck(host)
    host.engine.restart()
    ran = host.run()
    assert (ran.code, ran.serving) == (0, FIRST), ran
    assert_serving(host, FIRST)


def test_a_candidate_is_not_blamed(host: Host) -> None:
    """A rollback was begun, and is finished first; then it gets its trial."""
    leak_ports(host)
    host.release(SECOND)
    assert_stuck(host)
    host.engine.restart()
    ran = host.run()
    assert (ran.code, ran.serving, quarantined(host)) == (12, FIRST, {}), ran
    ran = host.run()
    assert (ran.code, ran.serving) == (0, SECOND), ran
    assert_serving(host, SECOND)
