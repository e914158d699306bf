"""Hypothesis profiles, and the rule for missing tools: skipped on a laptop, a failure in CI."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

# Hypothesis' own `ci` profile is derandomized at 100 examples: every CI run would test the same
# ones, and few. Ours stays repeatable but looks harder; `nightly` is the one that explores.
settings.register_profile("dev", deadline=None, max_examples=100)
settings.register_profile("ci", deadline=None, max_examples=500, derandomize=True, database=None)
settings.register_profile(
    "nightly",
    deadline=None,
    max_examples=20_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
IN_CI = os.environ.get("CI") == "true"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """End a test that lacks something of this machine: skipped on a laptop, a failure in CI."""

    def end(what: str) -> NoReturn:
        if IN_CI:
            pytest.fail(f"{what}: in CI nothing is skipped")
        pytest.skip(what)

    return end


@pytest.fixture(scope="session")
def need(missing: Callable[[str], NoReturn]) -> Callable[[str], str]:
    """Find a tool: ``need("git")`` is its path."""

    def find(tool: str) -> str:
        path = shutil.which(tool)
        if path is None:
            missing(f"{tool} is not installed")
        return path

    return find


@pytest.fixture(scope="session")
def evaluate(need: Callable[[str], str]) -> Callable[[str], object]:
    """Evaluate a Nix expression, without a store, a daemon or a network."""
    command = [need("nix-instantiate"), "--store", "dummy://", "--eval", "--strict", "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}

    def run(expression: str) -> object:
        done = subprocess.run(
            [*command, "--expr", expression],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        found: object = json.loads(done.stdout)
        return found

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests record as ``covered``: how much a search has seen, say."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "covered":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {text}")
