"""Names that become paths: of apps, releases, probes. A name is one safe path component."""

import re
from typing import Final

_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")

RULE: Final = "letters, digits, and . _ + - (not first), at most 128 characters, no '..'"


def is_safe(name: str) -> bool:
    """Say whether the name can be a path component without leading anywhere else."""
    return _SAFE.fullmatch(name) is not None and ".." not in name
