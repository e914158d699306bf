"""The recipe and its overlay on a real swarm: which clients get the identity, and which not."""

from pathlib import Path
from typing import Any

import pytest

from swarm.conftest import THERE
from swarm.harness import (
    DEFAULT_TLS,
    NEW,
    OLD,
    PING,
    PROVIDER,
    RECIPE,
    UPSTREAM,
    WEB,
    WEB_SECURE,
    Host,
)
from swarm.network import Network, Reply, wait_for

pytestmark = pytest.mark.swarm

TOKEN = "the-token-of-this-deployment"  # noqa: S105 - nothing is behind it
ENTRANCES = (WEB, WEB_SECURE, DEFAULT_TLS, PROVIDER)
API = ("/api/version", "/api/rawdata", "/api/overview", "/api/http/routers", "/dashboard/", "/")
BESIDE = (
    "/.warm-reconcile/identity/",
    "/.warm-reconcile/identity/../../api/rawdata",
    "/.warm-reconcile/provider/api/rawdata",
    "/.warm-reconcile/",
    "/.warm-reconcile/api/http/routers",
    "/.warm-reconcile/api/tcp/routers",
)


def knock(network: Network, path: str, address: str) -> list[Reply | None]:
    """Request a path on each entrypoint, as the gate does."""
    return [
        network.get(f"http://{address}{path}", host=""),
        network.get(f"https://warm-reconcile.invalid{path}", address=address),
    ]


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize("recipe", [RECIPE, UPSTREAM], ids=["ours", "upstream"])
def test_only_this_host_can_read_the_identity_of_a_task(
    host: Host, outsider: Network, recipe: Path, version: str
) -> None:
    """At web, at web-secure without any certificate, and through the Swarm provider's router."""
    label = f"2.0.0+v{version}"
    host.release(label, recipe=recipe)
    host.deploy_by_hand(label, WARM_RECONCILE_TOKEN=TOKEN)

    answers = [host.await_answer(url, TOKEN) for url in ENTRANCES]

    (task,) = host.tasks()
    assert [(who.version, who.task) for who in answers] == [(version, task["ID"])] * len(ENTRANCES)
    for url in ENTRANCES:
        path = url[url.index("/.") :]
        assert [
            r and (r.status, r.headers.get("x-warm-reconcile-token"))
            for r in knock(outsider, path, THERE)
        ] == [(404, None), (404, None)], url
        named = outsider.get(f"http://{THERE}{path}")
        assert named is not None
        assert named.status in {301, 308}, "a request with a name is redirected, as ever"
        assert named.headers["location"] == f"https://{THERE}{path}"
    for path in API + BESIDE:
        for replies in (knock(host.network, path, "127.0.0.1"), knock(outsider, path, THERE)):
            assert [reply and reply.status for reply in replies] == [404, 404], path
    assert host.network.listening() & set(range(2377)) == {80, 443}


@pytest.mark.parametrize("recipe", [RECIPE, UPSTREAM], ids=["ours", "upstream"])
def test_the_overlay_changes_no_more_than_it_says(host: Host, recipe: Path) -> None:
    """The recipe's health check is asked more often; an update that fails pauses."""
    label = f"2.0.0+v{NEW}"
    host.release(label, recipe=recipe)
    host.deploy_by_hand(label, gate=False)
    before = host.spec()
    host.deploy_by_hand(label)
    after = host.spec()

    def container(spec: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = spec["TaskTemplate"]["ContainerSpec"]
        return found

    def mounts(spec: dict[str, Any]) -> dict[str, Any]:
        return {mount["Target"]: mount for mount in container(spec)["Mounts"]}

    assert container(after)["Healthcheck"] == {
        **container(before)["Healthcheck"],
        "Interval": 5_000_000_000,
    }
    assert after["UpdateConfig"] == {**before["UpdateConfig"], "FailureAction": "pause"}
    assert after["EndpointSpec"] == before["EndpointSpec"]
    assert mounts(after) == mounts(before)
    assert before["Labels"].items() <= after["Labels"].items()


def test_by_hand_it_needs_no_variables(host: Host) -> None:
    """Without a token and without askers the gate's config is valid, and certificates are there."""
    host.variables["LETS_ENCRYPT_EMAIL"] = "certificates@example.com"
    label = f"2.0.0+v{NEW}"
    host.release(label)
    host.deploy_by_hand(label)
    assert host.await_answer(WEB, "").version == NEW
    assert host.await_answer(PROVIDER, "").version == NEW
    ping = host.network.get(PING)
    assert ping is not None
    assert (ping.status, ping.body) == (200, "OK")


def test_a_variable_lists_the_clients_that_may_read_the_identity(host: Host) -> None:
    """One list for the routes in the file and for the one in the labels."""
    label = f"2.0.0+v{NEW}"
    host.release(label)
    host.deploy_by_hand(
        label, WARM_RECONCILE_TOKEN=TOKEN, WARM_RECONCILE_ASKERS="ClientIP(`192.0.2.1`)"
    )

    def route() -> bool | None:
        return True if "warm-reconcile-provider@swarm" in host.log() else None

    wait_for(route, "the provider's router in the log")
    for url in ENTRANCES:
        assert host.ask(url) is None
