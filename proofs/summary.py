"""Writes the short page of a proof, which is kept in docs/evidence/, in version control.

It has the claims with PASS or FAIL, the command, the commit, the date and the versions. The full
report has every check, picture and excerpt of a journal: see report.py.
"""

import datetime as dt
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from proofs.claim import Verdict
from proofs.fixtures.supplies import PROJECT
from proofs.pages import Block, Heading, Table, Words, to_markdown
from proofs.recorder import Record

EVIDENCE: Final = PROJECT / "docs" / "evidence"


def summarize(
    title: str,
    target: str,
    verdicts: Sequence[Verdict],
    records: Mapping[str, Record],
    commit: str,
) -> list[Block]:
    """Compose the page.

    Args:
        title: its title.
        target: the target of make that checks all claims again.
        verdicts: the verdicts in the order of the claims.
        records: the records of the machines that were booted.
        commit: the commit of the checkout, see ``read_commit``.
    """
    failed = sum(not verdict.holds for verdict in verdicts)
    facts = {
        "claims": f"{len(verdicts)}, of which {failed} failed",
        "command": f"`make {target}`; `make {target} CLAIM=KEY` checks one claim",
        "full report": f"`make {target} REPORT=DIRECTORY` writes it there",
        "commit": commit,
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
    }
    for record in records.values():
        facts |= record.versions
    rows = [
        ("PASS" if v.holds else "**FAIL**", f"`{v.claim.key}`", v.claim.sentence) for v in verdicts
    ]
    return [
        Heading(1, title),
        Words(f"<!-- Written by `make {target}`. -->"),
        Table(("", ""), list(facts.items())),
        Table(("", "key", "claim"), rows),
    ]


def save(target: str, blocks: Sequence[Block], place: Path = EVIDENCE) -> Path:
    """Write the page; return where."""
    page = place / f"{target}.md"
    page.write_text(to_markdown(blocks, target))
    return page


def read_commit(checkout: Path = PROJECT) -> str:
    """Name the commit of a checkout, and say whether its files differ from it."""
    git = ("git", "-c", f"safe.directory={checkout}", "-C", str(checkout))
    others = (".", ":!docs/evidence")
    commands = ((*git, "rev-parse", "--short", "HEAD"), (*git, "status", "--porcelain", *others))
    head, changes = (
        subprocess.run(command, capture_output=True, text=True, check=False) for command in commands
    )
    if head.returncode or changes.returncode:
        return "unknown: not a git checkout"
    return head.stdout.strip() + (", with uncommitted changes" if changes.stdout else "")
