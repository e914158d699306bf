"""Recorded output of systemd 252: the dump of its loader, the rest in a boot with waiting units.

Shortened; and paths of the dump are not where it was made. ``systemd-VERSION/`` has what Debian's
systemd 252, 257 and 262 printed about the same units, files in ``-utf8`` in a UTF-8 locale and with
colours; shortened to the lines that say something about order. The lists of routers are those of
Traefik 3.7.15, over HTTP as the overlay of the recipe with one site has them; of TCP, from a file.
The services are those that Docker listed at that time, shortened.
"""

from pathlib import Path
from typing import Protocol


class Systemctl(Protocol):
    """Makes ``systemctl`` print texts: by command, or with a script for all of it."""

    def __call__(self, *, script: str = "", **texts: str) -> None: ...


def read_recording(name: str) -> str:
    return (Path(__file__).parent / "recorded" / name).read_text()
