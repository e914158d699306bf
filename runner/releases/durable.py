"""Directories that appear whole, and stay after a power cut."""

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
    if dest.exists():
        shutil.rmtree(dest)
    draft.rename(dest)
    _sync(dest.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
