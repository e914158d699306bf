"""What Nix takes for a host's order is what systemd reads out of the units rendered from it."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from nix.evaluation import ROOT, evaluate, evaluate_hosts
from nix.faults import lay_out
from runner.reconcile.ordering import find_chain
from runner.systemd.graph import load_units

LIB: Final = ROOT / "nix" / "lib"
SERVICES: Final = ("a", "b", "d")
ALIASES: Final = ("b", "d")
OTHERS: Final = ("h.target", "t.timer", "s.socket", "p.path")
NAMES: Final = (*(f"{name}.service" for name in SERVICES), *OTHERS)
NAMED: Final = (*NAMES, *(f"{name}-too.service" for name in ALIASES), "multi-user.target")

FEW: Final = st.lists(st.sampled_from(NAMED), max_size=2, unique=True)
DEFAULTS: Final = st.sampled_from((False, "no", True, "yes"))
STARTS: Final = {
    "timers": {"timerConfig": {"Unit": "a.service", "OnCalendar": "daily"}},
    "sockets": {"socketConfig": {"Service": "a.service", "ListenStream": "/run/s"}},
    "paths": {"pathConfig": {"Unit": "b.service", "PathExists": "/run/p"}},
}
"""Neither starts the service of its own name."""

Unit = dict[str, Any]
Systemd = dict[str, dict[str, Unit]]


@st.composite
def units(draw: st.DrawFn) -> Unit:
    """Place a unit among the others."""
    placed: Unit = {"before": draw(st.lists(st.sampled_from(NAMED), max_size=1))}
    after = draw(FEW)
    if draw(st.booleans()):
        placed["after"] = after
        placed["unitConfig"] = {"DefaultDependencies": draw(DEFAULTS)}
    else:  # of the two places NixOS takes one: both are a conflict
        placed["unitConfig"] = {"After": " ".join(after)}
    if draw(st.booleans()):
        placed["wantedBy"] = ["h.target"]
    return placed


@st.composite
def hosts(draw: st.DrawFn) -> Systemd:
    """Place all of them."""
    return host(**{name.partition(".")[0]: draw(units()) for name in NAMES})


def host(**placed: Unit) -> Systemd:
    """Make a host of units that are placed so, by their names without types."""

    def service(name: str) -> Unit:
        aliases = [f"{name}-too.service"] if name in ALIASES else []
        work = {"Type": "oneshot", "ExecStart": "/bin/true"}
        return {"aliases": aliases, "serviceConfig": work, **placed.get(name, {})}

    started = {
        types: {types[0]: {**work, **placed.get(types[0], {})}} for types, work in STARTS.items()
    }
    return {
        "services": {name: service(name) for name in SERVICES},
        "targets": {"h": placed.get("h", {})},
        **started,
    }


def pairs_of_nix(systemd: Systemd, place: Path) -> set[tuple[str, str]]:
    """List who starts after whom, as the refusals have it."""
    place.write_text(json.dumps({"systemd": systemd, "names": NAMES}))
    verdicts = evaluate(
        f"""
        let
          told = builtins.fromJSON (builtins.readFile {place});
          host = import {LIB}/configured-units.nix told.systemd;
          judge = caller: import {LIB}/ordering.nix {{
            units = import {LIB}/implied-ordering.nix host.units;
            inherit (host) aliases;
            inherit caller;
            targets = map (unit: {{ inherit unit; }}) (builtins.filter (n: n != caller) told.names);
          }};
        in
        builtins.concatMap judge told.names
        """
    )
    return {(verdict["chain"][0], verdict["chain"][-1]) for verdict in verdicts}


def pairs_of_systemd(systemd: Systemd, place: Path) -> set[tuple[str, str]]:
    """List the same, as systemd's own loader has it."""
    place.mkdir()
    told = place / "systemd.json"
    told.write_text(json.dumps(systemd))
    (rendered,) = evaluate_hosts([f"{{ systemd = builtins.fromJSON (builtins.readFile {told}); }}"])
    graph = load_units(lay_out(rendered, place / "root")[0])
    return {
        (later, earlier)
        for later in NAMES
        for earlier in NAMES
        if later != earlier and find_chain(graph, later, earlier)
    }


@pytest.mark.usefixtures("nix", "systemd_loader")
@settings(
    max_examples=max(10, settings().max_examples // 25),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(hosts())
@example(host(d={"unitConfig": {"After": "a.service  b-too.service"}}))
@example(host(d={"after": ["h.target"]}, a={"wantedBy": ["h.target"]}))
@example(host(a={"unitConfig": {"DefaultDependencies": "no"}, "wantedBy": ["h.target"]}))
def test_nix_reads_a_configuration_as_systemd_does_its_units(
    tmp_path: Path, systemd: Systemd
) -> None:
    """Options, unitConfig, aliases, triggers, targets: no edge more, and none less."""
    shutil.rmtree(tmp_path / "host", ignore_errors=True)
    found = pairs_of_systemd(systemd, tmp_path / "host")
    event(f"{len(found) // 5 * 5} pairs or more")
    assert pairs_of_nix(systemd, tmp_path / "names.json") == found
