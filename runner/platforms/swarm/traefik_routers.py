"""Who serves a name that Traefik routes: what its own table of routers says. Pure.

A probe that asks for a host name asks whoever is behind Traefik. Which unit that is, a config only
declares; the table, and the labels that our deployments write, tell. What neither tells stays
open, and is said: it is never taken for an answer.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from attrs import frozen

from runner.platforms.swarm.objects import Service
from runner.platforms.swarm.stack_document import UNIT_LABEL
from runner.platforms.swarm.traefik_rules import Request, Truth, matches
from runner.reconcile.ordering import Served, Target, target_of
from runner.reconcile.probes import ProbeKind

INTERNAL: Final = "internal"
"""The provider of what Traefik serves itself: its API, its ping, its redirects."""
_SWARM: Final = frozenset({"swarm", "docker"})
"""The providers that make services out of labels; before version 3 it was one for both."""
_SERVICE_LABEL: Final = re.compile(r"traefik\.(?:http|tcp)\.services\.([^.]+)\..+", re.IGNORECASE)


@frozen
class Router:
    """One router that is in use."""

    name: str
    rule: str
    service: str
    """With its provider: ``dashboard@swarm``."""
    priority: int
    entrypoints: frozenset[str]
    has_tls: bool
    is_tcp: bool = False


@frozen
class Table:
    """What one Traefik routes, and who deployed what it routes to."""

    routers: tuple[Router, ...]
    owners: Mapping[str, frozenset[str]]
    """From services of the swarm provider, in lower case and without it, to the systemd units that
    deployed them; an empty name for what was deployed by another hand."""
    unit: str
    """The systemd unit that deploys the Traefik itself; empty if it is another hand's."""


@frozen
class Untold:
    """There is no table."""

    reason: str


@frozen
class Resolved:
    """The unit that serves a routed name."""

    unit: str
    router: str


@frozen
class Unresolved:
    """Nobody can tell which unit serves a routed name."""

    reason: str


Resolution: TypeAlias = Resolved | Unresolved


def is_of_traefik(probes: Iterable[ProbeKind]) -> bool:
    """Return whether a gate is that of Traefik itself."""
    return any(probe.asks_traefik for probe in probes)


def target_in_gate(probe: ProbeKind, *, of_traefik: bool) -> Target:
    """Say what a probe asks, as part of a gate.

    Whoever deploys Traefik deploys nothing that a name is routed to: on a cold boot nothing is,
    and so a name is never asked of the caller, not even one that is routed to Traefik's own API.
    """
    if of_traefik and probe.routed_url is not None:
        return Target(probe.target_unit, Served.BY_ITSELF)
    return target_of(probe)


def read_routers(http: Iterable[Any], tcp: Iterable[Any]) -> tuple[Router, ...]:
    """Read ``/api/http/routers`` and ``/api/tcp/routers``.

    Raises:
        ValueError: it is something else.
    """
    try:
        found = [_read(data, is_tcp=False) for data in http if data["status"] != "disabled"]
        found += [_read(data, is_tcp=True) for data in tcp if data["status"] != "disabled"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no list of routers: {error!r}") from error
    return tuple(found)


def _read(data: Mapping[str, Any], *, is_tcp: bool) -> Router:
    service = str(data["service"])
    return Router(
        name=str(data["name"]),
        rule=str(data["rule"]),
        service=service if "@" in service else f"{service}@{data['provider']}",
        priority=int(data.get("priority", 0)),
        entrypoints=frozenset(map(str, data["using"])),
        has_tls="tls" in data,
        is_tcp=is_tcp,
    )


def read_owners(services: Iterable[Service]) -> Mapping[str, frozenset[str]]:
    """Read from the labels of the swarm's services which unit deployed what Traefik calls how."""
    owners: dict[str, frozenset[str]] = {}
    for service in services:
        unit = frozenset({service.labels.get(UNIT_LABEL, "")})
        for name in _names(service):
            owners[name] = owners.get(name, frozenset()) | unit
    return owners


def _names(service: Service) -> set[str]:
    """Name a service as its labels do; without any, Traefik makes a name from the service's own."""
    labelled = {
        found[1].lower() for found in map(_SERVICE_LABEL.fullmatch, service.labels) if found
    }
    return labelled or {"-".join(re.findall(r"[^\W_]+", service.name)).lower()}


def resolve(table: Table | Untold, url: str) -> Resolution:
    """Find the unit that serves a URL.

    Every router that could get the request counts, on every entrypoint: they have to lead to one
    unit.
    """
    if isinstance(table, Untold):
        return Unresolved(table.reason)
    parts = urlsplit(url)
    request = Request(parts.hostname or "", parts.path or "/")
    routers = _candidates(table, request, has_tls=parts.scheme == "https")
    if not routers:
        return Unresolved(f"no router of Traefik is for {request.host}")
    units: set[str] = set()
    for router in routers:
        found = _units(table, router)
        if isinstance(found, Unresolved):
            return found
        units |= found
    names = ", ".join(sorted(router.name for router in routers))
    if len(units) > 1:
        told = ", ".join(sorted(units))
        return Unresolved(f"{request.host} may be served by any of {told} (routers {names})")
    return Resolved(units.pop(), names)


def _candidates(table: Table, request: Request, *, has_tls: bool) -> list[Router]:
    """List the routers that could get a request, on whichever entrypoint it arrives.

    Of HTTP routers these are the first one that matches, its equals, and those above it that may
    match. TCP routers see a connection first, but which of them leave a name to HTTP differs: all
    that may match count.
    """
    fitting: list[tuple[Router, Truth]] = []
    for router in table.routers:
        truth = matches(router.rule, request)
        if truth is not False and router.has_tls == has_tls:
            fitting.append((router, truth))
    found: list[Router] = []
    for entrypoint in sorted({name for router, _ in fitting for name in router.entrypoints}):
        here = [(router, truth) for router, truth in fitting if entrypoint in router.entrypoints]
        if not has_tls and all(router.is_tcp for router, _ in here):
            continue  # it passes bytes on: no HTTP is spoken there
        sure = [router.priority for router, truth in here if truth and not router.is_tcp]
        least = max(sure, default=-math.inf)
        found += [
            router
            for router, _ in here
            if (router.is_tcp or router.priority >= least) and router not in found
        ]
    return found


def _units(table: Table, router: Router) -> frozenset[str] | Unresolved:
    service, _, provider = router.service.rpartition("@")
    if provider == INTERNAL:
        units = frozenset({table.unit})
    elif provider in _SWARM:
        units = table.owners.get(service.lower(), frozenset())
    else:
        return Unresolved(f"router {router.name} leads to {router.service}, which no unit deploys")
    if not units:
        return Unresolved(f"router {router.name} leads to {router.service}, which is not there")
    if "" in units:
        what = f"router {router.name} leads to {router.service}"
        return Unresolved(f"{what}, which was deployed by another hand")
    return units


def contradict(probe: ProbeKind, resolution: Resolution) -> str:
    """Say how what a probe declares is not so; empty if nothing speaks against it."""
    if isinstance(resolution, Unresolved) or resolution.unit == probe.target_unit:
        return ""
    host = urlsplit(probe.routed_url or "").hostname
    return (
        f"it declares {probe.target_unit}, but {host} is served by {resolution.unit}:"
        f" so says Traefik's router {resolution.router}"
    )
