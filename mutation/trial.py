"""Tries mutants in a copy of the checkout.

Tests run in a new process for each mutant, forked from one that has imported pytest and other
packages already. A mutant that all tests pass is checked by mypy, which is a test of this project.
"""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from enum import Enum, unique
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings

from mutation.modules import ROOT, Module
from mutation.operators import Mutant

PATIENCE: Final = 5
"""A mutant may take this many times as long as the unchanged code, and ``GRACE`` seconds more."""
GRACE: Final = 60.0
PRELOADED: Final = ("pytest", "hypothesis", "attrs", "cattrs", "httpx", "psutil", "yaml")
"""Packages that tests import: imported once, by the process that all others are forked from."""
_OPTIONS: Final = "-x -q -o timeout=0 --tb=no --assert=plain -p no:cacheprovider -p no:xdist"
_COPIED: Final = shutil.ignore_patterns(".git", ".venv", ".bootstrap", ".hypothesis", ".*_cache")


class TooLateError(Exception):
    """The tests take far longer than with the unchanged code."""


@unique
class Fate(Enum):
    """The result of a mutant's trial."""

    KILLED = "killed"
    TIMEOUT = "killed by the time limit"
    REFUSED = "refused by mypy"
    SURVIVED = "survived"


class Copy:
    """A copy of the checkout, in which one mutant at a time is tried."""

    def __init__(self, path: Path, root: Path = ROOT) -> None:
        self._root = path
        shutil.copytree(root, path, ignore=_COPIED)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))

    def try_out(self, module: Module, mutant: Mutant, limits: Iterable[float]) -> Fate:
        """Run the tests of a module, then mypy, with a mutant of it."""
        file = self._root / module.path
        original = file.read_text()
        self._write(file, mutant.source)
        try:
            for tests, limit in zip((module.tests, module.slow), limits, strict=True):
                if not self._pass(tests, limit):
                    return Fate.KILLED
            return Fate.SURVIVED if self._has_right_types(module) else Fate.REFUSED
        except TooLateError:
            return Fate.TIMEOUT
        finally:
            self._write(file, original)

    def measure(self, tests: Sequence[str]) -> float:
        """Return the seconds that the tests of the unchanged code take."""
        began = time.monotonic()
        if not self._pass(tests, None):
            raise SystemExit(f"the unchanged code fails its own tests: {' '.join(tests)}")
        return time.monotonic() - began

    def _pass(self, tests: Sequence[str], limit: float | None) -> bool:
        """Run tests until the first one fails.

        Raises:
            TooLateError: they take longer than ``limit``.
        """
        if not tests:
            return True
        process = self._context.Process(target=_run, args=(self._root, tests))
        process.start()
        process.join(limit)
        if process.exitcode is None:
            os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            raise TooLateError
        return process.exitcode == pytest.ExitCode.OK

    def _has_right_types(self, module: Module) -> bool:
        command = [sys.executable, "-m", "mypy", module.path]
        done = subprocess.run(command, cwd=self._root, capture_output=True, text=True, check=False)
        if done.returncode > 1:
            raise RuntimeError(done.stdout + done.stderr)
        return done.returncode == 0

    @staticmethod
    def _write(file: Path, text: str) -> None:
        """Write a module, and delete its bytecode: two texts of one second have one timestamp."""
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            compiled.unlink()
        file.write_text(text)


def _run(root: Path, tests: Sequence[str]) -> None:
    """Run tests in this process, as the leader of a session of all that they start."""
    os.setsid()
    os.chdir(root)
    sys.dont_write_bytecode = False  # else each mutant compiles all other modules anew
    os.environ |= {"PYTHONPATH": str(root), "HYPOTHESIS_PROFILE": "mutants"}
    sys.path[:] = [str(root), *(path for path in sys.path if path not in {"", str(ROOT)})]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    settings.register_profile(
        "mutants",
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),  # no shrinking: only the failure counts
        suppress_health_check=[HealthCheck.too_slow],
    )
    sys.exit(pytest.main([*_OPTIONS.split(), *tests]))
