"""What happens to one machine, and the record of it that a claim is judged by and a reader sees."""

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

from lab.furnishing import DASHBOARD, GOLDEN, PROXY, Disk, Setup
from lab.machine import Done, Machine, ProofError, UnitState, seconds_up, unit_states
from lab.nspawn import Nspawn
from lab.roots import fresh_root
from lab.supplies import DOMAIN, INTERPRETER, Supplies

PAGE: Final = f"https://{DOMAIN}/"
PING: Final = "http://127.0.0.1/ping"
BOOT_LIMIT: Final = 1200.0
"""Seconds for all that a boot starts. No claim rests on it: the units have limits of their own."""
PATIENCE: Final = 300.0
"""Seconds until a condition that has to come true counts as missed, likewise."""
EXCERPT: Final = 40
"""Lines of the journal that a report shows."""
STATE: Final = Path("var/lib/warm-reconcile")


@frozen
class Capture:
    """What a command, or a request, said in the middle of a boot."""

    title: str
    at: float
    """Seconds since systemd began."""
    command: str
    text: str


@define
class Record:
    """One machine, from its first boot to its end."""

    name: str
    title: str
    differs: list[str] = field(factory=list[str])
    """From the shipped one, a sentence each."""
    seconds: float = 0.0
    units: dict[str, UnitState] = field(factory=dict[str, UnitState])
    """Of the first boot, from scratch: the one that is judged."""
    later: dict[str, dict[str, UnitState]] = field(factory=dict[str, dict[str, UnitState]])
    """Of what came after it, by what that was."""
    hashes: dict[str, str] = field(factory=dict[str, str])
    captures: dict[str, Capture] = field(factory=dict[str, Capture])
    facts: dict[str, Any] = field(factory=dict[str, Any])
    figures: dict[str, Any] = field(factory=dict[str, Any])
    """What was measured, for a reader."""
    versions: dict[str, str] = field(factory=dict[str, str])
    journal: str = ""
    stopped: str = ""
    """What went wrong, if something did: all of the above was seen before."""


class Stage:
    """A machine that is up, its disk, and its record."""

    def __init__(self, machine: Machine, disk: Disk, record: Record) -> None:
        self.machine = machine
        self.patience = PATIENCE * machine.slowness
        """Seconds until a condition that has to come true counts as missed."""
        self.disk = disk
        self.record = record

    # Waiting -------------------------------------------------------------------------------------

    def await_boot(self) -> None:
        """Wait until systemd has nothing left to start, and note how its units are."""
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
        """Go on only if the first boot has brought a unit up: what follows builds on it.

        Raises:
            ProofError: it has not.
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
        """Shut down in good order, and boot again with all that is on the disk."""
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
        """Ask once; the status, 0 if nobody answers."""
        reply = self.machine.get(url)
        status = reply.status if reply is not None else 0
        text = f"{reply.status} {reply.body.strip()}" if reply is not None else "nobody answers"
        self._keep(key, title, f"GET {url}", text)
        self.record.facts[key] = status
        return status

    def _keep(self, key: str, title: str, command: str, text: str) -> None:
        at = seconds_up(self.machine)
        self.record.captures[key] = Capture(title, at, command, text)

    def services(self) -> dict[str, str]:
        """List what Swarm runs: the version of each service's spec, by its name."""
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
def perform(machine: Machine, disk: Disk, record: Record) -> Generator[Stage]:
    """Boot a machine that is furnished, and in the end cut its power: all is known by then.

    What goes wrong after the boot ends the play, and is noted in the record.
    """
    began = time.monotonic()
    record.differs = disk.differs
    try:
        machine.boot()
        on = Stage(machine, disk, record)
        try:
            yield on
        except Exception as error:  # noqa: BLE001 - the claims that need more fail by it
            record.stopped = tell(error)
        # A machine that went wrong may be unable to answer any more.
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
def stage(
    name: str, title: str, setup: Setup, supplies: Supplies, scratch: Path
) -> Generator[Stage]:
    """Boot a machine from scratch; whatever happens, nothing of it is left."""
    with fresh_root(scratch / name, INTERPRETER) as root:
        disk = Disk(root, supplies, setup)
        # Its cgroups have this name; another proof on this host may boot a machine of that name.
        unique = f"{scratch.name}-{name}".replace("_", "-")  # which no host's name may have
        machine = Nspawn(unique, root, scratch / f"{name}.console")
        with perform(machine, disk, Record(name, title)) as on:
            yield on


def tell(error: BaseException) -> str:
    """Say what went wrong, and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{type(error).__name__}: {str(error) or frame.line} ({where})"


def _hashes(machine: Machine, units: tuple[str, ...]) -> dict[str, str]:
    """Read the SHA-256 of each unit as it is in a machine now, and whether it is as shipped."""
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
    """Cut out what the units and systemd said of them in the first boot."""
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
