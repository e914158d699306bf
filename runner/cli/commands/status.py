"""``status``: show last-good, the live release, the quarantine and the last run."""

import argparse

from runner.cli.app_state import Survey, survey
from runner.cli.attempt_text import attempt_data, attempt_line, format_time
from runner.cli.command import Command, app_of
from runner.cli.view import View
from runner.exit_codes import ExitCode
from runner.reconcile.model import Deployment, NotLive, Release
from runner.terminal.options import add_app_arguments, print_output


def view_of(survey: Survey) -> View:
    facts = survey.facts
    live = facts.live.release if isinstance(facts.live, Deployment) else None
    data = {
        "app": survey.app,
        "last_good": _label(facts.last_good),
        "live": _label(live),
        "live_is_proven": live in facts.proven,
        "proven": [release.label for release in facts.proven],
        "quarantine": [
            {"release": q.release.label, "reason": q.reason, "until": q.until}
            for q in survey.quarantine
        ],
        "running_pid": survey.holder,
        "last_attempt": attempt_data(survey.last) if survey.last else None,
        "engine": survey.engine or "ok",
    }
    lines = [
        survey.app,
        f"  last-good   {_label(facts.last_good) or 'none: no release has passed its gate yet'}",
        f"  live        {_live_text(survey)}",
    ]
    older = [release.label for release in facts.proven[1:]]
    if older:
        lines.append(f"  proven      {', '.join(older)}")
    lines += [
        f"  quarantine  {q.release.label} until {format_time(q.until)}: {q.reason}"
        for q in survey.quarantine
    ]
    if survey.last:
        lines.append(f"  last run    {attempt_line(survey.last)}")
    if survey.holder:
        lines.append(f"  running     process {survey.holder}")
    elif survey.last and survey.last.ended is None:
        lines.append("  interrupted the next run resumes it")
    return View(data, "\n".join(lines))


def _live_text(survey: Survey) -> str:
    if survey.engine:
        return f"unknown: {survey.engine}"
    live = survey.facts.live
    if isinstance(live, NotLive):
        return f"no deployment of this app ({live.reason})" if live.reason else "nothing"
    proven = "" if live.release in survey.facts.proven else " (not proven)"
    return f"{live.release.label}{proven}"


def _label(release: Release | None) -> str | None:
    return release.label if release else None


def _run(arguments: argparse.Namespace) -> int:
    view = view_of(survey(app_of(arguments), ask_source=False))
    print_output(view.data, view.text, as_json=arguments.json)
    return ExitCode.OK


COMMAND = Command(
    sentence="Show last-good, the live release, the quarantine, and the last or current run.",
    add_arguments=add_app_arguments,
    run=_run,
)
