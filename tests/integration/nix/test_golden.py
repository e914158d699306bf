"""The files in tests/golden are what nix/modules render, with the stand-in and with NixOS."""

import re
import subprocess
from importlib import metadata

import pytest

from nix.evaluation import HOST, ROOT, Host, Nixpkgs, evaluate_hosts
from nix.generate import OPTIONS, module_options, read_golden
from runner.config import app as configs
from runner.config.assertion import find_assertion


def test_the_golden_files_are_fresh(host: Host) -> None:
    """If this fails: ``make golden``."""
    assert host.files() == read_golden()
    assert host.warnings == []


def test_nixos_renders_the_same_bytes(nixpkgs: Nixpkgs) -> None:
    """With NixOS' own module system, types and unit texts instead of the stand-in."""
    (host,) = evaluate_hosts([str(HOST)], nixpkgs)
    assert host.files() == read_golden()


@pytest.mark.usefixtures("nix")
def test_the_options_are_documented_fresh() -> None:
    """If this fails: ``make golden``."""
    assert module_options() == OPTIONS.read_text()


def test_the_program_takes_every_config(host: Host) -> None:
    """Each config loads, checks across keys included: times that don't fit, no binding probe."""
    apps = [ROOT / "tests/golden/etc" / name for name in host.etc if "assertions" not in name]
    # All units but converge, the two of the sweep, and the one that frees ports.
    assert len(apps) == len(host.units) - 4
    for path in apps:
        assert configs.load(path).caller in host.units
    etc = ROOT / "tests/golden/etc/warm-reconcile"
    converge = find_assertion("converge", config=None, config_dir=etc)
    assert converge.config.caller in host.units


def test_the_proxy_is_gated_as_in_the_example() -> None:
    """The probes and the gate of examples/swarm.toml, as in the docs, are those of the module."""
    module = configs.load(ROOT / "tests/golden/etc/warm-reconcile/traefik.json")
    example = configs.load(ROOT / "examples/swarm.toml")
    assert {probe.name: probe for probe in module.probes} == {
        probe.name: probe for probe in example.probes
    }
    assert module.gate == example.gate


@pytest.mark.parametrize(
    "file",
    [
        ROOT / "flake.nix",
        *sorted((ROOT / "nix").rglob("*.nix")),
        *sorted((ROOT / "tests").rglob("*.nix")),
    ],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_it_parses(nix: None, file: object) -> None:
    """Each Nix file parses, also those that need nixpkgs: the flake, the package, the boot test."""
    del nix
    done = subprocess.run(
        ["nix-instantiate", "--parse", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_programs_that_units_call_are_in_the_package(host: Host) -> None:
    """``ExecStart=`` names files that an installation has."""
    entries = metadata.distribution("warm-reconcile").entry_points
    called = re.findall(r"^ExecStart=/opt/warm-reconcile/bin/(\S+)", all_text(host), re.MULTILINE)
    assert set(called) == {entry.name for entry in entries}


def all_text(host: Host) -> str:
    return "".join(host.units.values())
