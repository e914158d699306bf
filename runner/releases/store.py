"""The releases of an app, kept whole and content-addressed: what a rollback deploys, offline.

::

    releases/DIGEST/manifest.json      what the digest is made of
    releases/DIGEST/sealed             it was proven, and all that it needs was kept
    releases/DIGEST/files/             as the source had them, or what was rendered of that
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from attrs import frozen

from runner.reconcile.errors import DeployError, EngineUnreachableError, SourceUnreachableError
from runner.reconcile.model import LatestUnknown, Release
from runner.releases.manifest import Manifest, hash_files, read_manifest
from runner.releases.sources import Source
from runner.releases.versions import Label
from runner.storage.atomic import prune, put

MANIFEST: Final = "manifest.json"
FILES: Final = "files"
SEALED: Final = "sealed"
EMPTY: Final = "the source offers no release"


class Packaging(Protocol):
    """What a release is made of in one kind of platform, beside its files."""

    def describe(self, label: str, files: Path) -> Manifest:
        """Say what the release is; leave in ``files`` what is to be kept. Fetches no part.

        Raises:
            SourceUnreachableError: it is no release, or incomplete.
        """
        ...

    def obtain(self, manifest: Manifest, files: Path) -> None:
        """Make sure that every part is here.

        Raises:
            SourceUnreachableError: one can't be had.
        """
        ...

    def check(self, manifest: Manifest, *, deep: bool) -> None:
        """Make sure that the parts are here; ``deep`` also that they are as they were.

        Raises:
            DeployError: one is gone or has changed.
        """
        ...

    def keep(self, manifest: Manifest) -> None:
        """Keep copies of the parts that another program could remove.

        Raises:
            DeployError: that failed.
        """
        ...

    def prune(self, kept: Iterable[Manifest]) -> None:
        """Drop the parts that none of these needs."""
        ...


@frozen
class Store:
    """The kept releases of one app."""

    directory: Path
    packaging: Packaging
    source: Source

    def files(self, digest: str) -> Path:
        return self.directory / digest / FILES

    def manifest(self, digest: str) -> Manifest:
        """Read what a kept release is.

        Raises:
            DeployError: it is gone or damaged.
        """
        return read_manifest(self.directory / digest / MANIFEST)

    def latest(self) -> Release | LatestUnknown:
        """Take in the newest release of the source; say why if that can't be done."""
        return _newest(self.source, self.stage)[0]

    def stage(self, label: Label) -> Release:
        """Take a release in; its digest covers the label, every file and every part.

        Raises:
            SourceUnreachableError: it is incomplete, or a part of it can't be had.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".new-") as scratch:
            draft = Path(scratch) / "entry"
            manifest = _fetch(label, self.source, self.packaging, draft / FILES)
            self.packaging.obtain(manifest, draft / FILES)
            if not self._is_whole(manifest.release):
                (draft / MANIFEST).write_text(manifest.to_json())
                put(draft, self.directory / manifest.digest)
        return manifest.release

    def check(self, release: Release, *, deep: bool) -> None:
        """Make sure that the release can be deployed: all is here, and as it was.

        ``deep`` reads its parts, too: about 0.3 s for a binary of 185 MB.

        Raises:
            DeployError: something is gone or has changed.
        """
        manifest = self.manifest(release.digest)
        try:
            found = hash_files(self.files(release.digest))
        except (OSError, SourceUnreachableError) as error:
            raise DeployError(f"{release.label} can't be read from the store: {error}") from error
        if found != manifest.files or manifest.release != release:
            raise DeployError(f"{release.label} has changed in the store since it was taken in")
        self.packaging.check(manifest, deep=deep)

    def keep(self, release: Release) -> None:
        """Keep copies of the parts that another program could remove, such as images.

        Raises:
            DeployError: that failed.
        """
        self.packaging.keep(self.manifest(release.digest))

    def seal(self, release: Release) -> None:
        """Make sure, once, that the proven release can be deployed again later, offline.

        Raises:
            DeployError: something that it needs is missing, has changed or can't be kept.
        """
        if self.is_sealed(release.digest):
            return
        self.check(release, deep=False)
        self.keep(release)
        try:
            self._sealed(release.digest).touch()
        except OSError as error:
            raise DeployError(f"{release.label} can't be sealed: {error.strerror}") from error

    def is_sealed(self, digest: str) -> bool:
        """Return true if the release was proven, and all that it needs was kept."""
        return self._sealed(digest).exists()

    def _sealed(self, digest: str) -> Path:
        return self.directory / digest / SEALED

    def _is_whole(self, release: Release) -> bool:
        """Say whether a release is here as it should be; if not, taking it in again mends it."""
        try:
            self.check(release, deep=False)
        except DeployError:
            return False
        return True

    def prune(self, keep: frozenset[str]) -> None:
        """Remove the releases that are not in ``keep``, and the parts that only they need."""
        prune(self.directory, keep)
        kept = [digest for digest in keep if (self.directory / digest).exists()]
        self.packaging.prune([self.manifest(digest) for digest in kept])


def identify(
    source: Source, packaging: Packaging
) -> tuple[Release | LatestUnknown, tuple[Label, ...]]:
    """Name the newest release of ``source`` and all its labels, without taking anything in."""

    def look(label: Label) -> Release:
        with tempfile.TemporaryDirectory() as scratch:
            return _fetch(label, source, packaging, Path(scratch) / FILES).release

    return _newest(source, look)


def _newest(
    source: Source, obtain: Callable[[Label], Release]
) -> tuple[Release | LatestUnknown, tuple[Label, ...]]:
    """Obtain the newest release, or say why that can't be done."""
    labels: tuple[Label, ...] = ()
    try:
        labels = tuple(source.labels())
        return obtain(labels[0]) if labels else LatestUnknown(EMPTY), labels
    except (SourceUnreachableError, EngineUnreachableError) as error:
        return LatestUnknown(error.message), labels
    except OSError as error:
        return LatestUnknown(f"it can't be taken in: {error.strerror or error}"), labels


def _fetch(label: Label, source: Source, packaging: Packaging, files: Path) -> Manifest:
    files.mkdir(parents=True)
    source.fetch(label, files)
    return packaging.describe(label.text, files)
