"""Measures a run that finds nothing to do, against a bare Python and ``curl``."""

import shutil
import sys

from apps import Bench
from costs import Cost, cost
from rows import Row, Section, megabytes, milliseconds


def measure(bench: Bench, times: int) -> Section:
    """Run the tool, a bare Python, and curl alternately, ``times`` times each."""
    app = bench.app("nothing")
    app.offer("1.0.0")
    app.run("committed")
    commands = {"`python -c pass`": [sys.executable, "-c", "pass"], "a run": app.command()}
    curl = shutil.which("curl")
    if curl is not None:
        ping = f"http://127.0.0.1:{app.port}/ping"
        commands["`curl` of the ping"] = [curl, "--silent", "--fail", ping]
    for command in commands.values():
        cost(command, app.environment)  # warm: the page cache, and the bytecode
    found: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            found[name].append(cost(command, app.environment))
    return Section(
        "A run that finds nothing to do",
        "The latest release is last-good and serves: the run reads the source, runs one round of"
        " probes, and writes the journal. Wall time and `ru_maxrss` of wait4 for the whole process,"
        " warm, with the start of Python. The launcher takes about 8.5 MB: smaller peaks can't be"
        " measured.",
        _rows(found),
    )


def _rows(found: dict[str, list[Cost]]) -> tuple[Row, ...]:
    rows: list[Row] = []
    python_time: Row | None = None
    python_peak: Row | None = None
    for name, costs in found.items():
        time = Row(
            f"{name}: wall time",
            "From the start of the process until it was reaped.",
            milliseconds([c.seconds for c in costs]),
            floor=python_time,
        )
        peak = Row(
            f"{name}: peak memory",
            "Resident, shared pages included.",
            megabytes([c.peak for c in costs]),
            unit="MB",
            floor=python_peak,
        )
        python_time, python_peak = python_time or time, python_peak or peak
        rows += [time, peak]
    return tuple(rows)
