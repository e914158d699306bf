"""A power cut at any effect of a run: the next run finishes or reverts it.

``killed_run.py`` is the run that dies; what comes after is the ordinary command. Each effect of
four kinds of runs is tried, down to the single file.
"""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

from traefik.harness import App, link_or_copy, wait_for_ping

pytestmark = pytest.mark.traefik

SCRIPT: Final = Path(__file__).parent / "killed_run.py"
SHARDS: Final = 6
"""Tests over which the effects of one scenario are dealt, so that they can run side by side."""


@frozen
class Scenario:
    """A run from its beginning to its end, and what may come of it if it is killed between."""

    name: str
    prepare: Callable[[App], object]
    ends: str
    """How the run ends if it is not killed."""
    then: frozenset[str]
    """How the run after a killed one may end."""
    good: frozenset[str]
    """The releases that may ever be proven."""
    serves: str
    """The release that serves in the end."""
    quarantined: frozenset[str] = frozenset()


def _first(app: App) -> None:
    app.release("1.0.0")


def _update(app: App) -> None:
    app.make_last_good("1.0.0")
    app.release("2.0.0")


def _rollback(app: App) -> None:
    app.make_last_good("1.0.0")
    app.release("2.0.0", static=app.static(web="nonsense: 1"))


def _cold_boot(app: App) -> None:
    app.make_last_good("1.0.0")
    app.stop()


FIRST: Final = Scenario(
    name="a first deployment",
    prepare=_first,
    ends="committed",
    then=frozenset({"committed", "unchanged"}),
    good=frozenset({"1.0.0"}),
    serves="1.0.0",
)
UPDATE: Final = Scenario(
    name="an update",
    prepare=_update,
    ends="committed",
    then=frozenset({"committed", "unchanged"}),
    good=frozenset({"1.0.0", "2.0.0"}),
    serves="2.0.0",
)
ROLLBACK: Final = Scenario(
    name="a rollback",
    prepare=_rollback,
    ends="rolled back",
    then=frozenset({"rolled back", "unchanged"}),
    good=frozenset({"1.0.0"}),
    serves="1.0.0",
    quarantined=frozenset({"2.0.0"}),
)
COLD_BOOT: Final = Scenario(
    name="a cold boot",
    prepare=_cold_boot,
    ends="restored",
    then=frozenset({"restored", "unchanged"}),
    good=frozenset({"1.0.0"}),
    serves="1.0.0",
)


class Stage:
    """Plays a scenario again and again, from the same beginning."""

    def __init__(self, app: App, scenario: Scenario) -> None:
        self._app = app
        self._scenario = scenario
        self._saved = app.home / "saved"
        self._trace = app.home / "trace"
        app.configure(window=0.2)
        scenario.prepare(app)
        self._is_running = bool(app.instances.running())
        app.stop()
        if app.state.home.exists():
            _copy(app.state.home, self._saved)

    def count(self) -> int:
        """Run to the end, and count the effects on the way."""
        self.reset()
        assert self.run("0") == 0
        return len(self._effects())

    def kill_at(self, effect: str) -> None:
        """Kill a run at an effect, run again, and check what came of it."""
        self.reset()
        if self.run(effect) == 0:  # this run had fewer effects than the one that was counted
            assert effect.isdecimal(), effect
            assert int(effect) > len(self._effects()), effect
            return
        after = f"killed at effect {effect}, {self._effects()[-1]}"
        self._check_the_wreck(after)
        self._check_the_recovery(after)

    def reset(self) -> None:
        """Go back to the beginning, with the same process of the same release running."""
        app = self._app
        app.stop()
        shutil.rmtree(app.state.home, ignore_errors=True)
        if self._saved.exists():
            _copy(self._saved, app.state.home)
        if self._is_running:
            (home,) = app.state.instances.iterdir()
            deployment = app.instances.read(home.name)
            assert deployment is not None
            app.instances.start(deployment, next(app.state.binaries.glob("*/traefik")))
            wait_for_ping(app.port)

    def run(self, effect: str) -> int:
        """Run until that effect; return the exit status."""
        app = self._app
        ran = app.end(app.start(str(SCRIPT), str(app.config_dir), str(self._trace), effect))
        assert ran.code in {0, -signal.SIGKILL}, (effect, ran)
        if ran.code == 0 and effect == "0":
            assert ran.out.strip() == self._scenario.ends, ran
        return ran.code

    def _effects(self) -> list[str]:
        return self._trace.read_text().splitlines()

    def _check_the_wreck(self, after: str) -> None:
        """Nothing was proven before its time, and nothing that was proven is forgotten."""
        if not self._app.state.journal.exists():
            assert "after begin" not in self._effects(), after
            return
        proven = set(self._app.proven())
        assert proven <= self._scenario.good, after
        committed = self._scenario.ends == "committed" and self._scenario.serves in proven
        assert committed <= ("after commit" in self._effects()), after
        assert committed >= ("after observe Committed" in self._effects()), after

    def _check_the_recovery(self, after: str) -> None:
        app, scenario = self._app, self._scenario
        ran = app.run()
        assert ran.outcome in scenario.then, (after, ran)
        assert ran.code == (12 if ran.outcome == "rolled back" else 0), (after, ran)
        assert ran.serving == scenario.serves, (after, ran)
        app.assert_serving(scenario.serves)
        assert scenario.serves in app.proven(), after
        assert set(app.proven()) <= scenario.good, after
        assert set(app.quarantined()) == scenario.quarantined, after
        assert app.open_attempt() is None, after


def _copy(source: Path, target: Path) -> None:
    """Copy the state of an app, but for the binaries, which are never written to."""

    def copy(file: str, to: str) -> None:
        (link_or_copy if "/binaries/" in file else shutil.copy2)(file, to)

    shutil.copytree(source, target, copy_function=copy)


@pytest.mark.parametrize(
    ("scenario", "effect"),
    [
        (UPDATE, "after terminate_all"),
        (UPDATE, "before await_end"),
        (UPDATE, "after the first round of a gate"),
        (UPDATE, "before observe Committed"),
        (ROLLBACK, "before observe FallbackChosen"),
        (COLD_BOOT, "after start"),
    ],
    ids=lambda value: value.name if isinstance(value, Scenario) else value,
)
def test_the_next_run_makes_it_good(app: App, scenario: Scenario, effect: str) -> None:
    """Some of the worst moments; the test of all of them is slow."""
    Stage(app, scenario).kill_at(effect)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize(
    "scenario", [FIRST, UPDATE, ROLLBACK, COLD_BOOT], ids=lambda scenario: scenario.name
)
def test_the_next_run_makes_it_good_wherever_the_last_one_died(
    app: App, scenario: Scenario, shard: int
) -> None:
    """Each effect of the scenario, one after the other."""
    stage = Stage(app, scenario)
    for number in range(1 + shard, stage.count() + 1, SHARDS):
        stage.kill_at(str(number))


@pytest.mark.slow
def test_a_run_gets_through_in_the_end_however_often_the_power_fails(app: App) -> None:
    """Each run gets one effect further than the one before, and finds what all of them left."""
    stage = Stage(app, UPDATE)
    effects = stage.count()
    stage.reset()
    for number in range(1, 2 * effects):
        if stage.run(str(number)) == 0:
            break
    else:
        pytest.fail(f"no run came through in {2 * effects}")
    ran = app.run()
    assert (ran.code, ran.outcome) == (0, "unchanged"), ran
    assert ran.serving in UPDATE.good
    app.assert_serving(str(ran.serving))
    assert set(app.proven()) <= UPDATE.good
    assert app.open_attempt() is None


def test_a_candidate_that_kills_its_runs_is_given_up(app: App, tmp_path: Path) -> None:
    """Three runs died while it was on trial: the fourth rolls back, and tries it no more."""
    app.make_last_good("1.0.0")
    app.release("2.0.0")
    for _ in range(3):
        effect = "after the first round of a gate"
        dying = app.start(str(SCRIPT), str(app.config_dir), str(tmp_path / "trace"), effect)
        assert app.end(dying).code == -signal.SIGKILL
        app.assert_never_committed("2.0.0")
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", "1.0.0"), ran
    assert ran.reason == "3 runs died while it was on trial"
    app.assert_serving("1.0.0")
    app.assert_never_committed("2.0.0")
    assert list(app.quarantined()) == ["2.0.0"]
