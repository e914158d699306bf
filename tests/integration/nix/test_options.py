"""Options that an operator sets, and the configs and units rendered from them."""

from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nix.evaluation import ROOT, Host, evaluate, evaluate_hosts, format_json
from runner.config import app as configs
from runner.config.app import AppConfig, SwarmPlatformConfig
from runner.config.assertion import Assertion, AssertionConfig
from runner.reconcile.budget import Budget, explain, worst_case
from runner.reconcile.gate import GatePolicy
from runner.reconcile.probes import Tcp
from runner.releases.env_file import read_env_file

MODULE = f"{ROOT}/nix/modules/warm-reconcile.nix"
APP = """
  source = { kind = "directory"; path = "/srv/releases"; };
  platform.stack = "x";
  probes = [ { kind = "task"; targetUnit = "deploy-x.service"; port = 80; } ];
"""


def app(settings: str = "", *, given: str = APP) -> Host:
    """Evaluate a host with one app."""
    (host,) = evaluate_hosts([app_module(settings, given)])
    return host


def app_module(settings: str = "", given: str = APP) -> str:
    parts = f"{MODULE} {{ services.warm-reconcile.apps.x = {{ {given} }}; }}"
    return f"{parts} ({{ lib, ... }}: {{ services.warm-reconcile.apps.x = {{ {settings} }}; }})"


pytestmark = pytest.mark.usefixtures("nix")


def test_the_defaults_are_the_programs(tmp_path: Path) -> None:
    """The default of each option equals the program's default for a missing key."""
    file = tmp_path / "x.json"
    file.write_text(format_json(app().etc["warm-reconcile/x.json"]))
    loaded = configs.load(file)
    assert loaded == AppConfig(
        state_dir="/var/lib/warm-reconcile",
        caller="deploy-x.service",
        source=loaded.source,
        probes=loaded.probes,
        platform=SwarmPlatformConfig(stack="x"),
    )


def test_ports_are_freed_before_anything_is_deployed_unless_disabled() -> None:
    """With ``freePorts = false`` both the unit and the app's order after it are gone."""
    freed = app()
    assert "free-ports.service" in freed.units
    assert "free-ports.service" in freed.units["deploy-x.service"]
    (left,) = evaluate_hosts([f"{app_module()} {{ services.warm-reconcile.freePorts = false; }}"])
    assert left.units.keys() == freed.units.keys() - {"free-ports.service"}
    assert "free-ports.service" not in left.units["deploy-x.service"]


QUARTERS = st.integers(4, 4000).map(lambda number: number / 4)
"""Seconds with at most six digits, which Nix and Python print alike."""
BUDGETS = st.builds(Budget, fetch=QUARTERS, deploy=QUARTERS, margin=QUARTERS)
GATES = st.builds(GatePolicy, deadline=QUARTERS, verify_deadline=QUARTERS)


@settings(max_examples=20)
@given(st.lists(st.tuples(BUDGETS, GATES, st.integers(0, 5)), min_size=1, max_size=30))
def test_the_longest_run_is_the_programs(cases: list[tuple[Budget, GatePolicy, int]]) -> None:
    """Nix computes the same sum, in the same words."""
    data = [
        {"budget": attrs.asdict(b), "gate": attrs.asdict(g), "fallback_depth": depth}
        for b, g, depth in cases
    ]
    text = format_json(data).replace("''", "'''").replace("${", "''${")
    found = evaluate(
        f"map (import {ROOT}/nix/lib/budget.nix) (builtins.fromJSON ''{text}'')",
    )
    assert found == [{"worst": worst_case(*case), "explained": explain(*case)} for case in cases]


def test_secrets_come_as_a_credential() -> None:
    """The unit gets the file by LoadCredential=; the config only has its path below /run."""
    host = app('platform.envFileCredential = "/run/secrets/x.env";')
    unit = host.units["deploy-x.service"]
    assert "\nLoadCredential=x.env:/run/secrets/x.env\n" in unit
    platform = host.etc["warm-reconcile/x.json"]["platform"]
    assert platform["env_file"] == "/run/credentials/deploy-x.service/x.env"
    assert "/run/secrets" not in format_json(host.etc)
    assert host.refused == []


def test_variables_are_read_as_they_were_written(tmp_path: Path) -> None:
    """No value is expanded, whatever characters it has."""
    host = app('platform.variables = { B = "a $HOME \\"b\\" # c"; A = ""; };')
    file = tmp_path / "x.env"
    file.write_text(host.etc["warm-reconcile/env/x.env"])
    assert read_env_file(file) == {"A": "", "B": 'a $HOME "b" # c'}
    platform = host.etc["warm-reconcile/x.json"]["platform"]
    assert platform["env_file"] == "/etc/warm-reconcile/env/x.env"


def test_a_changed_config_restarts_its_unit() -> None:
    """The unit has a trigger with the config's hash: the file in /etc is not part of the unit."""
    before, after, other = evaluate_hosts(
        [app_module(), app_module("gate.rise = 4;"), app_module('description = "d";')]
    )

    def trigger(host: Host) -> list[str]:
        unit = host.units["deploy-x.service"]
        return [line for line in unit.splitlines() if line.startswith("X-Restart-Triggers=")]

    assert len(trigger(before)) == 1
    assert trigger(before) != trigger(after)
    assert trigger(before) == trigger(other)


def test_a_failure_has_a_hook() -> None:
    """``onFailure`` of all apps and of one app are both in the unit."""
    (host,) = evaluate_hosts(
        [
            app_module('onFailure = [ "own.service" ];')
            + ' { services.warm-reconcile.onFailure = [ "notify@%n.service" ]; }'
        ]
    )
    assert "\nOnFailure=notify@%n.service own.service\n" in host.units["deploy-x.service"]


def test_traefik_without_abra() -> None:
    """Without abra, domain and e-mail are options, and variables of the recipe."""
    (host,) = evaluate_hosts(
        [
            f"""{ROOT}/nix/modules/control-plane.nix {{
              services.control-plane = {{ domain = "example.com"; email = "ops@example.com"; }};
              services.deploy-proxy.source = {{ kind = "git"; url = "/srv/traefik.git"; }};
            }}"""
        ]
    )
    assert host.refused == []
    assert host.etc["warm-reconcile/env/traefik.env"] == (
        "DOMAIN='traefik.example.com'\nLETS_ENCRYPT_EMAIL='ops@example.com'\n"
    )
    traefik = host.etc["warm-reconcile/traefik.json"]
    assert traefik["source"] == {"kind": "git", "url": "/srv/traefik.git"}
    converge = host.etc["warm-reconcile/assertions/converge.json"]
    assert converge["probes"][0]["url"] == "https://example.com/"
    assert "/root/.abra" not in host.units["deploy-proxy.service"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            'platform.variables.A = "it\'s";',
            "apps.x: platform.variables.A can't be written: no quote, line break or backslash",
        ),
        (
            'platform = { variables.A = "1"; envFileCredential = "/run/secrets/x"; };',
            (
                "apps.x: platform.envFileCredential and platform.variables: one of them is the"
                " env file"
            ),
        ),
        (
            'probes = [ { kind = "tcp"; targetUnit = "deploy-x.service"; status = 200; } ];',
            "apps.x, probe tcp: of kind tcp, it has no status",
        ),
        (
            'source.url = "/srv/x.git";',
            "apps.x, source: of kind directory, it has no url",
        ),
        (
            'probes = [ { kind = "unit"; targetUnit = "deploy-x.service"; } ];',
            "apps.x, probe unit: deploy-x.service is the caller itself",
        ),
    ],
)
def test_a_mistake_is_refused(settings: str, message: str) -> None:
    """The message has the path of the option."""
    assert any(f"services.warm-reconcile: {message}" in it for it in app(settings).refused)


def test_a_gate_without_a_probe_of_identity_is_refused() -> None:
    """An old instance could answer for a new one."""
    given = """
      source = { kind = "directory"; path = "/srv/releases"; };
      platform.stack = "x";
      probes = [
        { kind = "tcp"; name = "tcp"; targetUnit = "deploy-x.service"; address = "127.0.0.1:80"; }
      ];
    """
    (message,) = app(given=given).refused
    assert "apps.x: no probe of kind identity or task: an old instance could answer" in message


def test_an_assertion_that_probes_its_own_unit_is_refused() -> None:
    """An assertion deploys nothing, so a probe of its own unit can't pass."""
    (host,) = evaluate_hosts(
        [
            f"""{MODULE} {{
              services.warm-reconcile.assertions.all = {{
                probes = [
                  {{ kind = "tcp"; name = "tcp"; targetUnit = "all.service"; address = "[::1]:1"; }}
                ];
                gate.deadline = 880;
              }};
            }}"""
        ]
    )
    itself, late = host.refused
    assert "assertions.all, probe tcp: all.service is the caller itself" in itself
    assert "assertions.all: all.service may take 900 s to start (TimeoutStartSec=)" in late
    asked = Tcp(name="tcp", target_unit="all.service", address="[::1]:1")
    same = AssertionConfig(caller="all.service", probes=(asked,), gate=GatePolicy(deadline=880))
    assert late.endswith(f"the longest run takes {Assertion('all', same).explain()}")
