"""An app that abra manages: the newest tag of its recipe is deployed, and abra's files stay."""

import hashlib
import subprocess
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

from swarm.harness import NEW, OLD, Host
from swarm.healthy import assert_never_committed, assert_serving, prepare

pytestmark = pytest.mark.swarm

DOMAIN: Final = "traefik.example.com"
FIRST: Final = f"1.0.0+v{OLD}"
SECOND: Final = f"1.1.0+v{NEW}"
BROKEN: Final = {"traefik.yml.tmpl": [('address: ":443"', 'address: "nonsense"')]}
EXTRA: Final = """
version: "3.8"
services:
  app:
    environment:
      FROM_THE_ENV_FILE: "${EXTRA_VALUE}"
"""
ENV: Final = """
TYPE=traefik:9.9.9+v9.9.9
DOMAIN={domain}
LETS_ENCRYPT_EMAIL=
LOG_LEVEL=DEBUG
DOCKER_SOCKET={socket}
COMPOSE_FILE="compose.yml"
COMPOSE_FILE="$COMPOSE_FILE:compose.x.yml"
EXTRA_VALUE='as abra reads it' # and says so
"""


@frozen
class Abra:
    """A directory of abra's, with one app on one server."""

    home: Path

    @property
    def recipe(self) -> Path:
        return self.home / "recipes" / "traefik"

    def take_up(self, host: Host) -> None:
        """Manage this app from now on."""
        env = self.home / "servers" / "default" / f"{DOMAIN}.env"
        env.parent.mkdir(parents=True)
        env.write_text(ENV.format(domain=DOMAIN, socket=host.engine.socket))
        self.recipe.parent.mkdir()
        self.git(self.home, "clone", "--quiet", str(host.checkout), str(self.recipe))
        host.stack = DOMAIN.replace(".", "_")
        config = host.config.read_text()
        _, platform = config.split("[platform]\n")
        lines = [
            line for line in platform.splitlines() if not line.startswith(("stack =", "env_file"))
        ]
        state, *_ = config.partition("[source]")
        host.config.write_text(
            f'{state}[source]\nkind = "abra"\ndomain = "{DOMAIN}"\ndirectory = "{self.home}"\n'
            + "\n".join(["[platform]", *lines, ""])
        )

    def fetch(self) -> None:
        """Fetch new tags, as abra does; what is checked out stays."""
        self.git(self.recipe, "fetch", "--quiet", "--tags")

    def git(self, where: Path, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True)

    def contents(self) -> dict[str, str]:
        """Hash every file, those of git included."""
        return {
            str(path.relative_to(self.home)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.home.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def abra(host: Host, tmp_path: Path) -> Abra:
    """Offer the first release, to an app that abra manages."""
    prepare(host)
    host.release(FIRST, files={"compose.x.yml": EXTRA})
    abra = Abra(tmp_path / "abra")
    abra.take_up(host)
    return abra


def labels(host: Host) -> dict[str, str]:
    """Read the labels from which abra reports the deployed version."""
    prefix = f"coop-cloud.{host.stack}."
    found: dict[str, str] = host.spec()["Labels"]
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


def truth(label: str) -> dict[str, str]:
    return {"version": label, "chaos": "false", "recipe": "traefik"}


def test_the_newest_tag_of_the_checkout_is_deployed_and_labelled_for_abra(
    host: Host, abra: Abra
) -> None:
    """Not what the .env has recorded, which is what was attempted; nor what is checked out."""
    before = abra.contents()
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", FIRST), ran
    assert_serving(host, FIRST)
    assert labels(host).items() >= truth(FIRST).items()
    environment = host.spec()["TaskTemplate"]["ContainerSpec"]["Env"]
    assert "FROM_THE_ENV_FILE=as abra reads it" in environment
    assert abra.contents() == before


@pytest.mark.slow
def test_the_labels_are_right_after_an_update_and_after_a_rollback(host: Host, abra: Abra) -> None:
    """A tag that is fetched is deployed although an older one is checked out."""
    ran = host.run()
    assert ran.outcome == "committed", ran
    host.release(SECOND, files={"compose.x.yml": EXTRA})
    abra.fetch()
    before = abra.contents()
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", SECOND), ran
    assert_serving(host, SECOND)
    assert labels(host).items() >= truth(SECOND).items()
    assert abra.contents() == before

    third = f"1.2.0+v{NEW}"
    host.release(third, edits=BROKEN, files={"compose.x.yml": EXTRA})
    abra.fetch()
    before = abra.contents()
    ran = host.run()
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", SECOND), ran
    assert_serving(host, SECOND)
    assert labels(host).items() >= truth(SECOND).items()
    assert_never_committed(host, third)
    assert abra.contents() == before
