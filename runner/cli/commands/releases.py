"""``releases``: list the releases of the source and of the journal."""

import argparse

from runner.cli.app_state import AppState, read_app_state
from runner.cli.command import Command, app_of
from runner.cli.view import View
from runner.reconcile.model import Deployment, LatestUnknown
from runner.terminal.options import add_app_arguments


def view_of(state: AppState) -> View:
    facts = state.facts
    known: dict[str, list[str]] = {label.text: [] for label in state.offered}
    if not isinstance(facts.latest, LatestUnknown):
        known.setdefault(facts.latest.label, []).append("latest")
    for place, release in enumerate(facts.proven):
        known.setdefault(release.label, []).append("proven" if place else "last-good")
    for q in state.quarantine:
        known.setdefault(q.release.label, []).append("quarantine")
    if isinstance(facts.live, Deployment):
        known.setdefault(facts.live.release.label, []).append("live")
    lines = [f"{label:<24} {', '.join(marks)}".rstrip() for label, marks in known.items()]
    if isinstance(facts.latest, LatestUnknown):
        lines.append(f"the latest is unknown: {facts.latest.reason}")
    data = [{"release": label, "is": marks} for label, marks in known.items()]
    return View(data, "\n".join(lines))


def _run(arguments: argparse.Namespace) -> int:
    view = view_of(read_app_state(app_of(arguments), ask_source=True))
    return view.show(as_json=arguments.json)


COMMAND = Command(
    sentence="List the releases of the source and the journal, with the marks of each.",
    add_arguments=add_app_arguments,
    run=_run,
)
