"""A power cut at any effect of a run: the next run finishes or reverts it.

``killed_run.py`` is the run that dies; what comes after is the ordinary command. Each effect of
three kinds of runs is tried, on one swarm after the other: what was proven before stays and serves.
"""

import json
import shutil
import signal
from collections.abc import Callable
from typing import Final

import pytest
from attrs import frozen
from traefik.harness import NAME

from swarm.harness import AMPLE, NEW, Host
from swarm.healthy import assert_serving, history, prepare, proven, quarantined

pytestmark = pytest.mark.swarm

SHARDS: Final = 4
"""Tests over which the effects of one scenario are dealt, so that they can run side by side."""
BROKEN: Final = {"traefik.yml.tmpl": [('address: ":443"', 'address: "nonsense"')]}
"""It ends as soon as it starts."""
MORE: Final = "[retention]\nproven = 2\n"
"""So that there is something to prune after two."""
DEATHS: Final = 2
"""In a row: the third one would make the candidate suspect."""
LEFTOVERS: Final = ("releases", "images", "instances")


@frozen
class Scenario:
    """A kind of run, from its beginning to its end, and what it may come to if it is killed."""

    name: str
    begin: Callable[["Stage"], None]
    """Lay out what comes next."""
    ends: str
    """How the run ends if it is not killed."""
    first: str = ""
    """The first effect that is worth a death; what is before it is another scenario's."""
    preflight: float = 0.0


def _cold(stage: "Stage") -> None:
    """Begin from nothing: no stack, no state."""
    stage.host.engine.remove_stacks()
    shutil.rmtree(stage.host.home / "state", ignore_errors=True)
    stage.release()


def _update(stage: "Stage") -> None:
    stage.release()


def _rollback(stage: "Stage") -> None:
    stage.release(is_broken=True)


COLD: Final = Scenario("a cold deployment", _cold, "committed")
UPDATE: Final = Scenario("an update", _update, "committed", preflight=AMPLE)
ROLLBACK: Final = Scenario("a rollback", _rollback, "rolled back", "before docker stack deploy")


class Stage:
    """Plays a scenario again and again; each time with another release."""

    def __init__(self, host: Host, scenario: Scenario, before: int = 2) -> None:
        """Args: ``before`` is how many releases are proven first; two leave something to prune."""
        self.host = host
        self._state = host.home / "state" / NAME
        self._scenario = scenario
        self._number = 0
        self._good = ""
        """The newest good release."""
        self._bad: set[str] = set()
        self._trace = host.home / "trace"
        prepare(host, window=0.3, preflight=scenario.preflight, more=MORE)
        host.config.write_text(f"fallback_depth = 1\n{host.config.read_text()}")
        if scenario.begin is not _cold:
            for _ in range(before):
                self.release()
                ran = host.run()
                assert ran.outcome == "committed", ran

    def release(self, *, is_broken: bool = False) -> None:
        """Offer a release that was never there."""
        self._number += 1
        label = f"1.{self._number}.0+v{NEW}"
        self.host.release(label, edits=BROKEN if is_broken else None)
        if is_broken:
            self._bad.add(label)
        else:
            self._good = label

    def count(self) -> list[str]:
        """Play it undisturbed, and list the effects on the way."""
        self._scenario.begin(self)
        ran = self.host.end(self.host.begin_killed(self._trace, "none"))
        assert (ran.code, ran.out.strip()) == (0, self._scenario.ends), ran
        effects = self._trace.read_text().splitlines()
        return effects[effects.index(self._scenario.first) :] if self._scenario.first else effects

    def play(self, effects: list[str]) -> None:
        """Die at each of these: where the last death led, or else in a run of its own."""
        deaths: list[str] = []
        for effect in effects:
            if deaths and self.dies_at(effect):
                deaths.append(effect)
            else:
                if deaths:
                    self.recover(deaths)
                self._scenario.begin(self)
                assert self.dies_at(effect), effect
                deaths = [effect]
            if len(deaths) == DEATHS:
                self.recover(deaths)
                deaths = []
        if deaths:
            self.recover(deaths)

    def dies_at(self, effect: str) -> bool:
        """Run until that effect; return whether it came."""
        proven = self._proven()
        ran = self.host.end(self.host.begin_killed(self._trace, effect))
        assert ran.code in {0, -signal.SIGKILL}, (effect, ran)
        trace = self._trace.read_text().splitlines()
        committed = self._proven() - proven
        assert committed <= {self._good}, effect
        assert not committed or "before observe Committed" in trace, effect
        return ran.code != 0

    def recover(self, deaths: list[str]) -> None:
        """Run as usual, and check the result."""
        host = self.host
        ran = host.run()
        assert ran.outcome in {self._scenario.ends, "unchanged"}, (deaths, ran)
        assert ran.code == (12 if ran.outcome == "rolled back" else 0), (deaths, ran)
        assert ran.serving == ran.report["last_good"] == self._good, (deaths, ran)
        assert_serving(host, self._good)
        assert not self._bad.intersection(proven(host)), deaths
        assert set(quarantined(host)) == self._bad, deaths
        with history(host) as past:
            assert past.open_attempt() is None, deaths
        self._check_leftovers(deaths)

    def _proven(self) -> set[str]:
        return set(proven(self.host)) if (self._state / "journal.sqlite3").exists() else set()

    def _configs(self) -> set[str]:
        """Return the names of the configs that stored releases need."""
        files = (self._state / "releases").glob("*/files/compose.json")
        documents = [json.loads(file.read_bytes()) for file in files]
        return {config["name"] for d in documents for config in d["configs"].values()}

    def _check_leftovers(self, deaths: list[str]) -> None:
        engine = self.host.engine
        stacks = engine.listed("stack", "ls", "--format={{.Name}}")
        assert stacks == [self.host.stack], deaths
        configs = engine.listed("config", "ls", "--format={{.Name}}")
        assert set(configs) <= self._configs(), deaths
        for directory in LEFTOVERS:
            names = [entry.name for entry in (self._state / directory).iterdir()]
            assert not [name for name in names if name.startswith(".")], (deaths, names)


@pytest.mark.parametrize(
    ("scenario", "effect"),
    [
        (UPDATE, "amid docker stack deploy"),
        (UPDATE, "after the first round of a gate"),
        (ROLLBACK, "before observe Deployed"),
        (ROLLBACK, "amid docker stack deploy, 2"),
    ],
    ids=lambda value: value.name if isinstance(value, Scenario) else value,
)
def test_the_next_run_makes_it_good(host: Host, scenario: Scenario, effect: str) -> None:
    """Some of the worst moments; the test of all of them is slow."""
    Stage(host, scenario, before=1).play([effect])


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("scenario", [COLD, UPDATE, ROLLBACK], ids=lambda scenario: scenario.name)
def test_the_next_run_makes_it_good_wherever_the_last_one_died(
    host: Host, scenario: Scenario, shard: int
) -> None:
    """Each effect of the scenario; an early and a late one share a release."""
    stage = Stage(host, scenario)
    effects = stage.count()
    stage.play(effects[shard::SHARDS])
