"""Copies a directory of unit files to where systemd can read all of it, and lists its units."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_UNIT: Final = re.compile(
    r"[\w:.\\@-]+\.(automount|mount|path|service|slice|socket|swap|target|timer)", re.ASCII
)
_DROP_INS: Final = ".d"
_LINKS: Final = (".wants", ".requires", ".upholds")
_INSTANCE: Final = "any"
"""Of a template that nobody makes an instance of: its own order is loaded all the same."""


def is_unit_name(name: str) -> bool:
    """Say whether a file of this name is a unit: not a device or a scope, which have no files."""
    return _UNIT.fullmatch(name) is not None


def copy_units(source: Path, into: Path) -> None:
    """Copy unit files, drop-ins and links.

    Links that lead back into ``source`` are made to stay in the copy: a link that leads out of what
    systemd searches is no alias to it, but a unit of its own.

    Raises:
        OSError: something can't be read or written.
    """
    _copy_files(source, into)
    for entry in source.iterdir():
        if entry.suffix in {_DROP_INS, *_LINKS} and entry.is_dir():
            _copy_files(entry, into / entry.name)


def _copy_files(source: Path, into: Path) -> None:
    into.mkdir()
    for entry in source.iterdir():
        place = into / entry.name
        if entry.is_symlink() and not entry.is_dir():
            place.symlink_to(_redirect(entry))
        elif entry.is_file():
            shutil.copyfile(entry, place)


def _redirect(link: Path) -> str:
    here = link.parent
    # Not resolved: where a link leads from there is the next link's affair.
    leads = Path(os.path.normpath(here / link.readlink()))
    return leads.name if leads.parent in {here, here.resolve()} else str(leads)


def list_units(copied: Path, also: Iterable[str] = ()) -> frozenset[str]:
    """List the units of a copy, and ``also`` those named; of a template, an instance of it.

    Raises:
        OSError: the directory can't be read.
    """
    named = filter(is_unit_name, (*_names(copied), *also))
    return frozenset(name.replace("@.", f"@{_INSTANCE}.") for name in named)


def _names(copied: Path) -> Iterator[str]:
    for entry in copied.iterdir():
        if entry.suffix in _LINKS:
            yield from (link.name for link in entry.iterdir())
        elif not entry.is_dir():
            yield entry.name
