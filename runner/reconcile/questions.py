"""What a gate may ask: data only. ``probes.py`` asks it; docs/configuration.md explains it.

Every question names its **target unit**, the systemd unit that serves the answer: a gate that asks
a unit ordered after its own caller would wait for itself.
"""

from typing import Literal, TypeAlias

from attrs import field, frozen

from runner.reconcile.field_types import (
    AbsolutePath,
    Address,
    Name,
    Port,
    Seconds,
    Status,
    Text,
    UnitName,
    Url,
    UrlPath,
)

PROBE_TIMEOUT = 2.0
"""Seconds for one whole exchange. HAProxy's and Kubernetes' defaults are 2 s and 1 s."""


@frozen(kw_only=True)
class TraefikPing:
    """Traefik's ping handler: status 200 and the body ``OK``, whole."""

    kind: Literal["traefik-ping"] = "traefik-ping"
    name: Name = "ping"
    target_unit: UnitName
    url: Url
    timeout: Seconds = PROBE_TIMEOUT


@frozen(kw_only=True)
class Identity:
    """Ask the instance who it is: the token of this deployment, and the release's version.

    Over plain http it is asked without a host name: an entrypoint that redirects to another one
    does so for every name, and above every router, but not for none.
    """

    kind: Literal["identity"] = "identity"
    name: Name = "identity"
    target_unit: UnitName
    url: Url
    address: Address | None = None
    """Connect here whatever host the URL names: with https, TLS wants a name (SNI)."""
    verify_tls: bool = True
    timeout: Seconds = PROBE_TIMEOUT


@frozen(kw_only=True)
class TaskHttp:
    """Ask every task of this very deployment by HTTP, each from inside its own network.

    Nobody but the task can answer there, and the engine knows for which deployment it was started:
    so this is to an app that can't be told who it is what an ``identity`` is to Traefik. Of the
    Swarm platform only.
    """

    kind: Literal["task"] = "task"
    name: Name = "task"
    target_unit: UnitName
    port: Port
    """That the task listens on, whatever is published."""
    path: UrlPath = "/"
    status: Status = 200
    headers: dict[str, str] = field(factory=dict[str, str])
    """Headers that the answer must have, with these values."""
    body_contains: Text | None = None
    timeout: Seconds = PROBE_TIMEOUT


@frozen(kw_only=True)
class Http:
    """An HTTP answer with the expected status, headers and body. Redirects are not followed."""

    kind: Literal["http"] = "http"
    name: Name
    target_unit: UnitName
    url: Url
    address: Address | None = None
    """Connect here whatever host the URL names: a gate must not wait for a resolver."""
    status: Status = 200
    headers: dict[str, str] = field(factory=dict[str, str])
    """Headers that the answer must have, with these values."""
    body: str | None = None
    """The whole body, exactly."""
    body_contains: Text | None = None
    verify_tls: bool = True
    ca_file: AbsolutePath | None = None
    timeout: Seconds = PROBE_TIMEOUT


@frozen(kw_only=True)
class Tcp:
    """Something accepts connections. By itself it proves next to nothing."""

    kind: Literal["tcp"] = "tcp"
    name: Name
    target_unit: UnitName
    address: Address
    timeout: Seconds = PROBE_TIMEOUT


@frozen(kw_only=True)
class UnitActive:
    """systemd says that the target unit is active."""

    kind: Literal["unit"] = "unit"
    name: Name
    target_unit: UnitName
    timeout: Seconds = PROBE_TIMEOUT


Question: TypeAlias = TraefikPing | Identity | TaskHttp | Http | Tcp | UnitActive
