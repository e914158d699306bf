"""The rendered units: their order, their limits, and what systemd thinks of them."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nix.evaluation import Host
from runner.reconcile.ordering import UnitGraph, find_chain
from runner.systemd.graph import load_units

PROXY = "deploy-proxy.service"
CONSUMERS = (
    "deploy-dashboard.service",
    "deploy-drone.service",
    "warm-keycloak.service",
    "deploy-reports.service",
    "deploy-bridge.service",
    "deploy-backupbot.service",
)
FREE = "free-ports.service"
HOST = {"docker.service", "network-online.target", FREE}
EDGES = {
    FREE: {"docker.service"},
    PROXY: HOST,
    **{consumer: {PROXY, *HOST} for consumer in CONSUMERS},
    "converge.service": {PROXY, *CONSUMERS},
    "nightly-sweep.service": {PROXY, *CONSUMERS},
    "nightly-sweep.timer": set[str](),
}
"""After=, as the host has it; and after the engine's ports are free."""

ENGINE, ONLOOKER, RESTARTER = 23, 17, 12
"""Tenths of systemd's exposure level, out of 100. The bare oneshot has 96.

What is left of it, for units that ask the engine (2.2), and why:

- root (User=), 0.4: the state, the engine's socket and systemd's private one are root's;
- the host's network (PrivateNetwork=, IPAddressDeny=), 0.7: what is asked are the host's own
  listeners, and releases and images come from the network;
- sockets of IP and of UNIX (RestrictAddressFamilies=), 0.4: likewise, and the engine's socket;
- CAP_SYS_ADMIN, CAP_SYS_PTRACE, RestrictNamespaces=~net, 0.7: to ask a task from inside its own
  network namespace, whoever its processes are;
- other users (PrivateUsers=), 0.2: capabilities in a user namespace enter no namespace of the host;
- RootDirectory=, ProtectHome=tmpfs, 0.2: the program and abra's files are the host's.

The onlooker has neither capabilities nor namespaces, and no home. The restarter has no network
either; it sees the processes of others.
"""
EXPOSURE = {
    **dict.fromkeys((PROXY, *CONSUMERS, "nightly-sweep.service"), ENGINE),
    "converge.service": ONLOOKER,
    FREE: RESTARTER,
}


@pytest.fixture(scope="session")
def graph(units: Path) -> UnitGraph:
    """As systemd's own loader reads them."""
    return load_units(units)


def directive(host: Host, unit: str, name: str) -> list[str]:
    """List the values of a directive in a unit's text."""
    return re.findall(rf"^{name}=(.*)$", host.units[unit], re.MULTILINE)


def test_no_unit_lost_an_edge(host: Host) -> None:
    """Of all units, none left out."""
    said = {
        unit: {word for line in directive(host, unit, "After") for word in line.split()}
        for unit in host.units
    }
    assert said == EDGES


@pytest.mark.parametrize("unit", [*CONSUMERS, "converge.service", "nightly-sweep.service"])
def test_who_starts_after_the_proxy(graph: UnitGraph, unit: str) -> None:
    """Each does, and it waits for none of them."""
    assert find_chain(graph, unit, PROXY)
    assert not find_chain(graph, PROXY, unit)


def test_the_assertion_comes_last(graph: UnitGraph) -> None:
    """After the dashboard; and nobody but the end of the boot waits for it."""
    assert find_chain(graph, "converge.service", "deploy-dashboard.service")
    waiting = [unit for unit in EDGES if find_chain(graph, unit, "converge.service")]
    assert waiting == []


def test_a_failed_proxy_keeps_no_consumer_down(host: Host) -> None:
    """Wants=, never what loses the start job when the proxy fails once, or is restarted."""
    for unit in CONSUMERS:
        assert PROXY in " ".join(directive(host, unit, "Wants")).split()
    for text in host.units.values():
        assert not re.search(r"^(Requires|Requisite|BindsTo|PartOf)=", text, re.MULTILINE)


def test_all_of_them_are_started(host: Host) -> None:
    """By the boot, by the engine, or by the timer."""
    started = {unit for units in host.wants.values() for unit in units}
    assert started == host.units.keys() - {"nightly-sweep.service"}
    assert host.wants["timers.target"] == ["nightly-sweep.timer"]
    assert host.wants["docker.service"] == [FREE]
    assert host.requires == {}


def test_the_proxys_oneshot(host: Host) -> None:
    """As the host has it; a rollback counts as up, stranded doesn't."""
    assert directive(host, PROXY, "Type") == ["oneshot"]
    assert directive(host, PROXY, "RemainAfterExit") == ["true"]
    assert directive(host, PROXY, "TimeoutStartSec") == ["900"]
    assert directive(host, PROXY, "SuccessExitStatus") == ["12"]


# What systemd thinks ------------------------------------------------------------------------------

Verify = Callable[[Path], list[str]]


@pytest.fixture
def verify(need: Callable[[str], str]) -> Verify:
    """List what systemd finds wrong with a directory of units, and with the boot that they make.

    Its exit code says nothing: a cycle that it breaks is no failure to it. That a program is not
    here is right: it is on the host that the units are for.
    """
    analyze = need("systemd-analyze")

    def run(units: Path) -> list[str]:
        ours = [path.name for path in units.iterdir() if path.is_file()]
        done = subprocess.run(
            [analyze, "verify", "--man=no", "multi-user.target", *ours],
            capture_output=True,
            text=True,
            check=False,
            env={"SYSTEMD_UNIT_PATH": f"{units}:/lib/systemd/system", "SYSTEMD_LOG_LEVEL": "info"},
        )
        return [
            line
            for line in done.stderr.splitlines()
            if "ordering cycle" in line
            or (any(name in line for name in ours) and "/opt/warm-reconcile/bin/" not in line)
        ]

    return run


def test_systemd_finds_nothing_wrong(verify: Verify, units: Path) -> None:
    """No cycle, no directive that it doesn't know, no unit that is missing."""
    assert verify(units) == []


@pytest.mark.parametrize(
    ("section", "line", "told"),
    [
        ("[Unit]", "After=converge.service", "ordering cycle"),
        ("[Unit]", "Requires=gone.service", "gone.service"),
        ("[Service]", "NoSuchDirective=yes", "NoSuchDirective"),
    ],
)
def test_what_is_wrong_would_be_found(
    verify: Verify, host: Host, tmp_path: Path, section: str, line: str, told: str
) -> None:
    """The test above can fail."""
    units = tmp_path / "units"
    (units / "multi-user.target.wants").mkdir(parents=True)
    for name, text in host.units.items():
        broken = text.replace(section, f"{section}\n{line}") if name == PROXY else text
        (units / name).write_text(broken)
    for name in host.wants["multi-user.target"]:
        (units / "multi-user.target.wants" / name).symlink_to(f"../{name}")
    assert any(told in complaint for complaint in verify(units))


def test_every_service_has_a_limit(host: Host) -> None:
    """A new one can't be forgotten below."""
    assert {name for name in host.units if name.endswith(".service")} == EXPOSURE.keys()


@pytest.mark.parametrize("unit", EXPOSURE)
def test_as_locked_down_as_its_job_allows(
    need: Callable[[str], str], units: Path, unit: str
) -> None:
    """See ENGINE for what is left."""
    limit = EXPOSURE[unit]
    done = subprocess.run(
        [
            *(need("systemd-analyze"), "security", "--offline=true", f"--threshold={limit}"),
            str(units / unit),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout
