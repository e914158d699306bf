"""Atomic directory entries: the order of fsync and rename, recorded at the system calls."""

import os
from pathlib import Path

import pytest

from runner.storage import atomic


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """Make a tree of two files, one of them in a subdirectory."""
    place = tmp_path / "draft"
    (place / "inner").mkdir(parents=True)
    (place / "inner" / "deep").write_text("deep")
    (place / "file").write_text("new")
    return place


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, bool]]:
    """Record each fsync: its path, and whether the draft had been renamed by then."""
    calls: list[tuple[Path, bool]] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        calls.append(
            (Path(f"/proc/self/fd/{descriptor}").readlink(), not (tmp_path / "draft").exists())
        )
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return calls


def test_all_of_a_draft_is_on_the_disk_before_its_name_and_then_the_name(
    tmp_path: Path, draft: Path, synced: list[tuple[Path, bool]]
) -> None:
    """Contents are synced before the rename, the directory after it: all or nothing is left."""
    dest = tmp_path / "place" / "dest"
    dest.parent.mkdir()
    whole = {draft, *draft.rglob("*")}
    atomic.put(draft, dest)
    assert {path for path, renamed in synced if not renamed} == whole
    assert [path for path, renamed in synced if renamed] == [dest.parent]


@pytest.mark.parametrize("files", ["a file", "a directory"])
def test_a_file_is_put_like_a_directory(
    tmp_path: Path, synced: list[tuple[Path, bool]], files: str
) -> None:
    """A draft may be a single file, or an empty directory."""
    single = tmp_path / "draft"
    single.write_text("x") if files == "a file" else single.mkdir()
    atomic.put(single, tmp_path / "dest")
    assert synced == [(single, False), (tmp_path, True)]


@pytest.mark.parametrize("works", [True, False])
def test_no_file_stays_open(
    tmp_path: Path, draft: Path, monkeypatch: pytest.MonkeyPatch, *, works: bool
) -> None:
    """If fsync fails, ``dest`` is not created."""

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    before = len(list(Path("/proc/self/fd").iterdir()))
    if works:
        atomic.put(draft, tmp_path / "dest")
    else:
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            atomic.put(draft, tmp_path / "dest")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert (tmp_path / "dest").exists() == works


@pytest.mark.parametrize("before", ["nothing", "file", "directory", "link", "dangling link"])
def test_an_existing_entry_is_replaced_whole(tmp_path: Path, draft: Path, before: str) -> None:
    """An old file, link or directory is gone; the target of an old link is untouched."""
    dest, led_to = tmp_path / "dest", tmp_path / "led to"
    led_to.mkdir()
    (led_to / "kept").touch()
    stand(dest, before, led_to)
    atomic.put(draft, dest)
    assert not draft.exists()
    assert sorted(path.relative_to(dest).as_posix() for path in dest.rglob("*")) == [
        *("file", "inner", "inner/deep")
    ]
    assert (dest / "file").read_text() == "new"
    assert (led_to / "kept").exists()


def stand(dest: Path, kind: str, led_to: Path) -> None:
    """Create an old entry at a path."""
    match kind:
        case "file":
            dest.write_text("old")
        case "directory":
            (dest / "old").mkdir(parents=True)
            (dest / "old" / "file").touch()
        case "link":
            dest.symlink_to(led_to)
        case "dangling link":
            dest.symlink_to(led_to / "nowhere")
        case _:
            pass


@pytest.mark.parametrize("kind", ["nothing", "file", "directory", "link", "dangling link"])
def test_remove_deletes_the_entry_and_nothing_else(tmp_path: Path, kind: str) -> None:
    """A link is removed, not its target; a missing entry is no error."""
    entry, led_to = tmp_path / "entry", tmp_path / "led to"
    led_to.mkdir()
    (led_to / "kept").touch()
    stand(entry, kind, led_to)
    atomic.remove(entry)
    assert not os.path.lexists(entry)
    assert (led_to / "kept").exists()


def test_every_entry_goes_but_those_to_keep(tmp_path: Path) -> None:
    """All other entries are removed, drafts and links included; a missing directory is no error."""
    place = tmp_path / "place"
    atomic.prune(place, frozenset({"a"}))
    assert not place.exists()
    for name in ("a", "b", "c.new"):
        (place / name).mkdir(parents=True)
    stand(place / "d", "link", place / "a")
    atomic.prune(place, frozenset({"a", "b", "never there"}))
    assert sorted(entry.name for entry in place.iterdir()) == ["a", "b"]


def test_an_entry_that_cannot_be_removed_does_not_stop_prune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the kernel refuses one entry, the others are removed all the same."""
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    (tmp_path / "d" / "inner").mkdir(parents=True)
    (tmp_path / "d" / "file").touch()
    real = os.unlink

    def refuse(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> None:
        if Path(os.fspath(path)).name in {"b", "file"}:
            raise PermissionError(1, "Operation not permitted", path)
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    atomic.prune(tmp_path, frozenset())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "d"]
    assert [entry.name for entry in (tmp_path / "d").iterdir()] == ["file"]
