"""Refuses a gate that would wait for its caller or be cut off, before anything is touched.

The config is not trusted for that: the start order and the start timeout of units are read from the
running systemd, and the unit that serves a host name from Traefik's routers.
"""

from collections.abc import Callable, Iterable
from typing import Final

from runner.config.app import DEFAULT_SOCKET, AppConfig, SwarmPlatformConfig
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.traefik_api import TraefikApi
from runner.platforms.swarm.traefik_routers import (
    Resolved,
    Table,
    TableUnknown,
    Unresolved,
    describe_contradiction,
    is_of_traefik,
    resolve,
    target_in_gate,
)
from runner.reconcile import budget
from runner.reconcile.errors import ConfigError, OrderingError, UnprovenError
from runner.reconcile.ordering import SafeUnit, Target
from runner.reconcile.probes import Probe, SafeProbe
from runner.systemd.graph import prove_live, query_start_timeout

Prove = Callable[[str, Target], SafeUnit]
"""Returns the proof for a caller and a target."""
UNASKED: Final = TableUnknown("Traefik's routers were not read")


def clear(
    caller: str,
    probes: Iterable[Probe],
    prove: Prove = prove_live,
    *,
    table: Table | TableUnknown = UNASKED,
    doubt: Callable[[str], None] = lambda _: None,
) -> tuple[SafeProbe, ...]:
    """Prove that no probe of a gate waits for the unit that runs it.

    Args:
        caller: the unit that runs the gate.
        probes: of the gate.
        prove: makes the proof.
        table: Traefik's routers, and the units that serve them.
        doubt: gets a sentence for each probe whose target unit only the config declares.

    Raises:
        OrderingError: a probe would wait; the message lists every refused probe.
        UnprovenError: no probe is known to wait for the caller, but for at least one the start
            order can't be determined.
    """
    asked = tuple(probes)
    of_traefik = is_of_traefik(asked)
    proven: list[SafeProbe] = []
    refused: list[tuple[Probe, OrderingError]] = []
    for probe in asked:
        try:
            unit = prove_declared(caller, probe, prove, table, of_traefik=of_traefik)
        except OrderingError as error:
            refused.append((probe, error))
            continue
        proven.append(SafeProbe(probe, unit))
        if probe.routed_url is not None:
            found = resolve(table, probe.routed_url)
            if isinstance(found, Unresolved):
                doubt(format_doubt(probe, found))
    if refused:
        kind = UnprovenError if all(_is_open(error) for _, error in refused) else OrderingError
        first = next(error for _, error in refused if kind is UnprovenError or not _is_open(error))
        listed = "".join(f"\n  probe {q.name}: {error.message}" for q, error in refused)
        raise kind(f"the gate is refused, nothing was touched:{listed}", hint=first.hint)
    return tuple(proven)


def prove_declared(
    caller: str, probe: Probe, prove: Prove, table: Table | TableUnknown, *, of_traefik: bool
) -> SafeUnit:
    """Prove one probe of a gate, and compare its target unit with Traefik's routers.

    Args:
        caller: the unit that runs the gate.
        probe: of the gate.
        prove: makes the proof.
        table: Traefik's routers, and the units that serve them.
        of_traefik: the gate is that of Traefik itself.

    Raises:
        OrderingError: it would wait for the caller, or another unit serves it than it declares.
    """
    target = target_in_gate(probe, of_traefik=of_traefik)
    if probe.routed_url is None:
        return prove(caller, target)
    found = resolve(table, probe.routed_url)
    wrong = describe_contradiction(probe, found)
    if isinstance(found, Resolved) and wrong:
        try:
            prove(caller, Target(found.unit, target.served))
        except OrderingError as error:
            raise OrderingError(
                f"{wrong}; and {error.message}", hint=error.hint, chain=error.chain
            ) from error
        raise OrderingError(
            wrong, hint=f'set target_unit = "{found.unit}", or probe another host name'
        )
    try:
        return prove(caller, target)
    except OrderingError as error:
        message = f"Traefik routes this host name, so its unit must have started: {error.message}"
        raise type(error)(message, hint=error.hint, chain=error.chain) from error


def format_doubt(probe: Probe, unresolved: Unresolved) -> str:
    """Describe a probe whose target unit only the config declares."""
    return (
        f"not resolved: probe {probe.name}: {unresolved.reason};"
        f" only the config says that {probe.target_unit} serves it"
    )


def read_table(
    probes: Iterable[Probe], socket: str | None = DEFAULT_SOCKET
) -> Table | TableUnknown:
    """Read Traefik's routers, if a probe of a gate has a host name that they route.

    Args:
        probes: of the gate.
        socket: of the Docker that runs Traefik; None: there is none.
    """
    if socket is None:
        return TableUnknown(
            "the app is a process, so there is no Docker to read Traefik's routers from"
        )
    if all(probe.routed_url is None for probe in probes):
        return UNASKED
    return TraefikApi(Engine(socket)).read()


def clear_app(config: AppConfig, doubt: Callable[[str], None]) -> tuple[SafeProbe, ...]:
    """Prove the gate of an app on this host, as it is now.

    Raises:
        OrderingError, UnprovenError: as ``clear``.
    """
    table = read_table(config.probes, engine_socket(config))
    return clear(config.caller, config.probes, table=table, doubt=doubt)


def engine_socket(config: AppConfig) -> str | None:
    """Return the socket of the Docker that runs an app; None: the app is a process."""
    return config.platform.socket if isinstance(config.platform, SwarmPlatformConfig) else None


def prove_onlooker(caller: str, target: Target) -> SafeUnit:
    """Prove a target for a caller that deploys nothing, and so must not probe its own unit.

    Raises:
        OrderingError: as ``prove_live``; also for the caller itself.
    """
    return prove_live(caller, Target(target.unit))


def check_budget(config: AppConfig) -> None:
    """Check that the longest run fits the start timeout of its systemd unit.

    Raises:
        ConfigError: it would be cut off.
    """
    worst = budget.worst_case(config.budget, config.gate, config.fallback_depth)
    explained = budget.explain(config.budget, config.gate, config.fallback_depth)
    fit(config.caller, worst, explained, query_start_timeout(config.caller))


def fit(caller: str, worst: float, explained: str, limit: float | None) -> None:
    """Check that ``worst`` seconds are less than ``limit``; None: there is no limit.

    Raises:
        ConfigError: it would be cut off.
    """
    if limit is not None and worst >= limit:
        raise ConfigError(
            f"{caller} may take {limit:g} s to start (TimeoutStartSec=), the longest run takes"
            f" {explained}",
            hint="raise TimeoutStartSec= in the unit, or lower gate.deadline or fallback_depth",
        )


def _is_open(error: OrderingError) -> bool:
    return isinstance(error, UnprovenError)
