"""Hypothesis profiles, and the rule for missing tools: skipped on a laptop, a failure in CI.

The tools themselves are in ``tools.py``.
"""

import json
import os
import subprocess
from collections.abc import Callable
from typing import NoReturn

import pytest
import tools
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
SHORTEST = 0.1
LONGEST = 120.0
"""Seconds of the first and of the last try of ``enough``."""
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
    """Find a tool of ``tools.py``: ``need("git")`` is its path."""

    def find(tool: str) -> str:
        return tools.find(tool) or missing(tools.lack(tool))

    return find


@pytest.fixture(scope="session")
def enough() -> Callable[[Callable[[float], bool]], None]:
    """Try with more and more seconds: ``enough(lambda seconds: ...)``.

    For a timeout that has to expire, but only after something else has happened. A try returns
    whether it has.
    """

    def try_it(once: Callable[[float], bool]) -> None:
        seconds = SHORTEST
        while not once(seconds):
            seconds *= 2
            assert seconds < LONGEST, "what must happen before the timeout did not happen"

    return try_it


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
            timeout=600,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        found: object = json.loads(done.stdout)
        return found

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests record as ``covered``, such as the size of a search, and missing tools."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "covered":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {text}")
    reasons = (str(report.longrepr) for report in terminalreporter.getreports("skipped"))
    if line := tools.summarize(reasons):
        terminalreporter.write_line(line, yellow=True)
