"""The commands do the same whatever options Python is started with."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import ast
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.cli.main import load_commands
from runner.exit_codes import ExitCode

ROOT = Path(__file__).parents[2]
OPTIONS = ("-OO", "-I", "-B -bb", "-Xdev -Werror")
PLAIN = re.compile(r"\x1b\[[0-9;]*m")

Outcome = tuple[int, str, str]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Outcome]:
    """Run a command of an app on the process platform, under Python with these options."""
    place = tmp_path_factory.mktemp("options")
    (place / "releases").mkdir()
    probe = {"kind": "identity", "target_unit": "a.service", "url": "http://127.0.0.1:9/"}
    data = {
        "state_dir": str(place / "state"),
        "caller": "a.service",
        "source": {"kind": "directory", "path": str(place / "releases")},
        "probes": [probe],
    }
    (place / "traefik.json").write_text(json.dumps(data))

    @functools.cache
    def run(options: str, command: str) -> Outcome:
        module, *arguments = COMMANDS[command]
        if command != "--help":
            arguments += ["traefik", "--config", str(place / "traefik.json")]
        done = subprocess.run(
            [sys.executable, *options.split(), "-m", module, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "100"},
        )
        return done.returncode, PLAIN.sub("", done.stdout), done.stderr

    return run


CONSOLE = "runner.cli.main"
COMMANDS = {
    "--help": (CONSOLE, "--help"),
    "status": (CONSOLE, "status"),
    "check": (CONSOLE, "check"),
    "run": ("runner.warm_reconcile",),
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("command", ["--help", "status", "check"])
def test_a_command_that_reads_answers_the_same(
    ask: Callable[[str, str], Outcome], options: str, command: str
) -> None:
    """`-OO` removes docstrings: help that was made of them was a traceback for every command."""
    expected = ask("", command)
    assert expected[0] in set(ExitCode) - {ExitCode.INTERNAL}
    assert expected == ask(options, command)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_run_ends_the_same(ask: Callable[[str, str], Outcome], options: str) -> None:
    """The whole way through: config, state, lock, journal, decision, report."""
    code, out, err = ask(options, "run")
    assert ExitCode.STRANDED == code, err
    assert out.startswith("traefik: stranded: no release that passed its gate is serving")
    assert "Warning" not in err


def test_no_code_depends_on_what_options_remove() -> None:
    """Neither on docstrings, nor on `assert`, nor on `__debug__`."""
    for path in (ROOT / "runner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            assert name not in {"__doc__", "__debug__"}, path
            assert not isinstance(node, ast.Assert), path


def test_every_command_has_its_help(ask: Callable[[str, str], Outcome]) -> None:
    """One sentence each, none for a command that is gone."""
    listed = re.findall(r"^    ([a-z-]+)(?: |$)", ask("", "--help")[1], re.MULTILINE)
    assert set(load_commands()) == set(listed)
