"""Two deployments at once: two runs of ours, or a run and an operator."""

import subprocess
from typing import Final

import pytest

from swarm.harness import NEW, Host
from swarm.healthy import assert_serving, make_last_good, prepare, proven, quarantined, token_of
from swarm.network import wait_for

pytestmark = pytest.mark.swarm

FIRST: Final = f"1.0.0+v{NEW}"
SECOND: Final = f"2.0.0+v{NEW}"


@pytest.fixture
def host(host: Host) -> Host:
    """Configure short runs."""
    prepare(host, window=2.0)
    return host


CHANGED: Final = "since it was deployed"
"""The reason for a service that is no longer as it was written."""


def begin_update(host: Host, until: str = "") -> subprocess.Popen[str]:
    """Begin a run that has written a new release, and is about to gate it.

    Args:
        host: with a last-good.
        until: a failure after which the gate has no time left; without one it has all its time.
    """
    before = token_of(host)
    host.release(SECOND)
    run = host.begin_until(until) if until else host.begin()
    wait_for(lambda: True if token_of(host) != before else None, "the new release's spec")
    return run


def test_a_second_run_does_not_touch_what_the_first_one_does(host: Host) -> None:
    """The message names the other run."""
    make_last_good(host, FIRST)
    first = begin_update(host)
    second = host.run()
    assert (second.code, second.out) == (75, ""), second
    assert f"process {first.pid}" in second.log, second
    ran = host.end(first)
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", SECOND), ran
    assert_serving(host, SECOND)


@pytest.mark.slow
def test_a_second_run_waits_with_the_wait_option(host: Host) -> None:
    """It finds what the first one has left, and nothing to do."""
    make_last_good(host, FIRST)
    first = begin_update(host)
    second = host.begin("--wait", "600")
    committed = host.end(first)
    waited = host.end(second)
    assert (committed.code, committed.outcome) == (0, "committed"), committed
    assert (waited.code, waited.outcome, waited.serving) == (0, "unchanged", SECOND), waited
    assert_serving(host, SECOND)


def change_by_hand(host: Host) -> None:
    host.engine.docker("service", "update", "--detach", "--env-add=BY=hand", host.service)


def test_someone_changes_the_service_while_its_release_is_gated(host: Host) -> None:
    """The running spec is not the deployed one: no verdict, and no blame."""
    make_last_good(host, FIRST)
    run = begin_update(host, CHANGED)
    change_by_hand(host)
    ran = host.end(run)
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", FIRST), ran
    assert f"service {host.service} was changed by someone else" in ran.reason, ran
    assert quarantined(host) == {}
    assert proven(host) == [FIRST]
    again = host.run()
    assert (again.code, again.outcome, again.serving) == (0, "committed", SECOND), again
    assert_serving(host, SECOND)


@pytest.mark.slow
def test_someone_changes_the_service_while_the_first_release_is_gated(host: Host) -> None:
    """There is no fallback: the next run decides."""
    host.release(FIRST)
    run = host.begin_until(CHANGED)

    def is_written() -> bool | None:
        return True if host.service in _services(host) else None

    wait_for(is_written, "the first service")
    change_by_hand(host)
    ran = host.end(run)
    assert (ran.code, ran.outcome, ran.serving) == (21, "undecided", None), ran
    assert proven(host) == []
    assert quarantined(host) == {}
    again = host.run()
    assert (again.code, again.outcome, again.serving) == (0, "committed", FIRST), again
    assert_serving(host, FIRST)


def _services(host: Host) -> list[str]:
    return host.engine.listed("service", "ls", "--format={{.Name}}")


@pytest.mark.slow
def test_someone_deploys_the_whole_stack_while_its_release_is_gated(host: Host) -> None:
    """By the same command that a run uses; it is not taken for a deployment of ours."""
    make_last_good(host, FIRST)
    run = begin_update(host, CHANGED)
    host.deploy_by_hand(SECOND, WARM_RECONCILE_TOKEN=token_of(host))
    ran = host.end(run)
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", FIRST), ran
    assert quarantined(host) == {}
    again = host.run()
    assert (again.code, again.outcome, again.serving) == (0, "committed", SECOND), again
    assert_serving(host, SECOND)
