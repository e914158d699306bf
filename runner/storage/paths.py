"""The paths of an app's state directory, and checks of their owner and mode.

::

    STATE_DIR/
      APP/
        lock                           held by the run, freed by its death
        journal.sqlite3
        releases/DIGEST/               content-addressed
        binaries/HASH/                 content-addressed
        images/HASH/                   content-addressed
        source.git/                    a mirror, if releases come from git
        instances/TOKEN/               one deployment each
"""

import os
import stat
from pathlib import Path

from attrs import frozen

from runner.reconcile.errors import StateError, UsageError
from runner.reconcile.field_types import NAME_RULE, is_safe_name

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@frozen
class StateDir:
    """The paths of one app. Make it with ``open_state`` or ``find_state``."""

    root: Path
    app: str

    @property
    def home(self) -> Path:
        return self.root / self.app

    @property
    def binaries(self) -> Path:
        return self.home / "binaries"

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @property
    def journal(self) -> Path:
        return self.home / "journal.sqlite3"

    @property
    def releases(self) -> Path:
        return self.home / "releases"

    @property
    def mirror(self) -> Path:
        return self.home / "source.git"

    @property
    def instances(self) -> Path:
        return self.home / "instances"

    @property
    def directories(self) -> tuple[Path, ...]:
        """Every directory that may exist, the outer ones first."""
        kept = (self.releases, self.binaries, self.images, self.mirror, self.instances)
        return self.root, self.home, *kept


def find_state(root: Path, app: str) -> StateDir:
    """Return the state directory of ``app``, after checks of those of its paths that exist.

    Raises:
        UsageError: the name is unsafe as a path.
        StateError: a directory is a link, belongs to another user, or is writable by others; or
            the lock or the journal is a link.
    """
    if not is_safe_name(app):
        raise UsageError(f"not an app name: {app!r}", hint=f"allowed: {NAME_RULE}")
    state = StateDir(root, app)
    for directory in state.directories:
        if os.path.lexists(directory):
            _check(directory)
    for file in (state.lock, state.journal):
        if file.is_symlink():
            raise StateError(
                f"{file} is a symbolic link: refused",
                hint="a journal elsewhere can be swapped under a run; move the file here",
            )
    return state


def open_state(root: Path, app: str) -> StateDir:
    """Like ``find_state``, but create the directories that are missing.

    Raises:
        UsageError, StateError: as ``find_state``.
        StateError: a directory can't be made.
    """
    state = find_state(root, app)
    try:
        for directory in (state.root, state.home):
            directory.mkdir(mode=0o700, parents=directory == state.root, exist_ok=True)
            _check(directory)
    except OSError as error:
        raise StateError(
            f"the state directory {root} can't be made: {error.strerror}",
            hint="set state_dir to a place that this user may write; systemd: StateDirectory=",
        ) from error
    return state


def _check(directory: Path) -> None:
    try:
        info = directory.lstat()
        readable = os.access(directory, os.R_OK | os.W_OK | os.X_OK)
    except OSError as error:
        raise StateError(f"{directory}: {error.strerror}") from error
    if not stat.S_ISDIR(info.st_mode):
        raise StateError(
            f"{directory} is not a directory (links are refused)", hint="make it one, or move it"
        )
    if info.st_uid != os.geteuid():
        raise StateError(
            f"{directory} belongs to user {info.st_uid}, not to {os.geteuid()}",
            hint=f"chown it, or run as that user: chown -R {os.geteuid()} {directory}",
        )
    if info.st_mode & _OTHERS_WRITE:
        raise StateError(
            f"{directory} can be written by others (mode {stat.S_IMODE(info.st_mode):04o})",
            hint=f"chmod go-w {directory}",
        )
    if not readable:
        raise StateError(f"{directory} can't be read and written", hint=f"chmod u+rwx {directory}")
