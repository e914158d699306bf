"""The unit that serves a host name, by the routers of a real Traefik, against the config."""

import json

import pytest
from traefik.harness import CALLER

from runner.exit_codes import ExitCode
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.traefik_api import TraefikApi
from runner.platforms.swarm.traefik_routers import Resolution, Resolved, Unresolved, resolve
from swarm.engine import NETWORK
from swarm.harness import NEW, Host
from swarm.network import wait_for

pytestmark = pytest.mark.swarm

DASHBOARD = "deploy-dashboard.service"
SITE = "ci.commoninternet.net"
RULE = "traefik.http.routers.dashboard.rule=Host(`{}`)"
LIE = f"""
[[probes]]
kind = "http"
name = "site"
url = "https://{SITE}/"
address = "127.0.0.1:443"
target_unit = "{CALLER}"
"""
"""Declares that the caller serves the page of another unit."""


def deploy_site(host: Host, stack: str, *labels: str) -> None:
    """Deploy a service that Traefik routes to."""
    service = {
        "image": f"traefik:v{NEW}",
        "networks": [NETWORK],
        "deploy": {"labels": ["traefik.enable=true", *labels]},
    }
    compose = {
        "version": "3.8",
        "services": {"app": service},
        "networks": {NETWORK: {"external": True}},
    }
    deploy = ("stack", "deploy", "--resolve-image=never", "--compose-file=-", stack)
    host.engine.docker(*deploy, given=json.dumps(compose).encode())


def ask(host: Host, url: str = f"https://{SITE}/") -> Resolution:
    table = TraefikApi(Engine(str(host.engine.socket))).read()
    return resolve(table, url)


def test_a_name_is_resolved_to_the_unit_that_deployed_what_serves_it(host: Host) -> None:
    """And a gate that declares another one is refused: both are named, and nothing is touched."""
    unresolved = ask(host)
    assert unresolved == Unresolved("no Traefik on this swarm lists its routers")
    host.release(f"1.0.0+v{NEW}")
    host.configure(more=LIE)
    cold = host.run()
    assert cold.code == ExitCode.ORDERING_REFUSED, "also on a cold boot, without a Traefik"
    assert "Traefik routes this host name, so its unit must have started" in cold.log
    host.configure()
    first = host.run()
    assert first.outcome == "committed", first
    (task,) = host.tasks()
    assert isinstance(ask(host), Unresolved)

    deploy_site(
        host,
        "site",
        RULE.format(SITE),
        "traefik.http.routers.dashboard.tls=true",
        "traefik.http.services.dashboard.loadbalancer.server.port=80",
        f"warm-reconcile.unit={DASHBOARD}",
    )
    expected = Resolved(DASHBOARD, "dashboard@swarm")
    wait_for(lambda: True if ask(host) == expected else None, "a router for the site")
    # Over plain http it is Traefik that answers: it redirects.
    assert ask(host, f"http://{SITE}/") == Resolved(CALLER, "web-to-443@internal")

    host.configure(more=LIE)
    ran = host.run()
    assert ran.code == ExitCode.ORDERING_REFUSED
    said = f"it declares {CALLER}, but {SITE} is served by {DASHBOARD}"
    assert said in ran.log
    assert "nothing was touched" in ran.log
    assert [each["ID"] for each in host.tasks()] == [task["ID"]]


def test_a_service_without_our_label_is_not_resolved(host: Host) -> None:
    """Without our label its unit is not known, and the reason is reported."""
    label = f"1.0.0+v{NEW}"
    host.release(label)
    host.deploy_by_hand(label)
    deploy_site(
        host,
        "site",
        RULE.format(SITE),
        "traefik.http.routers.dashboard.tls=true",
        "traefik.http.services.dashboard.loadbalancer.server.port=80",
    )
    expected = (
        "router dashboard@swarm uses service dashboard@swarm, which someone else deployed"
        " (no label warm-reconcile.unit)"
    )
    wait_for(lambda: True if ask(host) == Unresolved(expected) else None, "a router for the site")
