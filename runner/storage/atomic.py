"""Atomic, fsynced directory entries: ``put``, ``prune``, ``remove``."""

import contextlib
import os
import shutil
from pathlib import Path


def put(draft: Path, dest: Path) -> None:
    """Move ``draft`` to ``dest`` durably: fsync it, rename it, fsync the directory.

    Both are on one file system. An existing ``dest`` is deleted first: callers only replace an
    entry that is damaged.

    Raises:
        OSError: a file can't be synced, or ``dest`` can't be written.
    """
    for path in [draft, *draft.rglob("*")]:
        _sync(path)
    remove(dest)
    draft.rename(dest)
    _sync(dest.parent)


def prune(directory: Path, keep: frozenset[str]) -> None:
    """Remove every entry whose name is not in ``keep``, drafts of killed runs included."""
    if directory.exists():
        for entry in directory.iterdir():
            if entry.name not in keep:
                remove(entry)


def remove(entry: Path) -> None:
    """Remove a file, a link or a directory tree, as far as possible; errors are ignored."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            entry.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
