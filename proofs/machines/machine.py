"""The Protocol of a machine (nspawn or QEMU), and the states of its units from ``systemctl``."""

from contextlib import AbstractContextManager
from typing import Final, Protocol

from attrs import frozen
from swarm.network import Load, Reply

PROPERTIES: Final = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainStatus",
    "ExecMainStartTimestampMonotonic",
    "ExecMainExitTimestampMonotonic",
    "InactiveExitTimestampMonotonic",
    "ActiveEnterTimestampMonotonic",
    "InactiveEnterTimestampMonotonic",
    "TimeoutStartUSec",
)
MICROSECONDS: Final = 1e6
RUN_LIMIT: Final = 300.0
"""Seconds for a command that only reads."""


class ProofError(Exception):
    """The proof could not be made: the machine failed, not the claim."""


@frozen
class Done:
    """A command that a machine ran, with its exit status and output."""

    command: tuple[str, ...]
    code: int
    out: str
    log: str

    def check(self) -> str:
        """Return the output.

        Raises:
            ProofError: the command failed.
        """
        if self.code != 0:
            raise ProofError(f"{' '.join(self.command)}: status {self.code}: {self.log[-800:]}")
        return self.out


class Machine(Protocol):
    """One machine. Between two boots it keeps only its disk."""

    slowness: float
    """Factor for time limits: 1 on a real processor."""

    def boot(self) -> None:
        """Switch the machine on, and return as soon as its systemd answers.

        Raises:
            ProofError: systemd does not answer.
        """
        ...

    def run(self, *command: str, timeout: float = RUN_LIMIT) -> Done:
        """Run a command in it; ``timeout`` in seconds.

        Raises:
            ProofError: the command did not end within the timeout.
        """
        ...

    def get(self, url: str, *, host: str | None = None, timeout: float = 2.0) -> Reply | None:
        """Request a URL once, from inside, on its loopback; None if there is no answer."""
        ...

    def load(
        self, url: str, *, host: str | None = None, pause: float = ...
    ) -> AbstractContextManager[Load]:
        """Request a URL repeatedly and count the answers; ``pause`` in seconds."""
        ...

    def power_off(self) -> None:
        """Shut it down cleanly."""
        ...

    def cut_power(self) -> None:
        """Kill everything in it at once."""
        ...


@frozen
class UnitState:
    """The state of a unit in systemd. Times are seconds since its manager started; None: never."""

    name: str
    load: str
    active: str
    sub: str
    result: str
    status: int
    """Exit status of its main process."""
    left_inactive: float | None
    became_active: float | None
    became_inactive: float | None
    main_began: float | None
    main_ended: float | None
    start_timeout: str

    @property
    def state(self) -> str:
        if self.load == "not-found":
            return "not-found"
        return f"{self.active}/{self.result}" if self.active == "failed" else self.active

    @property
    def settled(self) -> float | None:
        """When its first start had ended, successfully or not."""
        return self.became_active if self.became_active is not None else self.became_inactive

    @property
    def took(self) -> float | None:
        if self.left_inactive is None or self.settled is None:
            return None
        return self.settled - self.left_inactive


def manager_start(machine: Machine) -> float:
    """Read when this boot's systemd began, in seconds of the monotonic clock."""
    shown = machine.run("systemctl", "show", "--property=UserspaceTimestampMonotonic").check()
    return int(shown.partition("=")[2]) / MICROSECONDS


def seconds_up(machine: Machine) -> float:
    """Read how long ago this boot's systemd began."""
    uptime = machine.run("cat", "/proc/uptime").check()
    return float(uptime.split()[0]) - manager_start(machine)


def unit_states(machine: Machine, *names: str) -> dict[str, UnitState]:
    """Query systemd for the states of units; return them by name."""
    zero = manager_start(machine)
    shown = machine.run("systemctl", "show", f"--property={','.join(PROPERTIES)}", *names).check()
    found = [_read_state(block, zero) for block in shown.strip().split("\n\n")]
    return {state.name: state for state in found}


def _read_state(block: str, zero: float) -> UnitState:
    shown = dict(line.split("=", 1) for line in block.splitlines())

    def when(name: str) -> float | None:
        moment = int(shown.get(f"{name}TimestampMonotonic") or 0)
        return moment / MICROSECONDS - zero if moment else None

    return UnitState(
        name=shown["Id"],
        load=shown["LoadState"],
        active=shown["ActiveState"],
        sub=shown["SubState"],
        result=shown.get("Result", ""),
        status=int(shown.get("ExecMainStatus", 0)),
        left_inactive=when("InactiveExit"),
        became_active=when("ActiveEnter"),
        became_inactive=when("InactiveEnter"),
        main_began=when("ExecMainStart"),
        main_ended=when("ExecMainExit"),
        start_timeout=shown.get("TimeoutStartUSec", ""),
    )
