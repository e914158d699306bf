"""Measurement 4: does a long history make a run slower?"""

import contextlib
import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

from apps import NAME, App, Bench
from attrs import define, field
from costs import cost
from rows import Row, Section, megabytes, milliseconds

from runner.storage import sqlite

SIZES: Final = (10, 1_000, 100_000)
"""Attempts in the journal."""
APART: Final = 1800.0
"""Seconds between two attempts: a timer of half an hour."""

_NUMBERS: Final = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
_ATTEMPTS: Final = f"""
{_NUMBERS}
INSERT INTO attempt (id, begun, ended, state, release, note)
SELECT lower(hex(randomblob(16))), begun + i * {APART}, ended + i * {APART}, state, release, note
FROM n, attempt WHERE number = ? ORDER BY i
"""  # noqa: S608 - our own number
_ENTRIES: Final = """
INSERT INTO entry (attempt, at, state, entry)
SELECT attempt.number, entry.at + attempt.begun - model.begun, entry.state, entry.entry
FROM attempt, attempt AS model JOIN entry ON entry.attempt = model.number
WHERE model.number = ?1 AND attempt.number > ?1 ORDER BY attempt.number, entry.rowid
"""


@define
class Samples:
    """Of one size of the history. Seconds, and bytes."""

    runs: list[float] = field(factory=list[float])
    lists: list[float] = field(factory=list[float])
    size: int = 0


def measure(bench: Bench, times: int) -> Section:
    """Run over journals of all sizes, alternately, ``times`` times each."""
    app = bench.app("history")
    app.offer("1.0.0")
    app.run("committed")
    app.run("unchanged")  # the model of what the journals are filled with
    journals = {size: _filled(app, size) for size in SIZES}
    found = {size: Samples() for size in SIZES}
    history = [sys.executable, "-m", "runner.cli.main", "history", NAME]
    history += ["--config-dir", str(app.config_dir), "-n", "20"]
    for number in range(times + 1):
        for size, journal in journals.items():
            app.configure(history=size)
            with _in_place(journal, app.state.journal):
                run = cost(app.command(), app.environment)
                listing = cost(history, app.environment)
            if number > 0:  # the first one warms up
                found[size].runs.append(run.seconds)
                found[size].lists.append(listing.seconds)
            found[size].size = journal.stat().st_size
    return Section(
        "What a long history costs",
        "The journal is filled with copies of an attempt that found nothing to do, evidence"
        " included, up to `retention.history`, which is set to that number: each run writes one"
        " attempt and forgets one. Wall time of whole processes, as in 3.",
        _rows(found),
    )


def _filled(app: App, size: int) -> Path:
    """Make a journal with ``size`` attempts out of the app's own, like its last one."""
    journal = app.home / f"journal-{size}"
    shutil.copy(app.state.journal, journal)
    db = sqlite.connect(journal)
    with contextlib.closing(db):
        db.begin()
        ((model,),) = db.execute("SELECT max(number) FROM attempt")
        ((there,),) = db.execute("SELECT count(*) FROM attempt")
        db.execute(_ATTEMPTS, (size - int(str(there)), model))
        db.execute(_ENTRIES, (model,))
        db.commit()
    return journal


@contextlib.contextmanager
def _in_place(journal: Path, place: Path) -> Generator[None]:
    """Lend the app a journal. It was closed well, so it is one file."""
    journal.replace(place)
    try:
        yield
    finally:
        place.replace(journal)


def _rows(found: dict[int, Samples]) -> tuple[Row, ...]:
    runs: list[Row] = []
    lists: list[Row] = []
    sizes: list[Row] = []
    for size, samples in found.items():
        runs.append(
            Row(
                f"a run, {size:,} attempts",
                "A run that finds nothing to do.",
                milliseconds(samples.runs),
                floor=runs[0] if runs else None,
            )
        )
        lists.append(
            Row(
                f"`history -n 20`, {size:,} attempts",
                "The newest 20 attempts.",
                milliseconds(samples.lists),
                floor=lists[0] if lists else None,
            )
        )
        sizes.append(
            Row(
                f"the journal, {size:,} attempts",
                "Size of the file after the last run.",
                megabytes([samples.size]),
                unit="MB",
            )
        )
    return (*runs, *lists, *sizes)
