"""Pins the images of releases by digest, and archives them so that a rollback works offline.

::

    images/SHA256/image.tar      the archive (docker image save); SHA256 is the hash of the pin
    images/SHA256/id             its id in Docker
    images/SHA256/sha256         the hash of the archive, to detect damage

A pin is ``name:tag@sha256:DIGEST``, which any node can pull, or, for an image from no registry, its
id ``sha256:ID``.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import frozen

from runner.platforms.swarm.docker_cli import Docker, RefusedError
from runner.platforms.swarm.engine_api import Engine, Json
from runner.reconcile.errors import (
    DeployError,
    EngineUnreachableError,
    NotPreparedError,
    SourceUnreachableError,
)
from runner.storage.atomic import prune, put

ARCHIVE: Final = "image.tar"
ID: Final = "id"
HASH: Final = "sha256"
_PINNED: Final = re.compile(r"(?:.+@)?sha256:[0-9a-f]{64}")
_TAGGED: Final = re.compile(r"(?P<name>.+?)(?::(?P<tag>[^:/]+))?")
_PULL_SHARE: Final = 0.5
"""Share of the time that a pull may take if there is an archive to fall back on."""


@frozen
class Images:
    """The images of one Docker host, and the directory of their archives."""

    directory: Path
    engine: Engine
    docker: Docker
    timeout: float
    """Seconds for one command: a pull, a save or a load."""

    def pin(self, reference: str) -> str:
        """Return the pin of a reference: of the image in Docker, else of that in the registry.

        Raises:
            SourceUnreachableError: neither has it.
            EngineUnreachableError: Docker can't be asked.
        """
        if _PINNED.fullmatch(reference):
            return reference
        name, tag = split(reference)
        local = self.engine.image(f"{name}:{tag}")
        if local is not None:
            digest = _repository_digest(local, name)
            return f"{name}:{tag}@{digest}" if digest is not None else str(local["Id"])
        digest = self.engine.registry_digest(f"{name}:{tag}")
        if digest is None:
            raise SourceUnreachableError(
                f"the image {name}:{tag} is neither in Docker nor available from its registry",
                hint=f"try it by hand: docker pull {name}:{tag}",
            )
        return f"{name}:{tag}@{digest}"

    def obtain(self, pinned: str) -> None:
        """Make sure that Docker has the image: pull it, or load it from the archive.

        A pulled image gets its tag, unless another image has it: so the same release is recognised
        offline. A loaded one gets none: without its digest it would be pinned differently.

        Raises:
            SourceUnreachableError: neither worked.
            EngineUnreachableError: Docker can't be asked.
        """
        try:
            reference, identity = self.usable(pinned)
            tagged, at, _ = reference.partition("@")
            if at and ":" in tagged.rpartition("/")[2] and self.engine.image(tagged) is None:
                self.docker.run("image", "tag", identity, tagged, timeout=self.timeout)
        except (NotPreparedError, RefusedError) as error:
            raise SourceUnreachableError(error.message, hint=error.hint) from error

    def usable(self, pinned: str) -> tuple[str, str]:
        """Make sure that Docker has the image; return the reference for a service, and the id.

        An image from the archive has lost its digest, and is referred to by its id, which another
        node can't pull. So the registry is tried before the archive.

        Raises:
            NotPreparedError: it is neither in Docker nor in a registry nor in the archive.
            EngineUnreachableError: Docker can't be asked.
        """
        identity = self._identity(pinned)
        if identity is not None:
            return pinned, identity
        complaint = self._pull(pinned)
        identity = self._identity(pinned)
        if identity is not None:
            return pinned, identity
        kept = self._kept(pinned)
        if kept is None:
            raise NotPreparedError(
                f"the image {pinned} is neither in Docker nor in the archive: {complaint}"
            )
        if self._identity(kept) is None:
            self._load(pinned)
        if self._identity(kept) is None:
            raise NotPreparedError(f"the archive of {pinned} doesn't contain the image {kept}")
        return kept, kept

    def keep(self, pinned: str) -> None:
        """Archive the image, unless an undamaged archive exists.

        Raises:
            DeployError: that failed.
            EngineUnreachableError: Docker can't be asked.
        """
        if self._kept(pinned) is not None and self._rot(pinned) is None:
            return
        identity = self._identity(pinned) or self._kept(pinned)
        if identity is None:
            raise DeployError(f"the image {pinned} is not in Docker: it can't be archived")
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.directory, prefix=".new-") as scratch:
                draft = Path(scratch) / "entry"
                draft.mkdir()
                archive = draft / ARCHIVE
                self.docker.run(
                    *("image", "save", "--output", str(archive), identity), timeout=self.timeout
                )
                (draft / HASH).write_text(_hash(archive) + "\n")
                (draft / ID).write_text(identity + "\n")
                put(draft, self._entry(pinned))
        except (RefusedError, OSError) as error:
            raise DeployError(f"the image {pinned} can't be archived: {error}") from error

    def has(self, pinned: str) -> bool:
        """Return whether the image is in the archive or in Docker.

        Raises:
            EngineUnreachableError: it is not in the archive, and Docker can't be asked.
        """
        return self._kept(pinned) is not None or self._identity(pinned) is not None

    def check(self, pinned: str, *, deep: bool) -> None:
        """Make sure that the image is available offline; ``deep`` also verifies its archive.

        Raises:
            DeployError: it is missing, or only in an archive that is damaged.
            EngineUnreachableError: it is not in the archive, and Docker can't be asked.
        """
        if not self.has(pinned):
            raise DeployError(f"the image {pinned} is neither in Docker nor in the archive")
        rot = self._rot(pinned) if deep and self._kept(pinned) is not None else None
        if rot is not None and self._identity(pinned) is None:
            raise DeployError(rot)

    def prune(self, keep: Iterable[str]) -> None:
        """Remove the archives of all images but these; images in Docker are left alone."""
        prune(self.directory, frozenset(map(_key, keep)))

    def _entry(self, pinned: str) -> Path:
        return self.directory / _key(pinned)

    def _identity(self, reference: str) -> str | None:
        found = self.engine.image(reference)
        return None if found is None else str(found["Id"])

    def _kept(self, pinned: str) -> str | None:
        """Return the id of an archived image; None if the archive is missing or incomplete."""
        entry = self._entry(pinned)
        try:
            identity = (entry / ID).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        whole = (entry / ARCHIVE).is_file() and (entry / HASH).is_file()
        return identity if whole and _PINNED.fullmatch(identity) else None

    def _rot(self, pinned: str) -> str | None:
        """Verify the hash of an archive; return a description of the damage, or None."""
        entry = self._entry(pinned)
        try:
            promised = (entry / HASH).read_bytes().strip()
            if _hash(entry / ARCHIVE).encode() == promised:
                return None
        except OSError as error:
            return f"the archive of {pinned} can't be read: {error.strerror}"
        return f"the archive of {pinned} has changed since it was stored"

    def _pull(self, pinned: str) -> str:
        """Pull from the registry; return why the image may still be missing."""
        if "@" not in pinned:
            return "no registry has it: it was built or loaded on this host"
        share = 1.0 if self._kept(pinned) is None else _PULL_SHARE
        try:
            self.docker.run("image", "pull", "--quiet", pinned, timeout=self.timeout * share)
        except (RefusedError, EngineUnreachableError) as error:
            return error.message
        return "it was pulled, but Docker doesn't list it"

    def _load(self, pinned: str) -> None:
        rot = self._rot(pinned)
        if rot is not None:
            raise NotPreparedError(rot)
        archive = str(self._entry(pinned) / ARCHIVE)
        try:
            self.docker.run("image", "load", "--quiet", "--input", archive, timeout=self.timeout)
        except RefusedError as error:
            raise NotPreparedError(
                f"the archive of {pinned} can't be loaded: {error.message}"
            ) from error


def split(reference: str) -> tuple[str, str]:
    """Split a reference into name and tag, which is ``latest`` if it has none."""
    match = _TAGGED.fullmatch(reference.partition("@")[0])
    return (match["name"], match["tag"] or "latest") if match else (reference, "latest")


def _key(pinned: str) -> str:
    return hashlib.sha256(pinned.encode()).hexdigest()


def _hash(archive: Path) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _repository_digest(image: Json, name: str) -> str | None:
    """Return the digest of an image in the registry of ``name``; None if it is not from there."""
    listed = sorted(map(str, image.get("RepoDigests") or ()))
    pairs = (each.partition("@") for each in listed)
    return next((digest for known, _, digest in pairs if _plain(known) == _plain(name)), None)


def _plain(name: str) -> str:
    """Shorten a name in Docker Hub: dockerd lists it in the long or in the short form."""
    for prefix in ("index.docker.io/", "docker.io/"):
        name = name.removeprefix(prefix)
    return name.removeprefix("library/")
