"""Whole runs and sweeps from a config, on both platforms; only Docker and the app are fakes."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import pytest
from attrs import evolve, frozen
from fake_docker import FakeDocker
from fake_swarm import FAILS
from process_app import AMPLE, ProcessApp
from recorded import Systemctl
from swarm_app import GATED, FakeTraefik, SwarmApp

from runner.app import App, reconcile
from runner.cli.commands.sweep import sweep_app
from runner.config.app import AppConfig
from runner.exit_codes import ExitCode
from runner.reconcile.attempt import Attempt
from runner.reconcile.errors import LockedError, ReconcileError
from runner.reconcile.events import Event
from runner.reconcile.gate import GatePolicy, Progress
from runner.reconcile.machine import State
from runner.report import Report
from runner.storage.lock import hold
from runner.storage.paths import open_state

FIRST, SECOND, THIRD = "1.0.0+v3.5.1", "2.0.0+v3.6.0", "3.0.0+v3.7.0"
NAME = "traefik"

pytestmark = pytest.mark.filterwarnings(
    # A run leaves its instance running, and ends; here the process that called it goes on.
    "ignore:subprocess .* is still running:ResourceWarning"
)


class Recorder:
    """Records the states and the warnings of a run."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.warnings: list[str] = []

    def entered(self, state: State, attempt: Attempt, event: Event) -> None:
        del attempt, event
        self.states.append(state)

    def gate(self, progress: Progress) -> None:
        del progress

    def warn(self, error: ReconcileError) -> None:
        self.warnings.append(error.message)


class Platform(Protocol):
    """An app of one platform, and how to interfere with it."""

    @property
    def app(self) -> App: ...

    def release(self, label: str, *, is_broken: bool = False) -> None: ...

    def take_away(self) -> None:
        """Remove the live deployment, as an operator does by hand."""
        ...

    def live(self) -> list[str]:
        """List the tasks, or the processes, that run."""
        ...


def _app(config: AppConfig) -> App:
    policy = GatePolicy(rise=2, window=0.0, deadline=AMPLE, verify_deadline=AMPLE)
    return App(NAME, evolve(config, gate=policy))


@frozen
class OnSwarm:
    """An app on the fake Docker."""

    made: SwarmApp

    @property
    def app(self) -> App:
        return _app(self.made.config)

    def release(self, label: str, *, is_broken: bool = False) -> None:
        self.made.release(label)
        if is_broken:
            swarm = self.made.docker.swarm
            version = label.rpartition("+")[2]
            (digest,) = swarm.images[f"traefik:{version}"]["RepoDigests"]
            swarm.fates[f"traefik:{version}@{digest.partition('@')[2]}"] = FAILS

    def take_away(self) -> None:
        self.made.docker.swarm.remove_service(GATED)

    def live(self) -> list[str]:
        swarm = self.made.docker.swarm
        return [task["ID"] for task in swarm.running(GATED)] if GATED in swarm.services else []


@frozen
class AsProcess:
    """An app as processes of this host."""

    made: ProcessApp

    @property
    def app(self) -> App:
        return _app(self.made.config)

    def release(self, label: str, *, is_broken: bool = False) -> None:
        self.made.release(label, fault="exits" if is_broken else "")

    def take_away(self) -> None:
        state = open_state(self.app.state_root, NAME)
        for processes in self.made.processes(state).values():
            for process in processes:
                process.kill()
                process.wait(AMPLE)
        assert self.live() == []

    def live(self) -> list[str]:
        state = open_state(self.app.state_root, NAME)
        running = self.made.processes(state).items()
        return [f"{token} {process.pid}" for token, group in running for process in group]


@pytest.fixture(params=["swarm", "process"])
def platform(
    request: pytest.FixtureRequest, tmp_path: Path, systemctl_says: Systemctl
) -> Generator[Platform]:
    systemctl_says(script="exit 1")
    if request.param == "swarm":
        docker: FakeDocker = request.getfixturevalue("docker")
        traefik = FakeTraefik(docker.swarm)
        yield OnSwarm(SwarmApp(docker, traefik, tmp_path / "app"))
        traefik.close()
    else:
        made = ProcessApp(tmp_path / "app")
        yield AsProcess(made)
        made.end(open_state(Path(made.config.state_dir), NAME))


def run(platform: Platform, *, forced: bool = False) -> Report:
    return reconcile(platform.app, Recorder(), forced=forced)


def summary(report: Report) -> tuple[str, str | None, str | None]:
    return report.outcome, report.serving, report.last_good


def test_a_first_release_is_committed_and_then_left_alone(platform: Platform) -> None:
    """The second run has nothing to do, and changes nothing."""
    platform.release(FIRST)
    report = run(platform)
    assert summary(report) == ("committed", FIRST, FIRST), report
    before = platform.live()
    report = run(platform)
    assert summary(report) == ("unchanged", FIRST, FIRST), report
    assert platform.live() == before
    assert report.downtime is None


def test_a_broken_release_is_rolled_back_and_not_tried_again(platform: Platform) -> None:
    """Unless it is forced; last-good serves again, under a new token."""
    platform.release(FIRST)
    run(platform)
    before = platform.live()
    platform.release(SECOND, is_broken=True)
    report = run(platform)
    assert summary(report) == ("rolled back", FIRST, FIRST), report
    assert (report.candidate, report.exit) == (SECOND, ExitCode.ROLLED_BACK)
    restored = platform.live()
    assert len(restored) == 1
    assert restored != before
    report = run(platform)
    assert summary(report) == ("unchanged", FIRST, FIRST), report
    assert platform.live() == restored
    report = run(platform, forced=True)
    assert summary(report) == ("rolled back", FIRST, FIRST), report
    assert platform.live() != restored


def test_a_first_release_that_is_broken_leaves_nothing_proven(platform: Platform) -> None:
    """There is nothing to go back to."""
    platform.release(FIRST, is_broken=True)
    report = run(platform)
    assert summary(report) == ("stranded", None, None), report


def test_a_removed_last_good_is_restored(platform: Platform) -> None:
    """Although there is no new release; a sweep before reports that it is not live."""
    platform.release(FIRST)
    run(platform)
    platform.take_away()
    swept = sweep_app(platform.app)
    assert swept.exit is ExitCode.UNHEALTHY
    assert swept.finding.startswith(f"last-good {FIRST} is not live: ")
    assert swept.finding.endswith("the next run restores it")
    assert platform.live() == []
    report = run(platform)
    assert summary(report) == ("restored", FIRST, FIRST), report
    assert len(platform.live()) == 1


def test_a_run_deletes_what_no_kept_release_needs(platform: Platform) -> None:
    """A release that was rolled back goes; proven ones and those for a rollback stay."""
    kept: list[str] = []
    for label in (FIRST, SECOND):
        platform.release(label)
        run(platform)
        kept.append(label)
    platform.release(THIRD, is_broken=True)
    assert run(platform).outcome == "rolled back"
    releases = open_state(platform.app.state_root, NAME).releases
    manifests = [json.loads((home / "manifest.json").read_text()) for home in releases.iterdir()]
    assert sorted(manifest["label"] for manifest in manifests) == kept


# Sweeps ------------------------------------------------------------------------------------------


def test_a_sweep_reports_an_app_that_never_ran(platform: Platform) -> None:
    """It has no journal; a new journal may have no proven release."""
    assert sweep_app(platform.app).finding == "it never ran"
    platform.release(FIRST, is_broken=True)
    run(platform)
    swept = sweep_app(platform.app)
    assert (swept.exit, swept.finding) == (ExitCode.STRANDED, "no release is proven")


def test_a_sweep_of_a_healthy_app_reports_it_and_cleans_up(platform: Platform) -> None:
    """It runs one round, deploys nothing, and deletes what no kept release needs."""
    platform.release(FIRST)
    run(platform)
    before = platform.live()
    state = open_state(platform.app.state_root, NAME)
    (state.releases / "left").mkdir()
    swept = sweep_app(platform.app)
    expected = f"last-good {FIRST} is live and healthy"
    assert (swept.exit, swept.finding) == (ExitCode.OK, expected), swept
    assert platform.live() == before
    assert not (state.releases / "left").exists()


def test_a_sweep_leaves_an_app_alone_that_a_run_holds(platform: Platform) -> None:
    """The run cleans up itself."""
    platform.release(FIRST)
    run(platform)
    state = open_state(platform.app.state_root, NAME)
    with hold(state.lock), pytest.raises(LockedError):
        sweep_app(platform.app)


# The Swarm alone ---------------------------------------------------------------------------------


@pytest.fixture
def swarm(docker: FakeDocker, tmp_path: Path, systemctl_says: Systemctl) -> Generator[OnSwarm]:
    systemctl_says(script="exit 1")
    traefik = FakeTraefik(docker.swarm)
    yield OnSwarm(SwarmApp(docker, traefik, tmp_path / "app"))
    traefik.close()


def test_the_downtime_of_a_deployment_is_reported(swarm: OnSwarm) -> None:
    """The meter runs from the deployment on; a run without a deployment reports none."""
    swarm.release(FIRST)
    report = run(swarm)
    assert report.downtime is not None
    assert "s without an answer" in report.to_text()
    assert run(swarm).downtime is None


def test_an_unreachable_docker_decides_nothing(swarm: OnSwarm) -> None:
    """Neither in a run nor in a sweep; the next run finds everything unchanged."""
    swarm.release(FIRST)
    run(swarm)
    swarm.release(SECOND)
    docker = swarm.made.docker
    with docker.lost():
        report = run(swarm)
        assert (report.outcome, report.exit) == ("undecided", ExitCode.UNDECIDED), report
        assert sweep_app(swarm.app).exit is ExitCode.UNDECIDED
    assert summary(run(swarm)) == ("committed", SECOND, SECOND)


def test_a_failed_cleanup_fails_a_sweep(swarm: OnSwarm) -> None:
    """Because that is its job; in a run the same is a warning."""
    swarm.release(FIRST)
    run(swarm)
    swarm.made.docker.failing["/configs"] = "no leader"
    swept = sweep_app(swarm.app)
    assert swept.exit is ExitCode.UNDECIDED
    assert "healthy; the cleanup failed: " in swept.finding
    watcher = Recorder()
    report = reconcile(swarm.app, watcher)
    assert report.outcome == "unchanged"
    assert [warning for warning in watcher.warnings if "no leader" in warning]


def test_a_sweep_of_last_good_that_fails_says_how(swarm: OnSwarm) -> None:
    """It is live, and its task has ended."""
    swarm.release(FIRST)
    run(swarm)
    docker = swarm.made.docker
    (task,) = docker.swarm.running(GATED)
    docker.swarm.end(task)
    app = evolve(swarm.app, config=evolve(swarm.app.config, gate=HURRIED))
    swept = sweep_app(app)
    assert swept.exit is ExitCode.UNHEALTHY
    assert swept.finding.startswith("last-good is live: ")
    assert swept.finding.endswith("the next run restores it")


HURRIED = GatePolicy(rise=1, window=0.0, deadline=1.0, verify_deadline=1.0)
