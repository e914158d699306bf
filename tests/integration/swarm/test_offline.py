"""A proven release is restored from the store: without recipe, registry or images."""

import shutil
from pathlib import Path
from typing import Final

import pytest

from swarm.harness import NEW, OLD, Host
from swarm.healthy import assert_serving, make_last_good, prepare, proven, quarantined
from swarm.images import make_variant

pytestmark = pytest.mark.swarm

FIRST: Final = f"1.0.0+v{OLD}"
SECOND: Final = f"2.0.0+v{NEW}"
BROKEN: Final = {"traefik.yml.tmpl": [('address: ":443"', 'address: "nonsense"')]}


@pytest.fixture
def host(host: Host) -> Host:
    """Deploy from a git repository, which the test removes."""
    prepare(host)
    text = host.config.read_text()
    directory = f'kind = "directory"\npath = "{host.releases}"'
    assert directory in text
    host.config.write_text(text.replace(directory, f'kind = "git"\nurl = "{host.checkout}"'))
    return host


def tag(host: Host, name: str, version: str) -> str:
    """Give this test an image of its own, which it removes."""
    make_variant(host.engine, name, f"traefik:v{version}", files={"etc/name": name.encode()})
    return name


def take_away(host: Host, *images: str) -> None:
    """Remove images by force, with their containers, and all unused ones."""
    for image in images:
        found = host.engine.listed("image", "ls", "--quiet", "--no-trunc", image)
        host.engine.docker("image", "rm", "--force", *(found or [image]))


def content(host: Host) -> str:
    """Read the id of the gated service's image.

    With containerd's image store an image made here has a digest under its name, until it comes
    out of an archive; with Docker's own it has none.
    """
    image: str = host.spec()["TaskTemplate"]["ContainerSpec"]["Image"]
    digest = image.rpartition("@")[2]
    assert digest.startswith("sha256:"), image
    return digest


def lose_the_source(host: Host) -> None:
    shutil.rmtree(host.checkout)
    shutil.rmtree(host.releases)
    shutil.rmtree(host.home / "state" / "traefik" / "source.git", ignore_errors=True)
    host.env_file.unlink()


def test_last_good_is_restored_from_the_store_alone(host: Host) -> None:
    """No repository, no variables, no stack, no image: it serves again."""
    image = tag(host, "own:1", NEW)
    host.release(SECOND, image=image)
    ran = host.run()
    assert ran.outcome == "committed", ran
    before = content(host)
    lose_the_source(host)
    host.engine.remove_stacks()
    take_away(host, image)
    assert host.engine.listed("image", "ls", "--quiet", image) == []
    ran = host.run("--detailed-exit-code")
    assert (ran.code, ran.outcome, ran.serving) == (11, "restored", SECOND), ran
    assert "the latest is unknown" in ran.reason, ran
    assert_serving(host, SECOND)
    assert content(host) == before
    assert quarantined(host) == {}


@pytest.mark.slow
def test_a_rollback_needs_nothing_but_the_store(host: Host) -> None:
    """The candidate takes its place, the image of last-good goes, and the candidate fails."""
    image = tag(host, "own:2", OLD)
    host.release(FIRST, image=image)
    ran = host.run()
    assert ran.outcome == "committed", ran
    host.release(SECOND, edits=BROKEN)
    trace = host.home / "trace"
    host.end(host.begin_killed(trace, "before observe Deployed"))
    lose_the_source(host)
    for container in host.containers(stopped=True):
        host.engine.docker("rm", "--force", container)
    take_away(host, image)
    ran = host.run()
    assert (ran.serving, ran.report["last_good"]) == (FIRST, FIRST), ran
    assert_serving(host, FIRST)
    assert proven(host) == [FIRST]
    assert host.engine.listed("image", "ls", "--quiet", image) == []


@pytest.mark.slow
def test_an_archive_that_has_rotted_is_not_loaded(host: Host) -> None:
    """The reason names it; an older proven release is left, and serves."""
    make_last_good(host, FIRST)
    image = tag(host, "own:3", NEW)
    host.release(SECOND, image=image)
    ran = host.run()
    assert ran.outcome == "committed", ran
    before = set(_archives(host))
    assert len(before) == 2
    lose_the_source(host)
    host.engine.remove_stacks()
    take_away(host, image)
    (rotten,) = (path for path in before if (path.parent / "id").read_text() != _id(host, OLD))
    with rotten.open("r+b") as archive:
        archive.seek(1000)
        archive.write(b"rot")
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", FIRST), ran
    assert "has changed since it was stored" in ran.log, ran
    assert_serving(host, FIRST)


def _archives(host: Host) -> list[Path]:
    return list((host.home / "state" / "traefik" / "images").glob("*/image.tar"))


def _id(host: Host, version: str) -> str:
    (image,) = host.engine.inspect("image", f"traefik:v{version}")
    return f"{image['Id']}\n"


@pytest.mark.slow
def test_another_image_under_the_same_tag_is_another_release(host: Host) -> None:
    """The content is proven, not the tag: the new one is gated, and the old one can come back."""
    image = tag(host, "own:4", NEW)
    host.release(SECOND, image=image)
    assert host.run().outcome == "committed"
    first = content(host)
    assert host.run().outcome == "unchanged"
    make_variant(host.engine, image, image, entrypoint="exec /bin/false")
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", SECOND), ran
    assert list(quarantined(host)) == [SECOND]
    assert content(host) == first
    assert_serving(host, SECOND)
    make_variant(host.engine, image, f"traefik:v{NEW}", files={"etc/name": b"again"})
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", SECOND), ran
    assert content(host) != first
    assert_serving(host, SECOND)
