"""Sources of releases: a directory with one folder for each, or the tags of a git repository."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import time
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from attrs import frozen

from runner.reconcile.errors import SourceUnreachableError
from runner.releases.versions import Label, ordered
from runner.storage.atomic import put, remove
from runner.subprocesses import run

GIT_OPTIONS: Final = (
    *("-c", "gc.autoDetach=false"),  # no git process outlives a run
    *("-c", "core.fsync=all"),  # a power cut leaves no tag without its files
)
NOT_INHERITED: Final = frozenset(
    {
        *("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_SHALLOW_FILE"),
        *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH"),
        *("GIT_NAMESPACE", "GIT_GRAFT_FILE", "GIT_REPLACE_REF_BASE", "GIT_PREFIX"),
    }
)
"""Variables in which git passes a hook its repository; those for access, e.g. SSH, are kept."""


class Source(Protocol):
    """Lists releases and copies their files."""

    def labels(self) -> list[Label]:
        """List the releases, newest first.

        Raises:
            SourceUnreachableError: they can't be listed now.
        """
        ...

    def fetch(self, label: Label, into: Path) -> None:
        """Put the files of one release into the existing, empty directory ``into``.

        Raises:
            SourceUnreachableError: they can't be read now.
        """
        ...


@frozen
class DirectorySource:
    """A directory: each subdirectory of ``path`` whose name is a version is a release."""

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
            _make_writable(into)
        except shutil.Error as error:
            reasons = "; ".join(reason for _, _, reason in error.args[0])
            raise SourceUnreachableError(f"{label.text} can't be copied: {reasons}") from error
        except OSError as error:
            raise SourceUnreachableError(
                f"{label.text} can't be copied: {error.strerror}"
            ) from error


def _make_writable(root: Path) -> None:
    """Make directories writable, so that they can be removed: those of a Nix store are not."""
    for directory, _, _ in os.walk(root):
        Path(directory).chmod(0o755)


class GitRefusedError(SourceUnreachableError):
    """A git command failed: upstream may be at fault, or the mirror."""


@frozen
class GitSource:
    """A git repository: each version tag of ``url`` is a release. Keeps a mirror of it.

    Only one run uses the mirror at a time, under the lock of the app.
    """

    url: str
    mirror: Path
    timeout: float
    """Seconds for listing the releases, and for fetching one."""
    prereleases: bool = False

    def labels(self) -> list[Label]:
        deadline = time.monotonic() + self.timeout
        try:
            self._update(self.mirror, deadline)
        except GitRefusedError:
            self._renew(deadline)
        tags = self._git(
            self.mirror, deadline, "for-each-ref", "--format=%(refname:strip=2)", "refs/tags"
        )
        names = [tag.decode("utf-8", "replace") for tag in tags.splitlines()]
        return ordered(names, prereleases=self.prereleases)

    def fetch(self, label: Label, into: Path) -> None:
        deadline = time.monotonic() + self.timeout
        tree = f"refs/tags/{label.text}"
        archive = self._git(self.mirror, deadline, "archive", "--format=tar", tree)
        try:
            _unpack(archive, into)
        except (OSError, tarfile.TarError) as error:
            raise SourceUnreachableError(f"{label.text} can't be unpacked: {error}") from error

    def _update(self, repository: Path, deadline: float) -> None:
        options = ("--quiet", "--prune", "--force")
        self._git(
            repository, deadline, "fetch", *options, "--", self.url, "refs/tags/*:refs/tags/*"
        )

    def _renew(self, deadline: float) -> None:
        """Make a new mirror and replace the old one, which may be missing, incomplete, locked by a
        killed git or damaged by a power cut. If upstream was at fault, the old one stays.
        """
        draft = self.mirror.with_name(f"{self.mirror.name}.new")
        remove(draft)
        try:
            draft.mkdir(mode=0o700)
            self._initialize(draft, deadline)
            self._update(draft, deadline)
            put(draft, self.mirror)
        except OSError as error:
            raise SourceUnreachableError(
                f"the mirror {self.mirror} can't be made: {error.strerror or error}"
            ) from error
        finally:
            remove(draft)

    def _initialize(self, draft: Path, deadline: float) -> None:
        """Make an empty repository in the object format of the remote one.

        Git fetches between equal formats only, and its default depends on the environment. The
        length of a remote hash shows the format; without tags there is nothing to fetch.
        """
        listed = self._git(draft, deadline, "ls-remote", "--quiet", "--tags", "--", self.url)
        is_long = len(listed.partition(b"\t")[0]) == hashlib.sha256().digest_size * 2
        form = f"--object-format={'sha256' if is_long else 'sha1'}"
        self._git(draft, deadline, "init", "--quiet", "--bare", "--template=", form)

    def _git(self, repository: Path, deadline: float, *arguments: str) -> bytes:
        # Explicit: in an incomplete repository git would search the directories above it.
        command = ["git", f"--git-dir={repository}", *GIT_OPTIONS, *arguments]
        try:
            return run(command, timeout=deadline - time.monotonic(), environment=_git_environment())
        except subprocess.CalledProcessError as error:
            complaint = error.stderr.decode("utf-8", "replace").strip()
            # Without the URL: there may be a password in it.
            raise GitRefusedError(f"`git {arguments[0]}` failed: {complaint}") from error
        except subprocess.TimeoutExpired as error:
            raise SourceUnreachableError(
                f"`git {arguments[0]}` took more than {self.timeout:g} s"
            ) from error
        except OSError as error:
            raise SourceUnreachableError(f"git can't be run: {error.strerror}") from error


def _unpack(archive: bytes, into: Path) -> None:
    """Write the files of an archive below ``into``; links and special files are refused.

    Without ``tarfile``'s extraction filters, which need Python 3.11.4: Debian 12 has 3.11.2.
    """
    with tarfile.open(fileobj=BytesIO(archive), mode="r:") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            content = tar.extractfile(member) if member.isfile() else None
            if path.is_absolute() or ".." in path.parts or not (content or member.isdir()):
                raise tarfile.ExtractError(
                    f"{member.name} is not a regular file inside it: refused"
                )
            target = into / path
            (target if content is None else target.parent).mkdir(parents=True, exist_ok=True)
            if content is not None:
                target.write_bytes(content.read())


def _git_environment() -> dict[str, str]:
    """Return the environment for git: without prompts, as runs are not interactive."""
    inherited = {k: v for k, v in os.environ.items() if k not in NOT_INHERITED}
    return {
        **inherited,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_DEFAULT_REF_FORMAT": "files",  # older versions of git can't read reftable
        "LC_ALL": "C",
    }
