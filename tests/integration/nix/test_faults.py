"""Nix and ``check --units`` refuse each seeded fault, and accept the host without one."""

from collections.abc import Callable

import pytest

from nix.evaluation import HOST, Host, Nixpkgs, evaluate_hosts
from nix.faults import FAULTS, Fault, Found, tabulate
from runner.exit_codes import ExitCode

EACH = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


def test_the_control_plane_itself_is_accepted(found: dict[str, Found]) -> None:
    """Else the refusals below would prove nothing."""
    assert found[""] == Found((), "", ExitCode.OK)


@EACH
def test_nix_refuses_to_build_it(faulty: dict[str, Host], fault: Fault) -> None:
    """The message has the probe and the whole chain, or the expected words."""
    (first, *_) = faulty[fault.name].refused
    assert first.startswith("services.warm-reconcile: ")
    if fault.chain:
        assert "apps.traefik, probe old-gate: " in first
        assert names_in(first.partition("gate runs: ")[2]) == fault.chain
    else:
        assert any(fault.words in message for message in faulty[fault.name].refused)


@EACH
def test_check_refuses_its_units(found: dict[str, Found], fault: Fault) -> None:
    """Offline, with systemd's own loader; ``why`` explains the faults that it can't see."""
    assert found[fault.name].code == fault.check
    assert bool(fault.why) == (fault.check is ExitCode.OK)
    if fault.chain:
        (line,) = [line for line in found[fault.name].check.splitlines() if "REFUSED" in line]
        assert names_in(line.partition("gate runs: ")[2]) == fault.chain


def names_in(drawn: str) -> tuple[str, ...]:
    """List the units of a drawn chain, without the alias of a target before a ``=``."""
    bare = drawn.rpartition(" = ")[2]
    words = bare.replace("(default)", "").replace("(implicit)", "").split()
    return tuple(word for word in words if word.endswith((".service", ".target", ".timer")))


def test_nothing_else_is_refused(faulty: dict[str, Host]) -> None:
    """A fault in one gate is reported once, for that gate: the chain begins at its target."""
    for fault in FAULTS:
        if fault.chain:
            (message,) = faulty[fault.name].refused
            assert fault.chain[0] in message


def test_nixos_refuses_the_same(nixpkgs: Nixpkgs, faulty: dict[str, Host]) -> None:
    """NixOS gives the same messages as the stand-in, word by word."""
    texts = [f"{HOST} ({{ lib, ... }}: {{ {fault.module} }})" for fault in FAULTS]
    refused = [host.refused for host in evaluate_hosts(texts, nixpkgs)]
    assert refused == [faulty[fault.name].refused for fault in FAULTS]


def test_the_table(found: dict[str, Found], record_property: Callable[[str, object], None]) -> None:
    """Every fault is refused at one level at least."""
    assert all(found[fault.name].nix or found[fault.name].code for fault in FAULTS)
    record_property("covered", "\n" + tabulate(found))
