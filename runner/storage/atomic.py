"""Directories whose entries appear whole, stay after a power cut, and go when nobody needs them."""

import contextlib
import os
import shutil
from pathlib import Path


def put(draft: Path, dest: Path) -> None:
    """Make ``dest`` what ``draft`` is, durably; both are on one file system.

    What stands at ``dest`` already is damaged, or nobody would put it again: it goes first.

    Raises:
        OSError: it can't be written.
    """
    for path in [draft, *draft.rglob("*")]:
        _sync(path)
    remove(dest)
    draft.rename(dest)
    _sync(dest.parent)


def prune(directory: Path, keep: frozenset[str]) -> None:
    """Remove every entry but these: what nobody needs any more, and what a killed run left."""
    if directory.exists():
        for entry in directory.iterdir():
            if entry.name not in keep:
                remove(entry)


def remove(entry: Path) -> None:
    """Remove whatever stands there, as far as that can be done."""
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
