"""Broken releases, each with the reason that the gate has to report.

Some need more than a configuration: their binary is a script, which starts the real Traefik and
then misbehaves, or only pretends to be one. An alarm ends a script that nothing else has ended.
"""

import sys
from collections.abc import Callable
from typing import Final

from attrs import frozen

from traefik.harness import API, NEW, OLD, PATIENCE, PING, ROUNDS, App, Binary

SHORT: Final = 1.0
"""Seconds for a probe that never gets an answer; a healthy release gives it within that, too."""
LONG: Final = 60.0
"""A window in which whatever is to happen within it happens on any machine."""
MANY: Final = 20
"""Rounds of refused connections in which a Traefik would have started, on most machines."""


@frozen
class Broken:
    """A way to be broken."""

    name: str
    write: Callable[[App, str], object]
    """Write such a release under a label."""
    reason: str
    """The true cause, as a regular expression."""
    window: float = 0.3
    """Seconds that it would have to hold."""
    timeout: float = PATIENCE
    """Seconds for each probe; short where it never gets an answer."""
    rounds: int = ROUNDS
    """How often the cause is to be seen."""


# Scripts for a binary ----------------------------------------------------------------------------

_HEAD: Final = """\
#!/bin/sh
'''exec' "{python}" -IS "$0" "$@"
# A path with a space can't stand in the first line. For Python the second one is a string.
'''
import os, signal, socket, subprocess, sys, threading, time
signal.alarm(1800)
REAL, PORT = {real!r}, {port}

def start():
    return subprocess.Popen([REAL, *sys.argv[1:]])

def wait_until_the_gate_has_passed():
    # Rounds don't overlap: when a second one has got its answer, the first one is over.
    while True:
        try:
            with open("access.log") as log:
                if sum("identity HTTP/1.1\\" 200 " in line for line in log) >= 2:
                    return
        except FileNotFoundError:
            pass
        time.sleep(0.002)

def serve(answer):
    server = socket.create_server(("127.0.0.1", PORT), backlog=64)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=attend, args=(connection, answer), daemon=True).start()

def attend(connection, answer):
    with connection:
        try:
            connection.recv(4096)
            answer(connection)
        except OSError:
            pass  # the client has gone

"""


def script(app: App, label: str, body: str, real: Binary | None = None) -> Binary:
    """Make an executable of a few lines of Python that know the real Traefik and the port."""
    path = (real or app.real[NEW]).path
    head = _HEAD.format(python=sys.executable, real=str(path), port=app.port)
    return app.executable(f"{label}.script", head + body)


def _scripted(body: str) -> Callable[[App, str], object]:
    def write(app: App, label: str) -> None:
        log = "accessLog: {filePath: access.log, addInternals: true}"
        app.release(label, binary=script(app, label, body), static=app.static(more=log))

    return write


def _answering(answer: str) -> Callable[[App, str], object]:
    indented = "".join(f"    {line}\n" for line in answer.splitlines())
    return _scripted(f"def answer(connection):\n{indented}\nserve(answer)\n")


DIES: Final = """\
child = start()
wait_until_the_gate_has_passed()
child.kill()
child.wait()
os.kill(os.getpid(), signal.SIGKILL)
"""

HANGS: Final = """\
child = start()
wait_until_the_gate_has_passed()
child.send_signal(signal.SIGSTOP)
child.wait()
"""

NEVER_STARTS: Final = """\
os.kill(os.getpid(), signal.SIGSTOP)
os.execv(REAL, [REAL, *sys.argv[1:]])
"""

STARTS_TOO_LATE: Final = """\
time.sleep(3600)
os.execv(REAL, [REAL, *sys.argv[1:]])
"""

IGNORES_ITS_END: Final = """\
signal.signal(signal.SIGTERM, signal.SIG_IGN)
serve(lambda connection: time.sleep(3600))
"""

STRANGER: Final = """\
def answer(connection):
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nOK")

start()
serve(answer)
"""

HEADERS_THEN_SILENCE: Final = """\
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n")
time.sleep(3600)
"""

ENDLESS_BODY: Final = """\
connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\nOK")
for _ in range(10_000_000):
    connection.sendall(b"OK" * 1024)
"""

DRIPPING_BODY: Final = """\
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100000\\r\\n\\r\\n")
for _ in range(1000):
    connection.sendall(b"O")
    time.sleep(0.05)
"""

DRIPPING_HEADERS: Final = """\
connection.sendall(b"HTTP/1.1 200 OK\\r\\n")
for number in range(1000):
    connection.sendall(b"X-%d: on its way\\r\\n" % number)
    time.sleep(0.05)
"""

NOT_HTTP: Final = """\
connection.sendall(b"220 mail.test ESMTP\\r\\n")
"""


# Configurations ----------------------------------------------------------------------------------


def _configured(web: str = "", ping: str = PING, api: str = API) -> Callable[[App, str], object]:
    return lambda app, label: app.release(label, static=app.static(web=web, ping=ping, api=api))


def _routed(dynamic: str) -> Callable[[App, str], object]:
    return lambda app, label: app.release(label, dynamic=dynamic)


def _behind_a_stranger(app: App, label: str) -> None:
    binary = script(app, label, STRANGER)
    app.release(label, binary=binary, static=app.static(port=app.other_port))


def _on_another_port(app: App, label: str) -> None:
    app.release(label, static=app.static(port=app.other_port))


def _under_a_wrong_version(app: App, label: str) -> None:
    app.release(label, version=NEW, binary=app.real[OLD])


def _redirecting_its_ping(app: App, label: str) -> None:
    """Send the ping to another page, which answers 200 and OK."""
    rewrite = f'{{regex: "^.*/ping$", replacement: "http://127.0.0.1:{app.port}/fine"}}'
    app.release(
        label,
        static=app.static(ping="ping: {manualRouting: true}"),
        dynamic=f"""\
http:
  routers:
    ping: {{rule: "Path(`/ping`)", service: ping@internal, middlewares: [elsewhere]}}
    fine: {{rule: "Path(`/fine`)", service: ping@internal}}
  middlewares:
    elsewhere: {{redirectRegex: {rewrite}}}
""",
    )


def _truncated(app: App, label: str) -> None:
    with app.real[NEW].path.open("rb") as whole:
        half = app.executable(f"{label}.half", whole.read(1_000_000))
    app.release(label, binary=half)


def _no_program(app: App, label: str) -> None:
    app.release(label, binary=app.executable(f"{label}.txt", "see the download page\n"))


def _under_a_wrong_hash(app: App, label: str) -> None:
    honest = app.executable(f"{label}.sh", "#!/bin/sh\n")
    app.release(label, binary=Binary(honest.path, "0" * 64))


CATALOGUE: Final = (
    Broken(
        "exits at once: a field of its static configuration is unknown",
        _configured(web="nonsense: 1"),
        r"^process: the process exited with status 1: .*field not found, node: nonsense",
    ),
    Broken(
        "exits at once: its static configuration is no YAML",
        lambda app, label: app.release(label, static="entryPoints: {web"),
        r"^process: the process exited with status 1: .*yaml: line 1",
    ),
    Broken(
        "exits at once: its port is none",
        lambda app, label: app.release(
            label, static=app.static().replace(f":{app.port}", ":nonsense")
        ),
        r"^process: the process exited with status 1: .*tcp/nonsense: unknown port",
    ),
    Broken(
        "dies after it has passed",
        _scripted(DIES),
        r"^process: the process was killed by signal 9.* \(it had passed and failed again, 1x\)$",
        window=LONG,
    ),
    Broken(
        "hangs after it has passed",
        _scripted(HANGS),
        r"^ping: no whole answer within.* \(it had passed and failed again, 1x\)$",
        window=LONG,
        timeout=SHORT,
    ),
    Broken(
        "hangs before it serves",
        _scripted(NEVER_STARTS),
        r"^ping: connection refused",
        rounds=MANY,
    ),
    Broken(
        "starts too late",
        _scripted(STARTS_TOO_LATE),
        r"^ping: connection refused",
        rounds=MANY,
    ),
    Broken(
        "has no ping",
        _configured(ping=""),
        r"^ping: status 404, expected 200",
    ),
    Broken(
        "redirects its ping to a page that answers 200",
        _redirecting_its_ping,
        r"^ping: status 302, expected 200 \(redirect to http://127\.0\.0\.1:\d+/fine\)",
    ),
    Broken(
        "listens elsewhere",
        _on_another_port,
        r"^ping: connection refused",
        rounds=MANY,
    ),
    Broken(
        "listens elsewhere, and another program answers 200 OK to everything",
        _behind_a_stranger,
        r"^identity: no X-Warm-Reconcile-Token header: this is not the Traefik that was deployed",
    ),
    Broken(
        "is another version",
        _under_a_wrong_version,
        r"^identity: version 3\.5\.0 answers, expected 3\.7\.15",
    ),
    Broken(
        "has no API, and so no identity",
        _configured(api=""),
        r"^identity: status 404.*Traefik's api or dynamic/ is off",
    ),
    Broken(
        "has a dynamic configuration that is no YAML",
        _routed("http: {routers: {"),
        r"^identity: status 404.*Traefik's api or dynamic/ is off",
    ),
    Broken(
        "has a dynamic configuration that is no template",
        _routed('http: {routers: {site: {rule: "{{ nosuch }}"}}}'),
        r"^identity: status 404.*Traefik's api or dynamic/ is off",
    ),
    Broken(
        "sends headers, then nothing",
        _answering(HEADERS_THEN_SILENCE),
        r"^ping: no whole answer within",
        timeout=SHORT,
    ),
    Broken(
        "sends a body without an end",
        _answering(ENDLESS_BODY),
        r"^ping: the body is larger than 65536 bytes",
    ),
    Broken(
        "lets its body drip",
        _answering(DRIPPING_BODY),
        r"^ping: no whole answer within",
        timeout=SHORT,
    ),
    Broken(
        "lets its headers drip",
        _answering(DRIPPING_HEADERS),
        r"^ping: no whole answer within",
        timeout=SHORT,
    ),
    Broken(
        "speaks another protocol",
        _answering(NOT_HTTP),
        r"^ping: no HTTP answer: ",
    ),
    Broken(
        "is half a program",
        _truncated,
        r"^process: the process was killed by signal (7|9|11)",
    ),
    Broken(
        "is no program",
        _no_program,
        r"can't be executed: Exec format error",
    ),
)

NOT_WHAT_IT_PROMISES: Final = Broken(
    "is not what it promises to be",
    _under_a_wrong_hash,
    r"has SHA-256 [0-9a-f]{64}, expected 0{64}",
)
"""The one that can't even be stored."""
