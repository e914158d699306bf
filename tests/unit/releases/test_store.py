"""Releases are stored whole, addressed by content, and checked again before each use."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from runner.platforms.process.binaries import Binaries
from runner.platforms.process.releases import BinaryPackaging
from runner.reconcile.errors import DeployError
from runner.reconcile.model import LatestUnknown, Release
from runner.releases.sources import DirectorySource, GitSource
from runner.releases.store import EMPTY, Store, identify
from runner.storage.paths import StateDir

MakeRelease = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path) -> DirectorySource:
    (tmp_path / "source").mkdir()
    return DirectorySource(tmp_path / "source")


@pytest.fixture
def store(state: StateDir, source: DirectorySource) -> Store:
    return Store(state.releases, BinaryPackaging(Binaries(state.binaries, 60.0)), source)


def binary(store: Store, release: Release) -> Path:
    assert isinstance(store.packaging, BinaryPackaging)
    return store.packaging.binary(store.manifest(release.digest))


def binaries(store: Store) -> Path:
    assert isinstance(store.packaging, BinaryPackaging)
    return store.packaging.binaries.directory


def latest(store: Store) -> Release:
    found = store.latest()
    assert isinstance(found, Release), found
    return found


def refusal(store: Store) -> str:
    """Ask for the latest release, which can't be had; nothing may be left of the try."""
    found = store.latest()
    assert isinstance(found, LatestUnknown)
    assert [] == entries(store)
    assert isinstance(identify(store.source, store.packaging)[0], LatestUnknown)
    return found.reason


def entries(store: Store) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir())


def damage(store: Store, release: Release) -> Path:
    """Find the files of a release, to change them."""
    return store.files(release.digest)


def unfit(store: Store, release: Release, *, deep: bool = True) -> str:
    with pytest.raises(DeployError) as caught:
        store.check(release, deep=deep)
    return caught.value.message


# Taking in ---------------------------------------------------------------------------------------


def test_the_newest_release_is_taken_in_whole(store: Store, make_release: MakeRelease) -> None:
    """Its files, its binary and its manifest are in the store, under its digest."""
    make_release("3.3.0+v3.4.0")
    place = make_release("3.4.0+v3.5.1", binary=b"program")
    release = latest(store)
    assert ("3.4.0+v3.5.1", "3.5.1") == (release.label, release.version)
    assert [release.digest] == entries(store)
    files = store.files(release.digest)
    assert (place / "traefik.yml").read_bytes() == (files / "traefik.yml").read_bytes()
    assert "http: {}\n" == (files / "dynamic" / "routes.yml").read_text()
    assert b"program" == binary(store, release).read_bytes()
    assert os.access(binary(store, release), os.X_OK)
    store.check(release, deep=True)
    store.check(release, deep=False)


def test_a_source_without_releases_is_reported(store: Store) -> None:
    """Nothing to deploy is an answer."""
    assert LatestUnknown(EMPTY) == store.latest()
    assert (LatestUnknown(EMPTY), ()) == identify(store.source, store.packaging)


def test_a_source_out_of_reach_is_reported(store: Store, source: DirectorySource) -> None:
    """A run goes on without knowing the latest release, and reports why."""
    source.path.rmdir()
    found = store.latest()
    assert isinstance(found, LatestUnknown)
    assert "can't be listed: No such file" in found.reason
    assert (found, ()) == identify(store.source, store.packaging)


def test_the_same_content_is_the_same_release(store: Store, make_release: MakeRelease) -> None:
    """Taking it in again changes nothing, and the digest is no matter of time or place."""
    make_release("1.0")
    first = latest(store)
    inode = store.files(first.digest).stat().st_ino
    assert first == latest(store)
    assert inode == store.files(first.digest).stat().st_ino
    assert [first.digest] == entries(store)


def test_a_release_is_the_same_from_git_and_from_a_directory(
    store: Store, make_release: MakeRelease, need: Callable[[str], str], tmp_path: Path
) -> None:
    """What counts is the content, not the way that it came."""
    place = make_release("1.0")
    git = [need("git"), "-C", str(place), "-c", "user.name=t", "-c", "user.email=t@t.invalid"]
    from_directory = latest(store)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "1.0"], ["tag", "1.0"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    from_git = evolve(store, source=GitSource(str(place), tmp_path / "source.git", 60.0))
    assert from_directory == latest(from_git)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a byte": lambda p: (p / "traefik.yml").write_text("# 1.1\n"),
    "a byte below": lambda p: (p / "dynamic" / "routes.yml").write_text("http: { }\n"),
    "a name": lambda p: (p / "dynamic" / "routes.yml").rename(p / "dynamic" / "other.yml"),
    "a place": lambda p: (p / "dynamic" / "routes.yml").rename(p / "routes.yml"),
    "one more": lambda p: (p / "dynamic" / "more.yml").touch(),
    "a hidden one more": lambda p: (p / ".hidden").touch(),
    "one less": lambda p: (p / "dynamic" / "routes.yml").unlink(),
    "the version": lambda p: (p / "release.toml").write_text(
        (p / "release.toml").read_text().replace("3.5.1", "3.5.2")
    ),
    "the label": lambda p: p.rename(p.with_name("1.0.0")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_makes_another_release(
    store: Store, make_release: MakeRelease, change: str
) -> None:
    """A digest covers every byte, every name and the label: a moved tag is another release."""
    place = make_release("1.0")
    before = latest(store)
    CHANGES[change](place)
    after = latest(store)
    assert before.digest != after.digest
    assert sorted([before.digest, after.digest]) == entries(store)
    store.check(before, deep=True)


def test_another_binary_makes_another_release(store: Store, make_release: MakeRelease) -> None:
    """The program is part of what is deployed."""
    place = make_release("1.0", binary=b"one")
    one = latest(store)
    shutil.rmtree(place)
    make_release("1.0", binary=b"two")
    two = latest(store)
    assert one.digest != two.digest
    assert (b"one", b"two") == (
        binary(store, one).read_bytes(),
        binary(store, two).read_bytes(),
    )


# Refusing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["link", "dynamic/link", "release.toml", "traefik.yml", "dir"])
def test_a_symbolic_link_is_refused(
    store: Store, make_release: MakeRelease, tmp_path: Path, place: str
) -> None:
    """What a link points to is not covered by any digest."""
    link = make_release("1.0") / place
    target = tmp_path / "target"
    if link.exists():
        link.rename(target)
    elif place == "dir":
        target.mkdir()
    else:
        target.touch()
    link.symlink_to(target)
    assert f"{link.name} is not a regular file: refused" == refusal(store)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_special_file_is_refused(
    store: Store, make_release: MakeRelease, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A pipe or a socket is nothing that can be deployed, or waited for."""
    place = make_release("1.0")
    if kind == "pipe":
        os.mkfifo(place / "it")
    else:
        monkeypatch.chdir(place)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("it")
    assert "1.0 can't be copied: " in refusal(store)


def test_a_link_with_an_odd_name_is_refused_in_printable_words(
    store: Store, make_release: MakeRelease
) -> None:
    """The reason goes into the journal, so it must be text."""
    (make_release("1.0") / os.fsdecode(b"caf\xe9")).symlink_to("x")
    refusal(store).encode("utf-8")


SHA = "0" * 64


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("", "version: missing; expected a value"),
        ("version = ", "release.toml: Invalid value"),
        ('version = "\udcff"', "release.toml: "),
        ("version = 3", "version = 3: expected "),
        ('version = ""', "version = '': expected "),
        (
            'version = "1"\ncolour = "red"',
            "colour = 'red': expected no such key; the keys here are",
        ),
        ('version = "1"', "expected either wheel_sha256, or binary and binary_sha256"),
        ('version = "1"\nbinary = "/b"', "expected either wheel_sha256, or binary and"),
        (f'version = "1"\nbinary_sha256 = "{SHA}"', "expected either wheel_sha256, or binary and"),
        (
            f'version = "1"\nwheel_sha256 = "{SHA}"\nbinary = "/b"\nbinary_sha256 = "{SHA}"',
            "expected either wheel_sha256, or binary and binary_sha256",
        ),
        ('version = "1"\nwheel_sha256 = "abc"', "wheel_sha256 = 'abc': expected a SHA-256 of 64"),
        ('version = "1"\nwheel_sha256 = 5', "wheel_sha256 = 5: expected a SHA-256 of 64"),
        (
            f'version = "1"\nbinary = "/a\\u0000b"\nbinary_sha256 = "{SHA}"',
            "binary = '/a\\x00b': expected ",
        ),
        ("version = " + "[" * 2000, "release.toml: "),
        ("version = " + "1" * 5000, "release.toml: "),
    ],
    ids=[
        *("empty", "no TOML", "no UTF-8", "number", "empty version", "unknown key", "no origin"),
        *("no hash", "no binary", "two origins", "short hash", "number for a hash"),
        *("NUL in the path", "deep", "long number"),
    ],
)
def test_a_bad_release_toml_is_refused_with_its_mistakes(
    store: Store, make_release: MakeRelease, toml: str, expected: str
) -> None:
    """Whoever tagged the release learns what to change, and a run is not disturbed."""
    place = make_release("1.0")
    (place / "release.toml").write_text(toml, errors="surrogateescape")
    reason = refusal(store)
    assert reason.startswith("1.0: release.toml: ")
    assert expected in reason


@pytest.mark.parametrize(
    "version",
    [
        "3.5.1\\n--index-url http://127.0.0.1:9/",
        f"3.5.1 --hash=sha256:{SHA}",
        "3.*",
        "3.5.1 ; python_version > '3'",
        "../3.5.1",
        "-3",
    ],
)
def test_a_version_that_is_more_than_a_version_is_refused(
    store: Store, make_release: MakeRelease, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """It becomes a line of a requirements file, where more than a version would be an option."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    place = make_release("1.0")
    (place / "release.toml").write_text(f'version = "{version}"\nwheel_sha256 = "{SHA}"\n')
    reason = refusal(store)
    assert "version = " in reason
    assert "can't be fetched" not in reason


@pytest.mark.parametrize("wrong", ["missing", "pipe", "directory"])
def test_a_reason_names_the_file_as_the_release_has_it(
    store: Store, make_release: MakeRelease, wrong: str
) -> None:
    """The draft is gone: its path would only mislead."""
    toml = make_release("1.0") / "release.toml"
    toml.unlink()
    if wrong == "pipe":
        os.mkfifo(toml)
    if wrong == "directory":
        toml.mkdir()
    reason = refusal(store)
    assert "release.toml" in reason
    assert ".new-" not in reason
    assert reason == refusal(store)


@pytest.mark.parametrize("name", ["release.toml", "traefik.yml"])
@pytest.mark.parametrize("instead", ["nothing", "directory"])
def test_an_incomplete_release_is_refused(
    store: Store, make_release: MakeRelease, name: str, instead: str
) -> None:
    """Without either file there is nothing to start."""
    place = make_release("1.0")
    (place / name).unlink()
    if instead == "directory":
        (place / name).mkdir()
    reason = refusal(store)
    assert reason.startswith("1.0")
    assert name in reason


def test_the_next_older_release_is_not_taken_instead(
    store: Store, make_release: MakeRelease
) -> None:
    """A broken latest release is unknown, not silently replaced: an operator should see it."""
    make_release("1.0")
    (make_release("1.1") / "traefik.yml").unlink()
    assert "1.1 has no traefik.yml" == refusal(store)


@pytest.mark.parametrize("wrong", ["hash", "gone"])
def test_a_binary_that_is_not_what_was_promised_keeps_the_release_out(
    store: Store, make_release: MakeRelease, tmp_path: Path, wrong: str
) -> None:
    """A release is in the store only with all that deploying it needs."""
    make_release("1.0", binary=b"program")
    (program,) = (tmp_path / "programs").iterdir()
    if wrong == "hash":
        program.write_bytes(b"another")
    else:
        program.unlink()
    found = store.latest()
    assert isinstance(found, LatestUnknown)
    expected = hashlib.sha256(b"another").hexdigest() if wrong == "hash" else "can't be read"
    assert expected in found.reason
    assert [] == entries(store)
    assert [] == list(binaries(store).iterdir())


def test_a_full_disk_makes_the_latest_release_unknown_and_leaves_nothing(
    store: Store,
    make_release: MakeRelease,
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Wherever the space runs out, the run goes on with what it has."""
    place = make_release("1.0", binary=b"x")
    largest = max(path.stat().st_size for path in place.rglob("*") if path.is_file())
    for limit in (0, 5, largest, largest + 1):
        done = run_python(
            "import resource, sys; from pathlib import Path\n"
            "from runner.platforms.process.binaries import Binaries\n"
            "from runner.platforms.process.releases import BinaryPackaging\n"
            "from runner.releases.sources import DirectorySource\n"
            "from runner.releases.store import Store\n"
            "place, source = map(Path, sys.argv[1:3])\n"
            "binaries = Binaries(place / 'binaries', 9.0)\n"
            "packaging, source = BinaryPackaging(binaries), DirectorySource(source)\n"
            "store = Store(place / 'releases', packaging, source)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
            "print(type(store.latest()).__name__)\n",
            store.directory.parent,
            place.parent,
            str(limit),
            limited=True,
        )
        assert ("LatestUnknown\n", "") == (done.stdout, done.stderr), limit
        assert [] == entries(store)


# Looking again -----------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("change", [name for name in CHANGES if name != "the label"])
def test_a_change_in_the_store_is_found(
    store: Store,
    make_release: MakeRelease,
    change: str,
    deep: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Changed, missing and extra files are all found before a deployment and before a commit."""
    make_release("1.0")
    release = latest(store)
    CHANGES[change](damage(store, release))
    assert "1.0 has changed since it was stored" == unfit(store, release, deep=deep)


@pytest.mark.parametrize("deep", [True, False])
def test_a_link_or_a_missing_directory_in_the_store_is_found(
    store: Store,
    make_release: MakeRelease,
    deep: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Files that were exchanged for something else are no release."""
    make_release("1.0")
    release = latest(store)
    files = damage(store, release)
    (files / "traefik.yml").rename(files.parent / "moved.yml")
    (files / "traefik.yml").symlink_to("../moved.yml")
    assert "1.0 can't be read from the store: " in unfit(store, release, deep=deep)
    shutil.rmtree(files)
    assert "1.0" in unfit(store, release, deep=deep)


def test_a_changed_binary_is_found_by_the_deep_check_only(
    store: Store, make_release: MakeRelease
) -> None:
    """Reading 185 MB is for the moment before a deployment; a commit has just seen it run."""
    make_release("1.0", binary=b"program")
    release = latest(store)
    binary(store, release).write_bytes(b"pr0gram")
    assert "has changed since it was stored" in unfit(store, release)
    store.check(release, deep=False)


@pytest.mark.parametrize("deep", [True, False])
def test_a_missing_binary_is_found_by_either_check(
    store: Store,
    make_release: MakeRelease,
    deep: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A release without its program can't be fallen back on."""
    make_release("1.0")
    release = latest(store)
    binary(store, release).unlink()
    assert "binary" in unfit(store, release, deep=deep)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "null", "[]", "5", '"text"', "{}", '{"files": {}}', '{"binary": 5}', "\udcff"),
        *("[" * 2000, '{"files": null, "binary": null, "label": null, "version": null}'),
    ],
    ids=[
        *("empty", "half", "null", "list", "number", "text", "no keys", "no binary", "no files"),
        *("no UTF-8", "deep", "nulls"),
    ],
)
def test_a_damaged_manifest_makes_the_release_unfit(
    store: Store, make_release: MakeRelease, content: str
) -> None:
    """Whatever stands there, the release can't be deployed, and that is all."""
    make_release("1.0")
    release = latest(store)
    manifest = store.directory / release.digest / "manifest.json"
    manifest.write_text(content, errors="surrogateescape")
    unfit(store, release)
    unfit(store, release, deep=False)
    with pytest.raises(DeployError):
        binary(store, release)


@pytest.mark.parametrize("key", ["label", "version", "parts"])
def test_a_changed_manifest_is_found(store: Store, make_release: MakeRelease, key: str) -> None:
    """The digest covers the manifest itself: another binary can't be slipped in by name."""
    make_release("1.0", binary=b"one")
    release = latest(store)
    make_release("1.1", binary=b"two")
    other = latest(store)
    manifest = store.directory / release.digest / "manifest.json"
    data = json.loads(manifest.read_text())
    data[key] = json.loads((store.directory / other.digest / "manifest.json").read_text())[key]
    if key == "version":
        data[key] = "9.9.9"
    manifest.write_text(json.dumps(data))
    assert "1.0 has changed since it was stored" in unfit(store, release)


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "the label"])
def test_a_damaged_release_is_mended_where_the_source_still_has_it(
    store: Store, make_release: MakeRelease, change: str
) -> None:
    """A bad disk must not put a good release into quarantine: it is stored again."""
    make_release("1.0")
    release = latest(store)
    CHANGES[change](damage(store, release))
    unfit(store, release)
    assert release == latest(store)
    store.check(release, deep=True)


def test_a_damaged_binary_is_mended_where_the_source_still_has_it(
    store: Store, make_release: MakeRelease
) -> None:
    """The same for the program, whether it is changed or gone."""
    make_release("1.0", binary=b"program")
    release = latest(store)
    binary(store, release).unlink()
    assert release == latest(store)
    store.check(release, deep=True)


def test_a_release_that_is_not_here_is_unfit(store: Store) -> None:
    """A journal that names more than the store has gets an answer."""
    release = Release("1.0", "1.0", "f" * 64)
    assert f"release {'f' * 12} is not in the store: " in unfit(store, release)
    with pytest.raises(DeployError):
        binary(store, release)


# Keeping -----------------------------------------------------------------------------------------


def test_pruning_keeps_what_is_asked_and_its_binaries(
    store: Store, make_release: MakeRelease
) -> None:
    """Kept releases stay deployable; the others go, with the binaries that only they needed."""
    kept: list[Release] = []
    for text, binary in (("1.0", b"shared"), ("1.1", b"only mine"), ("1.2", b"shared")):
        make_release(text, binary=binary)
        kept.append(latest(store))
    old, middle, new = kept
    store.prune(frozenset({new.digest, "f" * 64}))
    assert [new.digest] == entries(store)
    store.check(new, deep=True)
    assert 1 == len(list(binaries(store).iterdir()))
    assert old.digest != middle.digest
    store.prune(frozenset())
    assert [] == entries(store)
    assert [] == list(binaries(store).iterdir())


def test_pruning_removes_leftovers_and_unknown_entries(
    store: Store, make_release: MakeRelease
) -> None:
    """Drafts and stray files go, and don't stop the rest from being cleaned up."""
    make_release("1.0")
    release = latest(store)
    (store.directory / ".new-abc" / "entry").mkdir(parents=True)
    (store.directory / "stray").write_text("a file")
    (binaries(store) / "file-0").mkdir()
    store.prune(frozenset({release.digest}))
    assert [release.digest] == entries(store)
    assert 1 == len(list(binaries(store).iterdir()))


def test_pruning_spares_the_binaries_where_a_kept_release_cannot_say_which_it_needs(
    store: Store, make_release: MakeRelease
) -> None:
    """A damaged manifest is reported, and parts that it may need for a rollback stay."""
    make_release("1.0", binary=b"one")
    kept = latest(store)
    make_release("1.1", binary=b"two")
    gone = latest(store)
    (store.directory / kept.digest / "manifest.json").write_text("{}")
    with pytest.raises(DeployError, match=r"the manifest of release \w+ is damaged"):
        store.prune(frozenset({kept.digest}))
    assert [kept.digest] == entries(store)
    assert kept.digest != gone.digest
    assert 2 == len(list(binaries(store).iterdir()))


@pytest.mark.parametrize("name", ["manifest.json", "files/traefik.yml", "files", "."])
@pytest.mark.parametrize("instead", ["nothing", "file", "link"])
def test_a_damaged_release_is_taken_in_again(
    store: Store, make_release: MakeRelease, tmp_path: Path, name: str, instead: str
) -> None:
    """As long as the source still offers it, no hand is needed to mend the store."""
    make_release("1.0")
    release = latest(store)
    place = store.directory / release.digest / name
    shutil.move(place, tmp_path / "moved")
    if instead == "file":
        place.write_text("damaged")
    if instead == "link":
        place.symlink_to(tmp_path / "moved")
    assert release == latest(store)
    store.check(release, deep=True)
    assert [release.digest] == entries(store)


def test_pruning_a_store_that_was_never_used_makes_nothing(store: Store) -> None:
    """Housekeeping leaves no trace."""
    store.prune(frozenset())
    assert not store.directory.exists()
    assert not binaries(store).exists()


# Looking without taking in -----------------------------------------------------------------------


def test_identifying_touches_nothing(store: Store, make_release: MakeRelease) -> None:
    """``plan`` names the very release that a run would take in, and takes nothing in."""
    for text in ("1.0", "1.1"):
        make_release(text)
    found, labels = identify(store.source, store.packaging)
    assert ["1.1", "1.0"] == [each.text for each in labels]
    assert not store.directory.exists()
    assert not binaries(store).exists()
    assert latest(store) == found


def test_identifying_a_broken_release_still_lists_the_others(
    store: Store, make_release: MakeRelease
) -> None:
    """The labels are known even where the latest release is not."""
    make_release("1.0")
    (make_release("1.1") / "traefik.yml").unlink()
    found, labels = identify(store.source, store.packaging)
    assert LatestUnknown("1.1 has no traefik.yml") == found
    assert ["1.1", "1.0"] == [each.text for each in labels]


@given(
    files=st.dictionaries(
        st.sampled_from(["a", "b", "dynamic/a", "dynamic/b", "dynamic/c/d"]), st.binary(max_size=3)
    ),
    others=st.dictionaries(
        st.sampled_from(["a", "b", "dynamic/a", "dynamic/b", "dynamic/c/d"]), st.binary(max_size=3)
    ),
)
def test_releases_are_equal_exactly_if_their_files_are(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], others: dict[str, bytes]
) -> None:
    """No two different trees share a digest, and no tree has two."""
    place = tmp_path_factory.getbasetemp() / "trees"
    digests: list[str] = []
    for tree in (files, others):
        shutil.rmtree(place, ignore_errors=True)
        (place / "1.0").mkdir(parents=True)
        (place / "1.0" / "traefik.yml").touch()
        (place / "1.0" / "release.toml").write_text(f'version = "1"\nwheel_sha256 = "{SHA}"\n')
        for name, content in tree.items():
            (place / "1.0" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "1.0" / name).write_bytes(content)
        found, _ = identify(DirectorySource(place), BinaryPackaging(Binaries(place / "none", 1.0)))
        assert isinstance(found, Release)
        digests.append(found.digest)
    assert (files == others) == (digests[0] == digests[1])
