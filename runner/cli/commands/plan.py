"""``plan``: print the decision that a run would take now, with the reason."""

import argparse
from typing import assert_never

from runner.cli.app_state import AppState, read_app_state
from runner.cli.command import Command, app_of
from runner.cli.view import View
from runner.reconcile import events
from runner.reconcile.decisions import assess
from runner.storage.codec import name_of
from runner.terminal.options import add_app_arguments
from runner.terminal.text import format_event


def view_of(state: AppState) -> View:
    facts = state.facts
    if state.engine:
        return View({"app": state.app, "does": "nothing", "because": state.engine}, state.engine)
    event = assess(facts)
    given_up = facts.wanted
    match event:
        case events.CandidateFound(release):
            does = f"deploy {release.label}, gate it, commit it if it is healthy"
        case events.CandidateLive(deployment):
            does = f"gate {deployment.release.label} again, commit it if it is healthy"
        case events.LastGoodAbsent(release, _):
            does = f"deploy {release.label} again and gate it"
        case events.LastGoodLive():
            does = "verify the live release, and change nothing if it is healthy"
        case events.RollbackDue(candidate, _):
            given_up = candidate
            does = f"fall back from {candidate.label}"
        case events.NothingDeployable():
            does = "do nothing"
        case _:
            assert_never(event)
    because = format_event(event)
    older = [release.label for release in facts.proven if release != given_up]
    fallbacks = older[: state.fallback_depth]
    data = {
        "app": state.app,
        "event": name_of(event),
        "does": does,
        "because": because,
        "if_it_fails": fallbacks,
    }
    fall = ", then ".join(fallbacks) or "none: the run would end stranded"
    text = f"{state.app}: would {does}\n  because: {because}\n  fallback: {fall}"
    return View(data, text)


def _run(arguments: argparse.Namespace) -> int:
    view = view_of(read_app_state(app_of(arguments), ask_source=True, forced=arguments.force))
    return view.show(as_json=arguments.json)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_app_arguments(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="plan as if the latest release were not in quarantine",
    )


COMMAND = Command(
    sentence="Show what a run would do now, and why; change nothing.",
    add_arguments=_add_arguments,
    run=_run,
)
