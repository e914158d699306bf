"""Measure the wall time and memory of a run that finds nothing to do; print or write a table.

Nothing is asserted on time: compare the ratios, and expect the medians to move with the machine.
"""

import argparse
import datetime as dt
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

import host
import nothing
from apps import Bench, obtain_traefik
from rows import BenchError, Section, legend, table

from runner.reconcile.errors import ReconcileError

MEASUREMENTS: Final[tuple[Callable[[Bench, int], Section], ...]] = (nothing.measure,)
README: Final = Path(__file__).parent / "README.md"
PAGE: Final = """\
<!-- Written by `bench/run.py --write`: change it there. -->

# Benchmarks

{table}

Medians of {times} repetitions. A row with a floor was measured alternately with it, in the same
run. The differences and ratios are what to compare: the milliseconds belong to the machine.

## What each row means

{legend}

## How to run it again

`make bench` prints the table and rewrites this page. `.venv/bin/python bench/run.py` only prints,
and `--times N` repeats more often. Traefik is fetched once, into the user's cache. It listens on
127.0.0.1 only and is stopped at the end.

## The machine

{host}
- date: {date}
"""


def main() -> int:
    """Measure, print the table, and rewrite the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--times", type=_count, default=5, metavar="N", help="repetitions (default: %(default)s)"
    )
    parser.add_argument("--write", action="store_true", help=f"rewrite {README.name} beside this")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    try:
        sections, machine = _measure(arguments.times)
    except (BenchError, ReconcileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.write:
        README.write_text(
            PAGE.format(
                table=table(sections),
                times=arguments.times,
                legend=legend(sections),
                host=machine,
                date=dt.datetime.now(tz=dt.UTC).date(),
            )
        )
    print(table(sections))
    return 0


def _measure(times: int) -> tuple[list[Section], str]:
    print("fetching Traefik, unless it is there", file=sys.stderr)
    binary = obtain_traefik()
    sections: list[Section] = []
    with (
        tempfile.TemporaryDirectory(prefix="warm-reconcile-bench-") as directory,
        ExitStack() as stack,
    ):
        bench = Bench(Path(directory), binary, stack)
        for number, measure in enumerate(MEASUREMENTS, 1):
            print(f"measurement {number} of {len(MEASUREMENTS)}", file=sys.stderr)
            sections.append(measure(bench, times))
        return sections, host.describe(bench.scratch)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, not {text}")
    return number


def _end(signum: int, _frame: object) -> NoReturn:
    """Raise SystemExit, so that context managers stop every process that was started."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
