"""From Traefik's routers to the unit that serves a host name; otherwise unresolved."""

import json
from typing import Any

import pytest
from attrs import evolve
from recorded import read_recording

from runner.platforms.swarm.objects import read_service
from runner.platforms.swarm.traefik_routers import (
    Resolution,
    Resolved,
    Router,
    Table,
    TableUnknown,
    Unresolved,
    describe_contradiction,
    is_of_traefik,
    read_owners,
    read_routers,
    resolve,
    target_in_gate,
)
from runner.reconcile.ordering import Served
from runner.reconcile.probes import Http, Identity, Probe, Tcp, TraefikPing

PROXY = "deploy-proxy.service"
DASHBOARD = "deploy-dashboard.service"
SITE = "ci.commoninternet.net"
SERVICES = [read_service(data) for data in json.loads(read_recording("services.json"))]
REAL = Table(
    read_routers(
        json.loads(read_recording("http-routers.json")),
        json.loads(read_recording("tcp-routers.json")),
    ),
    read_owners(SERVICES),
    PROXY,
)


def http(url: str, unit: str = DASHBOARD) -> Http:
    return Http(name="page", target_unit=unit, url=url, address="127.0.0.1:443")


def find(url: str, *more: Router) -> Resolution:
    """Resolve in the real table, with some routers more."""
    return resolve(evolve(REAL, routers=(*REAL.routers, *more)), url)


def router(rule: str, service: str = "other@swarm", **changes: Any) -> Router:  # noqa: ANN401
    made = Router("other@file", rule, service, 10, frozenset({"web-secure"}), has_tls=True)
    return evolve(made, **changes)


def test_a_name_of_another_unit_is_that_units() -> None:
    """The lie of the old gate: the page of the dashboard, declared as the proxy's own."""
    found = find(f"https://{SITE}/")
    assert found == Resolved(DASHBOARD, "dashboard@swarm")
    assert describe_contradiction(http(f"https://{SITE}/", PROXY), found) == (
        f"it declares {PROXY}, but {SITE} is served by {DASHBOARD}"
        " (Traefik's router dashboard@swarm)"
    )
    assert describe_contradiction(http(f"https://{SITE}/"), found) == ""


def test_what_traefik_serves_itself_is_of_the_unit_that_deploys_it() -> None:
    """Its redirect, its API, its ping."""
    assert find(f"http://{SITE}/any") == Resolved(PROXY, "web-to-443@internal")
    everywhere = frozenset({"web", "web-secure"})
    rule = f"Host(`{SITE}`) && PathPrefix(`/api`)"
    api = router(rule, "api@internal", priority=99, entrypoints=everywhere)
    assert find(f"https://{SITE}/api/x", api) == Resolved(PROXY, "other@file")
    assert find(f"https://{SITE}/x", api) == Resolved(DASHBOARD, "dashboard@swarm")


BOTH = f"{SITE} may be served by any of {DASHBOARD}, {PROXY} (routers dashboard@swarm, other@file)"
BELOW = router("HostRegexp(`.*`)", "y@file", name="below@file", priority=28)
"""The dashboard's own router has the priority 29."""


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (router("HostRegexp(`.*`)", priority=99), "other@swarm, which doesn't exist"),
        (router("HostRegexp(`.*`)", "api@internal", priority=99), BOTH),
        (router("HostRegexp(`.*`)", "api@internal", priority=29), BOTH),
        (router("never heard of", "api@internal", priority=99), BOTH),
        (router(f"Host(`{SITE}`)", "x@file", priority=99), "x@file, which no unit deploys"),
        (router(f"HostSNI(`{SITE}`)", "api@internal", is_tcp=True), BOTH),
        (router("HostSNI(`*`)", "api@internal", is_tcp=True, priority=-1), BOTH),
        (router("HostRegexp(`.*`)", "api@internal", entrypoints=frozenset({"more"})), BOTH),
    ],
)
@pytest.mark.parametrize("below", [(), (BELOW,)], ids=["alone", "with one below"])
def test_several_that_could_serve_it_must_agree(
    more: Router, reason: str, below: tuple[Router, ...]
) -> None:
    """If one of them can't be resolved, or leads elsewhere, the result is unresolved.

    A router below the one that matches for sure is none of them: it never gets the request.
    """
    found = find(f"https://{SITE}/", more, *below)
    assert isinstance(found, Unresolved)
    assert found.reason.endswith(reason)


@pytest.mark.parametrize(
    "more",
    [
        router("HostRegexp(`.*`)", "api@internal", priority=28),
        router("Host(`other.test`)", "api@internal", priority=99),
        router(f"Host(`{SITE}`)", "api@internal", priority=99, has_tls=False),
        router("HostRegexp(`.*`)", "Dashboard@swarm", priority=99),
        router("HostSNI(`git.test`)", "api@internal", is_tcp=True),
    ],
)
def test_routers_of_lower_priority_or_other_names_do_not_count(more: Router) -> None:
    """A catch-all page of lower priority, another name, no TLS, the same service twice."""
    found = find(f"https://{SITE}/", more)
    assert isinstance(found, Resolved)
    assert found.unit == DASHBOARD


@pytest.mark.parametrize("rule", ["HostSNI(`*`)", f"HostSNI(`{SITE}`)", "never heard of"])
@pytest.mark.parametrize("priority", [-1, 28, 29, 30, 99])
def test_priority_decides_nothing_between_tcp_and_http(rule: str, priority: int) -> None:
    """A TCP router may take the request, or leave it to HTTP: both count, whatever they weigh."""
    everywhere = frozenset({"web", "web-secure"})
    same = router(rule, "dashboard@swarm", is_tcp=True, priority=priority, entrypoints=everywhere)
    assert find(f"https://{SITE}/", same) == Resolved(DASHBOARD, "dashboard@swarm, other@file")
    found = find(f"https://{SITE}/", evolve(same, service="api@internal"))
    assert found == Unresolved(
        f"{SITE} may be served by any of {DASHBOARD}, {PROXY} (routers dashboard@swarm, other@file)"
    )


@pytest.mark.parametrize(
    ("priority", "names"),
    [
        (28, "dashboard@swarm"),
        (29, "dashboard@swarm, other@file"),
        (30, "other@file"),
    ],
)
def test_of_http_routers_those_of_the_highest_priority_count(priority: int, names: str) -> None:
    """Of equals, both."""
    everywhere = frozenset({"web", "web-secure"})
    more = router(f"Host(`{SITE}`)", "dashboard@swarm", priority=priority, entrypoints=everywhere)
    assert find(f"https://{SITE}/", more) == Resolved(DASHBOARD, names)


def test_bytes_that_are_passed_on_are_no_page() -> None:
    """An entrypoint for ssh takes every name, but not that of an http URL."""
    assert find(f"http://{SITE}/") == Resolved(PROXY, "web-to-443@internal")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://nobody.test/", "no router of Traefik matches nobody.test"),
        ("https://git.test/", "router pass@file uses service ssh@file, which no unit deploys"),
    ],
)
def test_an_unresolved_name_has_a_reason(url: str, reason: str) -> None:
    """It is never taken for a confirmation."""
    found = find(url)
    assert found == Unresolved(reason)
    assert describe_contradiction(http(url), found) == ""


def test_without_a_table_everything_stays_open() -> None:
    """The reason is passed on."""
    assert resolve(TableUnknown("no engine"), f"https://{SITE}/") == Unresolved("no engine")


def test_a_url_without_a_path_asks_for_the_root() -> None:
    """As every client does; and a probe about another page is another one."""
    everywhere = frozenset({"web", "web-secure"})
    rule = f"Host(`{SITE}`) && Path(`/`)"
    root = router(rule, "api@internal", priority=99, entrypoints=everywhere)
    for url in (f"https://{SITE}", f"https://{SITE}/", f"https://{SITE}?a=b"):
        assert find(url, root) == Resolved(PROXY, "other@file")
    assert find(f"https://{SITE}/x", root) == Resolved(DASHBOARD, "dashboard@swarm")


def test_the_words_do_not_depend_on_the_order_of_a_table() -> None:
    """Names are sorted, and of several reasons the first entrypoint's is reported."""
    more = [
        router("HostRegexp(`.*`)", "api@internal", name=name, entrypoints=frozenset({name}))
        for name in "zyx"
    ]
    for several in (more, more[::-1]):
        assert find(f"https://{SITE}/", *several) == Unresolved(
            f"{SITE} may be served by any of {DASHBOARD}, {PROXY}"
            " (routers dashboard@swarm, x, y, z)"
        )
    names = [f"entry{number}" for number in range(10, 40)]
    broken = [
        router("Host(`a.test`)", f"{name}@file", name=name, entrypoints=frozenset({name}))
        for name in names
    ]
    for several in (broken, broken[::-1]):
        assert find("https://a.test/", *several) == Unresolved(
            "router entry10 uses service entry10@file, which no unit deploys"
        )


ROUTER: dict[str, Any] = {
    "name": "r@swarm",
    "rule": "Host(`a.test`)",
    "service": "s",
    "provider": "swarm",
    "status": "enabled",
    "using": ["web", "web-secure"],
}
READ = Router("r@swarm", "Host(`a.test`)", "s@swarm", 0, frozenset(ROUTER["using"]), has_tls=False)


@pytest.mark.parametrize("is_tcp", [False, True])
@pytest.mark.parametrize(
    ("data", "read"),
    [
        ({}, READ),
        ({"service": "s@file"}, evolve(READ, service="s@file")),
        ({"priority": 7}, evolve(READ, priority=7)),
        ({"priority": -1}, evolve(READ, priority=-1)),
        ({"tls": {"options": "default"}}, evolve(READ, has_tls=True)),
        ({"using": []}, evolve(READ, entrypoints=frozenset())),
        ({"status": "warning"}, READ),
        ({"status": "disabled"}, None),
        (
            {"name": 1, "rule": 2, "service": 3},
            evolve(READ, name="1", rule="2", service="3@swarm"),
        ),
    ],
)
def test_every_part_of_a_router_is_read(
    data: dict[str, Any], read: Router | None, *, is_tcp: bool
) -> None:
    """Its service is known by its provider; what is disabled, by HTTP or TCP, is not in use."""
    listed = [{**ROUTER, **data}, ROUTER]
    found = read_routers([], listed) if is_tcp else read_routers(listed, [])
    assert found == tuple(evolve(each, is_tcp=is_tcp) for each in (read, READ) if each)


@pytest.mark.parametrize("label", ["", None])
def test_a_service_without_our_label_has_no_unit(label: str | None) -> None:
    """Neither without our label nor with an empty one; nor beside one that has it."""
    (site,) = [service for service in SERVICES if service.name == "site_app"]
    labels = {k: v for k, v in site.labels.items() if k != "warm-reconcile.unit"}
    other = evolve(site, labels=labels if label is None else {**labels, "warm-reconcile.unit": ""})
    for services in ([other], [site, other]):
        found = resolve(evolve(REAL, owners=read_owners(services)), f"https://{SITE}/")
        assert isinstance(found, Unresolved)
        assert found.reason.endswith("which someone else deployed (no label warm-reconcile.unit)")
    by_hand = resolve(evolve(REAL, unit=""), f"http://{SITE}/")
    assert isinstance(by_hand, Unresolved)


def test_a_service_without_labels_of_its_own_gets_its_name_from_swarm() -> None:
    """As Traefik does: everything but letters and digits is a hyphen."""
    (site,) = [service for service in SERVICES if service.name == "site_app"]
    named = evolve(site, name="My_stack.App", labels={"warm-reconcile.unit": DASHBOARD})
    assert read_owners([named]) == {"my-stack-app": frozenset({DASHBOARD})}


@pytest.mark.parametrize("kind", ["http", "tcp", "HTTP"])
def test_a_service_is_known_by_every_name_that_a_label_gives_it(kind: str) -> None:
    """Whatever the case: Traefik's labels have none. A label of a router names no service."""
    (site,) = [service for service in SERVICES if service.name == "site_app"]
    labels = {
        f"traefik.{kind}.services.One.loadbalancer.server.port": "1",
        f"Traefik.{kind}.Services.two.loadbalancer.server.scheme": "http",
        "traefik.http.routers.three.rule": "Host(`a`)",
        "warm-reconcile.unit": DASHBOARD,
    }
    assert read_owners([evolve(site, labels=labels)]) == {
        "one": frozenset({DASHBOARD}),
        "two": frozenset({DASHBOARD}),
    }


def test_a_router_that_is_broken_serves_nothing() -> None:
    """Traefik lists it, as disabled."""
    broken = json.loads(read_recording("http-routers.json"))[0]
    assert read_routers([{**broken, "status": "disabled"}], []) == ()


@pytest.mark.parametrize("lists", [[{}], [1], {"a": 1}, 1, [{"status": "enabled"}]])
def test_an_invalid_router_list_is_an_error(lists: Any) -> None:  # noqa: ANN401 - anything can be sent
    """For any other response."""
    with pytest.raises(ValueError, match="no list of routers"):
        read_routers(lists, [])
    with pytest.raises(ValueError, match="no list of routers"):
        read_routers([], lists)


def test_only_a_name_is_never_asked_of_what_the_caller_deploys() -> None:
    """In Traefik's own gate; its ping and an address are, and in other gates a name is, too."""
    asked: dict[str, Probe] = {
        "name": http("http://a.test/"),
        "address": http("http://127.0.0.1/"),
        "ping": TraefikPing(target_unit=PROXY, url="http://127.0.0.1/ping"),
    }
    for of_traefik in (True, False):
        by_itself = {
            kind
            for kind, probe in asked.items()
            if target_in_gate(probe, of_traefik=of_traefik).served is Served.BY_ITSELF
        }
        assert by_itself == ({"name"} if of_traefik else set())


def test_only_a_name_is_routed() -> None:
    """An address leads to the server that listens there; so does every other kind of probe."""
    identity = Identity(target_unit=PROXY, url="https://warm-reconcile.invalid/")
    tcp = Tcp(name="t", target_unit=PROXY, address="127.0.0.1:1")
    ping = TraefikPing(target_unit=PROXY, url="http://127.0.0.1/ping")
    numeric = http("http://127.0.0.1/"), http("https://[::1]/")
    assert [q for q in (identity, tcp, ping, *numeric, http("http://a/")) if q.routed_url] == [
        http("http://a/")
    ]
    assert [is_of_traefik(q) for q in ((tcp, identity), (ping,), (tcp,), ())] == [
        *(True, True),
        *(False, False),
    ]
