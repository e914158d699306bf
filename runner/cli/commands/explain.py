"""``explain``: print one attempt step by step, with the evidence of each verdict."""

import argparse
from typing import Final

from runner.cli.attempt_text import attempt_data, attempt_line, format_time
from runner.cli.command import Command, app_of
from runner.cli.view import View
from runner.reconcile import events
from runner.reconcile.attempt import Entry, Interrupted
from runner.reconcile.errors import UsageError
from runner.storage.codec import to_data
from runner.storage.history import History, open_history
from runner.storage.paths import find_state
from runner.terminal.options import add_app_arguments, positive
from runner.terminal.text import format_event, format_result

_DEEP: Final = 11 * " "
_EFFECTS = (
    events.Assess,
    events.Verify,
    events.Deploy,
    events.RunGate,
    events.Commit,
    events.ChooseFallback,
)


def view_of(app: str, past: History | None, number: int | None) -> View:
    """Describe one attempt.

    Raises:
        UsageError: there is no such attempt.
    """
    attempts = past.attempts(1) if past and number is None else []
    if past and number is not None:
        attempts = past.attempt(number)
    if not past or not attempts:
        which = f"attempt {number}" if number is not None else "an attempt"
        raise UsageError(f"{app} has no {which}", hint=f"warm-reconcile history {app}")
    attempt = attempts[0]
    story = past.story(attempt.number)
    lines = [attempt_line(attempt)]
    for at, entry in story:
        lines += _entry_lines(at, entry)
    data = {
        **attempt_data(attempt),
        "story": [{"at": at, **to_data(entry)} for at, entry in story],
    }
    return View(data, "\n".join(lines))


def _entry_lines(at: float, entry: Entry) -> list[str]:
    if isinstance(entry, Interrupted):
        how = "was killed" if entry.crashed else "ended undecided"
        return [f"{format_time(at)}  the previous run {how}; this run resumes it"]
    if isinstance(entry, _EFFECTS):
        return []
    lines = [f"{format_time(at)}  {format_event(entry)}"]
    if isinstance(entry, events.Judged):
        lines += [f"{_DEEP}{format_result(result)}" for result in entry.verdict.evidence]
    return lines


def _run(arguments: argparse.Namespace) -> int:
    app = app_of(arguments)
    with open_history(find_state(app.state_root, app.name)) as past:
        view = view_of(app.name, past, arguments.number)
    return view.show(as_json=arguments.json)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_app_arguments(parser)
    parser.add_argument(
        "--number", type=positive, help="number of the attempt, see `history` (default: the last)"
    )


COMMAND = Command(
    sentence="Print one attempt step by step, with the evidence of each verdict.",
    add_arguments=_add_arguments,
    run=_run,
)
