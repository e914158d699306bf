"""A run that kills itself: ``killed_run.py CONFIG_DIR TRACE EFFECT`` dies at that effect.

As ``traefik/killed_run.py``, but on the platform of the config, and with effects that are fewer and
greater: what one of them leaves behind costs seconds to try. The trace gets a line before each: a
step of the journal, a call of the platform, an entry that is put into the state directory or leaves
it, a ``docker`` command that changes something. Between two lines nothing is changed; so dying
before one is dying after the one above. A command is also left alone *amid*: it goes on by itself.

EFFECT is a line of the trace; with any other text the run is not killed. A second line with the
same text ends in ``, 2``.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

from traefik.killed_run import APP, WRITES, Countdown, CountedJournal, CountedWorld
from typing_extensions import override

from runner import subprocesses
from runner.app import find_app
from runner.platforms.build import SystemClock, make_platform
from runner.platforms.swarm import docker_cli
from runner.preconditions import clear
from runner.reconcile.interfaces import Journal
from runner.reconcile.loop import Policy, Run
from runner.storage.journal import open_journal
from runner.storage.lock import hold
from runner.storage.paths import open_state
from runner.terminal.progress import choose_watcher

READ_ONLY: Final = {"stack config"}
"""Commands that touch nothing."""
DRAFT: Final = "/.new-"
"""In the paths of what is not there yet: how far a draft had come makes no difference."""
LONG: Final = "the first round of a gate"
"""Effects that are followed by other rounds, so that their end is a moment of its own."""


class Effects(Countdown):
    """Writes down each effect before it happens, and dies before the fatal one."""

    def __init__(self, trace: Path, fatal: str, home: Path) -> None:
        self._seen: Counter[str] = Counter()
        super().__init__(trace, fatal, home)

    @override
    def tick(self, name: str) -> None:
        if self.is_fatal(name):
            signal.raise_signal(signal.SIGKILL)

    def is_fatal(self, name: str) -> bool:
        """Write an effect to the trace; return whether to die now."""
        self._seen[name] += 1
        again = f", {self._seen[name]}" if self._seen[name] > 1 else ""
        os.write(self._trace, f"{name}{again}\n".encode())
        return self._fatal == f"{name}{again}"

    @override
    @contextlib.contextmanager
    def around(self, name: str) -> Generator[None]:
        self.tick(f"before {name}")
        yield
        if name == LONG:
            self.tick(f"after {name}")

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float,
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """Stand in for ``subprocesses.run``, where the platform calls it for ``docker``."""
        verb = " ".join(command[1:3])
        if verb not in READ_ONLY:
            what = f"docker {verb}{' of a trial' if '-try-' in command[-1] else ''}"
            self.tick(f"before {what}")
            if self.is_fatal(f"amid {what}"):
                quiet = subprocess.DEVNULL
                subprocess.Popen(
                    command,
                    env=environment,
                    stdin=quiet,
                    stdout=quiet,
                    stderr=quiet,
                    start_new_session=True,
                )
                signal.raise_signal(signal.SIGKILL)
        return subprocesses.run(command, timeout=timeout, environment=environment)

    @override
    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename":
            path = Path(arguments[1])
            self._tell(f"putting an entry into {path.parent.name}", path)
        elif event == "shutil.rmtree":
            path = Path(arguments[0])
            self._tell(f"taking an entry out of {path.parent.name}", path)
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            path = Path(str(arguments[0]))
            if path.name == "sealed":
                self._tell("writing the seal", path)

    def _tell(self, doing: str, path: Path) -> None:
        if str(path).startswith(self._home) and DRAFT not in str(path):
            self.tick(f"before {doing}")


def main(config_dir: Path, trace: Path, fatal: str) -> None:
    tempfile.tempdir = str(trace.parent)  # leftovers of a killed run are removed with the test
    app = find_app(APP, config=None, config_dir=config_dir)
    state = open_state(app.state_root, APP)
    effects = Effects(trace, fatal, state.home)
    probes = clear(app.config.caller, app.config.probes)
    with (
        mock.patch.object(docker_cli, "run", effects.run),
        hold(state.lock),
        make_platform(app.config, state, probes) as wired,
    ):
        journal = open_journal(state, app.config.retention, time.time)
        with contextlib.closing(journal):
            counted: Journal = CountedJournal(journal, effects)
            policy = Policy(app.config.gate, app.config.fallback_depth, forced=False)
            platform = CountedWorld(wired.platform, effects)
            run = Run(counted, platform, policy, SystemClock(), choose_watcher(sys.stderr, APP))
            print(run.to_the_end()[0].value)  # noqa: T201 - read by the test
            effects.tick("after everything")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
