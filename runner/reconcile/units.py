"""What systemd says of a unit, through systemctl: it needs no D-Bus and no library."""

import asyncio
import os
from typing import IO, Final

from attrs import evolve

from runner.reconcile.model import Answer, ProbeResult
from runner.reconcile.questions import UnitActive
from runner.reconcile.replies import BODY_CAP, printable, result
from runner.subprocesses import systemctl_environment

STATES: Final = frozenset(
    {"active", "activating", "deactivating", "failed", "inactive", "maintenance", "refreshing"}
    | {"reloading"}
)
"""ActiveState= as systemd(1) knows it."""


async def ask_active(question: UnitActive) -> ProbeResult:
    """Ask whether the target unit is active; whoever calls bounds the time."""
    command = ("systemctl", "show", "--property=ActiveState", "--value", "--", question.target_unit)
    # Files, not pipes: a child of systemctl that keeps a pipe open would outlast any timeout.
    with _open_memory() as out, _open_memory() as err:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=systemctl_environment(),
            )
        except OSError as error:
            why = f"systemctl: {error.strerror}"
            return result(question, Answer.INCONCLUSIVE, why)
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        state, complaint = (_read_back(file) for file in (out, err))
    if status != 0 or state not in STATES:
        return result(
            question, Answer.INCONCLUSIVE, f"systemctl: {complaint or state or 'no answer'}"
        )
    answer = Answer.PASS if state == "active" else Answer.FAIL
    return evolve(result(question, answer, f"the unit is {state}"), terminal=state == "failed")


def _open_memory() -> IO[bytes]:
    return open(os.memfd_create("systemctl"), "w+b")  # noqa: PTH123 - there is no path


def _read_back(file: IO[bytes]) -> str:
    file.seek(0)
    return printable(file.read(BODY_CAP).decode("utf-8", "replace").strip())
