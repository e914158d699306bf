"""The machines whose power fails: at any moment, and at the one after which ports are leaked."""

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

from lab.boots import Play, explain, said_by
from lab.furnishing import FREE_PORTS, PROXY, TRAEFIK, Setup
from lab.recipes import FAULTS
from lab.serving import ask_serving, read_disk
from lab.stage import PING, STATE, Record, Stage, stage
from lab.supplies import Supplies
from runner.reconcile.errors import JournalError
from runner.storage.history import History, open_history
from runner.storage.paths import find_state

JOBS: Final = (FREE_PORTS, PROXY)
CUTS: Final = 10
"""Of the power, for each machine."""
ROUNDS: Final = 15
"""At most: some cuts come when the run has ended already, and don't count."""
BRIEF: Final = {
    "gate": {"window": 1, "deadline": 40, "verify_deadline": 40},
    "platform": {"preflight": 0},
}
KINDS: Final = ("deploy", "rollback")
NETWORKS: Final = Path("var/lib/docker/network/files/local-kv.db")
"""Where the engine remembers what is attached to networks of its host."""
LEFT_ALONE: Final = "[Service]\nExecStart=\nExecStart=/bin/true\n"
"""What makes of the unit that frees ports one that doesn't."""


@frozen
class Cut:
    """One cut of the power, and the boot after it."""

    kind: str
    seconds: float
    """From the beginning of the attempt."""
    amid: str
    """The state in which the journal was left; empty if the run had ended."""
    readable: bool
    """The journal, as the cut left it."""
    freed: str
    """What the next boot said of the engine where it held ports for nobody; else empty."""
    unit: str
    exit: int
    serving: str | None
    proven: bool
    """What serves is: last-good, or an older one if that didn't pass its gate in time."""
    ping: int


def power(name: str, seed: int, supplies: Supplies, scratch: Path) -> Record:
    """Kill the machine at random moments of deployments and rollbacks; boot it again each time."""
    setup = Setup(units=JOBS, config=BRIEF)
    chance = random.Random(seed)  # noqa: S311 - no secret
    with stage(name, "its power fails, again and again", setup, supplies, scratch) as on:
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


def _note_past(on: Stage, cuts: list[Cut]) -> None:
    """Note after each cut, so that what goes wrong later leaves it to be judged."""
    on.record.facts["cuts"] = [asdict(cut) for cut in cuts]
    memory = read_disk(on)
    on.record.facts["proven"] = memory.proven
    on.record.facts["without evidence"] = memory.without_evidence


def is_bad(label: str) -> bool:
    """Tell the broken releases of a machine whose power fails by their names."""
    return label.startswith("2.") and label.split(".")[2].startswith("1+")


def _offer_kind(on: Stage, kind: str, number: int) -> None:
    """Offer a release: its last number is 1 if it is a broken one."""
    bad = kind == "rollback"
    edits = next(fault.edits for fault in FAULTS if fault.key == "bind") if bad else ()
    on.disk.offer_traefik(f"2.{number}.{int(bad)}+v{NEW}", edits)


def _rehearse(on: Stage, kind: str, number: int) -> float:
    """Let a run of a kind end by itself; return how long its attempt took, in seconds."""
    _offer_kind(on, kind, number)
    on.run_job()
    with _history(on) as past:
        (newest,) = past.attempts(1)
        assert newest.ended is not None
        return newest.ended - newest.begun


def _cut(on: Stage, kind: str, number: int, seconds: float) -> Cut:
    _offer_kind(on, kind, number + len(KINDS))
    with _history(on) as past:
        before = past.attempts(1)[0].number
    on.run_job("--no-block")
    wait_for(lambda: _has_begun(on, before), "an attempt in the journal", on.patience)
    time.sleep(seconds)  # the moment is to be any
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


def _freed(on: Stage) -> str:
    """Read what this boot's look for leaked ports said, if it found any."""
    lines = on.machine.run(*said_by(FREE_PORTS)).check().splitlines()
    return next((line for line in lines if line.startswith("the engine held")), "")


def _look_closer(on: Stage, number: int) -> None:
    """Keep what tells why a boot after a cut did not come up."""
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


def _has_begun(on: Stage, before: int) -> bool | None:
    with _history(on) as past:
        return True if past.attempts(1)[0].number > before else None


def _left(on: Stage) -> tuple[bool, str]:
    """Say whether the journal can be read as it was left, and where its last attempt is."""
    try:
        with _left_history(on) as past:
            (newest,) = past.attempts(1)
            past.story(newest.number)
            return True, newest.state.name if newest.ended is None else ""
    except JournalError:
        return False, ""


@contextlib.contextmanager
def _history(on: Stage) -> Generator[History]:
    """Read the journal of a machine that is up, beside whoever writes it."""
    with _opened(on.disk.root / STATE) as history:
        yield history


@contextlib.contextmanager
def _left_history(on: Stage) -> Generator[History]:
    """Read a copy: reading may put in order what the machine has to by itself."""
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
    """Cut the power so that the engine leaks ports: without the unit that frees them, and with it.

    The cut that leaks by itself is one of some fifty: here the engine's record of a container is
    taken away, as a cut in the middle of a removal does, and its endpoint is left.
    """
    setup = Setup(units=JOBS, config=BRIEF, drop_ins={FREE_PORTS: LEFT_ALONE})
    with stage("leaked", "it comes back with ports of nobody's", setup, supplies, scratch) as on:
        on.await_boot()
        on.require_active(PROXY)
        _leak(on)
        on.note_units("not freed")
        on.capture("why stuck", "what the tool says where nobody frees them", *explain())
        on.capture("listeners", "who listens: proxies of the engine", "ss", "-ltnp", "sport = :443")
        on.capture("containers", "what runs", "docker", "ps")
        on.capture("stuck", "what it says of the ports", *_free_ports("--dry-run"))
        on.record.facts["quarantined"] = read_disk(on).quarantine
        on.capture("by hand", "what an operator does then", *_free_ports())
        on.run_job()
        on.note_units("freed by hand")
        on.disk.remove_drop_in(FREE_PORTS)
        _leak(on)
        on.note_units("freed")
        on.capture("freed", "what the unit says", *said_by(FREE_PORTS))
        on.capture("why freed", "what the tool says", *explain())
        on.record.facts["freed"] = _freed(on)
        on.record.facts["serving"] = ask_serving(on)
        on.ask("ping", "Traefik", PING)
    return on.record


def _leak(on: Stage) -> None:
    on.machine.cut_power()
    forget_sandboxes(on.disk.root / NETWORKS)
    on.machine.boot()
    on.await_state(PROXY, "active", "failed")


def _free_ports(*flags: str) -> tuple[str, ...]:
    return ("/opt/warm-reconcile/bin/warm-reconcile", "free-ports", *flags)


POWER_PLAYS: Final[Mapping[str, Play]] = {
    "leaked": leaked,
    "power-1": functools.partial(power, "power-1", random.SystemRandom().randrange(10**6)),
    "power-2": functools.partial(power, "power-2", random.SystemRandom().randrange(10**6)),
}
