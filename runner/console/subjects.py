"""Whoever asks probes on this host: the gates of apps, and end-to-end assertions."""

import functools
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from runner.reconcile import budget, config
from runner.reconcile.assertion import DIRECTORY, Assertion, find_assertion
from runner.reconcile.errors import UsageError
from runner.reconcile.ordering import Target, target_of
from runner.reconcile.questions import Question
from runner.warm_reconcile import App, find_app


@frozen
class Subject:
    """One gate or assertion, as far as the order of units and the time of a start matter."""

    name: str
    caller: str
    probes: tuple[Question, ...]
    longest: float
    """Seconds that the caller takes at worst."""
    explained: str
    """What they are made of."""
    is_app: bool = True
    """The caller deploys something, which it may ask."""

    def target(self, question: Question) -> Target:
        """Say what a question asks."""
        return target_of(question) if self.is_app else Target(question.target_unit)


def of_app(app: App) -> Subject:
    settings = app.config
    sum_of = (settings.budget, settings.gate, settings.fallback_depth)
    return Subject(
        name=app.name,
        caller=settings.caller,
        probes=settings.probes,
        longest=budget.worst_case(*sum_of),
        explained=budget.explain(*sum_of),
    )


def of_assertion(assertion: Assertion) -> Subject:
    return Subject(
        name=f"{DIRECTORY}/{assertion.name}",
        caller=assertion.config.caller,
        probes=assertion.config.probes,
        longest=assertion.longest,
        explained=assertion.explain(),
        is_app=False,
    )


def find_subjects(app: str | None, *, file: Path | None, config_dir: Path) -> list[Subject]:
    """Read the config of the app that was named, or else of every app and every assertion.

    Raises:
        UsageError: there is none.
        ConfigError: one has mistakes.
    """
    find = functools.partial(find_app, config_dir=config_dir)
    if app is not None:
        return [of_app(find(app, config=file))]
    found = [of_app(find(name, config=None)) for name in config.names(config_dir)]
    found += map(of_assertion, _assertions(config_dir))
    if not found:
        raise nothing_in(config_dir)
    return found


def nothing_in(directory: Path) -> UsageError:
    """Teach who asked for everything where there is nothing."""
    return UsageError(f"no config in {directory}", hint="name an app, or give --config-dir")


def _assertions(directory: Path) -> Iterator[Assertion]:
    for name in config.names(directory / DIRECTORY):
        yield find_assertion(name, config=None, config_dir=directory)
