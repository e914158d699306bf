"""A recipe is rendered whole: what is kept says all, and says the same wherever it is rendered."""

# ruff: noqa: SIM300 (asserts read: expected == actual)

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from runner.platforms.swarm.docker_cli import Docker
from runner.platforms.swarm.engine_api import Engine
from runner.platforms.swarm.images import Images
from runner.platforms.swarm.releases import COMPOSE, RecipePackaging
from runner.reconcile.errors import SourceUnreachableError
from runner.reconcile.model import LatestUnknown, Release
from runner.releases.manifest import Manifest
from runner.releases.sources import DirectorySource
from runner.releases.store import Store, identify

LABEL = "3.4.0+v3.5.1"
PIN = "traefik:v3.5.1@sha256:" + "d" * 64
RECIPE = f"""
version: "3.8"
services:
  app:
    image: {PIN}
    ports: ["80:80"]
    networks: [proxy]
    configs: [{{source: traefik_yml, target: /etc/traefik/traefik.yml}}]
    environment:
      LEVEL: ${{LOG_LEVEL:-INFO}}
      PRICE: 5$$
      UNSET:
    command: ["=", "2001-1-1", "yes"]
    deploy:
      update_config: {{failure_action: rollback, order: start-first}}
      labels: ["coop-cloud.${{STACK_NAME}}.version=1.0.0+v1"]
networks:
  proxy: {{external: true}}
configs:
  traefik_yml:
    name: ${{STACK_NAME}}_traefik_yml_${{TRAEFIK_YML_VERSION}}
    file: traefik.yml.tmpl
    template_driver: golang
"""
OVERLAY = """
version: "3.8"
services:
  app:
    configs: [{source: gate, target: /gate.yml}]
configs:
  gate: {file: gate/gate.yml}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Write a recipe as a source hands it out, two levels below where it may write."""
    place = tmp_path / "source" / LABEL
    place.mkdir(parents=True)
    (place / "compose.yml").write_text(RECIPE)
    (place / "traefik.yml.tmpl").write_text("level: {{ env `LEVEL` }}$\n")
    (place / "abra.sh").write_text("export TRAEFIK_YML_VERSION=v9\n")
    (place / "README.md").write_text("# About it\n")
    return place


@pytest.fixture
def deaf(tmp_path: Path) -> Generator[Engine]:
    """Start what listens where an engine would, and never answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        engine = Engine(str(tmp_path / "s"), timeout=0.2)
        yield engine


@pytest.fixture
def recipes(tmp_path: Path, deaf: Engine, need: Callable[[str], str]) -> RecipePackaging:
    need("docker")
    overlay = tmp_path / "overlay"
    (overlay / "gate").mkdir(parents=True)
    (overlay / "compose.gate.yml").write_text(OVERLAY)
    (overlay / "gate" / "gate.yml").write_text("http: {}\n")
    (overlay / "compose.yml").write_text("not meant\n")
    (tmp_path / "app.env").write_text("LOG_LEVEL='$DEBUG'\n")
    docker = Docker("unix:///nonexistent")  # rendering needs no engine
    return RecipePackaging(
        stack="traefik_example_com",
        service="app",
        overlay=overlay,
        images=Images(tmp_path / "images", deaf, docker, 120.0),
        docker=docker,
        env_file=tmp_path / "app.env",
        recipe="traefik",
    )


@pytest.fixture
def describe(recipes: RecipePackaging, checkout: Path, tmp_path: Path) -> Callable[..., Path]:
    """Describe a copy of the checkout, elsewhere each time; where that is."""

    def do(label: str = LABEL) -> Path:
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}" / "files"
        shutil.copytree(checkout, place, symlinks=True)
        manifest = recipes.describe(label, place)
        (place.parent / "manifest.json").write_text(manifest.to_json())
        return place

    return do


def manifest_of(place: Path) -> Manifest:
    return Manifest(**json.loads((place.parent / "manifest.json").read_text()))


def document_of(place: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((place / COMPOSE).read_text())
    return made


def refusal(describe: Callable[..., Path]) -> str:
    with pytest.raises(SourceUnreachableError) as caught:
        describe()
    assert caught.value.message.startswith(f"{LABEL}: ")
    assert "/_/" not in caught.value.message
    return caught.value.message.removeprefix(f"{LABEL}: ")


# Rendering ---------------------------------------------------------------------------------------


def test_the_whole_stack_is_stored_and_nothing_else(describe: Callable[..., Path]) -> None:
    """Every variable is set, and the configs are there with their content as it was."""
    place = describe()
    manifest = manifest_of(place)
    assert {"compose.json", "configs/gate", "configs/traefik_yml"} == manifest.files.keys()
    assert (LABEL, "3.5.1", [PIN]) == (manifest.label, manifest.version, list(manifest.parts))
    assert "level: {{ env `LEVEL` }}$\n" == (place / "configs" / "traefik_yml").read_text()
    document = document_of(place)
    made = document["services"]["app"]
    assert {"LEVEL": "$DEBUG", "PRICE": "5$"} == made["environment"]
    assert ["=", "2001-1-1", "yes"] == made["command"]
    assert {
        "coop-cloud.traefik_example_com.version": LABEL,
        "coop-cloud.traefik_example_com.chaos": "false",
        "coop-cloud.traefik_example_com.recipe": "traefik",
    } == made["deploy"]["labels"]
    config = document["configs"]["traefik_yml"]
    assert config["name"].startswith("traefik_example_com_traefik_yml_v9_")
    assert ("configs/traefik_yml", "golang") == (config["file"], config["template_driver"])
    assert document["configs"]["gate"]["name"].startswith("traefik_example_com_gate_")


def test_a_release_is_the_same_wherever_it_is_rendered(describe: Callable[..., Path]) -> None:
    """Nothing of the place is in it."""
    assert manifest_of(describe()).digest == manifest_of(describe()).digest


@pytest.mark.parametrize("change", ["variable", "config", "compose", "overlay", "label"])
def test_whatever_changes_makes_another_release(
    describe: Callable[..., Path], checkout: Path, tmp_path: Path, change: str
) -> None:
    """Also what no git repository knows."""
    before = manifest_of(describe()).digest
    if change == "variable":
        (tmp_path / "app.env").write_text("LOG_LEVEL=ERROR\n")
    if change == "config":
        (checkout / "traefik.yml.tmpl").write_text("another\n")
    if change == "compose":
        (checkout / "compose.yml").write_text(RECIPE.replace("80:80", "81:80"))
    if change == "overlay":
        (tmp_path / "overlay" / "gate" / "gate.yml").write_text("another\n")
    label = "3.4.1+v3.5.1" if change == "label" else LABEL
    assert before != manifest_of(describe(label)).digest


def test_what_is_not_used_is_no_part_of_a_release(
    describe: Callable[..., Path], checkout: Path
) -> None:
    """A better README doesn't restart a proxy."""
    before = manifest_of(describe()).digest
    (checkout / "README.md").write_text("# More about it\n")
    (checkout / "compose.other.yml").write_text("services: [unused")
    assert before == manifest_of(describe()).digest


def test_compose_files_are_laid_over_each_other(
    describe: Callable[..., Path], checkout: Path, tmp_path: Path
) -> None:
    """In the order of the app's env file, the gate's last."""
    (checkout / "compose.x.yml").write_text(
        "version: '3.8'\nservices: {app: {environment: {LEVEL: x, X: x}}}\n"
    )
    (tmp_path / "app.env").write_text(
        'COMPOSE_FILE=compose.yml\nCOMPOSE_FILE="$COMPOSE_FILE:compose.x.yml"\n'
    )
    (tmp_path / "overlay" / "compose.gate.yml").write_text("services: {app: {environment: {X: y}}}")
    environment = document_of(describe())["services"]["app"]["environment"]
    assert {"LEVEL": "x", "X": "y", "PRICE": "5$"} == environment


@pytest.mark.parametrize(
    ("label", "image", "expected"),
    [
        ("1.0.0+v3.5.1", PIN, "3.5.1"),
        ("1.0.0+3.5.1", PIN, "3.5.1"),
        ("1.0.0", PIN, "3.5.1"),
        ("1.0.0", "localhost:5000/traefik:3.5@sha256:" + "d" * 64, "3.5"),
    ],
)
def test_the_version_is_from_the_label_or_the_image(
    describe: Callable[..., Path], checkout: Path, label: str, image: str, expected: str
) -> None:
    """It is what the running program is compared with."""
    (checkout / "compose.yml").write_text(RECIPE.replace(PIN, image))
    assert expected == manifest_of(describe(label)).version


FORMATS = [f"3.{minor}" for minor in range(14)]
MINIMAL = f"services: {{app: {{image: {PIN!r}}}}}\n"


@pytest.mark.parametrize("version", [*FORMATS, "3", ""])
def test_a_recipe_of_any_format_makes_the_same_release(
    describe: Callable[..., Path], checkout: Path, version: str
) -> None:
    """The overlay and what is added use keys that old formats lack; no version is kept."""
    (checkout / "compose.yml").write_text(MINIMAL)
    without = document_of(describe())
    (checkout / "compose.yml").write_text(f'version: "{version}"\n{MINIMAL}')
    assert without == document_of(describe())
    assert "version" not in without
    assert "order" in without["services"]["app"]["deploy"]["update_config"]


@pytest.mark.parametrize("version", ["3.0", "3.13", None])
@pytest.mark.parametrize("other", ["3.4", None])
def test_compose_files_of_different_formats_are_merged(
    recipes: RecipePackaging, checkout: Path, tmp_path: Path, version: str | None, other: str | None
) -> None:
    """Docker itself refuses that. Any way to write the version in YAML is understood."""
    overlay = tmp_path / "overlay" / "compose.gate.yml"
    text = OVERLAY.replace("gate: {file:", "gate: {name: its_name, file:")  # a key of format 3.5
    overlay.write_text(text.replace('version: "3.8"', f"version: {other}" if other else ""))
    styles = ["{services: {app: {image: IMAGE}}}"]
    if version is not None:
        styles = [
            f"# version: 2\n'version': '{version}' #\nservices: {{app: {{image: IMAGE}}}}",
            f'{{"services": {{"app": {{"image": "IMAGE"}}}}, "version": "{version}"}}',
            f"version:\n    {version}\r\nservices: {{app: {{image: IMAGE}}}}\r\n",
            f"services: {{app: {{image: IMAGE, labels: {{version: 'ü'}}}}}}\nversion: {version}",
        ]
    for style in styles:
        (checkout / "compose.yml").unlink()
        (checkout / "compose.yml").write_text(style.replace("IMAGE", PIN))
        (checkout / "compose.yml").chmod(0o444)  # as in a Nix store
        place = tmp_path / str(styles.index(style)) / "files"
        shutil.copytree(checkout, place)
        recipes.describe(LABEL, place)
        assert document_of(place)["configs"]["gate"]["name"].startswith("its_name_")


def test_another_major_version_is_still_refused(
    describe: Callable[..., Path], checkout: Path
) -> None:
    """Its keys have other meanings, which Docker knows."""
    (checkout / "compose.yml").write_text(RECIPE.replace('"3.8"', '"2.4"'))
    assert "unsupported Compose file version: 2.4" in refusal(describe)


def test_a_recipe_that_has_the_overlay_already_is_taken(
    describe: Callable[..., Path], checkout: Path, tmp_path: Path
) -> None:
    """The same file twice is no collision, and the release is the one without it."""
    without = manifest_of(describe())
    assert "configs/gate" in without.files
    shutil.copy(tmp_path / "overlay" / "compose.gate.yml", checkout)
    assert without == manifest_of(describe())


# Refusing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ports:", "prots:", "services.app Additional property prots is not allowed"),
        ("networks: [proxy]", "networks: [proxy", "yaml: line"),
        ("${LOG_LEVEL:-INFO}", "${NOBODY:?who is it}", "who is it"),
        ("traefik.yml.tmpl", "gone.tmpl", "configs.traefik_yml.file: gone.tmpl can't be read"),
        ("traefik.yml.tmpl", "../x", "configs.traefik_yml.file is outside the recipe"),
        ("traefik.yml.tmpl", "/etc/hostname", "configs.traefik_yml.file is outside the recipe"),
        ("ports:", "volumes: ['./x:/y']\n    ports:", "services.app has a relative path"),
        ("ports:", "volumes: ['../../../../x:/y']\n    ports:", "services.app has a relative"),
        ("ports:", "env_file: [gone.env]\n    ports:", "gone.env: no such file"),
        ("ports:", "deploy: {replicas: 0}\n    ports:", "yaml: unmarshal errors: line"),
        ("  app:", "  web:", "services.app has no image"),
        (f"image: {PIN}", "build: .", "services.app is to be built"),
    ],
)
def test_a_recipe_that_can_not_be_kept_is_refused(
    describe: Callable[..., Path], checkout: Path, old: str, new: str, expected: str
) -> None:
    """Paths are relative to the recipe: the temporary directory is gone."""
    (checkout / "compose.yml").write_text(RECIPE.replace(old, new, 1))
    assert expected in refusal(describe)


@pytest.mark.parametrize("tag", ["", ":latest", ":v", ":_3"])
def test_a_release_without_a_version_is_refused(
    recipes: RecipePackaging, checkout: Path, tag: str
) -> None:
    """No running program could ever be the right one."""
    image = f"traefik{tag}@sha256:{'d' * 64}"
    (checkout / "compose.yml").write_text(RECIPE.replace(PIN, image))
    with pytest.raises(SourceUnreachableError, match=r"1\.0: neither the label nor the image"):
        recipes.describe("1.0", checkout)


def test_absolute_paths_stay(describe: Callable[..., Path], checkout: Path) -> None:
    """The engine's socket is on every node."""
    mount = "volumes: ['/var/run/docker.sock:/sock:ro']\n    ports:"
    (checkout / "compose.yml").write_text(RECIPE.replace("ports:", mount))
    (mounted,) = document_of(describe())["services"]["app"]["volumes"]
    assert "/var/run/docker.sock" == mounted["source"]


@pytest.mark.parametrize("name", ["traefik.yml.tmpl", "compose.yml", "unused"])
def test_a_link_in_a_recipe_is_refused(
    describe: Callable[..., Path], checkout: Path, name: str
) -> None:
    """What it leads to is not kept."""
    (checkout / name).unlink(missing_ok=True)
    (checkout / name).symlink_to("/etc/hostname")
    assert f"{name} is not a regular file: refused" == refusal(describe)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "compose.gate.yml can't be read: No such file"),
        ("[", "compose.gate.yml is no compose file"),
        ("- 1", "compose.gate.yml is no compose file"),
        ("configs: {gate: {file: ../gate.yml}}", "names ../gate.yml, which is not beside it"),
        ("configs: {gate: {file: /gate.yml}}", "names /gate.yml, which is not beside it"),
        ("configs: {gate: {file: gone.yml}}", "gone.yml can't be read: No such file"),
    ],
)
def test_an_invalid_overlay_is_reported(
    describe: Callable[..., Path], tmp_path: Path, text: str | None, expected: str
) -> None:
    """It is the operator's."""
    file = tmp_path / "overlay" / "compose.gate.yml"
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert expected in refusal(describe)


@pytest.mark.parametrize("name", ["compose.gate.yml", "gate/gate.yml"])
def test_a_file_that_both_have_is_refused(
    describe: Callable[..., Path], checkout: Path, name: str
) -> None:
    """One would silently win."""
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("services: {}\n")
    assert f"the recipe has a file {name} of its own" in refusal(describe)


def test_an_invalid_env_file_is_reported(describe: Callable[..., Path], tmp_path: Path) -> None:
    """Better no release than one with half its variables."""
    (tmp_path / "app.env").write_text("what is this\n")
    assert "app.env, line 1: expected NAME=value" in refusal(describe)


# The command and dockerd -------------------------------------------------------------------------


def test_without_the_command_the_latest_release_is_unknown(
    describe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint has the version to install."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "the docker command can't be run" in refusal(describe)


@pytest.mark.parametrize(
    "said",
    [
        "unknown flag: --compose-file\nSee 'docker stack --help'.",  # 20.10, that of Debian 12
        "unknown shorthand flag: 'c' in -c",
        "docker: 'stack' is not a docker command.",
    ],
)
def test_a_docker_cli_without_stack_config_is_reported(
    recipes: RecipePackaging,
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
) -> None:
    """``stack config`` is younger than some distributions."""
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    (tmp_path / "said").write_text(said)
    fake.write_text(f"#!/bin/sh\ncat {tmp_path}/said >&2\nexit 125\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(SourceUnreachableError) as caught:
        recipes.describe(LABEL, checkout)
    assert "25 or newer" in caught.value.hint


@pytest.mark.parametrize("printed", ["[", "5", ""])
def test_output_that_is_not_yaml_is_reported(
    describe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    """Whatever stands in its place."""
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho '{printed}'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    assert "`docker stack config` printed no YAML" in refusal(describe)


def test_without_docker_an_image_cannot_be_pinned(
    describe: Callable[..., Path], checkout: Path
) -> None:
    """That makes the latest release unknown; a run then verifies the live one."""
    (checkout / "compose.yml").write_text(RECIPE.replace(PIN, "traefik:v3.5.1"))
    assert refusal(describe).startswith("dockerd at ")


def test_the_store_takes_it_for_unknown(
    recipes: RecipePackaging, checkout: Path, tmp_path: Path
) -> None:
    """Naming the release needs no engine where it is pinned; taking it in does."""
    source = DirectorySource(checkout.parent)
    found, _ = identify(source, recipes)
    assert isinstance(found, Release)
    store = Store(tmp_path / "releases", recipes, source)
    reason = store.latest()
    assert isinstance(reason, LatestUnknown)
    assert reason.reason.startswith(f"{LABEL}: dockerd at ")
    assert [] == list(store.directory.iterdir())


def test_archives_are_checked_and_pruned_without_docker(
    recipes: RecipePackaging, describe: Callable[..., Path]
) -> None:
    """A rollback needs neither Docker nor a registry to know whether it is possible."""
    manifest = manifest_of(describe())
    kept = recipes.images.directory / hashlib.sha256(PIN.encode()).hexdigest()
    kept.mkdir(parents=True)
    (kept / "image.tar").write_bytes(b"an image")
    (kept / "id").write_text("sha256:" + "1" * 64)
    (kept / "sha256").write_text(hashlib.sha256(b"an image").hexdigest())
    for deep in (False, True):
        recipes.check(manifest, deep=deep)
    recipes.keep(manifest)
    recipes.prune([manifest])
    assert kept.exists()
    recipes.prune([])
    assert not kept.exists()
