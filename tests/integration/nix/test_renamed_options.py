"""The old name of an option, ``apps.NAME.world``, still works, with a warning."""

import re
from typing import Final

import pytest

from nix.evaluation import ROOT, Host, Nixpkgs, evaluate_hosts

pytestmark = pytest.mark.usefixtures("nix")

SETTINGS: Final = 'stack = "x"; variables.A = "1"; preflight = 0;'
WARNING: Final = re.compile(
    r"services\.warm-reconcile\.apps\.x: The option `world'( defined in .*)?"
    r" has been renamed to `platform'\."
)
"""nixpkgs names the file; the stand-in does not know it."""


def hosts(*settings: str, nixpkgs: Nixpkgs | None = None) -> list[Host]:
    """Evaluate one host for each of these settings of app ``x``; app ``y`` uses the new name."""
    return evaluate_hosts([module(given) for given in settings], nixpkgs)


def module(settings: str) -> str:
    return f"""
      {ROOT}/nix/modules/warm-reconcile.nix
      {{ services.warm-reconcile.apps = {{ {app("x")} {app("y")} }}; }}
      ({{ lib, ... }}: {{ services.warm-reconcile.apps = {{ x = {{ {settings} }}; }}; }})
      {{ services.warm-reconcile.apps.y.platform.stack = "y"; }}
    """


def app(name: str) -> str:
    return f"""
      {name} = {{
        source = {{ kind = "directory"; path = "/srv/{name}"; }};
        probes = [ {{ kind = "task"; targetUnit = "deploy-{name}.service"; port = 80; }} ];
      }};
    """


@pytest.fixture(params=["stand-in", "nixpkgs"])
def lib(request: pytest.FixtureRequest) -> Nixpkgs | None:
    """Evaluate with the stand-in for nixpkgs' lib, and with the real one if there is one."""
    if request.param == "stand-in":
        return None
    found: Nixpkgs = request.getfixturevalue("nixpkgs")
    return found


def test_the_old_name_gives_the_same_host(lib: Nixpkgs | None) -> None:
    """Config file, env file and unit are equal; one warning names the app and both names."""
    old, new = hosts(f"world = {{ {SETTINGS} }};", f"platform = {{ {SETTINGS} }};", nixpkgs=lib)
    assert (old.etc, old.units, old.refused) == (new.etc, new.units, new.refused)
    assert new.etc["warm-reconcile/x.json"]["platform"]["stack"] == "x"
    (warning,) = old.warnings
    assert WARNING.fullmatch(warning)
    assert new.warnings == []


def test_both_names_are_merged(lib: Nixpkgs | None) -> None:
    """As two definitions of one option: keys add up, and a priority decides between values."""
    added, forced_new, forced_old = hosts(
        'world.stack = "x"; platform.preflight = 0;',
        'world.stack = "x"; platform.stack = lib.mkForce "z";',
        'world = lib.mkForce { stack = "z"; }; platform.stack = "x";',
        nixpkgs=lib,
    )
    platforms = [
        host.etc["warm-reconcile/x.json"]["platform"] for host in (added, forced_new, forced_old)
    ]
    assert platforms == [
        {"kind": "swarm", "stack": "x", "preflight": 0},
        {"kind": "swarm", "stack": "z"},
        {"kind": "swarm", "stack": "z"},
    ]
    assert all(len(host.warnings) == 1 for host in (added, forced_new, forced_old))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            'world.stack = "x"; platform.stack = "z";',
            r"apps\.x\.platform\.stack' has conflicting definition values",
        ),
        ("world.replicas = 2;", r"apps\.x\.platform\.replicas' does not exist"),
        ("world.stack = 2;", r"apps\.x\.platform\.stack' is not of type"),
    ],
)
def test_a_mistake_is_reported_below_the_new_name(
    lib: Nixpkgs | None, settings: str, message: str
) -> None:
    """The old name has the new one's type: a mistake below it is refused, too."""
    with pytest.raises(ValueError, match=message):
        hosts(settings, nixpkgs=lib)
