"""The linters are tests: one command is the whole gate."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["pyright"],
        ["lint-imports"],
        ["uv", "lock", "--check", "--python", sys.executable],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_linter(command: list[str]) -> None:
    """Nothing to complain about."""
    tool = Path(sys.executable).parent / command[0]
    if command[0] == "uv":
        tool = ROOT / ".bootstrap" / "bin" / "uv"
    done = subprocess.run(
        [tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_documents_are_fresh() -> None:
    """docs/ agrees with the code: the table, the exit codes, the config keys."""
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
