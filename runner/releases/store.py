"""The releases of an app, kept whole and content-addressed: what a rollback deploys, offline.

::

    releases/DIGEST/manifest.json      what the digest is made of
    releases/DIGEST/files/             as the source had them
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import frozen

from runner.reconcile.durable import prune, put
from runner.reconcile.errors import DeployError, SourceUnreachableError
from runner.reconcile.vocabulary import LatestUnknown, Release
from runner.releases.binaries import Binaries
from runner.releases.contents import Manifest, Origin, describe, hash_files, read_manifest
from runner.releases.source import Source
from runner.releases.versions import Label

MANIFEST: Final = "manifest.json"
FILES: Final = "files"
EMPTY: Final = "the source offers no release"


@frozen
class Store:
    """The kept releases of one app."""

    directory: Path
    binaries: Binaries
    source: Source

    def files(self, digest: str) -> Path:
        return self.directory / digest / FILES

    def binary(self, digest: str) -> Path:
        return self.binaries.path(self._manifest(digest).binary)

    def latest(self) -> Release | LatestUnknown:
        """Take in the newest release of the source; say why if that can't be done."""
        return _newest(self.source, self.stage)[0]

    def stage(self, label: Label) -> Release:
        """Take a release in; its digest covers the label, every file and the binary.

        Raises:
            SourceUnreachableError: it is incomplete, or a part of it can't be had.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".new-") as scratch:
            draft = Path(scratch) / "entry"
            manifest, origin = _fetch(label, self.source, draft / FILES)
            self.binaries.ensure(origin)
            if not self._is_whole(manifest.release):
                (draft / MANIFEST).write_text(manifest.to_json())
                put(draft, self.directory / manifest.digest)
        return manifest.release

    def check(self, release: Release, *, deep: bool) -> None:
        """Make sure that the release can be deployed: all is here, and as it was.

        ``deep`` reads the binary, too: about 0.3 s for 185 MB.

        Raises:
            DeployError: something is gone or has changed.
        """
        manifest = self._manifest(release.digest)
        try:
            found = hash_files(self.files(release.digest))
        except (OSError, SourceUnreachableError) as error:
            raise DeployError(f"{release.label} can't be read from the store: {error}") from error
        if found != manifest.files or manifest.release != release:
            raise DeployError(f"{release.label} has changed in the store since it was taken in")
        if deep:
            self.binaries.check(manifest.binary)
        elif not self.binaries.has(manifest.binary):
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
        prune(self.directory, keep)
        kept = [digest for digest in keep if (self.directory / digest).exists()]
        self.binaries.prune(frozenset(self._manifest(digest).binary for digest in kept))

    def _manifest(self, digest: str) -> Manifest:
        return read_manifest(self.directory / digest / MANIFEST)


def identify(source: Source) -> tuple[Release | LatestUnknown, tuple[Label, ...]]:
    """Name the newest release of ``source`` and all its labels, without taking anything in."""

    def look(label: Label) -> Release:
        with tempfile.TemporaryDirectory() as scratch:
            return _fetch(label, source, Path(scratch) / FILES)[0].release

    return _newest(source, look)


def _newest(
    source: Source, obtain: Callable[[Label], Release]
) -> tuple[Release | LatestUnknown, tuple[Label, ...]]:
    """Obtain the newest release, or say why that can't be done."""
    labels: tuple[Label, ...] = ()
    try:
        labels = tuple(source.labels())
        return obtain(labels[0]) if labels else LatestUnknown(EMPTY), labels
    except SourceUnreachableError as error:
        return LatestUnknown(error.message), labels
    except OSError as error:
        return LatestUnknown(f"it can't be taken in: {error.strerror or error}"), labels


def _fetch(label: Label, source: Source, files: Path) -> tuple[Manifest, Origin]:
    files.mkdir(parents=True)
    source.fetch(label, files)
    return describe(label.text, files)
