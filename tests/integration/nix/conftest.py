"""Fixtures of evaluated hosts, shared by all tests: an evaluation takes a second."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nix.evaluation import HOST, Host, Nixpkgs, evaluate_hosts, find_nixpkgs
from nix.faults import Found, evaluate_faults, judge, lay_out


@pytest.fixture(scope="session")
def nixpkgs() -> Nixpkgs:
    """Skip without a checkout of nixpkgs, also in CI: it can't be downloaded there.

    The one exception from the rule that CI skips nothing. These tests compare the stand-in in
    tests/nix/stand-in with NixOS; other tests compare it with the golden files everywhere.
    """
    found = find_nixpkgs()
    if found is None:
        pytest.skip("NIXPKGS_LIB names no checkout of nixpkgs")
    return found


@pytest.fixture(scope="session")
def nix(need: Callable[[str], str]) -> None:
    """Skip or fail a test if Nix is not installed."""
    need("nix-instantiate")


@pytest.fixture(scope="session")
def host(nix: None) -> Host:
    """The host of tests/golden."""
    del nix
    (found,) = evaluate_hosts([str(HOST)])
    return found


@pytest.fixture(scope="session")
def systemd_loader(need: Callable[[str], str]) -> None:
    """Skip or fail a test if systemd-analyze is not installed."""
    need("systemd-analyze")


@pytest.fixture(scope="session")
def faulty(nix: None) -> dict[str, Host]:
    """Every host with a fault by its name, and the host without one as ""."""
    del nix
    return evaluate_faults()


@pytest.fixture(scope="session")
def found(
    faulty: dict[str, Host], systemd_loader: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Found]:
    """The refusals of each level, by the name of the fault."""
    del systemd_loader
    return {
        name: judge(host, tmp_path_factory.mktemp("host") / "root") for name, host in faulty.items()
    }


@pytest.fixture(scope="session")
def units(host: Host, systemd_loader: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the host's units and links, as systemd loads it."""
    del systemd_loader
    return lay_out(host, tmp_path_factory.mktemp("golden"))[0]
