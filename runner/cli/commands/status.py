"""``status``: show last-good, the live release, the quarantine and the last run."""

import argparse

from runner.cli.app_state import AppState, read_app_state
from runner.cli.attempt_text import attempt_data, attempt_line, format_time
from runner.cli.command import Command, app_of
from runner.cli.view import View
from runner.reconcile.model import Deployment, NotLive, Release
from runner.terminal.options import add_app_arguments


def view_of(state: AppState) -> View:
    facts = state.facts
    live = facts.live.release if isinstance(facts.live, Deployment) else None
    data = {
        "app": state.app,
        "last_good": _label(facts.last_good),
        "live": _label(live),
        "live_is_proven": live in facts.proven,
        "proven": [release.label for release in facts.proven],
        "quarantine": [
            {"release": q.release.label, "reason": q.reason, "until": q.until}
            for q in state.quarantine
        ],
        "running_pid": state.holder,
        "last_attempt": attempt_data(state.last) if state.last else None,
        "engine": state.engine or "ok",
    }
    lines = [
        state.app,
        f"  last-good   {_label(facts.last_good) or 'none: no release has passed its gate yet'}",
        f"  live        {_live_text(state)}",
    ]
    older = [release.label for release in facts.proven[1:]]
    if older:
        lines.append(f"  proven      {', '.join(older)}")
    lines += [
        f"  quarantine  {q.release.label} until {format_time(q.until)}: {q.reason}"
        for q in state.quarantine
    ]
    if state.last:
        lines.append(f"  last run    {attempt_line(state.last)}")
    if state.holder:
        lines.append(f"  running     process {state.holder}")
    elif state.last and state.last.ended is None:
        lines.append("  interrupted the next run resumes it")
    return View(data, "\n".join(lines))


def _live_text(state: AppState) -> str:
    if state.engine:
        return f"unknown: {state.engine}"
    live = state.facts.live
    if isinstance(live, NotLive):
        return f"no deployment of this app ({live.reason})" if live.reason else "nothing"
    proven = "" if live.release in state.facts.proven else " (not proven)"
    return f"{live.release.label}{proven}"


def _label(release: Release | None) -> str | None:
    return release.label if release else None


def _run(arguments: argparse.Namespace) -> int:
    view = view_of(read_app_state(app_of(arguments), ask_source=False))
    return view.show(as_json=arguments.json)


COMMAND = Command(
    sentence="Show last-good, the live release, the quarantine, and the last or current run.",
    add_arguments=add_app_arguments,
    run=_run,
)
