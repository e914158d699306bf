"""Where releases come from: a directory of them, or the tags of a git repository."""

import os
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Protocol

from attrs import frozen

from runner.reconcile.errors import SourceUnreachableError
from runner.releases.versions import Label, ordered


class Source(Protocol):
    """Names releases and hands out their files."""

    def labels(self) -> list[Label]:
        """List the releases, newest first.

        Raises:
            SourceUnreachableError: they can't be known now.
        """
        ...

    def fetch(self, label: Label, into: Path) -> None:
        """Put the files of one release into the existing, empty directory ``into``.

        Raises:
            SourceUnreachableError: they can't be had now.
        """
        ...


@frozen
class DirectorySource:
    """Every directory in ``path`` that is named by a version is a release."""

    path: Path
    prereleases: bool = False

    def labels(self) -> list[Label]:
        try:
            names = [entry.name for entry in self.path.iterdir() if entry.is_dir()]
        except OSError as error:
            raise SourceUnreachableError(
                f"the releases in {self.path} can't be listed: {error.strerror}"
            ) from error
        return ordered(names, prereleases=self.prereleases)

    def fetch(self, label: Label, into: Path) -> None:
        try:
            shutil.copytree(self.path / label.text, into, dirs_exist_ok=True, symlinks=True)
        except (OSError, shutil.Error) as error:
            raise SourceUnreachableError(f"{label.text} can't be copied: {error}") from error


@frozen
class GitSource:
    """Every version tag of the repository ``url`` is a release. Keeps a mirror beside the app."""

    url: str
    mirror: Path
    timeout: float
    """Seconds for one git command."""
    prereleases: bool = False

    def labels(self) -> list[Label]:
        if not self.mirror.exists():
            self._git("init", "--quiet", "--bare", "--", str(self.mirror), inside=False)
        self._git(
            "fetch", "--quiet", "--prune", "--force", "--", self.url, "refs/tags/*:refs/tags/*"
        )
        tags = self._git("for-each-ref", "--format=%(refname:strip=2)", "refs/tags").decode()
        return ordered(tags.split(), prereleases=self.prereleases)

    def fetch(self, label: Label, into: Path) -> None:
        archive = self._git("archive", "--format=tar", f"refs/tags/{label.text}")
        try:
            with tarfile.open(fileobj=BytesIO(archive)) as tar:
                tar.extractall(into, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise SourceUnreachableError(f"{label.text} can't be unpacked: {error}") from error

    def _git(self, *arguments: str, inside: bool = True) -> bytes:
        command = ["git", *(("-C", str(self.mirror)) if inside else ()), *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - no shell; the URL stands behind --
                command,
                check=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=self.timeout,
                env=_git_environment(),
            )
        except subprocess.CalledProcessError as error:
            complaint = error.stderr.decode("utf-8", "replace").strip()
            raise SourceUnreachableError(f"`{' '.join(command)}` failed: {complaint}") from error
        except subprocess.TimeoutExpired as error:
            raise SourceUnreachableError(
                f"`{' '.join(command)}` took more than {self.timeout:g} s"
            ) from error
        except OSError as error:
            raise SourceUnreachableError(f"git can't be run: {error.strerror}") from error
        return done.stdout


def _git_environment() -> dict[str, str]:
    """Never let git ask a question: nobody is there to answer at 3 a.m."""
    return {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C"}
