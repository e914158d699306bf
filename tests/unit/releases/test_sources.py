"""Releases come from a directory or from the tags of a repository, or the reason why not."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import os
import socket
import stat
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from servers import ThreadedServer
from typing_extensions import override

from runner.exit_codes import ExitCode
from runner.reconcile.errors import SourceUnreachableError
from runner.releases.sources import DirectorySource, GitSource, Source
from runner.releases.versions import Label

TIMEOUT = 120.0

Git = Callable[..., str]


@pytest.fixture
def git(need: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Git:
    """Run git in a directory, without any configuration: ``git(repository, "tag", "1.0")``."""
    program = need("git")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    who = ["-c", "user.name=t", "-c", "user.email=t@t.invalid", "-c", "init.defaultBranch=main"]

    def run(place: Path, *arguments: str | bytes) -> str:
        command = [program, "-C", str(place), *who, *arguments]
        done = subprocess.run(command, check=True, capture_output=True)
        return done.stdout.decode("utf-8", "replace").strip()

    return run


@pytest.fixture
def repository(tmp_path: Path, git: Git) -> Path:
    """Make a repository with the releases 1.0.0 and 1.1.0."""
    place = tmp_path / "upstream"
    place.mkdir()
    git(place, "init", "--quiet")
    for label in ("1.0.0", "1.1.0"):
        release(git, place, label, f"# {label}\n")
    return place


def release(git: Git, place: Path, label: str, content: str, *, force: bool = False) -> None:
    (place / "dynamic").mkdir(exist_ok=True)
    (place / "traefik.yml").write_text(content)
    (place / "dynamic" / "routes.yml").write_text("http: {}\n")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--allow-empty", "-m", label)
    git(place, "tag", *(["--force"] if force else []), label)


@pytest.fixture
def source(tmp_path: Path, repository: Path) -> GitSource:
    return GitSource(str(repository), tmp_path / "source.git", TIMEOUT)


def texts(source: Source) -> list[str]:
    return [label.text for label in source.labels()]


def newest(source: Source) -> Label:
    return source.labels()[0]


def fetched(source: Source, label: Label, into: Path) -> dict[str, str]:
    """Fetch a release and read all of its files."""
    into.mkdir()
    source.fetch(label, into)
    return {
        str(path.relative_to(into)): path.read_text() for path in into.rglob("*") if path.is_file()
    }


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(SourceUnreachableError) as caught:
        call()
    assert ExitCode.UNDECIDED == caught.value.exit_code
    return caught.value.message


# A directory -------------------------------------------------------------------------------------


def test_the_directories_named_by_a_version_are_the_releases(tmp_path: Path) -> None:
    """Files, other names and links to nowhere are no releases; the newest goes first."""
    for name in ("1.9", "1.10", "2.0rc1", "latest", ".git", "1.0+v2 x"):
        (tmp_path / name).mkdir()
    (tmp_path / "3.0").write_text("a file")
    (tmp_path / "4.0").symlink_to(tmp_path / "nowhere")
    assert ["1.10", "1.9"] == texts(DirectorySource(tmp_path))
    assert ["2.0rc1", "1.10", "1.9"] == texts(DirectorySource(tmp_path, prereleases=True))


def test_an_empty_directory_offers_nothing(tmp_path: Path) -> None:
    """No release is an answer, not a failure."""
    assert [] == texts(DirectorySource(tmp_path))


@pytest.mark.parametrize("kind", ["missing", "file", "forbidden"])
def test_a_directory_that_cannot_be_listed_is_out_of_reach(tmp_path: Path, kind: str) -> None:
    """A mount that is not there is no empty directory: the releases are unknown."""
    place = tmp_path / "releases"
    if kind == "file":
        place.touch()
    if kind == "forbidden":
        place.mkdir(mode=0o000)
        if os.access(place, os.R_OK):
            place = Path("/proc/self/task/0/fd")  # root may list all but what is not there
    assert f"the releases in {place} can't be listed: " in refusal(DirectorySource(place).labels)


def test_a_release_is_copied_with_all_it_holds(tmp_path: Path) -> None:
    """Files, directories and links arrive as what they are; the store judges them."""
    (tmp_path / "source" / "1.0" / "dynamic").mkdir(parents=True)
    (tmp_path / "source" / "1.0" / "dynamic" / "a.yml").write_text("a")
    (tmp_path / "source" / "1.0" / "link").symlink_to("dynamic/a.yml")
    source = DirectorySource(tmp_path / "source")
    fetched(source, newest(source), tmp_path / "into")
    assert "a" == (tmp_path / "into" / "dynamic" / "a.yml").read_text()
    assert (tmp_path / "into" / "link").is_symlink()


def test_a_release_that_vanishes_or_holds_a_pipe_is_out_of_reach(tmp_path: Path) -> None:
    """The error has the release's name; a pipe must not be waited for."""
    source = DirectorySource(tmp_path / "source")
    (tmp_path / "source" / "1.0").mkdir(parents=True)
    label = newest(source)
    os.mkfifo(tmp_path / "source" / "1.0" / "pipe")
    assert "1.0 can't be copied: " in refusal(lambda: fetched(source, label, tmp_path / "a"))
    (tmp_path / "source" / "1.0" / "pipe").unlink()
    (tmp_path / "source" / "1.0").rmdir()
    assert "1.0 can't be copied: " in refusal(lambda: fetched(source, label, tmp_path / "b"))


def test_a_release_that_was_read_only_can_be_removed_again(tmp_path: Path) -> None:
    """A Nix store holds nothing that may be written; what is copied from there may be."""
    place = tmp_path / "source" / "1.0" / "dynamic"
    place.mkdir(parents=True)
    for directory in (place, place.parent):
        directory.chmod(0o555)
    source = DirectorySource(tmp_path / "source")
    fetched(source, newest(source), tmp_path / "into")
    for directory in (tmp_path / "into", tmp_path / "into" / "dynamic"):
        assert 0o700 == stat.S_IMODE(directory.stat().st_mode) & 0o700
    for directory in (place.parent, place):
        directory.chmod(0o755)


# A repository ------------------------------------------------------------------------------------


def test_the_version_tags_are_the_releases(source: GitSource, repository: Path, git: Git) -> None:
    """Other tags, branches and prereleases are none; the newest goes first."""
    for tag in ("latest", "2.0.0-rc.1", "stable/9.9", "1.0.10+v3.10"):
        git(repository, "tag", tag)
    git(repository, "branch", "3.0.0")
    assert ["1.1.0", "1.0.10+v3.10", "1.0.0"] == texts(source)
    candidates = GitSource(source.url, source.mirror, TIMEOUT, prereleases=True)
    assert "2.0.0-rc.1" == newest(candidates).text


def test_a_release_is_the_tree_of_its_tag(
    source: GitSource, repository: Path, tmp_path: Path
) -> None:
    """The tagged commit is fetched, wherever the branch is now."""
    (repository / "traefik.yml").write_text("# work in progress\n")
    (label, older) = source.labels()
    assert {"traefik.yml": "# 1.1.0\n", "dynamic/routes.yml": "http: {}\n"} == fetched(
        source, label, tmp_path / "a"
    )
    assert "# 1.0.0\n" == fetched(source, older, tmp_path / "b")["traefik.yml"]


def test_an_annotated_tag_is_a_release_too(
    source: GitSource, repository: Path, git: Git, tmp_path: Path
) -> None:
    """Recipes are tagged with a message; that changes nothing."""
    git(repository, "tag", "--annotate", "-m", "release", "1.2.0")
    assert "1.2.0" == newest(source).text
    assert "# 1.1.0\n" == fetched(source, newest(source), tmp_path / "a")["traefik.yml"]


def test_a_moved_tag_is_seen(source: GitSource, repository: Path, git: Git, tmp_path: Path) -> None:
    """Upstream may have corrected a release: the new content is fetched."""
    before = fetched(source, newest(source), tmp_path / "a")
    release(git, repository, "1.1.0", "# corrected\n", force=True)
    after = fetched(source, newest(source), tmp_path / "b")
    assert ("# 1.1.0\n", "# corrected\n") == (before["traefik.yml"], after["traefik.yml"])


def test_a_tag_that_was_taken_back_is_gone(source: GitSource, repository: Path, git: Git) -> None:
    """A release that upstream withdrew is not offered from the mirror."""
    assert "1.1.0" == newest(source).text
    git(repository, "tag", "--delete", "1.1.0")
    assert ["1.0.0"] == texts(source)


def test_a_tag_that_is_not_utf8_is_ignored(source: GitSource, repository: Path, git: Git) -> None:
    """Somebody's odd tag is no release; the others still are."""
    git(repository, "tag", b"caf\xe9")
    assert ["1.1.0", "1.0.0"] == texts(source)


def test_an_odd_space_in_a_tag_makes_no_two_tags_of_it(
    source: GitSource, repository: Path, git: Git
) -> None:
    """What Unicode calls a space is a letter for git: `x 9.0` is one tag, and no version."""
    git(repository, "tag", "x\u30009.0")
    assert ["1.1.0", "1.0.0"] == texts(source)


def test_a_password_in_the_url_is_not_reported(tmp_path: Path, git: Git) -> None:
    """The reason goes into the journal and onto the console."""
    del git
    source = GitSource("http://t:secret@127.0.0.1:9/x", tmp_path / "source.git", TIMEOUT)
    assert "secret" not in refusal(source.labels)


def test_a_tag_of_no_tree_is_out_of_reach(
    source: GitSource, repository: Path, git: Git, tmp_path: Path
) -> None:
    """A tag can point to a file; that is no release."""
    git(repository, "tag", "9.0.0", git(repository, "rev-parse", "HEAD:traefik.yml"))
    label = newest(source)
    assert "9.0.0" == label.text
    assert "failed: " in refusal(lambda: fetched(source, label, tmp_path / "a"))


def test_a_link_that_leads_out_of_the_release_is_refused(
    source: GitSource, repository: Path, git: Git, tmp_path: Path
) -> None:
    """An archive can't write or point outside of where it is unpacked."""
    (repository / "evil").symlink_to("/etc")
    release(git, repository, "2.0.0", "# evil\n")
    label = newest(source)
    told = refusal(lambda: fetched(source, label, tmp_path / "a"))
    assert "2.0.0 can't be unpacked: evil is not a regular file" in told
    assert not (tmp_path / "a" / "evil").exists()


@pytest.mark.parametrize("url", ["{}/missing", "file://{}/missing", "http://127.0.0.1:9/x", "--x"])
def test_a_repository_that_cannot_be_reached_is_unknown(tmp_path: Path, url: str, git: Git) -> None:
    """Wherever the fault is, the answer is git's own complaint, and nothing is cached as truth."""
    del git
    source = GitSource(url.format(tmp_path), tmp_path / "source.git", TIMEOUT)
    message = refusal(source.labels)
    assert "failed: " in message
    assert "fatal: " in message


def test_a_mirror_does_not_hide_that_upstream_is_gone(source: GitSource, repository: Path) -> None:
    """The latest release can't be known from yesterday's tags."""
    assert "1.1.0" == newest(source).text
    repository.rename(repository.with_name("moved"))
    assert "failed: " in refusal(source.labels)


def test_what_was_listed_can_be_fetched_without_upstream(
    source: GitSource, repository: Path, tmp_path: Path
) -> None:
    """Listing brings the content with it."""
    label = newest(source)
    repository.rename(repository.with_name("moved"))
    assert "# 1.1.0\n" == fetched(source, label, tmp_path / "a")["traefik.yml"]


def test_a_host_without_git_is_reported(
    source: GitSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing program is no traceback."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git can't be run: No such file or directory" == refusal(source.labels)


def test_git_never_prompts(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there to answer at 3 a.m.: the probe fails at once."""
    del git
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "git").write_text('#!/bin/sh\necho "$GIT_TERMINAL_PROMPT $GIT_ASKPASS" >&2\nexit 1\n')
    (bin_ / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    source = GitSource("x", tmp_path / "source.git", TIMEOUT)
    assert refusal(source.labels).endswith("failed: 0 true")


# The mirror --------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["nothing", "half of one"])
def test_a_mirror_that_a_killed_run_left_half_made_is_completed(
    source: GitSource, content: str
) -> None:
    """SIGKILL during the first `git init` must not keep every later run from its releases."""
    source.mirror.mkdir()
    if content == "half of one":
        (source.mirror / "refs").mkdir()
    assert ["1.1.0", "1.0.0"] == texts(source)


FORMATS = ("sha1", "sha256")


def format_of(git: Git, repository: Path) -> str:
    return git(repository, "rev-parse", "--show-object-format")


@pytest.mark.parametrize("preferred", FORMATS)
@pytest.mark.parametrize("remote", FORMATS)
def test_a_mirror_has_the_object_format_of_its_remote(
    tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch, remote: str, preferred: str
) -> None:
    """Whatever the caller prefers for new repositories, by its configuration or environment."""
    place = tmp_path / "upstream"
    place.mkdir()
    git(place, "init", "--quiet", f"--object-format={remote}")
    source = GitSource(str(place), tmp_path / "source.git", TIMEOUT)
    config = tmp_path / "gitconfig"
    config.write_text(f"[init]\n\tdefaultObjectFormat = {preferred}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DEFAULT_HASH", preferred)
    assert [] == texts(source)
    release(git, place, "1.0.0", "# 1.0.0\n")
    assert ["1.0.0"] == texts(source)
    assert remote == format_of(git, source.mirror)
    assert "# 1.0.0\n" == fetched(source, newest(source), tmp_path / "a")["traefik.yml"]


@pytest.mark.parametrize("before", FORMATS)
def test_a_mirror_of_another_object_format_is_made_anew(
    source: GitSource, repository: Path, git: Git, before: str
) -> None:
    """It was made by an older version of this program, or the remote has changed its format."""
    git(repository.parent, "init", "--quiet", "--bare", f"--object-format={before}", "source.git")
    assert ["1.1.0", "1.0.0"] == texts(source)
    assert "sha1" == format_of(git, source.mirror)


@pytest.mark.parametrize("name", ["packed-refs.lock", "config.lock", "refs/tags/1.2.0.lock"])
def test_a_lock_that_a_killed_git_left_behind_is_no_obstacle(
    source: GitSource, repository: Path, git: Git, name: str
) -> None:
    """Only one run is at work here: a lock file in the mirror is stale."""
    texts(source)
    git(source.mirror, "pack-refs", "--all")
    release(git, repository, "1.2.0", "# new\n")
    git(repository, "tag", "--delete", "1.0.0")
    (source.mirror / name).touch()
    assert ["1.2.0", "1.1.0"] == texts(source)


@pytest.mark.parametrize("name", ["HEAD", "config", "packed-refs"])
def test_a_mirror_that_a_power_cut_damaged_is_made_anew(
    source: GitSource, git: Git, name: str
) -> None:
    """It is a copy: what can't be used is replaced, and nothing of the repair stays behind."""
    texts(source)
    git(source.mirror, "pack-refs", "--all")
    (source.mirror / name).write_bytes(b"\0" * 100)
    assert ["1.1.0", "1.0.0"] == texts(source)
    assert [] == list(source.mirror.parent.glob("source.git?*"))


def test_files_that_a_power_cut_emptied_in_the_mirror_are_fetched_again(
    source: GitSource, tmp_path: Path
) -> None:
    """What git had not yet written to the disk is empty afterwards, under its right name."""
    texts(source)
    for path in (source.mirror / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"")
    assert "# 1.1.0\n" == fetched(source, newest(source), tmp_path / "a")["traefik.yml"]


def test_a_mirror_outlives_an_upstream_that_is_away(source: GitSource, repository: Path) -> None:
    """It is replaced only by one that is whole: the next fetch brings only what is new."""
    texts(source)
    inode = source.mirror.stat().st_ino
    moved = repository.rename(repository.with_name("moved"))
    refusal(source.labels)
    moved.rename(repository)
    assert ["1.1.0", "1.0.0"] == texts(source)
    assert inode == source.mirror.stat().st_ino


def test_a_mirror_that_cannot_be_made_is_reported(repository: Path, tmp_path: Path) -> None:
    """A state directory that is gone is trouble with a name."""
    source = GitSource(str(repository), tmp_path / "missing" / "source.git", TIMEOUT)
    assert "can't be made: No such file or directory" in refusal(source.labels)


def make_victim(git: Git, place: Path) -> Path:
    """Make a repository that is none of our business, with a tag of its own."""
    place.mkdir(exist_ok=True)
    git(place, "init", "--quiet")
    git(place, "commit", "--quiet", "--allow-empty", "-m", "theirs")
    git(place, "tag", "their-tag")
    return place


def test_a_repository_around_the_state_directory_is_left_alone(
    repository: Path, git: Git, tmp_path: Path
) -> None:
    """A half-made mirror inside a checkout must not make git fetch into, and prune, that one."""
    victim = make_victim(git, tmp_path / "checkout")
    mirror = victim / "state" / "source.git"
    mirror.mkdir(parents=True)
    try:
        GitSource(str(repository), mirror, TIMEOUT).labels()
    finally:
        assert "their-tag" == git(victim, "tag", "--list")


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"])
def test_a_repository_named_by_the_environment_is_left_alone(
    source: GitSource, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Called from a git hook, the run still talks about its own mirror."""
    victim = make_victim(git, tmp_path / "victim")
    value = victim / ".git" / ("objects" if "OBJECT" in name else "")
    with monkeypatch.context() as environment:
        environment.setenv(name, str(value))
        found = texts(source)
    assert "their-tag" == git(victim, "tag", "--list")
    assert ["1.1.0", "1.0.0"] == found
    assert ["1.1.0", "1.0.0"] == texts(source)


def test_a_mirror_is_closed_to_others(source: GitSource) -> None:
    """A user who can write the mirror chooses what is deployed: it is private under any umask."""
    before = os.umask(0o002)
    try:
        source.labels()
    finally:
        os.umask(before)
    assert 0 == stat.S_IMODE(source.mirror.stat().st_mode) & 0o022


# Time --------------------------------------------------------------------------------------------


class Silent(ThreadedServer):
    """Accepts connections and sends nothing."""

    def __init__(self) -> None:
        super().__init__(socket.create_server(("127.0.0.1", 0)))
        self.port: int = self._listener.getsockname()[1]
        self.ended = 0

    @override
    def serve(self, connection: socket.socket) -> None:
        try:
            while connection.recv(4096):
                pass
        finally:
            self.ended += 1


@pytest.fixture
def silent() -> Generator[Silent]:
    made = Silent()
    yield made
    made.close()


@pytest.mark.parametrize("scheme", ["git", "http"])
def test_a_silent_repository_ends_at_the_timeout(
    tmp_path: Path,
    git: Git,
    silent: Silent,
    scheme: str,
    enough: Callable[[Callable[[float], bool]], None],
    until: Callable[[Callable[[], bool]], None],
) -> None:
    """After the timeout nothing of git is left waiting, helpers included."""
    del git
    url = f"{scheme}://127.0.0.1:{silent.port}/x"

    def has_connected(seconds: float) -> bool:
        message = refusal(GitSource(url, tmp_path / "source.git", seconds).labels)
        assert f"took more than {seconds:g} s" in message
        return silent.connections > 0

    enough(has_connected)
    until(lambda: silent.ended == silent.connections)
