"""The manifest of a release: hashes of its files, and keys of its parts. Its hash is the digest."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final, cast

from attrs import asdict, frozen

from runner.config.loader import structure
from runner.reconcile.errors import DeployError, SourceUnreachableError
from runner.reconcile.field_types import Name, Text
from runner.reconcile.model import Release
from runner.storage.disk_names import MANIFEST

UNPARSABLE: Final = (ValueError, RecursionError)
"""Exceptions of the parsers of JSON and TOML; for bad UTF-8 and too long numbers ValueError."""


@frozen(kw_only=True)
class Manifest:
    """The identity of a release. Parts are stored apart, as releases may share them."""

    label: Name
    version: Name
    parts: tuple[Text, ...]
    """Needed beside the files: the key of a binary, or pinned images."""
    files: dict[str, str]
    """The SHA-256 of each."""

    def to_json(self) -> str:
        """Serialize in canonical form, from which the digest is made."""
        written = {MANIFEST[name]: value for name, value in asdict(self).items()}
        return json.dumps(written, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def release(self) -> Release:
        return Release(self.label, self.version, self.digest)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a stored release.

    Raises:
        DeployError: it is missing or damaged.
    """
    name = f"release {path.parent.name[:12]}"
    try:
        data: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise DeployError(f"{name} is not in the store: {error.strerror}") from error
    except UNPARSABLE as error:
        raise DeployError(f"the manifest of {name} is damaged: {error}") from error
    manifest, problems = structure(_by_field(data), Manifest)
    if manifest is None:
        raise DeployError(
            f"the manifest of {name} is damaged, or a newer version wrote it: {problems[0]}"
        )
    return manifest


def _by_field(data: Any) -> Any:  # noqa: ANN401 - any JSON
    """Replace the keys of a manifest by the names of its fields."""
    if not isinstance(data, dict):
        return data
    fields = {key: field for field, key in MANIFEST.items()}
    return {fields.get(key, key): value for key, value in cast("dict[str, Any]", data).items()}


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
            raise SourceUnreachableError(f"{shown} is not a regular file: refused")
        if path.is_file():
            hashes[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes
