"""Stores the releases of an app, addressed by content, so that a rollback works offline.

::

    releases/DIGEST/manifest.json      the manifest, whose hash is DIGEST
    releases/DIGEST/sealed             it is proven, and all its parts are stored
    releases/DIGEST/files/             the files of the source, or what was rendered from them
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
    """How one kind of platform describes a release, and obtains and stores its parts."""

    def describe(self, label: str, files: Path) -> Manifest:
        """Return the manifest; leave in ``files`` what is to be stored. Fetches no part.

        Raises:
            SourceUnreachableError: the files are not a release, or incomplete.
        """
        ...

    def obtain(self, manifest: Manifest, files: Path) -> None:
        """Make sure that every part is on this host.

        Raises:
            SourceUnreachableError: one can't be fetched.
        """
        ...

    def check(self, manifest: Manifest, *, deep: bool) -> None:
        """Make sure that the parts are on this host; ``deep`` also verifies their content.

        Raises:
            DeployError: one is missing or has changed.
        """
        ...

    def keep(self, manifest: Manifest) -> None:
        """Keep copies of the parts that another program could remove.

        Raises:
            DeployError: that failed.
        """
        ...

    def prune(self, kept: Iterable[Manifest]) -> None:
        """Remove the parts that none of these needs."""
        ...


@frozen
class Store:
    """The stored releases of one app."""

    directory: Path
    packaging: Packaging
    source: Source

    def files(self, digest: str) -> Path:
        return self.directory / digest / FILES

    def manifest(self, digest: str) -> Manifest:
        """Read the manifest of a stored release.

        Raises:
            DeployError: it is missing or damaged.
        """
        return read_manifest(self.directory / digest / MANIFEST)

    def latest(self) -> Release | LatestUnknown:
        """Store the newest release of the source; return the reason if that fails."""
        return _newest(self.source, self.stage)[0]

    def stage(self, label: Label) -> Release:
        """Store a release; its digest covers the label, every file and every part.

        Raises:
            SourceUnreachableError: it is incomplete, or a part can't be fetched.
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
        """Make sure that the release can be deployed: nothing is missing or has changed.

        ``deep`` verifies the content of its parts, too: about 0.3 s for a binary of 185 MB.

        Raises:
            DeployError: something is missing or has changed.
        """
        manifest = self.manifest(release.digest)
        try:
            found = hash_files(self.files(release.digest))
        except (OSError, SourceUnreachableError) as error:
            raise DeployError(f"{release.label} can't be read from the store: {error}") from error
        if found != manifest.files or manifest.release != release:
            raise DeployError(f"{release.label} has changed since it was stored")
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
        """Return whether the release is proven, and all its parts are stored."""
        return self._sealed(digest).exists()

    def _sealed(self, digest: str) -> Path:
        return self.directory / digest / SEALED

    def _is_whole(self, release: Release) -> bool:
        """Return whether a release is stored undamaged; if not, it is stored again."""
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
    """Return the newest release of ``source`` and all its labels, without storing anything."""

    def look(label: Label) -> Release:
        with tempfile.TemporaryDirectory() as scratch:
            return _fetch(label, source, packaging, Path(scratch) / FILES).release

    return _newest(source, look)


def _newest(
    source: Source, obtain: Callable[[Label], Release]
) -> tuple[Release | LatestUnknown, tuple[Label, ...]]:
    """Return the newest release, or why it can't be obtained; and the labels."""
    labels: tuple[Label, ...] = ()
    try:
        labels = tuple(source.labels())
        return obtain(labels[0]) if labels else LatestUnknown(EMPTY), labels
    except (SourceUnreachableError, EngineUnreachableError) as error:
        return LatestUnknown(error.message), labels
    except OSError as error:
        return LatestUnknown(f"it can't be stored: {error.strerror or error}"), labels


def _fetch(label: Label, source: Source, packaging: Packaging, files: Path) -> Manifest:
    files.mkdir(parents=True)
    source.fetch(label, files)
    return packaging.describe(label.text, files)
