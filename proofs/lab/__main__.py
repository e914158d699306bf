"""Boot what a set of claims needs, judge them, print a line each, and write the report.

``python -m lab boot`` is M1, ``python -m lab server`` what nspawn can show of M2,
``python -m lab vm`` what takes a virtual machine; ``--claim KEY`` checks one alone. With
``--sabotage`` each claim has to fail: its machines are sabotaged, see ``sabotage.py``. What it
takes: root, systemd with its nspawn, Docker's engine; see ``supplies.py`` and ``vm/needs.py``.
"""

import argparse
import contextlib
import functools
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from attrs import evolve, frozen
from vm import boots as vm_boots
from vm import claims as vm_claims
from vm import needs as vm_needs

from lab import boots, claims, report, sabotage, server, server_claims, summary, supplies
from lab.boots import Play
from lab.judging import Check, Claim, Verdict, judge
from lab.machine import ProofError
from lab.sabotage import Sabotage
from lab.stage import Record, tell
from lab.supplies import Supplies
from runner.reconcile.errors import ReconcileError

MISSING: Final = 69
"""Exit status where this host lacks something; EX_UNAVAILABLE of sysexits.h."""


@frozen
class Suite:
    """A set of claims with a report of its own."""

    title: str
    target: str
    claims: tuple[Claim, ...]
    plays: Mapping[str, Play]
    words: tuple[str, ...] = (report.READING, report.STAND_INS)
    """How its machines are to be read, and what stands in for what."""
    sabotages: tuple[tuple[Sabotage, ...], ...] = ()
    """Those in one group are put into the same machines: none touches the claims of another."""
    missing: Callable[[], list[str]] = supplies.missing
    at_once: int = 2
    """Machines at a time."""


SUITES: Final = {
    "boot": Suite(
        "The deadlock reproduced, and the new boot proven",
        "proof",
        (*claims.M1, claims.shipped(boots.PLAYS)),
        boots.PLAYS,
        sabotages=sabotage.BOOT,
    ),
    "server": Suite(
        "The running server",
        "proof-server",
        (*server_claims.SERVER, claims.shipped(server.PLAYS)),
        server.PLAYS,
        sabotages=sabotage.SERVER,
    ),
    "vm": Suite(
        "The same with a kernel of its own, and the routing mesh",
        "proof-vm",
        vm_claims.VM,
        vm_boots.PLAYS,
        vm_needs.WORDS,
        sabotage.VM,
        vm_needs.missing,
        at_once=1,  # each takes two processors
    ),
}


class Proof:
    """Runs the machines of some claims, and judges each as soon as its machines are through."""

    def __init__(
        self, chosen: tuple[Claim, ...], suite: Suite, watch: Callable[[Verdict], None]
    ) -> None:
        """Args: ``watch`` gets each verdict."""
        self.records: dict[str, Record] = {}
        self.broken: dict[str, str] = {}
        """Machines that went wrong, and how."""
        self.verdicts: dict[str, Verdict] = {}
        self._chosen = chosen
        self._suite = suite
        self._watch = watch
        self._lock = threading.Lock()

    def begin(self, pool: Executor, stores: Supplies, scratch: Path) -> None:
        """Have a pool run the machines, each in a directory of its own below ``scratch``."""
        needed = {boot for claim in self._chosen for boot in claim.boots}
        for name in (name for name in self._suite.plays if name in needed):
            played = pool.submit(self._suite.plays[name], stores, scratch)
            played.add_done_callback(functools.partial(self._note, name))

    def _note(self, name: str, played: Future[Record]) -> None:
        with self._lock:
            error = played.exception()
            if error is None:
                self.records[name] = played.result()
            else:
                self.broken[name] = tell(error)
            through = self.records.keys() | self.broken.keys()
            for claim in self._chosen:
                if claim.key not in self.verdicts and through >= set(claim.boots):
                    self._judge(claim)

    def _judge(self, claim: Claim) -> None:
        verdict = judge(claim, self.records, self.broken)
        self.verdicts[claim.key] = verdict
        self._watch(verdict)


@contextlib.contextmanager
def at_work(suite: Suite) -> Generator[tuple[Executor, Supplies, Path]]:
    """Prepare what machines need, and a pool that runs them; all of it has ended afterwards."""
    scratch = Path(tempfile.mkdtemp(prefix="wr-proof-", dir="/tmp"))
    try:
        stores = supplies.prepare(scratch)
        with ThreadPoolExecutor(suite.at_once) as pool:
            yield pool, stores, scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _say_verdict(verdict: Verdict) -> None:
    claim = verdict.claim
    say(f"{'PASS' if verdict.holds else 'FAIL'}  {claim.key:22} {claim.sentence}")
    _say_failed(verdict.checks)


def _say_failed(checks: Sequence[Check]) -> None:
    for check in checks:
        if not check.holds:
            say(f"      {'':22} {check.what}: {check.seen}")


def prove(suite: Suite, chosen: tuple[Claim, ...], place: Path | None) -> tuple[int, int]:
    """Check claims: return how many, and how many failed; write a report to ``place``."""
    proof = Proof(chosen, suite, _say_verdict)
    with at_work(suite) as (pool, stores, scratch):
        proof.begin(pool, stores, scratch)
    verdicts = [proof.verdicts[claim.key] for claim in chosen]
    if place is not None:
        records = {n: proof.records[n] for n in suite.plays if n in proof.records}
        blocks = report.compose(suite.title, suite.target, suite.words, verdicts, records)
        report.save(place, suite.target, blocks)
        say(f"the report: {place / suite.target}.html, and .md")
        commit = summary.read_commit()
        short = summary.summarize(suite.title, suite.target, verdicts, records, commit)
        say(f"the short page: {summary.save(suite.target, short)}")
    return len(verdicts), sum(not verdict.holds for verdict in verdicts)


def disprove(suite: Suite, chosen: tuple[Claim, ...]) -> tuple[int, int]:
    """Sabotage the machines of claims: return how many claims, and how many did not turn red."""
    failures: list[str] = []
    keys = {claim.key: claim for claim in chosen}

    def watch(rows: Mapping[str, Sabotage], verdict: Verdict) -> None:
        row = rows[verdict.claim.key]
        caused = row.caused(verdict)
        told = "RED  " if caused else "GREEN" if verdict.holds else "WRONG"
        say(f"{told}  {row.claim:22} {row.sentence}")
        _say_failed(caused or verdict.checks)
        if not caused:
            failures.append(row.claim)

    count = 0
    with at_work(suite) as (pool, stores, scratch):
        for number, group in enumerate(suite.sabotages):
            edits = tuple(dict.fromkeys(edit for row in group for edit in row.edits))
            rows = {row.claim: row for row in group if row.claim in keys}
            sabotaged = tuple(
                evolve(keys[key], boots=row.machines or keys[key].boots)
                for key, row in rows.items()
            )
            count += len(rows)
            proof = Proof(sabotaged, suite, functools.partial(watch, rows))
            place = scratch / f"{scratch.name}-{number}"
            proof.begin(pool, evolve(stores, sabotage=edits), place)
    return count, len(failures)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parser.add_argument("suites", choices=SUITES, nargs="+", metavar="suite")
    parser.add_argument("--sabotage", action="store_true", help="sabotage: each claim has to fail")
    parser.add_argument("--claim", default="", help="check this one alone, and write no report")
    parser.add_argument("--report", type=Path, default=supplies.PLACE / "report")
    arguments = parser.parse_args()
    chosen = {
        name: tuple(c for c in SUITES[name].claims if arguments.claim in {"", c.key})
        for name in arguments.suites
    }
    if not any(chosen.values()):
        keys = [claim.key for name in arguments.suites for claim in SUITES[name].claims]
        parser.error(f"no such claim; there are {', '.join(keys)}")
    began = time.monotonic()
    counts: list[tuple[int, int]] = []
    for name, claims_of_it in chosen.items():
        suite = SUITES[name]
        if not claims_of_it:
            continue
        if lacks := suite.missing():
            say("\n".join(["the proof can't be made on this host:", *(f"  {x}" for x in lacks)]))
            return MISSING
        try:
            if arguments.sabotage:
                counts.append(disprove(suite, claims_of_it))
            else:
                place = None if arguments.claim else arguments.report
                counts.append(prove(suite, claims_of_it, place))
        except (ProofError, ReconcileError) as error:
            say(f"the proof can't be made on this host: {error}")
            return MISSING
    total, failed = (sum(numbers) for numbers in zip(*counts, strict=True))
    did = "did not turn red" if arguments.sabotage else "failed"
    say(f"{total} claims, {failed} {did}, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
