"""``sweep`` on a real Traefik: it reports, removes unused releases, and deploys nothing."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from runner.cli.main import main
from runner.exit_codes import ExitCode
from runner.storage.lock import hold
from traefik.harness import CALLER, NAME, App

pytestmark = pytest.mark.traefik


class Swept:
    """One sweep of all apps: its exit code, and its output on each."""

    def __init__(self, app: App, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        self.code = main(["sweep", "--config-dir", str(app.config_dir), "--json", *words])
        out, self.err = capsys.readouterr()
        found: list[dict[str, Any]] = json.loads(out) if out else []
        self.codes = {each["app"]: each["exit"] for each in found}
        self.findings = {each["app"]: each["finding"] for each in found}


def test_a_last_good_that_is_gone_is_reported_and_not_restored(
    app: App, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run puts it back; the sweep is no second way to deploy."""
    app.make_last_good()
    app.kill_instances()
    swept = Swept(app, capsys)
    assert swept.code == ExitCode.UNHEALTHY
    expected = "last-good 1.0.0 is not live: nothing is; the next run restores it"
    assert swept.findings[NAME] == expected
    assert app.instances.running() == {}
    assert app.proven() == ["1.0.0"]


def test_a_last_good_that_is_live_and_broken_is_reported_with_the_reason(
    app: App,
    capsys: pytest.CaptureFixture[str],
    enough: Callable[[Callable[[float], bool]], None],
) -> None:
    """It listens, but its gate's route has gone: someone edited a watched file."""
    pid = app.make_last_good()
    (token,) = app.instances.running()
    shutil.rmtree(app.state.instances / token / "dynamic")
    config = app.config_dir / f"{NAME}.toml"

    def has_been_asked(seconds: float) -> bool:
        app.configure(deadline=seconds)
        config.write_text(config.read_text().replace("/ping", "/nowhere"))
        swept = Swept(app, capsys)
        assert swept.code == ExitCode.UNHEALTHY
        finding = swept.findings[NAME]
        return "last-good is live: 1.0.0 is unhealthy: ping: status 404" in finding

    enough(has_been_asked)
    assert [p.pid for ps in app.instances.running().values() for p in ps] == [pid]
    assert app.proven() == ["1.0.0"]


def test_a_healthy_app_is_reported_and_pruned(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    """Unused releases are removed; the live one and those for a rollback stay."""
    app.make_last_good("1.0.0")
    app.make_last_good("2.0.0")
    pid = app.assert_serving("2.0.0")
    kept = set(app.state.releases.iterdir())
    litter = [app.state.releases / ("0" * 64), app.state.instances / "nobodys-token"]
    for each in litter:
        each.mkdir()
    swept = Swept(app, capsys, NAME)
    assert (swept.code, swept.findings[NAME]) == (0, "last-good 2.0.0 is live and healthy")
    assert set(app.state.releases.iterdir()) == kept
    assert not litter[1].exists()
    assert app.assert_serving("2.0.0") == pid
    assert app.proven() == ["2.0.0", "1.0.0"]
    with app.history() as history:
        assert len(history.attempts(10)) == 2


def test_a_run_that_goes_on_is_no_error(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    """It does at its end what the sweep would have done."""
    app.make_last_good()
    with hold(app.state.lock):
        swept = Swept(app, capsys)
    assert swept.code == 0
    assert swept.findings[NAME].startswith("skipped: another run holds traefik: process ")


def test_one_bad_app_keeps_none_from_being_swept(
    app: App, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has its own line; the largest exit code is the sweep's."""
    app.make_last_good()
    good = (app.config_dir / f"{NAME}.toml").read_text()
    dashboard = "deploy-dashboard-that-is-nowhere.service"
    refused = good.replace(f'target_unit = "{CALLER}"', f'target_unit = "{dashboard}"', 1)
    (app.config_dir / "new.toml").write_text(good)
    (app.config_dir / "waits.toml").write_text(refused)
    (app.config_dir / "wrong.toml").write_text("caller = 1\n")
    swept = Swept(app, capsys)
    assert swept.codes == {
        "new": ExitCode.STRANDED,
        NAME: ExitCode.OK,
        "waits": ExitCode.ORDERING_REFUSED,
        "wrong": ExitCode.CONFIG,
    }
    assert swept.code == ExitCode.CONFIG
    assert swept.findings["new"] == "it never ran"
    assert "nothing was touched: probe ping: " in swept.findings["waits"]
    assert "missing; expected a value: it has no default; " in swept.findings["wrong"]
    assert "\n" not in "".join(swept.findings.values())
    assert not (app.state.root / "new").exists()


def test_a_damaged_stored_release_is_reported(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    """It serves now, but a rollback would need it."""
    app.make_last_good()
    (release,) = app.state.releases.iterdir()
    (release / "manifest.json").write_text("{}")
    swept = Swept(app, capsys)
    assert swept.code == ExitCode.STATE
    assert "is live and healthy; the cleanup failed: " in swept.findings[NAME]


def test_nothing_to_sweep_is_no_success(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without configs is a mistake of the unit that sweeps."""
    (app.config_dir / f"{NAME}.toml").unlink()
    swept = Swept(app, capsys)
    assert swept.code == ExitCode.USAGE
    assert "--config-dir" in swept.err
