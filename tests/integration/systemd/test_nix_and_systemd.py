"""Nix and systemd derive the same order from the same configuration."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from runner.reconcile.ordering import UnitGraph, find_chain

Load = Callable[..., UnitGraph]
Evaluate = Callable[[str], object]

LIB: Final = Path(__file__).parents[3] / "nix" / "lib"
SERVICES: Final = ("a.service", "b.service", "d.service", "e.service", "f.service")
TEMPLATES: Final = ("c@.service", "k@.service")
INSTANCES: Final = ("c@x.service", "k@x.service", "k@y.service")
TRIGGERS: Final = {
    "d.timer": "[Timer]\nOnCalendar=daily\n",
    "e.socket": "[Socket]\nListenStream=/run/e.socket\n",
    "f.path": "[Path]\nPathExists=/run/f\n",
}
TARGETS: Final = ("h.target", "i.target")
BROUGHT_ALONG: Final = ("multi-user.target", "network-online.target", "timers.target")
FILES: Final = (*SERVICES, *TRIGGERS, *TARGETS)
OURS: Final = (*FILES, *INSTANCES)
KEYS: Final = {"after": "After", "before": "Before", "wants": "Wants", "requires": "Requires"}

Unit = dict[str, object]


def names(choices: tuple[str, ...], most: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(choices), max_size=most)


UNIT: Final = st.fixed_dictionaries(
    {
        "after": names((*OURS, *BROUGHT_ALONG)),
        "before": names((*OURS, *BROUGHT_ALONG)),
        "wants": names(OURS),
        "wantedBy": names((*TARGETS, *BROUGHT_ALONG)),
        "defaultDependencies": st.sampled_from((True, True, True, False)),
    }
)
TEMPLATE: Final = st.fixed_dictionaries(
    {
        "after": names((*OURS, *BROUGHT_ALONG, "k@%i.service")),
        "before": names((*OURS, "k@%i.service")),
        "defaultDependencies": st.sampled_from((True, True, True, False)),
    }
)
HOSTS: Final = st.fixed_dictionaries(
    dict.fromkeys(FILES, UNIT) | dict.fromkeys(TEMPLATES, TEMPLATE)
)


def as_files(units: dict[str, Unit]) -> dict[str, str]:
    files: dict[str, str] = {}
    for name, unit in units.items():
        lines = [
            f"{directive}={' '.join(cast('list[str]', unit[key]))}"
            for key, directive in KEYS.items()
            if key in unit
        ]
        lines.append(f"DefaultDependencies={unit['defaultDependencies']}")
        work = TRIGGERS.get(name, "")
        if name.endswith(".service"):
            work = "[Service]\nType=oneshot\nExecStart=/bin/true\n"
        files[name] = "[Unit]\n" + "\n".join(lines) + "\n" + work
        for by in cast("list[str]", unit.get("wantedBy", [])):
            files[f"{by}.wants/{name}"] = f"→ ../{name}"
    return files


def in_systemd(units: UnitGraph) -> set[tuple[str, str]]:
    """List pairs of units: the first starts after the second."""
    return {
        (later, earlier)
        for later in OURS
        for earlier in OURS
        if later != earlier and find_chain(units, later, earlier)
    }


def in_nix(evaluate: Evaluate, units: dict[str, Unit], place: Path) -> set[tuple[str, str]]:
    file = place / "units.json"
    file.write_text(json.dumps({"units": units, "names": OURS}))
    found = evaluate(
        f"""
        let
          told = builtins.fromJSON (builtins.readFile {file});
          units = import {LIB}/implied-ordering.nix told.units;
          judge = caller: import {LIB}/ordering.nix {{
            inherit units caller;
            targets = map (unit: {{ inherit unit; }}) (builtins.filter (n: n != caller) told.names);
          }};
        in
        map judge told.names
        """
    )
    verdicts = cast("list[list[dict[str, list[str]]]]", found)
    return {
        (verdict["chain"][0], verdict["chain"][-1]) for caller in verdicts for verdict in caller
    }


def pull_each_other(units: dict[str, Unit]) -> bool:
    """Return whether both targets want each other: then systemd orders them by load order."""
    pulls = {
        (one, other)
        for one, other in (TARGETS, TARGETS[::-1])
        if other in cast("list[str]", units[one]["wants"])
        or one in cast("list[str]", units[other]["wantedBy"])
    }
    return len(pulls) == len(TARGETS)


def host(**changes: dict[str, list[str]]) -> dict[str, Unit]:
    """Make a host with nothing but these units changed: ``host(a={"after": ["b.service"]})``."""
    units: dict[str, Unit] = {
        name: {"after": [], "before": [], "wants": [], "wantedBy": [], "defaultDependencies": True}
        for name in (*FILES, *TEMPLATES)
    }
    for name, change in changes.items():
        units[
            {"h": "h.target", "c": "c@.service", "k": "k@.service"}.get(name, f"{name}.service")
        ] |= change
    return units


@settings(
    max_examples=max(10, settings().max_examples // 5),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(HOSTS)
@example(host(c={"after": ["k@%i.service"]}, k={"after": ["a.service"]}))
@example(host(c={"after": ["h.target"]}, h={"wants": ["c@x.service"]}, b={"after": ["h.target"]}))
@example(
    host(
        a={"wantedBy": ["multi-user.target"], "after": ["multi-user.target"]},
        b={"after": ["multi-user.target"]},
    )
)
@example(host(a={"wantedBy": ["timers.target"]}, b={"after": ["timers.target"]}))
@example(host(a={"before": ["network.target"]}, b={"after": ["network-online.target"]}))
def test_nix_orders_units_as_systemd_does(
    load: Load, evaluate: Evaluate, tmp_path: Path, units: dict[str, Unit]
) -> None:
    """Also through implied order: types, targets, triggers.

    Nix may see too much, where systemd leaves open which way it goes, but never too little.
    """
    shutil.rmtree(tmp_path / "units", ignore_errors=True)
    systemd = in_systemd(load(as_files(units), INSTANCES))
    nix = in_nix(evaluate, units, tmp_path)
    event(f"{len(systemd) // 10}0 pairs or more")
    assert systemd <= nix
    if not pull_each_other(units):
        assert nix == systemd
