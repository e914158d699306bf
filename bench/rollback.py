"""Measurement 2: what does a broken release cost, against stopping and starting by hand?"""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from apps import AGE, STOP_LIMIT, App, Bench, lay_out
from attrs import define, frozen
from pings import Pings
from rows import BenchError, Row, Section, milliseconds

WINDOW: Final = 0.5
"""The stability window, in seconds."""


@define
class ByHand:
    """A Traefik that nobody manages."""

    home: Path
    binary: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self.binary, f"--configFile={self.home}/traefik.yml"],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """Send SIGTERM, and wait for the end of it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@frozen
class Restart:
    """Seconds of one restart by hand."""

    outage: float
    whole: float
    """From SIGTERM to the first 200."""


@frozen
class Rollback:
    """Seconds of one rollback."""

    outage: float
    draining: float
    """From the last 200 to the report that the candidate is deployed."""
    noticing: float
    """From there to the verdict on it."""
    returning: float
    """From the verdict to last-good's first 200."""
    until_answer: float
    """From the beginning of the deployment to last-good's first 200."""
    until_end: float
    """From the beginning of the deployment to ROLLED_BACK, less the window."""
    whole: float
    """From the run's start to ROLLED_BACK, less the window."""


def measure(bench: Bench, times: int) -> Section:
    """Restart by hand and roll back, alternately, ``times`` times each."""
    hand = ByHand(bench.scratch / "hand", bench.binary.path, bench.free_port())
    lay_out(hand.home, hand.port)
    bench.stack.callback(hand.stop)
    hand.start()
    app = bench.app("rollback")
    app.configure(window=WINDOW)
    app.offer("1.0.0")
    app.run("committed")
    restarts: list[Restart] = []
    rollbacks: list[Rollback] = []
    for number in range(times):
        time.sleep(AGE)
        restarts.append(_restart(hand))
        app.offer(f"2.0.{number}", broken=True)
        rollbacks.append(_roll_back(app))
    return Section(
        "From a broken release back to last-good",
        "The new release's static configuration has a key that Traefik refuses, so its process"
        " exits at once: the gate's deadline plays no part. By hand means: SIGTERM, wait for the"
        " process to end, start the same binary with the same configuration, ask until 200. The"
        f" window of {WINDOW:g} s for which last-good must hold again is subtracted.",
        _rows(restarts, rollbacks),
    )


def _restart(hand: ByHand) -> Restart:
    with Pings(hand.port) as pings:
        began = time.monotonic()
        hand.stop()
        hand.start()
        return Restart(pings.first() - pings.last(), pings.first() - began)


def _roll_back(app: App) -> Rollback:
    with Pings(app.port) as pings:
        ran = app.run("rolled back")
        last, first = pings.last(), pings.first()
    deploying = ran.at("DEPLOYING", "CandidateFound")
    deployed = ran.at("GATING", "Deployed")
    judged = ran.at("CHOOSING", "Judged")
    if not deploying < last < judged < first:
        raise BenchError(f"somebody else answers on port {app.port}: {last}, {first}, {ran}")
    ended = ran.at("ROLLED_BACK", "Judged") - WINDOW
    return Rollback(
        outage=first - last,
        draining=deployed - last,
        noticing=judged - deployed,
        returning=first - judged,
        until_answer=first - deploying,
        until_end=ended - deploying,
        whole=ended - ran.began,
    )


def _rows(restarts: list[Restart], rollbacks: list[Rollback]) -> tuple[Row, ...]:
    def by_hand(pick: Callable[[Restart], float]) -> tuple[float, ...]:
        return milliseconds([pick(restart) for restart in restarts])

    def rolled(pick: Callable[[Rollback], float]) -> tuple[float, ...]:
        return milliseconds([pick(rollback) for rollback in rollbacks])

    restart = Row(
        "restart by hand", "From SIGTERM to the first 200: the floor.", by_hand(lambda r: r.whole)
    )
    outage = Row(
        "outage by hand",
        "From the last 200 before to the first 200 after, as the onlooker saw it.",
        by_hand(lambda r: r.outage),
    )
    return (
        restart,
        outage,
        Row(
            "outage of a rollback",
            "The same for the run: last-good stops, the candidate starts and exits, last-good"
            " starts: one start more than by hand.",
            rolled(lambda r: r.outage),
            floor=outage,
        ),
        Row(
            "of it: until the candidate is deployed",
            "From the last 200 until the run says so: the candidate is started as soon as the"
            " listeners are free, but the end of the old process is awaited, too; see 1e.",
            rolled(lambda r: r.draining),
        ),
        Row(
            "of it: until the verdict",
            "What the broken Traefik itself still takes to exit, and the gate to notice.",
            rolled(lambda r: r.noticing),
        ),
        Row(
            "of it: until last-good answers",
            "Its binary (about 185 MB) is read again and its hash compared before it is started.",
            rolled(lambda r: r.returning),
        ),
        Row(
            "deployment begun to last-good's first 200",
            "From the decision to deploy. Before the run stops anything, it reads the candidate's"
            " binary and compares its hash.",
            rolled(lambda r: r.until_answer),
            floor=restart,
        ),
        Row(
            "deployment begun to rolled back, less the window",
            "The same, until last-good has been verified and the journal closed.",
            rolled(lambda r: r.until_end),
            floor=restart,
        ),
        Row(
            "run begun to rolled back, less the window",
            "The same, with the start of Python and the taking in of the release.",
            rolled(lambda r: r.whole),
            floor=restart,
        ),
    )
