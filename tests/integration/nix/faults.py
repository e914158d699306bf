"""Configurations that Nix or ``check`` must refuse, with the expected messages.

Each is the control plane with one mistake in a module, as an operator would write it.
"""

import contextlib
import io
from pathlib import Path
from typing import Final

from attrs import frozen

from nix.evaluation import HOST, Host, evaluate_hosts
from runner.cli.main import main
from runner.exit_codes import ExitCode

PROXY: Final = "deploy-proxy.service"
DASHBOARD: Final = "deploy-dashboard.service"
URL: Final = "https://ci.commoninternet.net/"
CONFIGS: Final = "warm-reconcile"


def old_gate(unit: str, url: str = URL) -> str:
    """Write the old gate: a probe of Traefik for a page that another unit serves."""
    return f"""
        services.warm-reconcile.apps.traefik.probes = [
          {{
            kind = "http";
            name = "old-gate";
            targetUnit = "{unit}";
            url = "{url}";
            address = "127.0.0.1:443";
          }}
        ];"""


PAGES: Final = old_gate("pages.service", "https://pages.ci.commoninternet.net/")
"""The old gate, for a page of another unit of the host."""
WORK: Final = 'serviceConfig.ExecStart = "/bin/true";'


@frozen
class Fault:
    """One mistake."""

    name: str
    module: str
    """The body of the module with the mistake."""
    chain: tuple[str, ...] = ()
    """The chain of units from target to caller that every level must find, if there is one."""
    words: str = ""
    """The message of Nix, for a fault without a chain."""
    check: ExitCode = ExitCode.ORDERING_REFUSED
    """The exit code of ``warm-reconcile check --units``; OK if it can't see the fault."""
    why: str = ""
    """The reason that ``check --units`` can't see it."""


FAULTS: Final = (
    Fault(
        "the old gate: the dashboard's URL in the proxy's gate",
        old_gate(DASHBOARD),
        (DASHBOARD, PROXY),
    ),
    Fault(
        "through an alias of the dashboard",
        f"""
        systemd.services.deploy-dashboard.aliases = [ "dash.service" ];
        {old_gate("dash.service")}""",
        (DASHBOARD, PROXY),
    ),
    Fault(
        "through a target",
        f"""
        systemd.targets.proxied.wants = [ "{PROXY}" ];
        systemd.services.pages = {{ after = [ "proxied.target" ]; {WORK} }};{PAGES}""",
        ("pages.service", "proxied.target", PROXY),
    ),
    Fault(
        "through a chain of three",
        f"""
        systemd.services.middle = {{ after = [ "{DASHBOARD}" ]; {WORK} }};
        systemd.services.pages = {{ after = [ "middle.service" ]; {WORK} }};{PAGES}""",
        ("pages.service", "middle.service", DASHBOARD, PROXY),
    ),
    Fault(
        "through a timer",
        f"""
        systemd.timers.pages = {{ after = [ "{PROXY}" ]; timerConfig.OnCalendar = "daily"; }};
        systemd.services.pages = {{ {WORK} }};{PAGES}""",
        ("pages.service", "pages.timer", PROXY),
    ),
    Fault(
        "Before= in the proxy's unit instead of After= in the other",
        f"""
        systemd.services.deploy-proxy.before = [ "pages.service" ];
        systemd.services.pages = {{ {WORK} }};{PAGES}""",
        ("pages.service", PROXY),
    ),
    Fault(
        "After= in unitConfig, past the option",
        f"""
        systemd.services.pages = {{ unitConfig.After = "{PROXY}"; {WORK} }};{PAGES}""",
        ("pages.service", PROXY),
    ),
    Fault(
        "a targetUnit that does not exist",
        old_gate("dashboard.service"),
        words="the target dashboard.service is unknown or can't be started",
    ),
    Fault(
        "a wrong targetUnit: the proxy itself",
        old_gate(PROXY),
        words=f"Traefik routes {URL} to the app that serves ci.commoninternet.net, "
        f"but {PROXY} deploys Traefik itself",
    ),
    Fault(
        "a wrong targetUnit: another unit",
        f"systemd.services.pages = {{ {WORK} }};{old_gate('pages.service')}",
        words=f"ci.commoninternet.net is served by {DASHBOARD}, says apps.dashboard, probe routed; "
        "by pages.service, says apps.traefik, probe old-gate: one of them is wrong",
        check=ExitCode.OK,
        why="unit files don't have the names that a unit serves; a run reads Traefik's routers",
    ),
    Fault(
        "the old gate as an additional command in the proxy's unit",
        f"""
        systemd.services.deploy-proxy.serviceConfig.ExecStartPost =
          "/bin/sh -c 'until curl --fail {URL}; do sleep 1; done'";""",
        words=f"{PROXY} has further commands (ExecStartPost=)",
        check=ExitCode.OK,
        why="no unit file has the units that a command waits for",
    ),
    Fault(
        "a budget over 900 s",
        "services.warm-reconcile.apps.traefik.gate.deadline = lib.mkForce 240;",
        words=f"{PROXY} may take 900 s to start (TimeoutStartSec=), the longest run takes "
        "fetch 120 + verify 45 + (deploy 60 + gate 240) x 3 + margin 60 = 1125 s",
        check=ExitCode.CONFIG,
    ),
    Fault(
        "a TimeoutStartSec= of the unit below its budget",
        "systemd.services.deploy-proxy.serviceConfig.TimeoutStartSec = lib.mkForce 600;",
        words=f"{PROXY} has TimeoutStartSec=600, not timeoutStart = 900",
        check=ExitCode.CONFIG,
    ),
)


@frozen
class Found:
    """The refusals of one configuration; empty if it is accepted."""

    nix: tuple[str, ...]
    check: str
    """The output of ``warm-reconcile check --units`` if it refuses."""
    code: ExitCode


def evaluate_faults() -> dict[str, Host]:
    """Evaluate all faulty hosts at once, and the host without a fault under the name ""."""
    modules = {"": "", **{fault.name: fault.module for fault in FAULTS}}
    texts = [f"{HOST} ({{ lib, ... }}: {{ {text} }})" for text in modules.values()]
    return dict(zip(modules, evaluate_hosts(texts), strict=True))


def lay_out(host: Host, into: Path) -> tuple[Path, Path]:
    """Write a host's units and configs as they are in /etc; return both directories."""
    units = into / "units"
    for name, text in host.files().items():
        place = into / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    links = [(f"{by}.wants", name) for by, names in host.wants.items() for name in names]
    links += [(f"{by}.requires", name) for by, names in host.requires.items() for name in names]
    for folder, name in links:
        (units / folder).mkdir(exist_ok=True)
        (units / folder / name).symlink_to(f"../{name}")
    for alias, name in host.aliases.items():
        (units / alias).symlink_to(name)
    return units, into / "etc" / CONFIGS


def check(host: Host, place: Path) -> tuple[ExitCode, str]:
    """Run ``warm-reconcile check`` offline; return its exit code and output."""
    units, configs = lay_out(host, place)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(["check", "--units", str(units), "--config-dir", str(configs)])
    return ExitCode(code), output.getvalue()


def judge(host: Host, place: Path) -> Found:
    """Collect the refusals of each level that needs no running host."""
    code, printed = check(host, place)
    return Found(tuple(host.refused), printed if code else "", code)


def tabulate(found: dict[str, Found]) -> str:
    """Format the table of faults and levels as Markdown."""
    rows = [
        f"| {fault.name} | {'refused' if found[fault.name].nix else 'not seen'} "
        f"| {_end(found[fault.name].code, fault.why)} |"
        for fault in FAULTS
    ]
    head = "| fault | at Nix evaluation | `check --units` |\n|---|---|---|"
    return "\n".join([head, *rows])


def _end(code: ExitCode, why: str) -> str:
    return f"refused, exit {int(code)}" if code else f"not seen: {why}"
