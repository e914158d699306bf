"""Formats an attempt as a line of text or as data, for ``history``, ``explain`` and ``status``."""

import time
from typing import Any

from attrs import asdict

from runner.storage.codec import state_to_text
from runner.storage.history import PastAttempt


def attempt_line(attempt: PastAttempt) -> str:
    note = f"  {attempt.note}" if attempt.note else ""
    return (
        f"#{attempt.number:<5} {format_time(attempt.begun)}  {attempt.state.value:<12}"
        f" {attempt.release:<18}{note}".rstrip()
    )


def attempt_data(attempt: PastAttempt) -> dict[str, Any]:
    return {**asdict(attempt), "state": state_to_text(attempt.state)}


def format_time(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
