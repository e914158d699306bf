"""The scenarios with power cuts: at random moments of a run, and one that leaks published ports."""

import contextlib
import functools
import random
import shutil
import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final

from attrs import asdict, frozen
from swarm.harness import NEW
from swarm.leak import forget_sandboxes
from swarm.network import wait_for

from proofs.fixtures.disk import FREE_PORTS, PROXY, TRAEFIK, Setup
from proofs.fixtures.recipes import FAULTS
from proofs.fixtures.supplies import Supplies
from proofs.recorder import PING, STATE, Record, Recorder, recorded
from proofs.scenarios.boot import Scenario, explain, journal_of
from proofs.serving import ask_serving, read_disk
from runner.reconcile.errors import JournalError
from runner.storage.history import History, open_history
from runner.storage.paths import find_state

JOBS: Final = (FREE_PORTS, PROXY)
CUTS: Final = 10
"""Power cuts during a run, for each machine."""
ROUNDS: Final = 15
"""At most this many cuts in all: those after the end of the run don't count."""
BRIEF: Final = {
    "gate": {"window": 1, "deadline": 40, "verify_deadline": 40},
    "platform": {"preflight": 0},
}
KINDS: Final = ("deploy", "rollback")
NETWORKS: Final = Path("var/lib/docker/network/files/local-kv.db")
"""Docker's record of the endpoints on networks of its host."""
LEFT_ALONE: Final = "[Service]\nExecStart=\nExecStart=/bin/true\n"
"""A drop-in that disables the unit that frees ports."""


@frozen
class Cut:
    """One cut of the power, and the boot after it."""

    kind: str
    seconds: float
    """Seconds since the beginning of the attempt."""
    amid: str
    """The state of the open attempt in the journal; empty if the run had ended."""
    readable: bool
    """The journal can be read as the cut left it."""
    freed: str
    """The message of ``free-ports`` in the next boot if dockerd had leaked ports; else empty."""
    unit: str
    exit: int
    serving: str | None
    proven: bool
    """A proven release serves: last-good, or an older one if last-good failed its gate."""
    ping: int


def power(name: str, seed: int, supplies: Supplies, scratch: Path) -> Record:
    """Kill the machine at random moments of deployments and rollbacks; boot again each time."""
    setup = Setup(units=JOBS, config=BRIEF)
    chance = random.Random(seed)  # noqa: S311 - no secret
    with recorded(name, "its power fails, again and again", setup, supplies, scratch) as on:
        on.await_boot()
        on.require_active(PROXY)
        spans = {kind: _rehearse(on, kind, number) for number, kind in enumerate(KINDS)}
        on.record.figures["seed"] = seed
        on.record.figures["undisturbed runs, s"] = {k: round(s, 1) for k, s in spans.items()}
        cuts: list[Cut] = []
        _note_past(on, cuts)
        for number in range(ROUNDS):
            if sum(bool(cut.amid) for cut in cuts) == CUTS:
                break
            kind = KINDS[number % len(KINDS)]
            cuts.append(_cut(on, kind, number, chance.uniform(0, spans[kind])))
            _note_past(on, cuts)
        for number, cut in enumerate(cuts):
            on.record.figures[f"cut {number + 1}"] = (
                f"{cut.kind}, {cut.seconds:.1f} s into the attempt, {cut.amid or 'ended'}:"
                f" next boot {cut.unit} with exit {cut.exit}, {cut.serving} serves"
                f"{f'; {cut.freed}' if cut.freed else ''}"
            )
    return on.record


def _note_past(on: Recorder, cuts: list[Cut]) -> None:
    """Note all cuts so far, after each one: a later error must not lose them."""
    on.record.facts["cuts"] = [asdict(cut) for cut in cuts]
    memory = read_disk(on)
    on.record.facts["proven"] = memory.proven
    on.record.facts["without evidence"] = memory.without_evidence


def is_bad(label: str) -> bool:
    """Return whether this is the label of a broken release of ``_offer_kind``."""
    return label.startswith("2.") and label.split(".")[2].startswith("1+")


def _offer_kind(on: Recorder, kind: str, number: int) -> None:
    """Offer a release; the last number of its label is 1 if it is broken."""
    bad = kind == "rollback"
    edits = next(fault.edits for fault in FAULTS if fault.key == "bind") if bad else ()
    on.disk.offer_traefik(f"2.{number}.{int(bad)}+v{NEW}", edits)


def _rehearse(on: Recorder, kind: str, number: int) -> float:
    """Let a run of a kind end by itself; return how long its attempt took, in seconds."""
    _offer_kind(on, kind, number)
    on.run_job()
    with _history(on) as past:
        (newest,) = past.attempts(1)
        assert newest.ended is not None
        return newest.ended - newest.begun


def _cut(on: Recorder, kind: str, number: int, seconds: float) -> Cut:
    _offer_kind(on, kind, number + len(KINDS))
    with _history(on) as past:
        before = past.attempts(1)[0].number
    on.run_job("--no-block")
    wait_for(lambda: _has_begun(on, before), "an attempt in the journal", on.patience)
    time.sleep(seconds)  # a random moment of the run
    on.machine.cut_power()
    readable, amid = _left(on)
    on.machine.boot()
    state = on.await_state(PROXY, "active", "failed")
    if state.state != "active":
        _look_closer(on, number)
    seen = ask_serving(on)
    reply = on.machine.get(PING)
    return Cut(
        kind=kind,
        seconds=seconds,
        amid=amid,
        readable=readable,
        freed=_freed(on),
        unit=state.state,
        exit=state.status,
        serving=seen.release,
        proven=seen.release in seen.memory.proven,
        ping=reply.status if reply is not None else 0,
    )


def _freed(on: Recorder) -> str:
    """Return the message of this boot's ``free-ports`` if it found leaked ports."""
    lines = on.machine.run(*journal_of(FREE_PORTS)).check().splitlines()
    return next((line for line in lines if line.startswith("dockerd held")), "")


def _look_closer(on: Recorder, number: int) -> None:
    """Capture state that explains why a boot after a cut failed."""
    names = on.machine.run("docker", "service", "ls", "--format={{.Name}}").check().split()
    tasks = (
        "docker",
        "service",
        "ps",
        "--no-trunc",
        "--format={{.ID}} {{.CurrentState}} {{.Error}}",
    )
    for key, command in (
        ("why", explain()),
        ("tasks", (*tasks, *names)),
        ("containers", ("docker", "ps", "--all")),
        ("listeners", ("ss", "-ltnp")),
        ("engine", ("journalctl", "--boot", "--unit=docker", "--output=cat", "--lines=60")),
    ):
        on.capture(f"{key} {number}", f"{key}, after cut {number + 1}", *command)


def _has_begun(on: Recorder, before: int) -> bool | None:
    with _history(on) as past:
        return True if past.attempts(1)[0].number > before else None


def _left(on: Recorder) -> tuple[bool, str]:
    """Return whether the journal can be read, and the state of its open attempt."""
    try:
        with _left_history(on) as past:
            (newest,) = past.attempts(1)
            past.story(newest.number)
            return True, newest.state.name if newest.ended is None else ""
    except JournalError:
        return False, ""


@contextlib.contextmanager
def _history(on: Recorder) -> Generator[History]:
    """Read the journal of a running machine, even while a run writes it."""
    with _opened(on.disk.root / STATE) as history:
        yield history


@contextlib.contextmanager
def _left_history(on: Recorder) -> Generator[History]:
    """Read a copy: SQLite may repair the file on reading, which the machine has to do itself."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "state")
        unwanted = shutil.ignore_patterns("releases", "images", "source.git")
        shutil.copytree(on.disk.root / STATE, copy, ignore=unwanted, symlinks=True)
        copy.chmod(0o700)
        with _opened(copy) as history:
            yield history


@contextlib.contextmanager
def _opened(state: Path) -> Generator[History]:
    with open_history(find_state(state, TRAEFIK)) as history:
        assert history is not None
        yield history


# Leaked ports ------------------------------------------------------------------------------------


def leaked(supplies: Supplies, scratch: Path) -> Record:
    """Cut the power so that dockerd leaks ports: without the unit that frees them, and with it.

    About one random cut in fifty leaks ports. Here Docker's record of a container is deleted and
    its endpoint left, as by a cut during the removal of a container.
    """
    setup = Setup(units=JOBS, config=BRIEF, drop_ins={FREE_PORTS: LEFT_ALONE})
    with recorded("leaked", "dockerd comes back with leaked ports", setup, supplies, scratch) as on:
        on.await_boot()
        on.require_active(PROXY)
        _leak(on)
        on.note_units("not freed")
        on.capture("why stuck", "`explain` while the ports are leaked", *explain())
        on.capture("listeners", "listeners: proxies of dockerd", "ss", "-ltnp", "sport = :443")
        on.capture("containers", "running containers", "docker", "ps")
        on.capture("stuck", "leaked ports", *_free_ports("--dry-run"))
        on.record.facts["quarantined"] = read_disk(on).quarantine
        on.capture("by hand", "ports freed by an operator", *_free_ports())
        on.run_job()
        on.note_units("freed by hand")
        on.disk.remove_drop_in(FREE_PORTS)
        _leak(on)
        on.note_units("freed")
        on.capture("freed", "journal of the unit", *journal_of(FREE_PORTS))
        on.capture("why freed", "`explain`", *explain())
        on.record.facts["freed"] = _freed(on)
        on.record.facts["serving"] = ask_serving(on)
        on.ask("ping", "Traefik", PING)
    return on.record


def _leak(on: Recorder) -> None:
    on.machine.cut_power()
    forget_sandboxes(on.disk.root / NETWORKS)
    on.machine.boot()
    on.await_state(PROXY, "active", "failed")


def _free_ports(*flags: str) -> tuple[str, ...]:
    return ("/opt/warm-reconcile/bin/warm-reconcile", "free-ports", *flags)


POWER_SCENARIOS: Final[Mapping[str, Scenario]] = {
    "leaked": leaked,
    "power-1": functools.partial(power, "power-1", random.SystemRandom().randrange(10**6)),
    "power-2": functools.partial(power, "power-2", random.SystemRandom().randrange(10**6)),
}
