"""The rendered units: their order, their limits, ``systemd-analyze verify`` and ``security``."""

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
"""The expected After= of each unit; the deployments also wait for free-ports.service."""

ENGINE, ONLOOKER, RESTARTER = 23, 17, 12
"""Tenths of systemd's exposure level, out of 100. The bare oneshot has 96.

The rest of the exposure of units that use Docker (2.2), and the reasons:

- root (User=), 0.4: the state, Docker's socket and systemd's private one are root's;
- the host's network (PrivateNetwork=, IPAddressDeny=), 0.7: probes go to the host's own listeners,
  and releases and images come from the network;
- sockets of IP and of UNIX (RestrictAddressFamilies=), 0.4: likewise, and Docker's socket;
- CAP_SYS_ADMIN, CAP_SYS_PTRACE, RestrictNamespaces=~net, 0.7: a probe of a task is sent from inside
  the task's network namespace, whichever user its processes have;
- other users (PrivateUsers=), 0.2: capabilities in a user namespace enter no namespace of the host;
- RootDirectory=, ProtectHome=tmpfs, 0.2: the program and abra's files are the host's.

The onlooker has neither capabilities nor namespaces, and no home. The restarter has no network
either; it sees the processes of other users.
"""
EXPOSURE = {
    **dict.fromkeys((PROXY, *CONSUMERS, "nightly-sweep.service"), ENGINE),
    "converge.service": ONLOOKER,
    FREE: RESTARTER,
}


@pytest.fixture(scope="session")
def graph(units: Path) -> UnitGraph:
    """The order of units from systemd's own loader."""
    return load_units(units)


def directive(host: Host, unit: str, name: str) -> list[str]:
    """List the values of a directive in a unit's text."""
    return re.findall(rf"^{name}=(.*)$", host.units[unit], re.MULTILINE)


def test_no_unit_lost_an_edge(host: Host) -> None:
    """After= of every unit is exactly the expected one."""
    said = {
        unit: {word for line in directive(host, unit, "After") for word in line.split()}
        for unit in host.units
    }
    assert said == EDGES


@pytest.mark.parametrize("unit", [*CONSUMERS, "converge.service", "nightly-sweep.service"])
def test_who_starts_after_the_proxy(graph: UnitGraph, unit: str) -> None:
    """Each consumer starts after the proxy, and the proxy after none of them."""
    assert find_chain(graph, unit, PROXY)
    assert not find_chain(graph, PROXY, unit)


def test_the_assertion_comes_last(graph: UnitGraph) -> None:
    """converge.service starts after the dashboard, and no unit of these starts after it."""
    assert find_chain(graph, "converge.service", "deploy-dashboard.service")
    waiting = [unit for unit in EDGES if find_chain(graph, unit, "converge.service")]
    assert waiting == []


def test_a_failed_proxy_keeps_no_consumer_down(host: Host) -> None:
    """Consumers have Wants= only: Requires= and the like cancel their start if the proxy fails."""
    for unit in CONSUMERS:
        assert PROXY in " ".join(directive(host, unit, "Wants")).split()
    for text in host.units.values():
        assert not re.search(r"^(Requires|Requisite|BindsTo|PartOf)=", text, re.MULTILINE)


def test_all_of_them_are_started(host: Host) -> None:
    """Each unit is wanted by a boot target, by docker.service, or by the timer."""
    started = {unit for units in host.wants.values() for unit in units}
    assert started == host.units.keys() - {"nightly-sweep.service"}
    assert host.wants["timers.target"] == ["nightly-sweep.timer"]
    assert host.wants["docker.service"] == [FREE]
    assert host.requires == {}


def test_the_proxys_oneshot(host: Host) -> None:
    """The proxy's unit is a oneshot; exit status 12 (rolled back) counts as success."""
    assert directive(host, PROXY, "Type") == ["oneshot"]
    assert directive(host, PROXY, "RemainAfterExit") == ["true"]
    assert directive(host, PROXY, "TimeoutStartSec") == ["900"]
    assert directive(host, PROXY, "SuccessExitStatus") == ["12"]


# systemd-analyze ----------------------------------------------------------------------------------

Verify = Callable[[Path], list[str]]


@pytest.fixture
def verify(need: Callable[[str], str]) -> Verify:
    """List the complaints of ``systemd-analyze verify`` about units, and about the whole boot.

    Its exit code is not used: a cycle that systemd breaks is no failure. Missing programs are
    ignored: they are only on the host that the units are for.
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
    """No cycle, no unknown directive, no missing unit."""
    assert verify(units) == []


@pytest.mark.parametrize(
    ("section", "line", "complaint"),
    [
        ("[Unit]", "After=converge.service", "ordering cycle"),
        ("[Unit]", "Requires=gone.service", "gone.service"),
        ("[Service]", "NoSuchDirective=yes", "NoSuchDirective"),
    ],
)
def test_a_fault_would_be_found(
    verify: Verify, host: Host, tmp_path: Path, section: str, line: str, complaint: str
) -> None:
    """The test above can fail."""
    units = tmp_path / "units"
    (units / "multi-user.target.wants").mkdir(parents=True)
    for name, text in host.units.items():
        broken = text.replace(section, f"{section}\n{line}") if name == PROXY else text
        (units / name).write_text(broken)
    for name in host.wants["multi-user.target"]:
        (units / "multi-user.target.wants" / name).symlink_to(f"../{name}")
    assert any(complaint in line for line in verify(units))


def test_every_service_has_a_limit(host: Host) -> None:
    """Every service has an entry in EXPOSURE."""
    assert {name for name in host.units if name.endswith(".service")} == EXPOSURE.keys()


@pytest.mark.parametrize("unit", EXPOSURE)
def test_as_locked_down_as_its_job_allows(
    need: Callable[[str], str], units: Path, unit: str
) -> None:
    """ENGINE's docstring explains the rest of the exposure."""
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
