"""The machines of M2 in nspawn: a server that has settled, and one whose power fails."""

import contextlib
import functools
import random
import shutil
import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen
from swarm.harness import NEW, OLD
from swarm.network import Load, wait_for

from lab.boots import Play, every_unit
from lab.furnishing import PROXY, TRAEFIK, Setup
from lab.recipes import FAULTS
from lab.stage import PAGE, PING, STATE, Record, Stage, stage
from lab.supplies import Supplies
from runner.reconcile.errors import JournalError
from runner.reconcile.history import History, open_history
from runner.reconcile.statedir import find_state
from runner.reconcile.steps import Commit

FIRST: Final = f"1.0.0+v{OLD}"
NEXT: Final = f"1.1.0+v{NEW}"
BAD_IN_TRIAL: Final = f"1.2.0+v{NEW}"
BAD_LATER: Final = f"1.3.0+v{NEW}"
EVERY: Final = 0.05
"""Seconds between two requests of the load."""
BEFORE: Final = 2.0
"""Seconds of load before something happens."""
OK: Final = 200

CUTS: Final = 10
"""Of the power, for each machine."""
ROUNDS: Final = 15
"""At most: some cuts come when the run has ended already, and don't count."""
BRIEF: Final = {
    "gate": {"window": 1, "deadline": 40, "verify_deadline": 40},
    "world": {"preflight": 0},
}
KINDS: Final = ("deploy", "rollback")


def settled(supplies: Supplies, scratch: Path) -> Record:
    """Boot everything from scratch; then do to it what happens to a server."""
    setup = Setup(units=every_unit(), offered=FIRST, versions=(OLD, NEW))
    title = "the whole control plane as shipped, from its first boot to a bad upgrade"
    with stage("settled", title, setup, supplies, scratch) as on:
        on.await_boot()
        on.require_active(PROXY)
        on.ask("page", "the dashboard's page", PAGE)
        on.record.facts["first"] = _all(on)
        _run_again(on)
        _reboot(on)
        _offer(on, "upgrade", NEXT)
        _offer(on, "bad in its trial", BAD_IN_TRIAL, "bind")
        _offer(on, "bad later", BAD_LATER, "crash")
        on.capture("history", "what the tool remembers", *_tool("history"))
    return on.record


def _run_again(on: Stage) -> None:
    """Start every job again, as a rebuild of the host would."""
    jobs = [name for name in every_unit() if name.endswith(".service")]
    with _loaded(on, "second run"):
        on.machine.run("systemctl", "restart", *jobs, timeout=240).check()
    on.note_units("every job started again")
    on.record.facts["again"] = _all(on)


def _reboot(on: Stage) -> None:
    on.reboot()
    on.machine.run("systemctl", "is-system-running", "--wait", timeout=240)
    on.note_units("a warm reboot")
    on.ask("page after the reboot", "the dashboard's page after a warm reboot", PAGE)
    on.record.facts["rebooted"] = _all(on)


def _offer(on: Stage, key: str, label: str, fault: str = "") -> None:
    edits = next((it.edits for it in FAULTS if it.key == fault), ())
    on.disk.offer_traefik(label, edits)
    with _loaded(on, key):
        on.run_job()
    state = on.note_units(key)[PROXY]
    on.record.facts[key] = {**_all(on), "exit": state.status, "state": state.state}
    on.ask(f"page after {key}", f"the dashboard's page after: {key}", PAGE)
    on.capture(f"why {key}", f"what the tool says of it: {key}", *_tool("explain"))


@contextlib.contextmanager
def _loaded(on: Stage, key: str) -> Generator[Load]:
    """Ask for the dashboard's page all the while, and count what failed."""
    with on.machine.load(PAGE, pause=EVERY) as load:
        time.sleep(BEFORE)
        yield load
    failed = load.failed(OK)
    on.record.facts[f"{key}: failed"] = failed
    on.record.facts[f"{key}: asked"] = len(load.asked)
    on.record.figures[f"{key}: requests for the page that failed"] = (
        f"{failed} of {len(load.asked)}; longest time without a good one"
        f" {load.longest_outage(OK):.1f} s"
    )


def _all(on: Stage) -> dict[str, Any]:
    told = on.status()
    return {
        "last_good": told["last_good"],
        "live": told["live"],
        "services": on.services(),
        "containers": on.containers(),
    }


# Power loss --------------------------------------------------------------------------------------


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
    leaked: str
    """How the next boot's job ended where the engine held the ports for nobody; else empty. What
    follows is then so after the engine was started again."""
    unit: str
    exit: int
    live: str | None
    last_good: str | None
    ping: int


def power(name: str, seed: int, supplies: Supplies, scratch: Path) -> Record:
    """Kill the machine at random moments of deployments and rollbacks; boot it again each time."""
    setup = Setup(units=(PROXY,), config=BRIEF)
    chance = random.Random(seed)  # noqa: S311 - no secret
    with stage(name, "its power fails, again and again", setup, supplies, scratch) as on:
        on.await_boot()
        on.require_active(PROXY)
        spans = {kind: _rehearse(on, kind, number) for number, kind in enumerate(KINDS)}
        on.record.figures["seed"] = seed
        on.record.figures["undisturbed runs, s"] = {k: round(s, 1) for k, s in spans.items()}
        cuts: list[Cut] = []
        for number in range(ROUNDS):
            if sum(bool(cut.amid) for cut in cuts) == CUTS:
                break
            kind = KINDS[number % len(KINDS)]
            cuts.append(_cut(on, kind, number, chance.uniform(0, spans[kind])))
        on.record.facts["cuts"] = [asdict(cut) for cut in cuts]
        with _history(on) as past:
            on.record.facts["proven"] = [r.label for r in past.proven(1000, float("inf"))]
            on.record.facts["gated"] = sorted(_gated(past))
        for number, cut in enumerate(cuts):
            on.record.figures[f"cut {number + 1}"] = (
                f"{cut.kind}, {cut.seconds:.1f} s into the attempt, {cut.amid or 'ended'}:"
                f" next boot {_leak(cut)}{cut.unit} with exit {cut.exit}, {cut.live} is live"
            )
    return on.record


def _leak(cut: Cut) -> str:
    return f"{cut.leaked}; after `systemctl restart docker` " if cut.leaked else ""


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
    wait_for(lambda: _has_begun(on, before), "an attempt in the journal")
    time.sleep(seconds)  # the moment is to be any
    on.machine.cut_power()
    readable, amid = _left(on)
    on.machine.boot()
    state = on.await_state(PROXY, "active", "failed")
    leaked = ""
    if state.state != "active":
        _look_closer(on, number)
        if _is_leaked(on):
            leaked = f"{state.state}, exit {state.status}"
            on.machine.run("systemctl", "restart", "docker.service", timeout=90).check()
            on.run_job()
            state = on.await_state(PROXY, "active", "failed")
    told = on.status()
    reply = on.machine.get(PING)
    return Cut(
        kind=kind,
        seconds=seconds,
        amid=amid,
        readable=readable,
        leaked=leaked,
        unit=state.state,
        exit=state.status,
        live=told["live"],
        last_good=told["last_good"],
        ping=reply.status if reply is not None else 0,
    )


def _is_leaked(on: Stage) -> bool:
    """Say whether the engine holds a port of Traefik for no container at all.

    Docker 20.10 restores from its own files what a container had that is no more: it starts
    docker-proxy for it, and every task then fails with "port is already allocated".
    """
    held = on.machine.run("ss", "-ltnp", "sport = :443").check()
    running = on.machine.run("docker", "ps", "--quiet").check().split()
    said = on.machine.run("journalctl", "--boot", "--unit=docker", "--output=cat").check()
    return "docker-proxy" in held and not running and "port is already allocated" in said


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
        ("why", _tool("explain")),
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
    history = open_history(find_state(state, TRAEFIK))
    assert history is not None
    with contextlib.closing(history):
        yield history


def _gated(past: History) -> set[str]:
    """Name the releases that an attempt committed upon a verdict about them."""
    found: set[str] = set()
    for attempt in past.attempts(1000):
        for _, entry in past.story(attempt.number):
            if isinstance(entry, Commit):
                found.add(entry.verdict.deployment.release.label)
    return found


def _tool(verb: str) -> tuple[str, ...]:
    return ("/opt/warm-reconcile/bin/warm-reconcile", verb, TRAEFIK)


PLAYS: Final[Mapping[str, Play]] = {
    "settled": settled,
    "power-1": functools.partial(power, "power-1", random.SystemRandom().randrange(10**6)),
    "power-2": functools.partial(power, "power-2", random.SystemRandom().randrange(10**6)),
}
