"""Finds the systemd unit that serves a host name, from Traefik's routers and Swarm labels. Pure.

A probe for a host name reaches the service behind Traefik. A config only declares which unit that
is; Traefik's routers, and the labels that deployments write to services, show it. If neither does,
the result is `Unresolved` with a reason: it is never taken for a confirmation.
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
"""The provider of Traefik's own services: its API, its ping, its redirects."""
_SWARM: Final = frozenset({"swarm", "docker"})
"""The providers that make services from labels; before version 3 one provider did both."""
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
    """The routers of one Traefik, and the units that deployed the services behind them."""

    routers: tuple[Router, ...]
    owners: Mapping[str, frozenset[str]]
    """From services of the swarm provider, in lower case and without it, to the systemd units that
    deployed them; an empty name for a service without our label."""
    unit: str
    """The systemd unit that deploys the Traefik itself; empty if someone else deployed it."""


@frozen
class TableUnknown:
    """Traefik's routers can't be read."""

    reason: str


@frozen
class Resolved:
    """The unit that serves a routed name."""

    unit: str
    router: str


@frozen
class Unresolved:
    """The unit that serves a routed name is not known."""

    reason: str


Resolution: TypeAlias = Resolved | Unresolved


def is_of_traefik(probes: Iterable[ProbeKind]) -> bool:
    """Return whether a gate is for Traefik itself."""
    return any(probe.asks_traefik for probe in probes)


def target_in_gate(probe: ProbeKind, *, of_traefik: bool) -> Target:
    """Return the unit that a probe of a gate depends on, and how it is served.

    In the gate of Traefik a probe for a host name never counts as served by the caller, not even
    one that is routed to Traefik's own API: on a cold boot nothing behind Traefik runs yet.
    """
    if of_traefik and probe.routed_url is not None:
        return Target(probe.target_unit, Served.BY_ITSELF)
    return target_of(probe)


def read_routers(http: Iterable[Any], tcp: Iterable[Any]) -> tuple[Router, ...]:
    """Read ``/api/http/routers`` and ``/api/tcp/routers``.

    Raises:
        ValueError: it is not a list of routers.
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
    """Map Traefik's names for Swarm services to the units that deployed them, by their labels."""
    owners: dict[str, frozenset[str]] = {}
    for service in services:
        unit = frozenset({service.labels.get(UNIT_LABEL, "")})
        for name in _names(service):
            owners[name] = owners.get(name, frozenset()) | unit
    return owners


def _names(service: Service) -> set[str]:
    """List Traefik's names for a service: from its labels, else derived from its own name."""
    labelled = {
        found[1].lower() for found in map(_SERVICE_LABEL.fullmatch, service.labels) if found
    }
    return labelled or {"-".join(re.findall(r"[^\W_]+", service.name)).lower()}


def resolve(table: Table | TableUnknown, url: str) -> Resolution:
    """Find the unit that serves a URL.

    Every router that could get the request counts, on every entrypoint: they must all lead to the
    same unit.
    """
    if isinstance(table, TableUnknown):
        return Unresolved(table.reason)
    parts = urlsplit(url)
    request = Request(parts.hostname or "", parts.path or "/")
    routers = _candidates(table, request, has_tls=parts.scheme == "https")
    if not routers:
        return Unresolved(f"no router of Traefik matches {request.host}")
    units: set[str] = set()
    for router in routers:
        found = _units(table, router)
        if isinstance(found, Unresolved):
            return found
        units |= found
    names = ", ".join(sorted(router.name for router in routers))
    if len(units) > 1:
        any_of = ", ".join(sorted(units))
        return Unresolved(f"{request.host} may be served by any of {any_of} (routers {names})")
    return Resolved(units.pop(), names)


def _candidates(table: Table, request: Request, *, has_tls: bool) -> list[Router]:
    """List the routers that could get a request, on any entrypoint.

    Of HTTP routers: the first that matches, those of equal priority, and those above that may
    match. TCP routers see a connection first, but not all of them pass it on to HTTP: all that may
    match count.
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
            continue  # only TCP routers: no HTTP is spoken on this entrypoint
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
        return Unresolved(
            f"router {router.name} uses service {router.service}, which no unit deploys"
        )
    if not units:
        return Unresolved(
            f"router {router.name} uses service {router.service}, which doesn't exist"
        )
    if "" in units:
        what = f"router {router.name} uses service {router.service}"
        return Unresolved(f"{what}, which someone else deployed (no label {UNIT_LABEL})")
    return units


def describe_contradiction(probe: ProbeKind, resolution: Resolution) -> str:
    """Describe how the routers contradict a probe's ``target_unit``; empty if they don't."""
    if isinstance(resolution, Unresolved) or resolution.unit == probe.target_unit:
        return ""
    host = urlsplit(probe.routed_url or "").hostname
    return (
        f"it declares {probe.target_unit}, but {host} is served by {resolution.unit}"
        f" (Traefik's router {resolution.router})"
    )
