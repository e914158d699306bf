"""The documents: their links lead somewhere, and the files and tests that they name exist.

So do the files that docstrings and comments of the code name.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = frozenset(
    path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")
) | {".ci"}
"""Of the project; other names that begin with a dot are of environments, caches and results."""
FILES: Final = frozenset(
    path.name
    for folder in (ROOT, *(ROOT / name for name in FOLDERS))
    for path in (folder.glob("*") if folder == ROOT else folder.rglob("*"))
)
DOCUMENTS: Final = tuple(
    sorted(
        document
        for folder in ("", *FOLDERS)
        for document in (ROOT / folder).glob("**/*.md" if folder else "*.md")
    )
)

FENCE: Final = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
SPAN: Final = re.compile(r"`([^`\n]+)`")
PATH: Final = re.compile(r"[\w.-]+(/[\w.-]+)+/?|[\w-]+\.(py|nix|md)")
PLACEHOLDER: Final = re.compile(r"\b(NAME|APP|DIR|TOKEN|DIGEST|HASH)\b")
"""A word that stands for another one: ``runner/cli/commands/NAME.py``."""

CODE: Final = tuple(
    sorted(
        path
        for folder in FOLDERS - {"docs"}
        for suffix in ("py", "nix")
        for path in (ROOT / folder).rglob(f"*.{suffix}")
        if "frozen" not in path.parts and path != Path(__file__)
    )
)
NAMED_IN_CODE: Final = re.compile(r"``?([\w/]+\.(?:py|nix))``?|(?<![\w-])(docs/[\w./-]+\.md)")


def read(document: Path) -> str:
    """Read a page without its blocks of code."""
    return FENCE.sub("", document.read_text("utf-8"))


def anchors(document: Path) -> set[str]:
    """List the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", read(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def find_broken_links(document: Path) -> Iterator[str]:
    """Find the relative links to no file, and those to no heading of it."""
    for link in LINK.findall(read(document)):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        is_outside = re.match(r"[a-z]+:", link) is not None
        if not is_outside and (not target.exists() or (anchor and anchor not in anchors(target))):
            yield link


def find_missing_files(document: Path) -> Iterator[str]:
    """Find the code spans that are a path of no file, or name a test that its file lacks.

    A path begins with a folder of the project, or with one beside the document. A name without a
    folder counts for Python, Nix and Markdown files: some file of the project has it.
    """
    for span in SPAN.findall(read(document)):
        path, _, function = span.partition("::")
        folder, has_folder, _ = path.partition("/")
        if PATH.fullmatch(path) is None or PLACEHOLDER.search(path):
            continue
        if not has_folder:
            if path not in FILES:
                yield span
            continue
        places = [place for place in (ROOT / path, document.parent / path) if place.exists()]
        if not places and (folder in FOLDERS or (document.parent / folder).is_dir()):
            yield span
        if places and function and f"def {function}(" not in places[0].read_text("utf-8"):
            yield span


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_points_to_exists(document: Path) -> None:
    """Where its links lead; the files, folders and tests that it names in backticks."""
    assert [*find_broken_links(document), *find_missing_files(document)] == []


def test_what_code_names_exists() -> None:
    """A Python or Nix file in backticks, by its name or its path, and a page of docs/."""
    missing: list[str] = []
    for path in CODE:
        for file, page in NAMED_IN_CODE.findall(path.read_text("utf-8")):
            if (file and Path(file).name not in FILES) or (page and not (ROOT / page).exists()):
                missing.append(f"{path.relative_to(ROOT)}: {file or page}")
    assert missing == []


def test_the_changelog_knows_the_version() -> None:
    """Its newest release is the version of the package; what comes after it is unreleased."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    headings = re.findall(r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == project["version"]
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", headings[1][1])


@pytest.mark.parametrize(
    "wrong",
    [
        "[a page](gone.md)",
        "[a heading](page.md#gone)",
        "[a heading](#gone)",
        "`runner/gone.py`",
        "`runner/gone/`",
        "`beside/gone.py`",
        "`gone.py`",
        "`tests/test_documents.py::test_gone`",
    ],
)
def test_what_is_gone_is_noticed(wrong: str, tmp_path: Path) -> None:
    """Each of them by itself, beside links and paths that are right."""
    (tmp_path / "beside").mkdir()
    right = (
        "[a](page.md) [b](page.md#a-heading) [c](https://example.com/gone) [d](#a-heading) "
        "`runner/app.py` `runner/storage/` `gate.py` `tests/test_documents.py::read` "
        "`runner/cli/commands/NAME.py` `/etc/gone` `gone.json` `other/gone.py`"
    )
    page = tmp_path / "page.md"
    page.write_text(f"# A heading\n\n{right}\n\n```\n[x](gone.md) `runner/gone.py`\n```\n")
    assert [*find_broken_links(page), *find_missing_files(page)] == []
    page.write_text(f"{page.read_text()}\n{wrong}\n")
    assert len([*find_broken_links(page), *find_missing_files(page)]) == 1
