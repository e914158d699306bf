"""Changes of the stack by someone else: each is detected, reported, and reverted by the next run.

And nothing is done where nothing is amiss.
"""

from collections.abc import Callable
from typing import Final

import pytest
from attrs import frozen

from swarm.harness import NEW, OLD, Host
from swarm.healthy import assert_serving, make_last_good, prepare, proven, quarantined
from swarm.images import make_variant
from swarm.network import wait_for

pytestmark = pytest.mark.swarm

FIRST: Final = f"1.0.0+v{OLD}"
SECOND: Final = f"2.0.0+v{NEW}"


@pytest.fixture
def host(host: Host) -> Host:
    """Configure short runs."""
    prepare(host)
    return host


def versions(host: Host) -> dict[str, int]:
    """Read the version of every object of the swarm."""
    engine = host.engine
    found: dict[str, int] = {}
    for kind in ("service", "config", "secret"):
        names = engine.listed(kind, "ls", "--quiet")
        objects = engine.inspect(kind, *names) if names else []
        found |= {f"{kind} {data['ID']}": data["Version"]["Index"] for data in objects}
    networks = engine.listed("network", "ls", "--quiet", "--no-trunc")
    return found | dict.fromkeys(networks, 0)


def _is_settled(host: Host) -> bool:
    (service,) = host.engine.inspect("service", host.service)
    return bool(service["UpdateStatus"]["State"] == "completed")


def test_a_run_with_nothing_to_do_writes_nothing_to_the_swarm(host: Host) -> None:
    """Every write would raise the version of something."""
    make_last_good(host, FIRST)
    container = make_last_good(host, SECOND)
    # Swarm itself writes once more when it calls the update completed.
    wait_for(lambda: _is_settled(host) or None, "the end of the update")
    before = versions(host)
    for _ in range(2):
        ran = host.run()
        assert (ran.code, ran.outcome, ran.serving) == (0, "unchanged", SECOND), ran
        assert versions(host) == before
        assert assert_serving(host, SECOND) == container


# Between two runs --------------------------------------------------------------------------------


@frozen
class Change:
    """A change by hand, and what the next run reports."""

    name: str
    touch: Callable[[Host], object]
    because: str
    """``{service}`` and ``{stack}`` stand for their names."""
    is_quick: bool = False
    """Also in the fast tests: the changes that are hardest to detect."""


def _update(*flags: str) -> Callable[[Host], object]:
    def touch(host: Host) -> None:
        host.engine.docker(
            "service", "update", "--detach", "--no-resolve-image", *flags, host.service
        )

    return touch


def _same_version(host: Host) -> None:
    """Set another image of the same Traefik."""
    image = "other:same-version"
    make_variant(host.engine, image, f"traefik:v{NEW}", files={"etc/other": b""})
    _update(f"--image={image}")(host)


def _roll_back(host: Host) -> None:
    host.engine.docker("service", "rollback", "--detach", host.service)


def _scale(host: Host) -> None:
    host.engine.docker("service", "scale", "--detach", f"{host.service}=0")


def _remove_service(host: Host) -> None:
    host.engine.docker("service", "rm", host.service)


def _remove_stack(host: Host) -> None:
    host.engine.docker("stack", "rm", host.stack)


def _add_service(host: Host) -> None:
    host.engine.docker(
        *("service", "create", "--detach", "--no-resolve-image", "--quiet"),
        *(f"--name={host.stack}_more", f"--label=com.docker.stack.namespace={host.stack}"),
        *("--stop-signal=KILL", "--entrypoint=sleep", f"traefik:v{NEW}", "1000"),
    )


CHANGED: Final = "service {service} was changed by someone else"
CHANGES: Final = (
    Change("a rollback by Swarm", _roll_back, "{first} is live", is_quick=True),
    Change("another label", _update("--label-add=by=hand"), CHANGED),
    Change("another image", _update(f"--image=traefik:v{OLD}"), CHANGED),
    Change("another image of the same version", _same_version, CHANGED, is_quick=True),
    Change("no tasks", _scale, CHANGED),
    Change("no service", _remove_service, ""),
    Change("no stack", _remove_stack, ""),
    Change("one more service", _add_service, "service {stack}_more was added by someone else"),
)


def image_of(host: Host) -> str:
    """Read which image the tasks are made of."""
    return str(host.spec()["TaskTemplate"]["ContainerSpec"]["Image"])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change, id=change.name, marks=() if change.is_quick else pytest.mark.slow)
        for change in CHANGES
    ],
)
def test_a_change_by_someone_else_is_reported_and_reverted(host: Host, change: Change) -> None:
    """The same release serves again, with the gated spec; no release is blamed."""
    make_last_good(host, FIRST)
    make_last_good(host, SECOND)
    image = image_of(host)
    change.touch(host)
    ran = host.run("--detailed-exit-code")
    assert (ran.code, ran.outcome, ran.serving) == (11, "restored", SECOND), ran
    because = change.because.format(service=host.service, stack=host.stack, first=FIRST)
    assert because in ran.reason, ran
    assert_serving(host, SECOND)
    assert image_of(host) == image
    assert host.engine.listed("service", "ls", "--format={{.Name}}") == [host.service]
    assert proven(host) == [SECOND, FIRST]
    assert quarantined(host) == {}
    again = host.run()
    assert (again.code, again.outcome) == (0, "unchanged"), again


@pytest.mark.slow
def test_a_killed_task_is_restarted_by_swarm(host: Host) -> None:
    """The spec is as it was: another task of last-good serves, and nothing is deployed."""
    container = make_last_good(host, SECOND)
    before = versions(host)
    host.engine.docker("kill", container)
    wait_for(lambda: True if set(host.containers()) - {container} else None, "another task")
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "unchanged", SECOND), ran
    assert assert_serving(host, SECOND) != container
    assert versions(host) == before
    assert proven(host) == [SECOND]
