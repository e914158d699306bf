"""What systemd 252 printed: the dump by its loader, the rest in a boot in which units were waiting.

Shortened; and paths of the dump are not where it was made.
"""

from pathlib import Path
from typing import Protocol


class Systemctl(Protocol):
    """Makes ``systemctl`` say something: by command, or by a script for all of it."""

    def __call__(self, *, script: str = "", **texts: str) -> None: ...


def captured(name: str) -> str:
    return (Path(__file__).parent / "unit" / "captured" / name).read_text()
