"""Images made here, of the real Traefik and a static shell: nothing is pulled."""

import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from swarm.engine import COMMAND_LIMIT, Engine

PATH: Final = "/usr/local/bin:/bin"
TRAEFIK: Final = "usr/local/bin/traefik"
APPLETS: Final = ("sh", "cat", "sleep", "kill", "env", "true", "false", "grep")


def make_image(engine: Engine, tag: str, busybox: Path, traefik: Path | None = None) -> None:
    """Make an image as small as it can be; it runs Traefik as the official one does, or nothing."""
    changes = [f"ENV PATH={PATH}", "EXPOSE 80"]
    files = {"bin/busybox": busybox}
    if traefik is not None:
        changes.append(f'ENTRYPOINT ["/{TRAEFIK}"]')
        files[TRAEFIK] = traefik
    flags = [word for change in changes for word in ("--change", change)]
    with subprocess.Popen(
        ["docker", "import", *flags, "-", tag],
        env=engine.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        with tarfile.open(fileobj=process.stdin, mode="w|") as archive:
            for name, path in files.items():
                archive.add(path.resolve(), name)
            for applet in APPLETS:
                archive.addfile(_link(f"bin/{applet}", "busybox"))
        process.stdin.close()
        assert process.wait(COMMAND_LIMIT) == 0


def make_variant(
    engine: Engine,
    tag: str,
    base: str,
    *,
    files: Mapping[str, bytes] | None = None,
    entrypoint: str = "",
) -> None:
    """Put a layer over an image.

    Args:
        engine: where the image is.
        tag: the name of the new image; that of the base, or of another one, is allowed.
        base: what it is made of.
        files: what to put into it, each executable, by their paths without the first slash.
        entrypoint: a shell script to start instead of Traefik.
    """
    layer = dict(files or {})
    changes: list[str] = []
    if entrypoint:
        layer["entrypoint.sh"] = f"#!/bin/sh\n{entrypoint}\n".encode()
        changes = ["--change", 'ENTRYPOINT ["/entrypoint.sh"]']
    container = engine.docker("create", base)
    try:
        if layer:
            engine.docker("cp", "-", f"{container}:/", given=_pack(layer))
        engine.docker("commit", *changes, container, tag)
    finally:
        engine.docker("rm", container)


def _pack(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.SYMTYPE
    member.linkname = target
    return member
