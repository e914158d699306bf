"""Makes a stopped dockerd come back with leaked ports."""

from pathlib import Path
from typing import Final

SANDBOXES: Final = b"docker/network/v1.0/sandbox/"
ELSEWHERE: Final = b"docker/network/v1.0/sandbOx/"
"""As long, and at the same place in the order of the keys."""


def forget_sandboxes(networks: Path) -> None:
    """Delete the sandboxes of dockerd's containers from its database, but not their endpoints.

    It finds the endpoints when it starts, takes their ports, then removes them as nobody's, and
    never gives the ports back. A cut of the power in the middle of a removal leaves the same.

    Args:
        networks: dockerd's ``network/files/local-kv.db``.
    """
    written = networks.read_bytes()
    assert SANDBOXES in written
    networks.write_bytes(written.replace(SANDBOXES, ELSEWHERE))
