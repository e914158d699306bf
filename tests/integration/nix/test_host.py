"""The order of units that nix/lib computes equals the order that systemd loads from them."""

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
"""Triggers of services with another name."""

Unit = dict[str, Any]
Systemd = dict[str, dict[str, Unit]]


@st.composite
def units(draw: st.DrawFn) -> Unit:
    """Order a unit before and after others."""
    placed: Unit = {"before": draw(st.lists(st.sampled_from(NAMED), max_size=1))}
    after = draw(FEW)
    if draw(st.booleans()):
        placed["after"] = after
        placed["unitConfig"] = {"DefaultDependencies": draw(DEFAULTS)}
    else:  # NixOS refuses both at once
        placed["unitConfig"] = {"After": " ".join(after)}
    if draw(st.booleans()):
        placed["wantedBy"] = ["h.target"]
    return placed


@st.composite
def hosts(draw: st.DrawFn) -> Systemd:
    """Order all units."""
    return host(**{name.partition(".")[0]: draw(units()) for name in NAMES})


def host(**placed: Unit) -> Systemd:
    """Make a host with these units; the keywords are names without types."""

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
    """List the pairs (later, earlier) that nix/lib/ordering.nix finds."""
    place.write_text(json.dumps({"systemd": systemd, "names": NAMES}))
    verdicts = evaluate(
        f"""
        let
          data = builtins.fromJSON (builtins.readFile {place});
          host = import {LIB}/configured-units.nix data.systemd;
          judge = caller: import {LIB}/ordering.nix {{
            units = import {LIB}/implied-ordering.nix host.units;
            inherit (host) aliases;
            inherit caller;
            targets = map (unit: {{ inherit unit; }}) (builtins.filter (n: n != caller) data.names);
          }};
        in
        builtins.concatMap judge data.names
        """
    )
    return {(verdict["chain"][0], verdict["chain"][-1]) for verdict in verdicts}


def pairs_of_systemd(systemd: Systemd, place: Path) -> set[tuple[str, str]]:
    """List the pairs (later, earlier) that systemd's own loader finds."""
    place.mkdir()
    given = place / "systemd.json"
    given.write_text(json.dumps(systemd))
    text = f"{{ systemd = builtins.fromJSON (builtins.readFile {given}); }}"
    (rendered,) = evaluate_hosts([text])
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
    """Options, unitConfig, aliases, triggers, targets: both find the same pairs."""
    shutil.rmtree(tmp_path / "host", ignore_errors=True)
    found = pairs_of_systemd(systemd, tmp_path / "host")
    event(f"{len(found) // 5 * 5} pairs or more")
    assert pairs_of_nix(systemd, tmp_path / "names.json") == found
