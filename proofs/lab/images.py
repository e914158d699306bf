"""Images made here, as archives for ``docker load``: one layer, no base, nothing pulled."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from swarm.images import PATH, TRAEFIK

APPLETS: Final = (
    "sh",
    "cat",
    "sleep",
    "kill",
    "httpd",
    "grep",
    "printf",
    "mkdir",
    "dirname",
    "true",
)
CREATED: Final = "2024-01-01T00:00:00Z"


def traefik_archive(archive: Path, tag: str, traefik: Path, busybox: Path) -> None:
    """Write an image that runs Traefik as the official one does."""
    config: dict[str, object] = {"Entrypoint": [f"/{TRAEFIK}"], "ExposedPorts": {"80/tcp": {}}}
    _write(archive, tag, {TRAEFIK: traefik, "bin/busybox": busybox}, config)


def shell_archive(archive: Path, tag: str, busybox: Path) -> None:
    """Write an image that has a shell and a small HTTP server."""
    _write(archive, tag, {"bin/busybox": busybox}, {})


def _write(
    archive: Path, tag: str, files: Mapping[str, Path], config: Mapping[str, object]
) -> None:
    layer = _layer(files)
    digest = hashlib.sha256(layer).hexdigest()
    image = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": {"Env": [f"PATH={PATH}"], **config},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": CREATED}],
        }
    ).encode()
    name = f"{hashlib.sha256(image).hexdigest()}.json"
    entry = {"Config": name, "RepoTags": [tag], "Layers": [f"{digest}/layer.tar"]}
    with tarfile.open(archive, "w") as out:
        for member, data in (
            (f"{digest}/layer.tar", layer),
            (name, image),
            ("manifest.json", json.dumps([entry]).encode()),
        ):
            _add(out, member, data)


def _layer(files: Mapping[str, Path]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as layer:
        for name, path in files.items():
            _add(layer, name, path.read_bytes())
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type = tarfile.SYMTYPE
            link.linkname = "busybox"
            layer.addfile(link)
        place = tarfile.TarInfo("tmp")
        place.type = tarfile.DIRTYPE
        place.mode = 0o1777
        layer.addfile(place)
    return packed.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o755
    archive.addfile(member, io.BytesIO(data))
