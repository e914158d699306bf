"""``check`` and ``graph``, on unit files and on the output of a running systemd."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import Systemctl, read_recording

from runner.cli.graph_text import Arrow, picture
from runner.cli.main import main
from runner.exit_codes import ExitCode
from runner.reconcile.ordering import Edge, Says, UnitGraph
from runner.reconcile.probes import Http, TraefikPing, UnitActive

PROXY = "deploy-proxy.service"
DASHBOARD = "deploy-dashboard.service"
PING = TraefikPing(target_unit=PROXY, url="http://127.0.0.1/ping")
OLD_GATE = Http(name="dashboard", target_unit=DASHBOARD, url="http://127.0.0.1/")
DEADLOCK = UnitGraph(frozenset({PROXY, DASHBOARD}), (Edge(DASHBOARD, PROXY),))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Lay out two apps, of which one has the old gate, and the units that they use."""
    units = tmp_path / "units"
    units.mkdir()
    (units / PROXY).write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    (units / DASHBOARD).write_text(f"[Unit]\nAfter={PROXY}\n[Service]\nExecStart=/bin/true\n")
    for name, target in (("good", PROXY), ("old", DASHBOARD)):
        (tmp_path / f"{name}.toml").write_text(
            f'state_dir = "{tmp_path}/state"\ncaller = "{PROXY}"\n'
            f'[source]\nkind = "directory"\npath = "{tmp_path}"\n'
            f'[[probes]]\nkind = "identity"\ntarget_unit = "{target}"\nurl = "http://127.0.0.1/"\n'
        )
    return tmp_path


@pytest.fixture
def command(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command on these configs: ``command("check")`` is its exit code and its output."""

    def run(*words: str) -> tuple[int, str]:
        code = main([*words, "--config-dir", str(place)])
        out, err = capsys.readouterr()
        return code, out + err

    return run


def test_check_finds_the_old_gate_offline(
    command: Callable[..., tuple[int, str]], place: Path, need: Callable[[str], str]
) -> None:
    """No systemd and no Docker runs: unit files are enough, and every app is checked."""
    need("systemd-analyze")
    code, said = command("check", "--units", str(place / "units"))
    assert code == ExitCode.ORDERING_REFUSED
    assert "good: run by deploy-proxy.service; the longest run takes 550 s" in said
    assert f"REFUSED  identity         {DASHBOARD} starts after {PROXY}" in said
    assert f"{DASHBOARD} → After= → {PROXY}" in said
    assert not (place / "state").exists()


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("TimeoutStartSec=9min 10s", f"{PROXY} may take 550 s to start (TimeoutStartSec=)"),
        ("TimeoutStartSec=9min 11s", ""),
        ("TimeoutStartSec=infinity", ""),
        ("TimeoutSec=90", f"{PROXY} may take 90 s to start (TimeoutStartSec=)"),
        ("", ""),  # a oneshot's default: nothing ends it
    ],
)
def test_check_reads_the_time_of_a_start_from_unit_files(
    command: Callable[..., tuple[int, str]],
    place: Path,
    need: Callable[[str], str],
    service: str,
    said: str,
) -> None:
    """As systemd reads it, drop-ins included; the config has no say in it."""
    need("systemd-analyze")
    drop_in = place / "units" / f"{PROXY}.d"
    drop_in.mkdir()
    (drop_in / "time.conf").write_text(f"[Service]\n{service}\n")
    code, out = command("check", "good", "--units", str(place / "units"))
    if said:
        assert code == ExitCode.CONFIG
        assert f"  REFUSED  {said}, the longest run takes fetch 120 + " in out
    else:
        assert code == ExitCode.OK


def test_check_reports_a_host_name_that_only_the_config_declares(
    command: Callable[..., tuple[int, str]], place: Path, need: Callable[[str], str]
) -> None:
    """A gate of Traefik that probes a host name of its caller is refused without any table."""
    need("systemd-analyze")
    for name, target in (("good", DASHBOARD), ("old", PROXY)):
        with (place / f"{name}.toml").open("a") as file:
            file.write(
                f'[[probes]]\nkind = "http"\nname = "site"\ntarget_unit = "{target}"\n'
                'url = "https://ci.commoninternet.net/"\naddress = "127.0.0.1:443"\n'
            )
    (place / "units" / DASHBOARD).write_text("[Service]\nExecStart=/bin/true\n")
    code, out = command("check", "--units", str(place / "units"))
    assert code == ExitCode.ORDERING_REFUSED
    assert f"  ok       site             {DASHBOARD}\n" in out
    doubt = "not resolved: probe site: unit files do not contain Traefik's routers; only the config"
    assert f"           {doubt} says that {DASHBOARD} serves it" in out
    why = "Traefik routes this host name, so its unit must have started"
    refused = f"{why}: {PROXY} is the caller itself"
    assert f"  REFUSED  site             {refused}" in out
    units = ("--units", str(place / "units"))
    assert '"probe site (not resolved)"' in command("graph", "good", *units)[1]
    assert "linkStyle" in command("graph", "old", *units)[1]


def test_check_of_one_app_reports_no_other(
    command: Callable[..., tuple[int, str]], systemctl_says: Systemctl
) -> None:
    """The deployment of the caller needs no systemd."""
    systemctl_says(script="exit 1")
    code, said = command("check", "good", "--json")
    assert code == ExitCode.OK
    safe = {"probe": "identity", "target_unit": PROXY, "refused": "", "unresolved": ""}
    assert json.loads(said)["good"]["probes"] == [safe]


def test_check_refuses_a_unit_whose_order_is_unknown(
    command: Callable[..., tuple[int, str]], systemctl_says: Systemctl
) -> None:
    """An unknown order is never taken for a safe one."""
    systemctl_says(script="echo no bus >&2; exit 1")
    code, said = command("check", "old")
    assert code == ExitCode.ORDERING_REFUSED
    assert "no bus" in said


def test_check_lists_the_mistakes_of_a_config(
    command: Callable[..., tuple[int, str]], place: Path
) -> None:
    """A gate that can't be read can't be proven."""
    (place / "good.toml").write_text("caller = 1\n")
    code, said = command("check", "good")
    assert code == ExitCode.CONFIG
    assert "mistakes" in said


def test_check_without_any_config_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Zero checked configs are no success."""
    assert main(["check", "--config-dir", str(tmp_path)]) == ExitCode.USAGE
    assert "--config-dir" in capsys.readouterr().err


def test_graph_draws_the_running_host(
    command: Callable[..., tuple[int, str]], systemctl_says: Systemctl, place: Path
) -> None:
    """The drawing has every hop of the chain."""
    text = (place / "old.toml").read_text().replace(DASHBOARD, "late.service")
    (place / "old.toml").write_text(text)
    systemctl_says(
        list_dependencies=read_recording("list-dependencies.txt"), show=read_recording("show.txt")
    )
    code, said = command("graph", "old")
    assert code == ExitCode.OK
    for unit in (PROXY, "late.service", "bridge.service"):
        assert f'["{unit}"]' in said
    assert "linkStyle" in said


def test_the_refused_chain_is_red() -> None:
    """So is the probe that closes the circle; the good probe is not."""
    drawn = picture(DEADLOCK, PROXY, (PING, OLD_GATE))
    assert drawn.arrows == (
        Arrow(DASHBOARD, PROXY, "After=", is_probe=False, is_bad=True),
        Arrow(PROXY, PROXY, "probe ping", is_probe=True, is_bad=False),
        Arrow(PROXY, DASHBOARD, "probe dashboard", is_probe=True, is_bad=True),
    )
    assert "linkStyle 0,2 stroke:red" in drawn.to_mermaid()
    assert drawn.to_dot().count("color=red, fontcolor=red") == 2


def test_unknown_units_and_the_caller_itself_are_red() -> None:
    """A probe whether the caller is active can't pass while it starts."""
    nobody = UnitActive(name="nobody", target_unit="nobody.service")
    itself = UnitActive(name="itself", target_unit=PROXY)
    before = UnitActive(name="before", target_unit="before.service")
    units = UnitGraph(
        frozenset({PROXY, "before.service"}),
        (Edge(PROXY, "before.service", Says.BEFORE, "default"),),
    )
    drawn = picture(units, PROXY, (nobody, itself, before))
    assert [arrow.text for arrow in drawn.arrows if arrow.is_bad] == [
        "probe nobody",
        "probe itself",
    ]
    assert [a.text for a in drawn.arrows if not a.is_probe] == ["Before= of the other (default)"]
