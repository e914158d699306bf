"""Releases that the machines deploy: this project's recipe of Traefik, and small apps behind it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from swarm.broken import TEST
from swarm.harness import LABEL, NEW, OVERLAY, RECIPE

APP_IMAGE: Final = "proof-app:v1.0.0"
ENVIRONMENT: Final = "    environment:\n"
RELEASE: Final = "PROOF_RELEASE"
"""A variable of each container of Traefik: the release that it was made from."""
CERTIFICATE: Final = """\
  certificates:
    - {certFile: /etc/traefik/proof.crt, keyFile: /etc/traefik/proof.key}
"""

Edit = tuple[str, str, str]
"""A file of a recipe, a text in it, and what takes its place."""


@frozen
class Fault:
    """A way in which a Traefik can be broken, and what has to be said of it."""

    key: str
    name: str
    """What such a Traefik does."""
    edits: Sequence[Edit]
    reason: str
    """A regular expression for what the run says."""


def _started_by(script: str) -> Edit:
    """Start it by a shell script; in a compose file a dollar is written twice."""
    line = f'    entrypoint: [sh, -c, "{script.replace("$", "$$")}"]\n'
    return "compose.yml", "    networks: [proxy]\n", f"    networks: [proxy]\n{line}"


FAULTS: Final = (
    Fault(
        "bind",
        "can't bind its port",
        [("traefik.yml.tmpl", 'address: ":443"', 'address: "192.0.2.1:443"')],
        r"ended with status 1: .*192\.0\.2\.1:443",
    ),
    Fault(
        "crash",
        "crash-loops, 3 s after each start",
        [_started_by("traefik & sleep 3; kill -KILL $!; wait $!")],
        r"ended with status 137",
    ),
    Fault(
        "ping",
        "has its ping disabled",
        [
            ("traefik.yml.tmpl", "ping:\n  entryPoint: web\n", ""),
            ("compose.yml", TEST, 'test: [CMD, "true"]'),
        ],
        r"ping\S*: status (301|404), expected 200",
    ),
    Fault(
        "hang",
        "hangs, 3 s after its start",
        [_started_by("traefik & sleep 3; kill -STOP $!; wait $!")],
        r"no whole answer within|Health check exceeded timeout",
    ),
)


def traefik_release(
    place: Path, label: str, pair: tuple[Path, Path], edits: Sequence[Edit] = ()
) -> Path:
    """Write a release of Traefik.

    Args:
        place: the directory of releases.
        label: such as ``1.0.0+v3.5.0``; it names the image, too.
        pair: the certificate that it serves, and its key: no authority can be asked for one here.
        edits: what makes it a broken one.
    """
    release = place / label
    shutil.copytree(RECIPE, release, ignore=shutil.ignore_patterns(*OVERLAY))
    for path, name in zip(pair, ("proof.crt", "proof.key"), strict=True):
        shutil.copy(path, release / name)
    number = label.partition("+")[0].replace(".", "_")
    mounts = "".join(
        f"      - {{source: proof_{kind}, target: /etc/traefik/proof.{kind}}}\n"
        for kind in ("crt", "key")
    )
    configs = "".join(
        f"  proof_{kind}: {{name: '${{STACK_NAME}}_proof_{kind}_{number}', file: proof.{kind}}}\n"
        for kind in ("crt", "key")
    )
    for name, old, new in (
        ("compose.yml", f"traefik:v{NEW}", f"traefik:{label.partition('+')[2]}"),
        ("compose.yml", LABEL, label),
        ("compose.yml", ENVIRONMENT, f"{ENVIRONMENT}      {RELEASE}: '{label}'\n"),
        ("compose.yml", "    configs:\n", f"    configs:\n{mounts}"),
        ("compose.yml", "\nvolumes:\n", f"{configs}\nvolumes:\n"),
        ("tls.yml", "tls:\n", f"tls:\n{CERTIFICATE}"),
        ("abra.sh", "_VERSION=v1", f"_VERSION=v{number}"),
        *edits,
    ):
        edit(release / name, old, new)
    return release


APP: Final = """\
version: "3.8"

services:
  app:
    image: {image}
    entrypoint: [sh, -c, "{script}"]
    networks: [proxy]
    stop_grace_period: 1s
    deploy:
      restart_policy: {{delay: 1s}}
      labels:
        - "traefik.enable=true"
        - "traefik.http.routers.${{STACK_NAME}}.rule=Host(`{domain}`)"
        - "traefik.http.routers.${{STACK_NAME}}.entrypoints=web-secure"
        - "traefik.http.routers.${{STACK_NAME}}.tls=true"
        - "traefik.http.services.${{STACK_NAME}}.loadbalancer.server.port={port}"
        - "coop-cloud.${{STACK_NAME}}.version={label}"

networks:
  proxy:
    external: true
"""
SERVER: Final = (
    "mkdir -p $(dirname /tmp/www{path}_) && echo '{name} of the proof' >/tmp/www{file}"
    " && exec httpd -f -p {port} -h /tmp/www"
)


def app_release(place: Path, label: str, name: str, config: Mapping[str, Any]) -> Path:
    """Write a release of a small web server that stands for an app: it answers what it is asked.

    Args:
        place: the directory of releases.
        label: of the release.
        name: of the app.
        config: the shipped one; its gate tells the port and the path of the app itself.
    """
    release = place / label
    release.mkdir(parents=True)
    task = next(probe for probe in config["probes"] if probe["kind"] == "task")
    path = task["path"]
    file = f"{path}index.html" if path.endswith("/") else path
    script = SERVER.format(name=name, port=task["port"], path=path, file=file)
    (release / "compose.yml").write_text(
        APP.format(
            image=APP_IMAGE,
            script=script.replace("$", "$$"),
            domain=config["source"]["domain"],
            port=task["port"],
            label=label,
        )
    )
    return release


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text in a file, or all of the file if the text is empty."""
    if not old:
        path.write_text(new)
        return
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r}"
    path.write_text(text.replace(old, new))
