"""Finds the files of an app that abra manages: its ``.env`` and its recipe's checkout.

::

    $ABRA_DIR/servers/SERVER/DOMAIN.env
    $ABRA_DIR/recipes/RECIPE/
"""

from pathlib import Path
from typing import Final

from attrs import frozen

from runner.reconcile.errors import SourceUnreachableError
from runner.reconcile.field_types import NAME_RULE, is_safe_name
from runner.releases.env_file import STACK_NAME, read_env_file
from runner.releases.sources import GitSource
from runner.releases.versions import Label

LONGEST_STACK: Final = 45
"""Characters; abra truncates longer names, so that names of volumes and secrets still fit."""


@frozen(kw_only=True)
class AbraApp:
    """An app that abra manages."""

    stack: str
    env_file: Path
    recipe_name: str
    recipe: Path
    """A git checkout; the commit that is checked out is not used."""


def stack_name(domain: str) -> str:
    """Return abra's name for the stack of a domain."""
    return domain.replace(".", "_")[:LONGEST_STACK]


def find_app(directory: Path, server: str, domain: str) -> AbraApp:
    """Find the app ``domain`` on ``server`` below ``directory``, which is ``$ABRA_DIR``.

    Raises:
        SourceUnreachableError: abra doesn't know it, or hasn't fetched its recipe.
    """
    env_file = _find_env_file(directory / "servers", server, domain)
    environment = read_env_file(env_file)
    stack = stack_name(domain)
    if environment.get(STACK_NAME, stack) != stack:
        raise SourceUnreachableError(
            f"{env_file} sets {STACK_NAME} to {environment[STACK_NAME]}; expected {stack}",
            hint=f"remove the line: abra names a stack after its domain without {STACK_NAME}, too",
        )
    name = (environment.get("RECIPE") or environment.get("TYPE") or "").partition(":")[0]
    if not name:
        raise SourceUnreachableError(
            f"{env_file} names no recipe", hint="it needs a line such as TYPE=traefik"
        )
    if not is_safe_name(name):
        raise SourceUnreachableError(
            f"{env_file} names the recipe {name!r}", hint=f"allowed: {NAME_RULE}"
        )
    recipe = directory / "recipes" / name
    if not recipe.is_dir():
        raise SourceUnreachableError(
            f"the recipe {name} is not in {recipe.parent}",
            hint=f"fetch it: abra recipe fetch {name}",
        )
    return AbraApp(stack=stack, env_file=env_file, recipe_name=name, recipe=recipe)


def _find_env_file(servers: Path, server: str, domain: str) -> Path:
    if not (servers / server).is_dir():
        known = [path.name for path in _list(servers) if path.is_dir()]
        raise SourceUnreachableError(
            f"abra knows no server {server} (no {servers / server})", hint=_known(known)
        )
    path = servers / server / f"{domain}.env"
    if not path.exists():
        known = [path.stem for path in _list(servers / server) if path.suffix == ".env"]
        raise SourceUnreachableError(
            f"abra knows no app {domain} on the server {server} (no {path})", hint=_known(known)
        )
    return path


def _list(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        raise SourceUnreachableError(
            f"{directory} can't be listed: {error.strerror}",
            hint="is source.directory where abra keeps its files ($ABRA_DIR)?",
        ) from error


def _known(names: list[str]) -> str:
    return f"known: {', '.join(names)}" if names else "abra has none"


@frozen
class AbraReleases:
    """The version tags of the recipe of an app that abra manages: a ``Source``."""

    directory: Path
    server: str
    domain: str
    mirror: Path
    timeout: float
    """Seconds for listing the releases, and for fetching one."""
    prereleases: bool = False

    def labels(self) -> list[Label]:
        return self._recipe().labels()

    def fetch(self, label: Label, into: Path) -> None:
        self._recipe().fetch(label, into)

    def _recipe(self) -> GitSource:
        app = find_app(self.directory, self.server, self.domain)
        return GitSource(str(app.recipe), self.mirror, self.timeout, self.prereleases)
