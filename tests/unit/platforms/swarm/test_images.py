"""Images are pinned by digest, and archived so that a rollback works offline.

The engine here is an HTTP server that answers like one; the ``docker`` command is the real one.
"""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import hashlib
import json
import re
import socketserver
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from attrs import define, field
from typing_extensions import override

from runner.platforms.swarm.docker_cli import Docker
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.images import Images, split
from runner.reconcile.errors import (
    DeployError,
    EngineUnreachableError,
    NotPreparedError,
    SourceUnreachableError,
)

DIGEST = "sha256:" + "d" * 64
OTHER = "sha256:" + "e" * 64
ID = "sha256:" + "1" * 64
PINNED = f"traefik:v3.5.1@{DIGEST}"


@define
class Shop:
    """The images in Docker, and the behaviour of its registry."""

    local: dict[str, dict[str, Any]] = field(factory=dict[str, dict[str, Any]])
    """By every name that finds it."""
    registry: dict[str, str] = field(factory=dict[str, str])
    """Digests, by name and tag."""
    asked: list[str] = field(factory=list[str])
    is_down: bool = False
    refused: str = ""
    """How the path of a request ends that is answered with no."""

    def add(self, *names: str, digests: tuple[str, ...] = (), identity: str = ID) -> None:
        image = {"Id": identity, "RepoDigests": list(digests)}
        self.local.update(dict.fromkeys((*names, identity), image))

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> object:
        """Return bytes, or what is sent as JSON; None is "not found"."""
        self.asked.append(f"{method} {path}")
        if path == "/_ping":
            return b"OK"
        if self.refused and path.endswith(f"/{self.refused}"):
            return None
        return (self._change if method == "POST" else self._show)(path, query, body)

    def _show(self, path: str, query: dict[str, str], _: bytes) -> object:
        if match := re.fullmatch(r"/images/(.+)/json", path):
            return self.local.get(match[1])
        if match := re.fullmatch(r"/distribution/(.+)/json", path):
            digest = self.registry.get(match[1])
            return {"Descriptor": {"digest": digest}} if digest else None
        if path == "/images/get":
            found = self.local.get(query["names"])
            return None if found is None else json.dumps(found["Id"]).encode()
        return None

    def _change(self, path: str, query: dict[str, str], body: bytes) -> object:
        if path == "/images/create" and query["tag"] in self.registry.values():
            name = query["fromImage"].removeprefix("docker.io/library/")
            self.add(f"{name}:v3.5.1@{query['tag']}", digests=(f"{name}@{query['tag']}",))
            return {"status": "done"}
        if path == "/images/load":
            self.add(identity=json.loads(body))
            return {"stream": "loaded"}
        if match := re.fullmatch(r"/images/(.+)/tag", path):
            name = query["repo"].removeprefix("docker.io/library/")
            self.local[f"{name}:{query['tag']}"] = self.local[match[1]]
            return {}
        return None


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    shop: Shop


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride] - it is one

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        if self.server.shop.is_down:
            return
        parts = urlsplit(self.path)
        path = re.sub(r"^/v\d+\.\d+", "", unquote(parts.path))
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        answer = self.server.shop.answer(method, path, query, self._body())
        content = answer if isinstance(answer, bytes) else json.dumps(answer or {}).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Api-Version", "1.45")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(chunks)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    with Server(str(tmp_path / "s"), Handler) as made:
        made.shop = Shop()
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def shop(server: Server) -> Shop:
    return server.shop


@pytest.fixture
def images(tmp_path: Path, server: Server, need: Callable[[str], str]) -> Images:
    need("docker")
    engine = Engine(str(server.server_address))
    return Images(tmp_path / "images", engine, Docker(engine.url), 120.0)


@pytest.fixture
def kept(images: Images, shop: Shop) -> Path:
    """Archive the image, and remove it from Docker; return the archive."""
    shop.add(PINNED)
    images.keep(PINNED)
    shop.local.clear()
    return images.directory / hashlib.sha256(PINNED.encode()).hexdigest()


# Pinning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "known", "expected"),
    [
        ("traefik:v3.5.1", "traefik", PINNED),
        ("traefik:v3.5.1", "docker.io/library/traefik", PINNED),
        ("docker.io/traefik:v1", "traefik", f"docker.io/traefik:v1@{DIGEST}"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b", f"localhost:5000/a/b:1@{DIGEST}"),
        ("localhost:5000/a/b", "localhost:5000/a/b", f"localhost:5000/a/b:latest@{DIGEST}"),
        ("traefik:v3.5.1", "mirror.example/traefik", ID),
    ],
)
def test_a_local_image_is_pinned_by_its_own_repository(
    images: Images, shop: Shop, reference: str, known: str, expected: str
) -> None:
    """The image in Docker is the one that runs; a digest of another repository can't be pulled."""
    shop.add(":".join(split(reference)), digests=(f"{known}@{DIGEST}",))
    assert expected == images.pin(reference)


def test_an_image_that_was_built_here_is_pinned_by_its_id(images: Images, shop: Shop) -> None:
    """No registry knows it, and its tag can be moved."""
    shop.add("own:1")
    assert ID == images.pin("own:1")


def test_an_image_that_is_not_here_is_pinned_by_the_registry(images: Images, shop: Shop) -> None:
    """Nothing is fetched for that."""
    shop.registry["traefik:v3.5.1"] = DIGEST
    assert PINNED == images.pin("traefik:v3.5.1")
    assert {} == shop.local


@pytest.mark.parametrize("reference", [PINNED, f"traefik@{DIGEST}", ID])
def test_a_pin_stays(images: Images, shop: Shop, reference: str) -> None:
    """Neither Docker nor a registry is asked."""
    assert reference == images.pin(reference)
    assert [] == shop.asked


def test_an_image_without_a_source_is_reported(images: Images) -> None:
    """By its name, and with what to try."""
    with pytest.raises(SourceUnreachableError, match="the image no:latest is neither") as caught:
        images.pin("no")
    assert "docker pull no:latest" in caught.value.hint


def test_without_docker_an_image_is_unknown(images: Images, shop: Shop) -> None:
    """That is not the release's fault."""
    shop.is_down = True
    for ask in (images.pin, images.obtain, images.usable, images.keep, images.has):
        with pytest.raises(EngineUnreachableError):
            ask("traefik:v3.5.1")
    with pytest.raises(EngineUnreachableError):
        images.check(PINNED, deep=False)


def test_an_archive_is_known_without_docker(images: Images, shop: Shop, kept: Path) -> None:
    """Whether a rollback could be done is known at any time."""
    shop.is_down = True
    images.check(PINNED, deep=True)
    images.keep(PINNED)
    assert images.has(PINNED)
    assert kept.exists()


# Using -------------------------------------------------------------------------------------------


def test_an_image_in_docker_is_used_as_it_is(images: Images, shop: Shop) -> None:
    """Under its pin, so that every node can pull it."""
    shop.add(PINNED)
    assert (PINNED, ID) == images.usable(PINNED)


def test_what_the_registry_has_is_pulled_by_its_digest(images: Images, shop: Shop) -> None:
    """And gets the tag that it was asked for by, so that it is known again without a registry."""
    shop.registry["traefik:v3.5.1"] = DIGEST
    images.obtain(PINNED)
    shop.registry["traefik:v3.5.1"] = OTHER
    assert PINNED == images.pin("traefik:v3.5.1")


def test_a_tag_that_is_taken_is_not_moved(images: Images, shop: Shop) -> None:
    """Someone else set it."""
    shop.registry["traefik:v3.5.1"] = DIGEST
    shop.add("traefik:v3.5.1", identity="sha256:" + "2" * 64)
    images.obtain(PINNED)
    assert "sha256:" + "2" * 64 == shop.local["traefik:v3.5.1"]["Id"]


def test_an_archived_image_needs_no_registry(images: Images, shop: Shop, kept: Path) -> None:
    """It is loaded, and goes by its id; without a tag, which would make another pin of it."""
    assert {"image.tar", "id", "sha256"} == {path.name for path in kept.iterdir()}
    assert images.has(PINNED)
    images.check(PINNED, deep=True)
    assert (ID, ID) == images.usable(PINNED)
    images.obtain(PINNED)
    assert {ID} == set(shop.local)
    assert 1 == shop.asked.count("POST /images/load")


def test_an_archived_image_is_still_pulled_where_that_can_be_done(
    images: Images, shop: Shop, kept: Path
) -> None:
    """Its pin is worth more than its id: other nodes understand it."""
    shop.registry["traefik:v3.5.1"] = DIGEST
    assert (PINNED, ID) == images.usable(PINNED)
    assert kept.exists()


def test_an_image_that_cannot_be_had_is_reported(images: Images) -> None:
    """For a stored release NotPrepared, for a new one SourceUnreachable."""
    for lost in (PINNED, ID):
        with pytest.raises(NotPreparedError, match="is neither in Docker nor in the archive"):
            images.usable(lost)
        with pytest.raises(SourceUnreachableError, match="is neither in Docker nor in the archive"):
            images.obtain(lost)
        with pytest.raises(DeployError, match="neither in Docker nor in the archive"):
            images.check(lost, deep=False)
        with pytest.raises(DeployError, match="can't be archived"):
            images.keep(lost)
        assert not images.has(lost)


# Keeping -----------------------------------------------------------------------------------------


def test_an_image_is_archived_once(images: Images, shop: Shop, kept: Path) -> None:
    """A commit in the middle of the night writes 200 MB only if it must."""
    before = (kept / "image.tar").stat().st_ino
    shop.add(PINNED)
    images.keep(PINNED)
    assert before == (kept / "image.tar").stat().st_ino


def test_a_damaged_archive_is_found_and_replaced(images: Images, shop: Shop, kept: Path) -> None:
    """Found by the deep check, unless Docker has the image; replaced by the next commit."""
    (kept / "image.tar").write_bytes(b"rot")
    images.check(PINNED, deep=False)
    with pytest.raises(DeployError, match="has changed since it was stored"):
        images.check(PINNED, deep=True)
    with pytest.raises(NotPreparedError, match="has changed since it was stored"):
        images.usable(PINNED)
    shop.add(PINNED)
    images.check(PINNED, deep=True)
    images.keep(PINNED)
    shop.local.clear()
    images.check(PINNED, deep=True)


@pytest.mark.parametrize("name", ["image.tar", "id", "sha256"])
@pytest.mark.parametrize("instead", ["nothing", "directory"])
def test_half_an_archive_is_none(
    images: Images, shop: Shop, kept: Path, name: str, instead: str
) -> None:
    """Whatever is missing; the next commit makes it whole."""
    (kept / name).unlink()
    if instead == "directory":
        (kept / name).mkdir()
    assert not images.has(PINNED)
    shop.add(PINNED)
    images.keep(PINNED)
    shop.local.clear()
    images.check(PINNED, deep=True)


def test_an_archive_of_another_image_is_reported(images: Images, kept: Path) -> None:
    """The loaded image must be the archived one."""
    data = json.dumps(OTHER).encode()
    (kept / "image.tar").write_bytes(data)
    (kept / "sha256").write_text(hashlib.sha256(data).hexdigest())
    with pytest.raises(NotPreparedError, match="doesn't contain the image"):
        images.usable(PINNED)


@pytest.mark.parametrize("command", ["get", "load", "tag"])
def test_a_refusal_by_docker_is_reported(
    images: Images, shop: Shop, kept: Path, command: str
) -> None:
    """The message names the operation that failed."""
    shop.refused = command
    if command == "get":
        shop.add(ID)
        with pytest.raises(DeployError, match="can't be archived: `docker image save` failed"):
            images.keep(ID)
        assert [kept] == list(images.directory.iterdir())
    if command == "load":
        with pytest.raises(NotPreparedError, match="can't be loaded: `docker image load` failed"):
            images.usable(PINNED)
    if command == "tag":
        shop.add(PINNED)
        with pytest.raises(SourceUnreachableError, match="`docker image tag` failed"):
            images.obtain(PINNED)


def test_an_archive_that_cannot_be_written_is_reported(images: Images, shop: Shop) -> None:
    """Nothing half is left."""
    shop.add(PINNED)
    images.directory.write_text("in the way")
    with pytest.raises(DeployError, match="can't be archived"):
        images.keep(PINNED)


def test_pruning_keeps_what_is_asked(images: Images, shop: Shop, kept: Path) -> None:
    """Archives of releases that are gone go, and what a killed run left."""
    shop.add(ID)
    images.keep(ID)
    (images.directory / ".new-abc").mkdir()
    images.prune([PINNED])
    assert [kept] == list(images.directory.iterdir())
    images.prune([])
    assert [] == list(images.directory.iterdir())
