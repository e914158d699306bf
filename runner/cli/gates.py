"""Whoever asks probes on this host: the gates of apps, and end-to-end assertions."""

import functools
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from runner.app import App, find_app
from runner.config import app as configs
from runner.config.app import DEFAULT_SOCKET
from runner.config.assertion import DIRECTORY, Assertion, find_assertion
from runner.preconditions import engine_socket
from runner.reconcile import budget
from runner.reconcile.errors import UsageError
from runner.reconcile.probes import Probe


@frozen
class Subject:
    """One gate or assertion, as far as the order of units and the time of a start matter."""

    name: str
    caller: str
    probes: tuple[Probe, ...]
    longest: float
    """Seconds that the caller takes at worst."""
    explained: str
    """What they are made of."""
    socket: str | None
    """Where the engine listens that may tell who serves a name; None: there is none."""
    is_app: bool = True
    """The caller deploys something, which it may ask."""


def of_app(app: App) -> Subject:
    settings = app.config
    sum_of = (settings.budget, settings.gate, settings.fallback_depth)
    return Subject(
        name=app.name,
        caller=settings.caller,
        probes=settings.probes,
        longest=budget.worst_case(*sum_of),
        explained=budget.explain(*sum_of),
        socket=engine_socket(settings),
    )


def of_assertion(assertion: Assertion) -> Subject:
    return Subject(
        name=f"{DIRECTORY}/{assertion.name}",
        caller=assertion.config.caller,
        probes=assertion.config.probes,
        longest=assertion.longest,
        explained=assertion.explain(),
        socket=DEFAULT_SOCKET,
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
    found = [of_app(find(name, config=None)) for name in configs.names(config_dir)]
    found += map(of_assertion, _assertions(config_dir))
    if not found:
        raise nothing_in(config_dir)
    return found


def nothing_in(directory: Path) -> UsageError:
    """Teach who asked for everything where there is nothing."""
    return UsageError(f"no config in {directory}", hint="name an app, or give --config-dir")


def _assertions(directory: Path) -> Iterator[Assertion]:
    for name in configs.names(directory / DIRECTORY):
        yield find_assertion(name, config=None, config_dir=directory)
