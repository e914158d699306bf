"""A missing tool skips a test on a laptop, with the command that installs it; in CI it fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tools

from proofs.fixtures import supplies

ROOT = Path(__file__).parents[2]
NEEDS_DOCKER = (
    "tests/unit/platforms/swarm/test_stack_document.py"
    "::test_docker_takes_it_and_reads_what_was_meant"
)


def run_without_tools(ci: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Run tests that need a tool, on a PATH that has none."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--basetemp={scratch / 'nested'}", NEEDS_DOCKER),
        ],
        cwd=ROOT,
        env={**os.environ, "PATH": str(ROOT / "nothing"), "CI": ci},
        check=False,
        capture_output=True,
        text=True,
    )


def test_a_missing_tool_skips_and_one_line_says_how_to_install_it(tmp_path: Path) -> None:
    """One line for the whole run, however many tests were skipped."""
    done = run_without_tools("false", tmp_path)
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("missing tools: ")]
    assert lines == ["missing tools: docker; apt-get install docker.io"]
    assert "missing tool: docker 25 or newer (Debian package docker.io)" in done.stdout


def test_a_missing_tool_fails_in_ci(tmp_path: Path) -> None:
    """Nothing is skipped there, so every tool has to be installed."""
    done = run_without_tools("true", tmp_path)
    assert done.returncode == 1, done.stdout
    assert "docker 25 or newer (Debian package docker.io): in CI nothing is skipped" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_the_line_names_each_tool_and_each_package_once() -> None:
    """Two tools of one package are one package; a reason that names no tool adds nothing."""
    lacking = ("dockerd", "docker", "ip", "systemd-analyze", "ip")
    reasons = ["only root may enter the network of a task", *map(tools.lack, lacking)]
    assert tools.summarize(reasons) == (
        "missing tools: docker, dockerd, ip, systemd-analyze;"
        " apt-get install docker.io iproute2 systemd"
    )
    assert tools.summarize(reasons[:1]) == ""


@pytest.mark.parametrize("status", [0, 1])
def test_a_tool_that_is_too_old_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Docker before 25 has no `stack config`."""
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\n[ "$*" = "stack config --help" ] && exit {status}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.find("docker") == (str(program) if status == 0 else None)
    assert "docker 25 or newer (Debian package docker.io)" in tools.lack("docker")


def test_each_tool_is_on_the_machine_of_ci() -> None:
    """Where a missing tool fails, every package of the table is installed."""
    text = (ROOT / ".ci" / "run").read_text()
    listed = text[text.index("packages=(") : text.index("missing=(")]
    installed = set(re.findall(r"[a-z][\w.-]+", listed))
    assert {tool.package for tool in tools.TOOLS.values()} - installed == set()


def test_the_proofs_need_the_same_packages() -> None:
    """They are run without pytest, too, so they have a list of their own."""
    ours = {name: tools.TOOLS[name].package for name in supplies.PACKAGES}
    assert ours == supplies.PACKAGES
