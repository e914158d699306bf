"""The short page of a proof: what docs/evidence/ keeps of it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from proofs import summary
from proofs.claim import Check, Claim, Verdict
from proofs.recorder import Record


def test_the_short_page_has_the_claims_and_what_they_were_made_with(tmp_path: Path) -> None:
    """Each claim with PASS or FAIL; the command; the commit; the versions of the machines."""
    good, bad = (Claim(key, f"It is {key}.", ("old",), lambda _: ()) for key in ("good", "bad"))
    verdicts = [
        Verdict(good, (Check("it", "so", holds=True),)),
        Verdict(bad, (Check("it", "not so", holds=False),)),
    ]
    record = Record("old", "", versions={"systemd": "systemd 252"})
    blocks = summary.summarize("A proof", "proof", verdicts, {"old": record}, "f0bdde0")
    text = summary.save("proof", blocks, tmp_path).read_text()
    assert "| PASS | `good` | It is good. |" in text
    assert "| **FAIL** | `bad` | It is bad. |" in text
    assert "| claims | 2, of which 1 failed |" in text
    assert "`make proof CLAIM=KEY`" in text
    assert "| commit | f0bdde0 |" in text
    assert "| systemd | systemd 252 |" in text
    assert "not so" not in text  # the full report has the checks


def test_the_short_page_names_the_commit(need: Callable[[str], str], tmp_path: Path) -> None:
    """The checkout's commit, and whether its files differ; the evidence itself does not count."""
    assert summary.read_commit(tmp_path) == "unknown: not a git checkout"
    author = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    for command in (("init",), (*author, "commit", "--allow-empty", "--message=x")):
        subprocess.run([need("git"), *command], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "docs" / "evidence").mkdir(parents=True)
    (tmp_path / "docs" / "evidence" / "proof.md").touch()
    commit = summary.read_commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{7,}", commit)
    (tmp_path / "docs" / "other.md").touch()
    assert summary.read_commit(tmp_path) == f"{commit}, with uncommitted changes"
