"""Boot what a set of claims needs, judge them, print a line each, and write the report.

``python -m lab boot`` is M1, ``python -m lab server`` what nspawn can show of M2,
``python -m lab vm`` what takes a virtual machine; ``--claim KEY`` checks one alone. What it takes:
root, systemd with its nspawn, Docker's engine; see ``supplies.py`` and ``vm/needs.py``.
"""

import argparse
import functools
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from attrs import frozen
from vm import boots as vm_boots
from vm import claims as vm_claims
from vm import needs as vm_needs

from lab import boots, claims, report, server, server_claims, supplies
from lab.boots import Play
from lab.judging import Claim, Verdict, judge
from lab.machine import ProofError
from lab.stage import Record
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
    missing: Callable[[], list[str]] = supplies.missing
    at_once: int = 2
    """Machines at a time."""


SUITES: Final = {
    "boot": Suite(
        "The deadlock reproduced, and the new boot proven",
        "proof",
        (*claims.M1, claims.shipped(boots.PLAYS)),
        boots.PLAYS,
    ),
    "server": Suite(
        "The running server",
        "proof-server",
        (*server_claims.SERVER, claims.shipped(server.PLAYS)),
        server.PLAYS,
    ),
    "vm": Suite(
        "The same with a kernel of its own, and the routing mesh",
        "proof-vm",
        vm_claims.VM,
        vm_boots.PLAYS,
        vm_needs.WORDS,
        vm_needs.missing,
        at_once=1,  # each takes two processors
    ),
}


class Proof:
    """Runs the machines of some claims, and judges each as soon as its machines are through."""

    def __init__(self, chosen: tuple[Claim, ...], suite: Suite) -> None:
        self.records: dict[str, Record] = {}
        self.broken: dict[str, str] = {}
        """Machines that went wrong, and how."""
        self.verdicts: dict[str, Verdict] = {}
        self._chosen = chosen
        self._suite = suite
        self._lock = threading.Lock()

    def run(self) -> None:
        needed = {boot for claim in self._chosen for boot in claim.boots}
        order = [name for name in self._suite.plays if name in needed]
        scratch = Path(tempfile.mkdtemp(prefix="wr-proof-", dir="/tmp"))
        try:
            stores = supplies.prepare(scratch)
            with ThreadPoolExecutor(self._suite.at_once) as pool:
                for name in order:
                    played = pool.submit(self._suite.plays[name], stores, scratch)
                    played.add_done_callback(functools.partial(self._note, name))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _note(self, name: str, played: Future[Record]) -> None:
        with self._lock:
            error = played.exception()
            if error is None:
                self.records[name] = played.result()
            else:
                self.broken[name] = _tell(error)
            through = self.records.keys() | self.broken.keys()
            for claim in self._chosen:
                if claim.key not in self.verdicts and through >= set(claim.boots):
                    self._judge(claim)

    def _judge(self, claim: Claim) -> None:
        verdict = judge(claim, self.records, self.broken)
        self.verdicts[claim.key] = verdict
        say(f"{'PASS' if verdict.holds else 'FAIL'}  {claim.key:22} {claim.sentence}")
        for check in verdict.checks:
            if not check.holds:
                say(f"      {'':22} {check.what}: {check.seen}")


def _tell(error: BaseException) -> str:
    """Say what went wrong, and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"{type(error).__name__}: {str(error) or frame.line} ({where})"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--claim", default="", help="check this one alone, and write no report")
    parser.add_argument("--report", type=Path, default=supplies.PLACE / "report")
    arguments = parser.parse_args()
    suite = SUITES[arguments.suite]
    chosen = tuple(c for c in suite.claims if arguments.claim in {"", c.key})
    if not chosen:
        parser.error(f"no such claim; there are {', '.join(c.key for c in suite.claims)}")
    if lacks := suite.missing():
        say("\n".join(["the proof can't be made on this host:", *(f"  {line}" for line in lacks)]))
        return MISSING
    began = time.monotonic()
    proof = Proof(chosen, suite)
    try:
        proof.run()
    except (ProofError, ReconcileError) as error:
        say(f"the proof can't be made on this host: {error}")
        return MISSING
    verdicts = [proof.verdicts[claim.key] for claim in chosen]
    failed = sum(not verdict.holds for verdict in verdicts)
    if not arguments.claim:
        records = {n: proof.records[n] for n in suite.plays if n in proof.records}
        blocks = report.compose(suite.title, suite.target, suite.words, verdicts, records)
        report.save(arguments.report, suite.target, blocks)
        say(f"the report: {arguments.report / suite.target}.html, and .md")
    say(f"{len(verdicts)} claims, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
