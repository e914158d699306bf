"""Broken releases on a swarm, each with the reason that has to be reported.

Some need more than a recipe: their image starts a shell script, which runs the real Traefik and
then misbehaves, or only pretends to be one.
"""

import contextlib
import hashlib
import json
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal, TypeAlias

from attrs import frozen

from swarm.harness import NEW, WEB, Host
from swarm.images import TRAEFIK, make_variant

Write: TypeAlias = Callable[[Host, str], object]
"""Write such a release under a label."""
Changes: TypeAlias = Sequence[tuple[str, str]]
Fate: TypeAlias = Literal["fails", "is refused", "can't be tried", "can't be stored"]


@frozen
class Broken:
    """A way to be broken."""

    name: str
    write: Write
    reason: str
    """The true cause, as the gate names it: a regular expression."""
    fate: Fate = "fails"
    trial: str | None = None
    """The cause as a trial in isolation names it, if in other words."""
    in_trial: bool = True
    """It shows in isolation already."""
    cold: bool = False
    """It is also tried where nothing is proven."""
    quick: bool = False
    """It is one of those that are always tried."""
    beside: Callable[[Host], AbstractContextManager[object]] = contextlib.nullcontext
    """Starts a program that runs on the host meanwhile."""
    window: float = 1.5
    """Seconds that it would have to hold."""


# Images ------------------------------------------------------------------------------------------


def variant(
    host: Host, *, entrypoint: str = "", files: dict[str, bytes] | None = None, version: str = NEW
) -> str:
    """Make an image of what differs from the real Traefik, unless this engine has it."""
    what = repr((entrypoint, files, version)).encode()
    tag = f"variant-{hashlib.sha256(what).hexdigest()[:12]}:v{NEW}"
    if not host.engine.listed("images", "--quiet", tag):
        base = f"traefik:v{version}"
        make_variant(host.engine, tag, base, entrypoint=entrypoint, files=files)
    return tag


def scripted(
    script: str, *changes: tuple[str, str], files: dict[str, bytes] | None = None
) -> Write:
    """Start a shell script instead of Traefik; ``changes`` are those of its static config."""
    edits = {"traefik.yml.tmpl": list(changes)}
    return lambda host, label: host.release(
        label, image=variant(host, entrypoint=script, files=files), edits=edits
    )


def serving(answer: str) -> Write:
    """Run a server that answers every connection on both ports with this shell script."""
    script = "busybox nc -ll -p 443 -e /answer.sh &\nexec busybox nc -ll -p 80 -e /answer.sh"
    return scripted(script, files={"answer.sh": f"#!/bin/sh\n{answer}\n".encode()})


LOGGED: Final = (
    "providers:\n",
    "accessLog: {filePath: /access.log, addInternals: true}\nproviders:\n",
)
GATE_HAS_PASSED: Final = """\
traefik "$@" &
until [ "$(grep -c 'warm-reconcile/provider HTTP/1.1" 200' /access.log)" -ge 2 ]; do
    sleep 0.02
done 2>/dev/null
"""
"""Rounds don't overlap: when a second one has got its answer, the first one is over."""

OK_TO_ALL: Final = """\
busybox head -c 1 >/dev/null
printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nOK'
"""

ECHO: Final = """\
IFS= read -r request
headers=
while IFS= read -r line && [ "${#line}" -gt 1 ]; do headers="$headers$line
"; done
body=OK
case "$request" in *ping*) ;; *) body="{\\"Version\\": \\"3.7.15\\", \\"asked\\": 1}" ;; esac
printf 'HTTP/1.1 200 OK\\r\\nX-Asked: %s\\n%s' "$request" "$headers"
printf 'Content-Length: %s\\r\\n\\r\\n%s' "${#body}" "$body"
"""

SILENCE: Final = "exec sleep 1000"

DRIP: Final = """\
printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 100000\\r\\n\\r\\n'
while printf O; do sleep 0.05; done
"""


HALF: Final = """\
busybox head -c 1000000 /usr/local/bin/traefik >/half
busybox chmod +x /half
exec /half
"""


# Recipes -----------------------------------------------------------------------------------------


def static(*changes: tuple[str, str]) -> Write:
    """Change the static configuration."""
    return lambda host, label: host.release(label, edits={"traefik.yml.tmpl": changes})


def dynamic(text: str, *changes: tuple[str, str]) -> Write:
    """Replace the dynamic configuration, and change the static one."""
    edits = {"traefik.yml.tmpl": changes}
    return lambda host, label: host.release(label, edits=edits, files={"tls.yml": text})


def compose(*changes: tuple[str, str]) -> Write:
    """Change the compose file."""
    return lambda host, label: host.release(label, edits={"compose.yml": changes})


def service(line: str) -> Write:
    """Add a line to the service."""
    return compose(("    networks: [proxy]\n", f"    networks: [proxy]\n    {line}\n"))


def deploying(line: str) -> Write:
    """Add a line to the service's ``deploy``."""
    return compose(("      restart_policy:\n", f"      {line}\n      restart_policy:\n"))


def publishing(published: int) -> Write:
    """Publish one more port."""
    port = f"{{target: 8080, published: {published}, protocol: tcp, mode: host}}"
    return compose(("    volumes:\n", f"      - {port}\n    volumes:\n"))


SOCKET: Final = """\
      - type: bind
        source: "${DOCKER_SOCKET:-/var/run/docker.sock}"
        target: /var/run/docker.sock
        read_only: true
"""
SOCKET_PATH: Final = "${DOCKER_SOCKET:-/var/run/docker.sock}"
TEST: Final = "test: [CMD, traefik, healthcheck]"
IMPATIENT: Final = (
    "      retries: 3\n      start_period: 30s\n",
    "      retries: 1\n      start_period: 0s\n",
)
LABEL: Final = '        - "traefik.enable=true"\n'
PORT_LABEL: Final = '        - "traefik.http.services.traefik.loadbalancer.server.port=80"\n'
NO_WEB_SECURE: Final = ('  web-secure:\n    address: ":443"\n', "")
SWARM_PROVIDER: Final = """\
  swarm:
    endpoint: "unix:///var/run/docker.sock"
    refreshSeconds: 2
    exposedByDefault: false
    network: proxy
"""
OWN_PING: Final = """\
http:
  routers:
    ping: {rule: "Path(`/ping`)", service: ping@internal, entryPoints: [web]}
"""


def at_web(middleware: str) -> tuple[str, str]:
    """Put a middleware before everything that the entrypoint ``web`` serves."""
    return '":80"\n    http:\n', f'":80"\n    http:\n      middlewares: ["{middleware}"]\n'


def with_a_dead_socket(host: Host, label: str) -> None:
    """Mount a socket that an engine has left behind."""
    place = host.home / "dead.sock"
    with contextlib.suppress(FileNotFoundError):
        place.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))
    host.release(
        label, edits={"compose.yml": [("${DOCKER_SOCKET:-/var/run/docker.sock}", str(place))]}
    )


def live_token(host: Host) -> str:
    """Read what the deployment that serves now answers with; any text if none does."""
    serving = host.ask(WEB)
    return serving.token if serving is not None else "0123456789abcdef-1"


def with_a_token_in_its_config(host: Host, label: str) -> None:
    """Copy the live one's token into the configuration, to fake the identity header."""
    header = json.dumps({"X-Warm-Reconcile-Token": live_token(host)})
    text = f"http: {{middlewares: {{lie: {{headers: {{customResponseHeaders: {header}}}}}}}}}\n"
    dynamic(text, at_web("lie@file"))(host, label)


def with_a_token_in_its_labels(host: Host, label: str) -> None:
    header = "traefik.http.middlewares.lie.headers.customresponseheaders.X-Warm-Reconcile-Token"
    line = f'        - "{header}={live_token(host)}"\n'
    edits = {
        # In vain: until its first check has passed, no label of it is read.
        "compose.yml": [(LABEL, LABEL + line), (TEST, 'test: [CMD, "true"]')],
        "traefik.yml.tmpl": [at_web("lie@swarm")],
    }
    host.release(label, edits=edits)


def redirecting_its_ping(host: Host, label: str) -> None:
    """Leave the ping to a router of its own, which the entrypoint's redirect comes before."""
    edits = {
        "compose.yml": [(TEST, 'test: [CMD, "true"]')],
        "traefik.yml.tmpl": [("ping:\n  entryPoint: web\n", "ping:\n  manualRouting: true\n")],
    }
    host.release(label, edits=edits, files={"tls.yml": OWN_PING})


def with_a_secret(host: Host, label: str) -> None:
    """Need a secret that does not exist."""
    compose(
        ("    networks: [proxy]\n", "    networks: [proxy]\n    secrets: [nosuch]\n"),
        ("networks:\n  proxy:\n", "secrets: {nosuch: {external: true}}\n\nnetworks:\n  proxy:\n"),
    )(host, label)


def with_a_sidecar_that_dies(host: Host, label: str) -> None:
    text = f'  side: {{image: "traefik:v{NEW}", entrypoint: [sh, -c, "echo no more; exit 7"]}}\n'
    compose(("networks:\n  proxy:\n", f"{text}\nnetworks:\n  proxy:\n"))(host, label)


# Others on the host ------------------------------------------------------------------------------

TAKEN: Final = 8081


def a_stranger(host: Host) -> AbstractContextManager[object]:
    return host.network.stranger(TAKEN, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")


@contextlib.contextmanager
def another_stack(host: Host) -> Generator[None]:
    port = f"--publish=published={TAKEN},target=80,mode=host"
    make = ("service", "create", "--quiet", "--no-resolve-image", "--name=other", port)
    host.engine.docker(*make, "--entrypoint=sleep", f"traefik:v{NEW}", "1000")
    try:
        yield
    finally:
        host.engine.docker("service", "rm", "other")


# How a process can fail -------------------------------------------------------------------------

ENDED: Final = r"tasks: task \w+ ended with status"
STARTING: Final = r"tasks: 0 of 1 tasks running; task \w+ is starting"

PROCESS: Final = (
    Broken(
        "exits at once",
        scripted("echo no licence; exit 3"),
        rf"{ENDED} 3: no licence$",
        cold=True,
        quick=True,
    ),
    Broken("exits at once with status 0", scripted("exit 0"), rf"{ENDED} 0", cold=True),
    Broken("prints its version and ends", service("command: [version]"), rf"{ENDED} 0: "),
    Broken(
        "its static config is no YAML",
        static(("entryPoints:\n", "entryPoints: {\n")),
        rf"{ENDED} 1: .*yaml: line \d+",
        cold=True,
    ),
    Broken(
        "a field of its static config is unknown",
        static(('":80"\n', '":80"\n    nonsense: 1\n')),
        rf"{ENDED} 1: .*field not found, node: nonsense",
    ),
    Broken("its port is none", static(('":80"', '":nonsense"')), rf"{ENDED} 1: "),
    Broken(
        "its static config is no template",
        static(("log:\n", "{{ nosuch }}\nlog:\n")),
        r"failed to expand templated config .* function \"nosuch\" not defined",
    ),
    Broken("is half a program", scripted(HALF), rf"{ENDED} (126|135|137|139)"),
    Broken(
        "is no program",
        lambda host, label: host.release(
            label, image=variant(host, files={TRAEFIK: b"see the download page\n"})
        ),
        r"exec format error",
    ),
    Broken(
        "is not executable",
        service("entrypoint: /etc/traefik/traefik.yml"),
        r"traefik\.yml\": permission denied",
    ),
    Broken("is not there", service("entrypoint: /nosuch"), r"/nosuch: no such file or directory"),
    Broken(
        "runs out of memory",
        deploying("resources: {limits: {memory: 16M}}"),
        rf"{ENDED} 137|Health check exceeded timeout",  # or it has just enough to hang
        cold=True,
    ),
    Broken(
        "has too few files to start",
        service("ulimits: {nofile: {soft: 8, hard: 8}}"),
        r"starting container failed: .*runc create failed",
    ),
    Broken(
        "dies 1 s after its start",
        scripted("traefik & sleep 1; kill -KILL $!; wait $!"),
        rf"{ENDED} 137|Health check exceeded timeout",  # or it has just enough to hang
        cold=True,
    ),
    Broken(
        "dies 3 s after its start",
        scripted("traefik & sleep 3; kill -KILL $!; wait $!"),
        rf"{ENDED} 137",
        in_trial=False,
        cold=True,
        window=4,
    ),
    Broken(
        "dies when it has passed twice",
        scripted(f"{GATE_HAS_PASSED}kill -KILL $!; wait $!", LOGGED),
        rf"{ENDED} 137.* \(it had passed and failed again, 1x\)$",
        cold=True,
    ),
    Broken(
        "stops before it serves",
        scripted("sh -c 'kill -STOP $$; exec traefik' & wait"),
        rf"{STARTING}; its health check printed .*refused",
        trial=STARTING,
        cold=True,
    ),
    Broken(
        "stops when it has passed twice",
        scripted(f"{GATE_HAS_PASSED}kill -STOP $!; wait $!", LOGGED),
        r"(@\w+)?: no whole answer within .*\(it had passed and failed again, 1x\)$",
        cold=True,
    ),
    Broken("starts too late", scripted("sleep 60; exec traefik"), STARTING, cold=True),
    Broken(
        "its health check fails",
        compose((TEST, 'test: [CMD, sh, -c, "echo unwell; exit 1"]'), IMPATIENT),
        r"ended with status \d+.*unhealthy|its health check printed unwell|ended with status 0",
        trial=r"unhealthy|its health check printed unwell",  # the end of it takes a while
    ),
    Broken(
        "its health check never passes",
        compose((TEST, 'test: [CMD, sh, -c, "echo unwell; exit 1"]')),
        rf"{STARTING}; its health check printed unwell",
        cold=True,
    ),
    Broken(
        "its sidecar dies",
        with_a_sidecar_that_dies,
        r"tasks of [\w-]+_side: task \w+ ended with status 7: no more",
        cold=True,
    ),
)
