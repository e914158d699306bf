"""Measurement 1: how long after a release could be known to be good is it committed?"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from apps import AGE, App, Bench
from attrs import frozen
from pings import Pings
from rows import Row, Section, milliseconds

WINDOWS: Final = (0.5, 2.0)
"""Stability windows, in seconds."""


@frozen
class Sample:
    """One commit. All in seconds."""

    latency: float
    """From the first 200 to the commit, less the window."""
    draining: float
    """From the first 200 to the report that the release is deployed; 0 if that came before."""
    writing: float
    """From the verdict to the commit."""
    doubt: float
    """The onlooker's own."""


def measure(bench: Bench, times: int) -> Section:
    """Commit ``times`` releases under each window: where nothing serves, and as a replacement."""
    app = bench.app("decision")
    app.offer("1.0.0")
    app.run("committed")
    cold: dict[float, list[Sample]] = {window: [] for window in WINDOWS}
    warm: dict[float, list[Sample]] = {window: [] for window in WINDOWS}
    for number in range(times):
        for place, window in enumerate(WINDOWS):
            app.configure(window=window)
            app.stop()
            app.offer(f"2.{number}.{2 * place}")
            cold[window].append(_commit(app, window, serves=False))
            app.offer(f"2.{number}.{2 * place + 1}")
            time.sleep(AGE)
            warm[window].append(_commit(app, window, serves=True))
    return Section(
        "From the first 200 to the commit",
        "An onlooker asks `/ping` every 2 ms over raw sockets. The commit is the moment when the"
        " line with `state=COMMITTED` arrives from the run, which it writes when the transaction"
        " is on the disk. The stability window of the gate is subtracted: what remains is the"
        " price of deciding.",
        _rows(cold, warm),
    )


def _commit(app: App, window: float, *, serves: bool) -> Sample:
    with Pings(app.port, serves=serves) as pings:
        ran = app.run("committed")
        first, doubt = pings.first(), pings.doubt()
    committed = ran.at("COMMITTED", "Committed")
    return Sample(
        latency=committed - first - window,
        draining=max(0.0, ran.at("GATING", "Deployed") - first),
        writing=committed - ran.at("COMMITTING", "Judged"),
        doubt=doubt,
    )


def _rows(cold: dict[float, list[Sample]], warm: dict[float, list[Sample]]) -> tuple[Row, ...]:
    def times(samples: Sequence[Sample], pick: Callable[[Sample], float]) -> tuple[float, ...]:
        return milliseconds([pick(sample) for sample in samples])

    rows: list[Row] = []
    for window in WINDOWS:
        alone = Row(
            f"first 200 to commit, window {window:g} s, nothing served before",
            "Until the gate's first good round (it pauses for a tenth of the time it has waited),"
            " from the end of the window to the verdict, and the commit itself.",
            times(cold[window], lambda s: s.latency),
        )
        replacing = Row(
            f"first 200 to commit, window {window:g} s, another one served before",
            "The same; but the gate begins only when the old process has ended.",
            times(warm[window], lambda s: s.latency),
            floor=alone,
        )
        rows += [alone, replacing]
    replaced = [sample for window in WINDOWS for sample in warm[window]]
    every = [sample for window in WINDOWS for sample in cold[window]] + replaced
    return (
        *rows,
        Row(
            "of it: first 200 until the old one has ended",
            "From the first 200 of the new one to the run's word that it is deployed. A connection"
            " that Traefik accepted in the moment of its stop can hold it for its whole grace time"
            " of 10 s.",
            times(replaced, lambda s: s.draining),
        ),
        Row(
            "of it: verdict to commit",
            "Checking that the release is whole in the store, and two durable transactions.",
            times(every, lambda s: s.writing),
        ),
        Row(
            "the onlooker's own doubt",
            "From its last vain probe to the first 200: by so much at most the latencies above"
            " are too short.",
            times(every, lambda s: s.doubt),
        ),
    )
