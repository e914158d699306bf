"""The trial of a release beside what serves, on the fake Docker engine."""

import time
from collections.abc import Generator
from pathlib import Path

import pytest
from attrs import evolve
from fake_docker import FakeDocker
from fake_swarm import FAILS, NO_PLACE, WAITS, Json
from safe_probes import CALLER
from swarm_app import GATED, STACK, FakeTraefik, SwarmApp, latest

from runner.platforms.swarm.objects import TOKEN_VARIABLE
from runner.platforms.swarm.platform import SwarmPlatform
from runner.platforms.swarm.preflight import PROVIDER_PATH
from runner.platforms.swarm.stack_document import PREFLIGHT_LABEL
from runner.reconcile.errors import DeployError, NotPreparedError
from runner.reconcile.model import Deployment
from runner.reconcile.probes import Identity, TaskHttp, TraefikPing
from runner.storage.paths import StateDir

FIRST, SECOND = "1.0.0+v3.5.1", "2.0.0+v3.6.0"
TRIAL = "s-try-"
"""How the name of a trial of stack ``s`` begins."""
LONG = 60.0
"""Seconds that no trial needs which is decided."""
SHORT = 5.0
"""Seconds, on the clock of a test, for a trial that is never decided."""


class StepClock:
    """A clock that advances only in `sleep`: no deadline depends on this machine."""

    def __init__(self) -> None:
        self._at = 0.0

    def monotonic(self) -> float:
        return self._at

    def sleep(self, seconds: float) -> None:
        self._at += seconds

    def now(self) -> float:
        return time.time()


def try_out(platform: SwarmPlatform, timeout: float = SHORT) -> None:
    """Deploy the newest release; its trial has so many seconds of a ``StepClock``."""
    assert platform.preflight is not None
    hurried = evolve(platform.preflight, timeout=timeout, clock=StepClock())
    evolve(platform, preflight=hurried).deploy(latest(platform))


@pytest.fixture
def app(docker: FakeDocker, tmp_path: Path) -> Generator[SwarmApp]:
    traefik = FakeTraefik(docker.swarm)
    made = SwarmApp(docker, traefik, tmp_path / "app")
    made.configure(preflight=LONG)
    yield made
    traefik.close()


@pytest.fixture
def platform(app: SwarmApp, state: StateDir) -> Generator[SwarmPlatform]:
    """Wire an app whose first release serves, and whose second one was never tried."""
    app.release(FIRST)
    with app.platform(state) as first:
        serving = latest(first, "serving-token")
        first.deploy(serving)
    app.release(SECOND)
    with app.platform(state) as platform:
        yield platform


def trials(docker: FakeDocker) -> list[str]:
    """List the stacks that were written, except that of the app."""
    written = [command[-1] for command in docker.commands if command[:2] == ["stack", "deploy"]]
    return [name for name in written if name.startswith(TRIAL)]


def image(docker: FakeDocker, version: str = "v3.6.0") -> str:
    """Name the image of a release as a stack does."""
    (digest,) = docker.swarm.images[f"traefik:{version}"]["RepoDigests"]
    return f"traefik:{version}@{str(digest).partition('@')[2]}"


def serving(docker: FakeDocker) -> str:
    """Return the token of the live service."""
    container = docker.swarm.services[GATED]["Spec"]["TaskTemplate"]["ContainerSpec"]
    variables = dict(each.split("=", 1) for each in container["Env"])
    return str(variables[TOKEN_VARIABLE])


# When --------------------------------------------------------------------------------------------


def test_a_first_release_is_not_tried(app: SwarmApp, docker: FakeDocker, state: StateDir) -> None:
    """Nothing serves that could be spared."""
    app.release(FIRST)
    with app.platform(state) as platform:
        platform.deploy(latest(platform))
    assert trials(docker) == []
    assert list(docker.swarm.services) == [GATED]


def test_a_new_release_is_tried_before_what_serves_is_touched(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """Its trial has its own name and token, and is gone afterwards."""
    deployment = latest(platform, "token-of-12345678")
    seen: list[tuple[str, Json]] = []

    def look(asked: str) -> None:
        for name, service in docker.swarm.services.items():
            if name.startswith(TRIAL) and asked == "/nodes":
                seen.append((serving(docker), service["Spec"]))

    docker.slow = look
    platform.deploy(deployment)
    assert trials(docker) == ["s-try-12345678"]
    token, tried = seen[0]
    assert token == "serving-token"  # noqa: S105 - no password
    assert tried["Name"] == "s-try-12345678_app"
    assert tried["Labels"][PREFLIGHT_LABEL] == STACK
    container = tried["TaskTemplate"]["ContainerSpec"]
    assert f"{TOKEN_VARIABLE}=token-of-12345678-preflight" in container["Env"]
    assert container["Image"] == image(docker)
    assert tried["TaskTemplate"]["Placement"]["Constraints"] == [
        f"node.id=={docker.swarm.nodes[0]['ID']}"
    ]
    assert serving(docker) == deployment.token
    assert list(docker.swarm.services) == [GATED]


def test_a_long_name_is_cut(app: SwarmApp, docker: FakeDocker, state: StateDir) -> None:
    """Swarm takes 63 characters for a service."""
    app.configure(stack="a-name-of-more-than-twelve-letters")
    app.release(FIRST)
    with app.platform(state) as platform:
        platform.deploy(latest(platform, "token-1"))
        app.release(SECOND)
        platform.deploy(latest(platform, "token-of-abcdefgh"))
    stacks = [command[-1] for command in docker.commands if command[:2] == ["stack", "deploy"]]
    assert stacks[1] == "a-name-of-mo-try-abcdefgh"


def test_a_release_that_was_proven_is_not_tried(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """A rollback must not wait for what is known."""
    deployment = latest(platform)
    platform.seal(deployment.release)
    platform.deploy(deployment)
    assert trials(docker) == []


def test_nothing_is_tried_where_nothing_runs(docker: FakeDocker, platform: SwarmPlatform) -> None:
    """There is a service, and no task of it: everything is down already."""
    (task,) = docker.swarm.running(GATED)
    docker.swarm.end(task)
    platform.deploy(latest(platform))
    assert trials(docker) == []


def test_what_cannot_be_isolated_is_not_tried(
    app: SwarmApp, docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """On the host's network its ports would be those of what serves."""
    docker.swarm.put_network("host")
    app.release(
        "3.0.0+v3.7.0",
        services={"app": {"image": "traefik:v3.7.0", "networks": {"h": None}, "deploy": {}}},
        networks={"h": {"external": True, "name": "host"}},
    )
    platform.deploy(latest(platform))
    assert trials(docker) == []


def test_no_time_for_a_trial_is_none(app: SwarmApp, docker: FakeDocker, state: StateDir) -> None:
    """``preflight = 0``."""
    app.configure(preflight=0.0)
    app.release(FIRST)
    with app.platform(state) as platform:
        platform.deploy(latest(platform))
        app.release(SECOND)
        platform.deploy(latest(platform, "token-2"))
    assert trials(docker) == []


# What it comes to --------------------------------------------------------------------------------


def assert_spared(docker: FakeDocker) -> None:
    """What serves was not touched, and nothing of the trial is left."""
    assert serving(docker) == "serving-token"
    assert list(docker.swarm.services) == [GATED]
    assert len(docker.swarm.running(GATED)) == 1


def test_what_ends_in_its_trial_is_refused(docker: FakeDocker, platform: SwarmPlatform) -> None:
    """The release is to blame; the reason has the log of its container."""
    docker.swarm.fates[image(docker)] = FAILS
    with pytest.raises(DeployError, match=r"^preflight: .* ended with status 3") as caught:
        platform.deploy(latest(platform))
    assert not isinstance(caught.value, NotPreparedError)
    assert_spared(docker)


def test_a_trial_that_cannot_be_written_is_removed(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """Half of it may be there."""
    docker.failing["stack deploy"] = "no"
    with pytest.raises(DeployError, match=r"`docker stack deploy` failed: (?s:.*)no$"):
        platform.deploy(latest(platform))
    assert [command[:2] for command in docker.commands][-1] == ["stack", "rm"]
    assert_spared(docker)


def test_what_never_starts_in_its_trial_is_refused(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """It has failed each time that it was looked at."""
    docker.swarm.fates[image(docker)] = NO_PLACE
    with pytest.raises(DeployError, match=r"^preflight: .*no suitable node") as caught:
        try_out(platform)
    assert not isinstance(caught.value, NotPreparedError)
    assert_spared(docker)


def test_docker_lost_during_a_preflight_does_not_blame_the_release(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """The release could not be tried."""

    def slow(asked: str) -> None:
        is_trying = any(name.startswith(TRIAL) for name in docker.swarm.services)
        docker.failing = {"/info": "there is no leader"} if is_trying and asked == "/info" else {}

    docker.slow = slow
    with pytest.raises(NotPreparedError, match=r"^preflight: docker: .*there is no leader"):
        try_out(platform)
    assert_spared(docker)


def test_a_failure_after_a_loss_of_docker_does_not_blame_the_release(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """A preflight task that dockerd ended is not restarted."""
    docker.swarm.fates[image(docker)] = WAITS
    # First `write` looks, and must see all of it; the first round of the gate doesn't.
    left = [1]

    def slow(asked: str) -> None:
        is_trying = any(name.startswith(TRIAL) for name in docker.swarm.services)
        docker.failing.clear()
        if asked == "/tasks" and is_trying:
            left[0] -= 1
            if left[0] == -1:
                docker.failing["/tasks"] = "gone"

    docker.slow = slow
    with pytest.raises(NotPreparedError, match=r"^preflight: Docker became unreachable; "):
        try_out(platform)
    assert_spared(docker)


def test_a_slow_preflight_does_not_blame_the_release(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """Each round passed, but there was no time for enough of them: the host is slow."""
    with pytest.raises(NotPreparedError, match=r"^preflight: "):
        try_out(platform, 0.05)
    assert_spared(docker)


# What is asked -----------------------------------------------------------------------------------


def test_a_task_of_the_trial_is_asked_from_inside(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """A process that has gone can't be entered: that speaks against the release."""
    docker.swarm.pid = 2**22 + 1  # no process has such an id
    with pytest.raises(DeployError, match=r"^preflight: .*has just ended"):
        try_out(platform)
    assert_spared(docker)


def probes(app: SwarmApp, *paths: str) -> list[Identity]:
    where = f"http://127.0.0.1:{app.traefik.port}"
    return [Identity(name=f"n{i}", target_unit=CALLER, url=where + p) for i, p in enumerate(paths)]


@pytest.mark.parametrize(
    ("paths", "label", "expected"),
    [
        (["/who", PROVIDER_PATH], "other", ["n0"]),
        (["/who", PROVIDER_PATH], f"Path(`{PROVIDER_PATH}`)", ["n0", "n1"]),
        ([PROVIDER_PATH], "other", ["n0"]),
        (["/who"], "other", ["n0"]),
    ],
    ids=["no route", "a route", "nothing else", "no probe about it"],
)
def test_the_provider_is_asked_about_where_the_live_stack_has_its_route(
    *, app: SwarmApp, state: StateDir, paths: list[str], label: str, expected: list[str]
) -> None:
    """In a preflight the labels of the preflight itself are not loaded."""
    app.configure(*probes(app, *paths))
    app.write_overlay({"services": {"app": {"deploy": {"labels": {"route": label}}}}})
    app.release(FIRST)
    with app.platform(state) as platform:
        platform.deploy(latest(platform))
        assert platform.preflight is not None
        asked = platform.preflight._probes({app.traefik.port: 80})
    assert [safe.probe.name for safe in asked] == expected
    assert all(":80/" in str(getattr(safe.probe, "url", "")) for safe in asked)


def test_probes_of_the_public_address_are_not_sent_in_a_preflight(
    app: SwarmApp, state: StateDir
) -> None:
    """A ping and a page of the task are, too."""
    ping = TraefikPing(target_unit=CALLER, url=f"http://127.0.0.1:{app.traefik.port}/ping")
    app.configure(app.identity, ping, TaskHttp(target_unit=CALLER, port=80))
    app.release(FIRST)
    with app.platform(state) as platform:
        assert platform.preflight is not None
        asked = platform.preflight._probes({})
    assert [safe.probe.kind for safe in asked] == ["identity", "traefik-ping", "task"]


# What is left of killed runs ---------------------------------------------------------------------


def test_trials_that_killed_runs_left_are_removed(
    docker: FakeDocker, platform: SwarmPlatform
) -> None:
    """Those of this stack; one of another app may be at work."""
    for name, stack in (("s-try-1", STACK), ("other-try-1", "other")):
        live = docker.swarm.services[GATED]["Spec"]
        labels = {"com.docker.stack.namespace": name, PREFLIGHT_LABEL: stack}
        docker.swarm.put_service({**live, "Name": f"{name}_app", "Labels": labels})
        docker.swarm.put_service({**live, "Name": f"{name}_side", "Labels": labels})
    platform.prune(frozenset())
    assert set(docker.swarm.services) == {GATED, "other-try-1_app", "other-try-1_side"}
    removed = [command[-1] for command in docker.commands if command[:2] == ["stack", "rm"]]
    assert removed == ["s-try-1"]


def test_a_deployment_has_a_trial_of_its_own(docker: FakeDocker, platform: SwarmPlatform) -> None:
    """Two of one release differ in their tokens."""
    release = latest(platform).release
    for token in ("a-token-11111111", "a-token-22222222"):
        docker.swarm.fates[image(docker)] = FAILS
        with pytest.raises(DeployError):
            platform.deploy(Deployment(release, token))
    assert trials(docker) == ["s-try-11111111", "s-try-22222222"]
