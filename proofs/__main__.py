"""Boot the machines of a set of claims, judge the claims, print a line each, and write the report.

``python -m proofs boot`` is M1, ``python -m proofs server`` the part of M2 that nspawn can show,
``python -m proofs vm`` the part that needs a virtual machine; ``--claim KEY`` checks one claim.
With ``--sabotage`` each claim has to fail: its machines are sabotaged, see ``sabotage.py``. It
needs root, systemd-nspawn and dockerd; see ``fixtures/supplies.py`` and ``machines/needs.py``.
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

from proofs import report, sabotage, summary
from proofs.claim import Check, Claim, Verdict, judge
from proofs.claims import boot as boot_claims
from proofs.claims import server as server_claims
from proofs.claims import vm as vm_claims
from proofs.fixtures import supplies
from proofs.fixtures.supplies import Supplies
from proofs.machines import needs as vm_needs
from proofs.machines.machine import ProofError
from proofs.recorder import Record, format_error
from proofs.sabotage import Sabotage
from proofs.scenarios import boot, server, vm
from proofs.scenarios.boot import Scenario
from runner.reconcile.errors import ReconcileError

MISSING: Final = 69
"""Exit status where this host lacks something; EX_UNAVAILABLE of sysexits.h."""


@frozen
class Suite:
    """A set of claims with its own report."""

    title: str
    target: str
    claims: tuple[Claim, ...]
    scenarios: Mapping[str, Scenario]
    words: tuple[str, ...] = (report.READING, report.STAND_INS)
    """Paragraphs of the report: how its machines are made, and which parts are substitutes."""
    sabotages: tuple[tuple[Sabotage, ...], ...] = ()
    """The sabotages of one group share machines: none affects the claims of another."""
    missing: Callable[[], list[str]] = supplies.missing
    at_once: int = 2
    """Machines at a time."""


SUITES: Final = {
    "boot": Suite(
        "The deadlock reproduced, and the new boot proven",
        "proof",
        (*boot_claims.M1, boot_claims.shipped(boot.SCENARIOS)),
        boot.SCENARIOS,
        sabotages=sabotage.BOOT,
    ),
    "server": Suite(
        "The running server",
        "proof-server",
        (*server_claims.SERVER, boot_claims.shipped(server.SCENARIOS)),
        server.SCENARIOS,
        sabotages=sabotage.SERVER,
    ),
    "vm": Suite(
        "The same with a kernel of its own, and the routing mesh",
        "proof-vm",
        vm_claims.VM,
        vm.SCENARIOS,
        vm_needs.WORDS,
        sabotage.VM,
        vm_needs.missing,
        at_once=1,  # each takes two processors
    ),
}


class Proof:
    """Runs the machines of some claims, and judges each claim as soon as its machines are done."""

    def __init__(
        self, chosen: tuple[Claim, ...], suite: Suite, watch: Callable[[Verdict], None]
    ) -> None:
        """Args: ``watch`` gets each verdict."""
        self.records: dict[str, Record] = {}
        self.broken: dict[str, str] = {}
        """Machines without a record, and their error."""
        self.verdicts: dict[str, Verdict] = {}
        self._chosen = chosen
        self._suite = suite
        self._watch = watch
        self._lock = threading.Lock()

    def begin(self, pool: Executor, stores: Supplies, scratch: Path) -> None:
        """Submit the machines to a pool, each with its own directory below ``scratch``."""
        needed = {boot for claim in self._chosen for boot in claim.boots}
        for name in (name for name in self._suite.scenarios if name in needed):
            running = pool.submit(self._suite.scenarios[name], stores, scratch)
            running.add_done_callback(functools.partial(self._note, name))

    def _note(self, name: str, running: Future[Record]) -> None:
        with self._lock:
            error = running.exception()
            if error is None:
                self.records[name] = running.result()
            else:
                self.broken[name] = format_error(error)
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
    """Prepare the supplies and a pool of threads for machines; both end with the context."""
    scratch = Path(tempfile.mkdtemp(prefix="wr-proof-", dir="/tmp"))
    try:
        stores = supplies.prepare(scratch)
        with ThreadPoolExecutor(suite.at_once) as pool:
            yield pool, stores, scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _print_verdict(verdict: Verdict) -> None:
    claim = verdict.claim
    print_line(f"{'PASS' if verdict.holds else 'FAIL'}  {claim.key:22} {claim.sentence}")
    _print_failed(verdict.checks)


def _print_failed(checks: Sequence[Check]) -> None:
    for check in checks:
        if not check.holds:
            print_line(f"      {'':22} {check.what}: {check.seen}")


def prove(suite: Suite, chosen: tuple[Claim, ...], place: Path | None) -> tuple[int, int]:
    """Check claims: return how many, and how many failed; write a report to ``place``."""
    proof = Proof(chosen, suite, _print_verdict)
    with at_work(suite) as (pool, stores, scratch):
        proof.begin(pool, stores, scratch)
    verdicts = [proof.verdicts[claim.key] for claim in chosen]
    if place is not None:
        records = {n: proof.records[n] for n in suite.scenarios if n in proof.records}
        blocks = report.compose(suite.title, suite.target, suite.words, verdicts, records)
        report.save(place, suite.target, blocks)
        print_line(f"the report: {place / suite.target}.html, and .md")
        commit = summary.read_commit()
        short = summary.summarize(suite.title, suite.target, verdicts, records, commit)
        print_line(f"the short page: {summary.save(suite.target, short)}")
    return len(verdicts), sum(not verdict.holds for verdict in verdicts)


def disprove(suite: Suite, chosen: tuple[Claim, ...]) -> tuple[int, int]:
    """Sabotage the machines of claims: return how many claims, and how many did not turn red."""
    failures: list[str] = []
    keys = {claim.key: claim for claim in chosen}

    def watch(rows: Mapping[str, Sabotage], verdict: Verdict) -> None:
        row = rows[verdict.claim.key]
        caused = row.caused(verdict)
        colour = "RED  " if caused else "GREEN" if verdict.holds else "WRONG"
        print_line(f"{colour}  {row.claim:22} {row.sentence}")
        _print_failed(caused or verdict.checks)
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


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="proofs", description=__doc__)
    parser.add_argument("suites", choices=SUITES, nargs="+", metavar="suite")
    parser.add_argument("--sabotage", action="store_true", help="sabotage: each claim has to fail")
    parser.add_argument("--claim", default="", help="check only this claim, and write no report")
    parser.add_argument("--report", type=Path, default=supplies.PLACE / "report")
    arguments = parser.parse_args()
    chosen = {
        name: tuple(c for c in SUITES[name].claims if arguments.claim in {"", c.key})
        for name in arguments.suites
    }
    if not any(chosen.values()):
        keys = [claim.key for name in arguments.suites for claim in SUITES[name].claims]
        parser.error(f"no such claim; expected one of {', '.join(keys)}")
    began = time.monotonic()
    counts: list[tuple[int, int]] = []
    for name, claims_of_it in chosen.items():
        suite = SUITES[name]
        if not claims_of_it:
            continue
        if lacks := suite.missing():
            print_line("\n".join(["this host can't make the proof; it lacks:", *lacks]))
            return MISSING
        try:
            if arguments.sabotage:
                counts.append(disprove(suite, claims_of_it))
            else:
                place = None if arguments.claim else arguments.report
                counts.append(prove(suite, claims_of_it, place))
        except (ProofError, ReconcileError) as error:
            print_line(f"this host can't make the proof: {error}")
            return MISSING
    total, failed = (sum(numbers) for numbers in zip(*counts, strict=True))
    did = "did not turn red" if arguments.sabotage else "failed"
    print_line(f"{total} claims, {failed} {did}, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
