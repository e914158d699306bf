"""A healthy release is committed, however odd it looks; a live proven one is left alone."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from attrs import frozen

from runner.platforms.swarm.prerequisites import GATEWAY
from swarm.broken import Write, compose, deploying, dynamic, scripted, service
from swarm.harness import AMPLE, NEW, OLD, PROVIDER, UPSTREAM, WEB, WEB_SECURE, Host
from swarm.healthy import LAST_GOOD, assert_serving, make_last_good, prepare, proven, quarantined
from swarm.network import wait_for

pytestmark = pytest.mark.swarm

NEWER: Final = f"1.1.0+v{NEW}"
SLOW: Final = "sleep 6; exec traefik"


@frozen
class Odd:
    """A healthy release that looks odd."""

    name: str
    write: Write = lambda host, label: host.release(label)
    preflight: float = AMPLE
    before: Callable[[Host], object] = lambda host: None  # noqa: ARG005 - nothing


def _another_app(*labels: str) -> Callable[[Host], object]:
    """Deploy another stack that Traefik is to route to, somehow."""

    def deploy(host: Host) -> None:
        options = [f"--label={label}" for label in ("traefik.enable=true", *labels)]
        host.engine.docker(
            *("service", "create", "--quiet", "--detach", "--no-resolve-image", "--name=site"),
            *("--network=proxy", "--label=com.docker.stack.namespace=site", *options),
            *("--entrypoint=sleep", "--stop-signal=KILL", f"traefik:v{NEW}", "1000"),
        )

    return deploy


def _restart(host: Host) -> None:
    """Kill and start dockerd: it replaces every task."""
    host.engine.restart()

    def look() -> bool | None:
        asked = (host.ask(WEB), host.ask(WEB_SECURE), host.ask(PROVIDER))
        return True if all(asked) else None

    wait_for(look, "the task from before dockerd was killed")


def _with_a_sidecar(host: Host, label: str) -> None:
    side = f'  side: {{image: "traefik:v{NEW}", entrypoint: [sleep, "1000"], stop_signal: KILL}}\n'
    compose(("networks:\n  proxy:\n", f"{side}\nnetworks:\n  proxy:\n"))(host, label)


ODD: Final = (
    Odd("starts slowly, but in time", scripted(SLOW), preflight=0.0),
    Odd(
        "another app's router is broken",
        before=_another_app(
            "traefik.http.services.site.loadbalancer.server.port=80",
            "traefik.http.routers.site.rule=Hots(`site.example.com`",
            "traefik.http.routers.site.middlewares=nosuch@file",
            "traefik.http.routers.other.service=nosuch",
        ),
    ),
    Odd(
        "another app names no port",
        before=_another_app("traefik.http.routers.site.rule=Host(`site.example.com`)"),
    ),
    Odd("has 96 MB of memory", deploying("resources: {limits: {memory: 96M}}")),
    Odd("has few files", service("ulimits: {nofile: {soft: 128, hard: 128}}")),
    Odd("its engine was killed before", before=_restart),
    Odd("has a sidecar", _with_a_sidecar),
    Odd("has another dynamic config", dynamic("tls: {options: {default: {sniStrict: true}}}\n")),
    Odd(
        "has certificates to ask for that can't be had",
        service('extra_hosts: ["acme.invalid:127.0.0.1"]'),
        before=lambda host: host.variables.update(LETS_ENCRYPT_EMAIL="admin@example.com"),
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_a_healthy_release_is_committed(host: Host, odd: Odd) -> None:
    """With a last-good, first in a preflight."""
    prepare(host)
    before = make_last_good(host)
    odd.before(host)
    odd.write(host, NEWER)
    prepare(host, preflight=odd.preflight)
    ran = host.run("--detailed-exit-code")
    assert (ran.code, ran.outcome, ran.serving) == (10, "committed", NEWER), ran
    assert assert_serving(host, NEWER) != before
    assert proven(host) == [NEWER, LAST_GOOD]
    assert quarantined(host) == {}


@pytest.mark.parametrize("version", [pytest.param(OLD, marks=pytest.mark.slow), NEW])
def test_a_first_release_is_committed_without_any_certificate(host: Host, version: str) -> None:
    """Cold: nothing serves and nothing is proven, so there is no preflight."""
    prepare(host, preflight=AMPLE)
    label = f"1.0.0+v{version}"
    make_last_good(host, label)
    assert proven(host) == [label]


@pytest.mark.slow
def test_a_first_release_is_committed_although_the_swarm_is_younger_than_its_bridge(
    host: Host,
) -> None:
    """`swarm init` returns before dockerd has made the bridge between tasks and their host."""
    (bridge,) = host.engine.inspect("network", GATEWAY)
    for end in bridge["Containers"].values():
        host.engine.docker("network", "disconnect", "--force", GATEWAY, end["Name"])
    host.engine.docker("network", "rm", GATEWAY)
    prepare(host)
    make_last_good(host)


@pytest.mark.slow
def test_a_recipe_as_others_write_them_is_committed_and_updated(host: Host) -> None:
    """Its order is start-first, which host ports don't allow; its health check is its own."""
    prepare(host, preflight=AMPLE)
    for label in (LAST_GOOD, NEWER):
        host.release(label, recipe=UPSTREAM)
        ran = host.run()
        assert (ran.code, ran.outcome, ran.serving) == (0, "committed", label), ran
        assert_serving(host, label)
    assert proven(host) == [NEWER, LAST_GOOD]


@pytest.mark.slow
def test_a_change_of_one_config_alone_is_an_update(host: Host) -> None:
    """The same Traefik, and another container."""
    prepare(host)
    before = make_last_good(host)
    label = f"1.0.1+v{OLD}"
    dynamic("tls: {options: {default: {minVersion: VersionTLS13}}}\n")(host, label)
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", label), ran
    assert assert_serving(host, label) != before


def test_a_rerun_touches_nothing(host: Host) -> None:
    """The same container, the same version of the service; nor does an older label touch them."""
    prepare(host, preflight=AMPLE)
    container = make_last_good(host, NEWER)
    index = _version_index(host)
    for older in ("", f"1.0.5+v{OLD}"):
        if older:
            host.release(older)
        ran = host.run("--detailed-exit-code")
        assert (ran.code, ran.outcome, ran.serving) == (0, "unchanged", NEWER), ran
        assert assert_serving(host, NEWER) == container
        assert _version_index(host) == index
    assert proven(host) == [NEWER]


def _version_index(host: Host) -> int:
    found: list[dict[str, Any]] = host.engine.inspect("service", host.service)
    return int(found[0]["Version"]["Index"])
