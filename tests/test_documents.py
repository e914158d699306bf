"""The references in the documents lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("machine-docs/*.md"))
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_tests_and_links_in_documents_exist(document: Path) -> None:
    """A test, by file and function; a file of the project; the target of a link."""
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
