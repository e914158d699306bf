"""Copies a directory of unit files so that systemd can load all of it, and lists its units."""

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
"""The instance name given to a template, so that its order is loaded even without instances."""


def is_unit_name(name: str) -> bool:
    """Return whether a unit file may have this name; devices and scopes have no files."""
    return _UNIT.fullmatch(name) is not None


def copy_units(source: Path, into: Path) -> None:
    """Copy unit files, drop-ins and links.

    Links into ``source`` are changed to point into the copy: systemd takes a link out of its search
    path not as an alias, but as another unit.

    Raises:
        OSError: a file can't be read or written.
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
    # One step only: if the target is a link, too, it is redirected by itself.
    leads = Path(os.path.normpath(here / link.readlink()))
    return leads.name if leads.parent in {here, here.resolve()} else str(leads)


def list_units(copied: Path, also: Iterable[str] = ()) -> frozenset[str]:
    """List the units of a copy and those in ``also``; a template as an instance ``any``.

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
