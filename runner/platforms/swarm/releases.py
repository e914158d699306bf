"""Packs releases of the Swarm platform: renders a Co-op Cloud recipe and pins its images.

The stored files are::

    compose.json       the whole stack: variables substituted, images pinned by digest
    configs/KEY        the content of each config

So a rollback needs neither the recipe, nor its variables, nor a registry.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml
from attrs import frozen

from runner.platforms.swarm import compose
from runner.platforms.swarm.compose import Document, RecipeRelease
from runner.platforms.swarm.compose_yaml import canonical, parse, use_newest_format
from runner.platforms.swarm.docker_cli import Docker, RefusedError
from runner.platforms.swarm.images import Images, split
from runner.reconcile.errors import EngineUnreachableError, SourceUnreachableError
from runner.reconcile.field_types import is_safe_name
from runner.releases.env_file import compose_files, variables
from runner.releases.manifest import Manifest, hash_files
from runner.storage.atomic import remove

COMPOSE: Final = "compose.json"
OVERLAY: Final = "compose.gate.yml"
RENDER_TIMEOUT: Final = 30.0
"""Seconds; it takes 0.05."""
_DEPTH: Final = 64
"""Directories: more than any ``../..`` in a compose file goes up."""
_TOO_OLD: Final = (
    *("unknown flag: --compose-file", "unknown shorthand flag"),
    *("unknown command", "is not a docker command"),
)
"""Errors of a docker CLI without ``stack config``; the first is that of version 20.10."""


@frozen(kw_only=True)
class RecipePackaging:
    """The `Packaging` of the Swarm platform: the parts of a release are its pinned images."""

    stack: str
    service: str
    """The key of the gated service."""
    overlay: Path | None
    """The directory of ``compose.gate.yml`` and the config files that it names."""
    images: Images
    docker: Docker
    env_file: Path | None = None
    """With the variables of the recipe; read for each release."""
    recipe: str | None = None
    """The name of the recipe, for abra's labels."""

    def describe(self, label: str, files: Path) -> Manifest:
        with _about(label):
            document, contents = self._render(files)
            compose.check(document, self.service)
            pins = {name: self.images.pin(name) for name in sorted(compose.images(document))}
            version = _version(label, document["services"][self.service]["image"])
            subject = RecipeRelease(
                stack=self.stack, service=self.service, label=label, recipe=self.recipe
            )
            hashes = {key: hashlib.sha256(data).hexdigest() for key, data in contents.items()}
            _write(compose.complete(document, subject, pins=pins, hashes=hashes), contents, files)
            parts = tuple(sorted(set(pins.values())))
            return Manifest(label=label, version=version, parts=parts, files=hash_files(files))

    def obtain(self, manifest: Manifest, files: Path) -> None:  # noqa: ARG002 - of the Protocol
        with _about(manifest.label):
            for pinned in manifest.parts:
                self.images.obtain(pinned)

    def check(self, manifest: Manifest, *, deep: bool) -> None:
        for pinned in manifest.parts:
            self.images.check(pinned, deep=deep)

    def keep(self, manifest: Manifest) -> None:
        for pinned in manifest.parts:
            self.images.keep(pinned)

    def prune(self, kept: Iterable[Manifest]) -> None:
        self.images.prune(pinned for manifest in kept for pinned in manifest.parts)

    def _render(self, files: Path) -> tuple[Document, dict[str, bytes]]:
        """Return the rendered document, and the content of its configs by their keys."""
        hash_files(files)  # refuses links: their targets are not stored
        environment = variables(self.stack, files, self.env_file)
        names = compose_files(environment, files)
        if self.overlay is not None:
            _lay_over(self.overlay, files)
            names = (*names, OVERLAY)
        for name in names:
            text = _read(files / name)
            (files / name).unlink()  # it may be read-only, for example from a Nix store
            (files / name).write_bytes(use_newest_format(text))
        with tempfile.TemporaryDirectory() as scratch:
            # Docker makes relative paths absolute. In this deep directory each of them begins with
            # ``scratch``, however many ``..`` it has, and so differs from one that was absolute.
            place = Path(scratch, *["_"] * _DEPTH, "recipe")
            place.parent.mkdir(parents=True)
            place.symlink_to(files.absolute())
            document = self._stack_config(place, names, environment)
            contents = {
                key: _content(key, file, place)
                for key, file in compose.config_files(document).items()
            }
            _check_places(document, scratch)
        return document, contents

    def _stack_config(
        self, place: Path, names: Sequence[str], environment: dict[str, str]
    ) -> Document:
        options = [f"--compose-file={place / name}" for name in names]
        try:
            text = self.docker.run(
                "stack", "config", *options, timeout=RENDER_TIMEOUT, environment=environment
            )
            return parse(text)
        except RefusedError as error:
            too_old = any(words in error.message for words in _TOO_OLD)
            raise SourceUnreachableError(
                f"{', '.join(names)}: {_useful(error.message).replace(f'{place}/', '')}",
                hint="install the docker CLI, version 25 or newer" if too_old else "",
            ) from error
        except (yaml.YAMLError, ValueError) as error:
            raise SourceUnreachableError(
                f"`docker stack config` printed no YAML: {error}"
            ) from error


@contextlib.contextmanager
def _about(label: str) -> Generator[None]:
    """Add the release to errors; an unreachable Docker becomes an unreachable source."""
    try:
        yield
    except (SourceUnreachableError, EngineUnreachableError) as error:
        raise SourceUnreachableError(f"{label}: {error.message}", hint=error.hint) from error


def _useful(complaint: str) -> str:
    """Return the first relevant line of stderr, with the next one if it ends in a colon."""
    said = complaint.partition(" failed: ")[2].splitlines()
    lines = [line.strip() for line in said if line and not line.startswith("time=")]
    return " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1]) or complaint


def _version(label: str, image: str) -> str:
    """Return the deployed version: from the label, else from the tag of the image."""
    version = (label.partition("+")[2] or split(image)[1]).removeprefix("v")
    if not (is_safe_name(version) and version[0].isdigit()):
        raise SourceUnreachableError(
            f"neither the label nor the image {image} contains the version that is deployed",
            hint="name the release as 3.4.0+v3.5.1: its own version, and that of what it deploys",
        )
    return version


def _lay_over(overlay: Path, files: Path) -> None:
    """Copy the overlay into a recipe: its compose file and the config files that it names."""
    file = overlay / OVERLAY
    text = _read(file)
    try:
        document: Any = yaml.safe_load(text)
        configs: Document = document.get("configs") or {}
        named = {str(config["file"]) for config in configs.values() if "file" in config}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise SourceUnreachableError(f"{file} is no compose file: {error}") from error
    for name in [OVERLAY, *sorted(named)]:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise SourceUnreachableError(f"{file} names {name}, which is not beside it")
        data, target = _read(overlay / path), files / path
        if target.exists() and (not target.is_file() or target.read_bytes() != data):
            raise SourceUnreachableError(
                f"the recipe has a file {name} of its own, other than {overlay / path}",
                hint="rename the one in platform.overlay",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SourceUnreachableError(f"{file} can't be read: {error.strerror}") from error


def _content(key: str, file: str, place: Path) -> bytes:
    path = Path(file)
    if not path.is_relative_to(place):
        raise SourceUnreachableError(
            f"configs.{key}.file is outside the recipe: it would not be stored"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        name = path.relative_to(place)
        raise SourceUnreachableError(
            f"configs.{key}.file: {name} can't be read: {error.strerror}"
        ) from error


def _check_places(document: Document, place: str) -> None:
    """Refuse relative paths outside of configs: only configs are stored."""
    for section in ("services", "networks", "volumes"):
        entries: Document = document.get(section) or {}
        for key, entry in entries.items():
            if place in json.dumps(entry):
                raise SourceUnreachableError(
                    f"{section}.{key} has a relative path: such files are not stored",
                    hint="use a config, a named volume or an absolute path",
                )


def _write(document: Document, contents: dict[str, bytes], files: Path) -> None:
    for entry in files.iterdir():
        remove(entry)
    (files / COMPOSE).write_text(canonical(document), "utf-8")
    (files / compose.CONFIGS).mkdir()
    for key, data in contents.items():
        (files / compose.CONFIGS / key).write_bytes(data)
