"""Boots one machine and records its units, captures and facts, for the claims and the report."""

import contextlib
import hashlib
import time
import traceback
from collections.abc import Generator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen
from swarm.network import wait_for

from proofs.fixtures.disk import DASHBOARD, GOLDEN, PROXY, Disk, Setup
from proofs.fixtures.supplies import DOMAIN, INTERPRETER, Supplies
from proofs.machines.machine import Done, Machine, ProofError, UnitState, seconds_up, unit_states
from proofs.machines.nspawn import Nspawn
from proofs.machines.roots import fresh_root

PAGE: Final = f"https://{DOMAIN}/"
PING: Final = "http://127.0.0.1/ping"
BOOT_LIMIT: Final = 1200.0
"""Seconds for a whole boot. No claim rests on it: the units have their own limits."""
PATIENCE: Final = 300.0
"""Seconds to wait for a condition, likewise."""
EXCERPT: Final = 40
"""Lines of the journal that a report shows."""
STATE: Final = Path("var/lib/warm-reconcile")


@frozen
class Capture:
    """The output of a command, or of a request, during a boot."""

    title: str
    at: float
    """Seconds since systemd began."""
    command: str
    text: str


@define
class Record:
    """The record of one machine, from its first boot to its end."""

    name: str
    title: str
    differs: list[str] = field(factory=list[str])
    """Differences from the shipped machine, a sentence each."""
    seconds: float = 0.0
    units: dict[str, UnitState] = field(factory=dict[str, UnitState])
    """States after the first boot, from scratch: the one that is judged."""
    later: dict[str, dict[str, UnitState]] = field(factory=dict[str, dict[str, UnitState]])
    """States after later events, by the name of the event."""
    hashes: dict[str, str] = field(factory=dict[str, str])
    captures: dict[str, Capture] = field(factory=dict[str, Capture])
    facts: dict[str, Any] = field(factory=dict[str, Any])
    figures: dict[str, Any] = field(factory=dict[str, Any])
    """Measurements for the report; no claim is judged by them."""
    versions: dict[str, str] = field(factory=dict[str, str])
    journal: str = ""
    stopped: str = ""
    """The error that ended the scenario early, else empty; all of the above was seen before it."""


class Recorder:
    """A machine that is up, its disk, and its record."""

    def __init__(self, machine: Machine, disk: Disk, record: Record) -> None:
        self.machine = machine
        self.patience = PATIENCE * machine.slowness
        """Seconds to wait for a condition."""
        self.disk = disk
        self.record = record

    # Waiting -------------------------------------------------------------------------------------

    def await_boot(self) -> None:
        """Wait until systemd has no job left, and note the states of the units."""
        asked = self.machine.run("systemctl", "is-system-running", "--wait", timeout=BOOT_LIMIT)
        self.record.facts["system"] = asked.out.strip()
        self.note_units()

    def await_state(self, unit: str, *states: str) -> UnitState:
        """Wait until a unit is in one of these states of systemd."""

        def look() -> UnitState | None:
            (now,) = unit_states(self.machine, unit).values()
            return now if now.active in states else None

        return wait_for(look, f"{unit} in {' or '.join(states)}", BOOT_LIMIT)

    def require_active(self, unit: str) -> None:
        """Go on only if a unit is active after the first boot.

        Raises:
            ProofError: the unit is not active.
        """
        state = self.record.units[unit].state
        if state != "active":
            said = self.machine.run("journalctl", "--unit", unit, "--output=cat", "--lines=5").out
            raise ProofError(f"{unit} is {state} after the first boot: {' '.join(said.split())}")

    def await_answer(self, url: str, status: int = HTTPStatus.OK) -> None:
        """Wait until a URL answers with this status."""

        def look() -> bool | None:
            reply = self.machine.get(url)
            return True if reply is not None and reply.status == status else None

        wait_for(look, f"{status} from {url}", self.patience)

    def await_any_answer(self, url: str) -> None:
        """Wait until a URL answers, whatever the status."""
        wait_for(lambda: self.machine.get(url), f"an answer from {url}", self.patience)

    # Doing ---------------------------------------------------------------------------------------

    def run_job(self, *flags: str) -> Done:
        """Start the shipped job again, as an operator or a timer would."""
        return self.machine.run("systemctl", "restart", *flags, PROXY, timeout=BOOT_LIMIT)

    def reboot(self) -> None:
        """Shut down cleanly, and boot again from the same disk."""
        self.machine.power_off()
        self.machine.boot()

    # Noting --------------------------------------------------------------------------------------

    def note_units(self, later: str = "") -> dict[str, UnitState]:
        names = (
            *self.disk.setup.units,
            "docker.service",
            "proof-swarm.service",
            "multi-user.target",
        )
        found = unit_states(self.machine, *dict.fromkeys((PROXY, DASHBOARD, *names)))
        if later:
            self.record.later[later] = found
        else:
            self.record.units = found
        return found

    def capture(self, key: str, title: str, *command: str) -> str:
        done = self.machine.run(*command, timeout=BOOT_LIMIT)
        text = (done.out + done.log).rstrip()
        shown = f"{text}\n(exit status {done.code})" if done.code else text
        self._keep(key, title, f"# {' '.join(command)}", shown)
        self.record.facts[f"{key}: status"] = done.code
        return text

    def ask(self, key: str, title: str, url: str) -> int:
        """Request a URL once; return the status, 0 if there is no answer."""
        reply = self.machine.get(url)
        status = reply.status if reply is not None else 0
        text = f"{reply.status} {reply.body.strip()}" if reply is not None else "no answer"
        self._keep(key, title, f"GET {url}", text)
        self.record.facts[key] = status
        return status

    def _keep(self, key: str, title: str, command: str, text: str) -> None:
        at = seconds_up(self.machine)
        self.record.captures[key] = Capture(title, at, command, text)

    def services(self) -> dict[str, str]:
        """Return the version index of each service's spec, by the service's name."""
        names = self.machine.run("docker", "service", "ls", "--format={{.Name}}").check().split()
        if not names:
            return {}
        shown = "{{.Spec.Name}} {{.Version.Index}}"
        lines = self.machine.run(
            "docker", "service", "inspect", f"--format={shown}", *names
        ).check()
        return dict(line.split() for line in lines.splitlines())

    def containers(self) -> list[str]:
        asked = self.machine.run(
            "docker", "ps", "--quiet", "--no-trunc", "--format={{.ID}} {{.Names}}"
        )
        return sorted(asked.check().splitlines())


@contextlib.contextmanager
def record_machine(machine: Machine, disk: Disk, record: Record) -> Generator[Recorder]:
    """Boot a machine whose disk is ready, yield its recorder, and cut its power in the end.

    An error after the boot ends the scenario, and is noted in the record.
    """
    began = time.monotonic()
    record.differs = disk.differs
    try:
        machine.boot()
        on = Recorder(machine, disk, record)
        try:
            yield on
        except Exception as error:  # noqa: BLE001 - the claims that need more fail by it
            record.stopped = format_error(error)
        # After an error the machine may no longer answer.
        with contextlib.suppress(ProofError) if record.stopped else contextlib.nullcontext():
            if not record.units:
                on.note_units()
            record.versions = _versions(machine)
            record.journal = _excerpt(machine, disk.setup.units)
            record.hashes = _hashes(machine, disk.setup.units)
    finally:
        machine.cut_power()
        record.seconds = time.monotonic() - began


@contextlib.contextmanager
def recorded(
    name: str, title: str, setup: Setup, supplies: Supplies, scratch: Path
) -> Generator[Recorder]:
    """Boot a machine in systemd-nspawn from scratch; it is removed in any case."""
    with fresh_root(scratch / name, INTERPRETER) as root:
        disk = Disk(root, supplies, setup)
        # Also the name of its cgroups: two proofs on this host may boot machines of one name.
        unique = f"{scratch.name}-{name}".replace("_", "-")  # a host name may not have "_"
        machine = Nspawn(unique, root, scratch / f"{name}.console")
        with record_machine(machine, disk, Record(name, title)) as on:
            yield on


def format_error(error: BaseException) -> str:
    """Format an error with the line of code that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{type(error).__name__}: {str(error) or frame.line} ({where})"


def _hashes(machine: Machine, units: tuple[str, ...]) -> dict[str, str]:
    """Read the SHA-256 of each unit file in a machine, and whether it is as shipped."""
    paths = (f"/etc/systemd/system/{name}" for name in units)
    lines = machine.run("sha256sum", *paths).check().splitlines()
    found: dict[str, str] = {}
    for name, line in zip(units, lines, strict=True):
        digest = line.split()[0]
        shipped = hashlib.sha256((GOLDEN / "units" / name).read_bytes()).hexdigest()
        found[name] = f"{digest} {'as shipped' if digest == shipped else 'changed for this boot'}"
    return found


def _versions(machine: Machine) -> dict[str, str]:
    def first(*command: str) -> str:
        lines = machine.run(*command).check().strip().splitlines()
        return lines[0] if lines else ""

    return {
        "systemd": first("systemctl", "--version"),
        "kernel": first("uname", "-sr"),
        "Docker engine": first("docker", "version", "--format={{.Server.Version}}"),
        "Docker command line": first("docker", "version", "--format={{.Client.Version}}"),
        "warm-reconcile": first("/opt/warm-reconcile/bin/warm-reconcile", "--version"),
        "Python": first("/opt/warm-reconcile/bin/python", "--version"),
    }


def _excerpt(machine: Machine, units: tuple[str, ...]) -> str:
    """Return an excerpt of the units' journal in the first boot."""
    chosen = [f"--unit={unit}" for unit in units]
    order = (
        "journalctl",
        "--boot=1",
        "--output=short-monotonic",
        "--no-hostname",
        "--quiet",
        *chosen,
    )
    lines = machine.run(*order).check().splitlines()
    if len(lines) > EXCERPT:
        half = EXCERPT // 2
        left_out = f"[… {len(lines) - EXCERPT} lines …]"
        lines = [*lines[:half], left_out, *lines[-half:]]
    return "\n".join(lines)
