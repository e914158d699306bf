"""What the documents point to is there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("machine-docs/*.md"))
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(document: Path) -> None:
    """A test, by file and function; a file of the project; where a link leads."""
    text = document.read_text("utf-8")
    files = re.findall(r"`((?:docs|bench|nix|recipes|examples|runner|tests)/[\w./-]+)", text)
    links = re.findall(r"\]\(([^)#:\s]+)\)", text)
    missing = [name for name in files if not (ROOT / name).exists()]
    missing += [link for link in links if not (document.parent / link).exists()]
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)", text)
    missing += [
        f"{name}::{function}"
        for name, function in tests
        if f"def {function}(" not in (ROOT / name).read_text("utf-8")
    ]
    assert missing == []


def test_the_changelog_knows_the_version() -> None:
    """Its newest release is the version of the package; what comes after it is unreleased."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    headings = re.findall(r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == project["version"]
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", headings[1][1])
