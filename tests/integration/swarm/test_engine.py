"""The dockerd of the other tests: it survives their faults, and leaves nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm.engine import Engine
from swarm.images import make_image
from swarm.network import wait_for

pytestmark = pytest.mark.swarm

IMAGE = "shell:latest"
SERVICE = (
    *("service", "create", "--detach", "--no-resolve-image", "--name=nap"),
    *("--stop-signal=KILL", "--restart-delay=0s", IMAGE, "sleep", "1000"),
)


@pytest.fixture
def own(engine: Engine, need: Callable[[str], str]) -> Iterator[Engine]:
    """Start a second engine beside the worker's own; the test ends it."""
    assert engine.name
    busybox = Path(need("busybox"))
    own = Engine(lambda fresh: make_image(fresh, IMAGE, busybox))
    try:
        own.begin()
        yield own
    finally:
        if own.home.exists():
            own.end()


def await_container(engine: Engine, but: str = "") -> str:
    """Wait for a container that isn't this one."""

    def look() -> str | None:
        others = [c for c in engine.listed("ps", "--quiet", "--no-trunc") if c != but]
        return others[0] if others else None

    return wait_for(look, "a container")


def test_nothing_outlives_an_engine_that_was_killed(own: Engine) -> None:
    """Containers go on without it; its end takes them, its mounts, and its files."""
    own.docker("run", "--detach", IMAGE, "sleep", "1000")
    own.kill()
    left = own.processes()
    assert left, "the container and its shim"
    own.end()
    assert not own.home.exists()
    assert not own.network.path.exists()
    assert own.cgroups() == []
    for pid in left:
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or ") Z " in state.read_text()


def test_a_service_comes_back_after_a_kill_and_after_a_power_cut(own: Engine) -> None:
    """The swarm is the same one, and the task another."""
    own.docker(*SERVICE)
    first = await_container(own)
    own.restart()
    second = await_container(own, first)
    own.cut_power()
    own.start()
    third = await_container(own, second)
    assert len({first, second, third}) == 3
