"""Make the frozen state directories: ``COMMIT-process.tar.gz`` and ``COMMIT-swarm.tar.gz``.

The script runs the commands of an older version from a checkout of that version, so every byte in
an archive was written by its own code::

    git worktree add /tmp/warm-reconcile-dbd8bb8 dbd8bb8
    make -C /tmp/warm-reconcile-dbd8bb8 .venv/.ready
    /tmp/warm-reconcile-dbd8bb8/.venv/bin/python tests/frozen/make.py dbd8bb8 process
    /tmp/warm-reconcile-dbd8bb8/.venv/bin/python tests/frozen/make.py dbd8bb8 swarm

The process archive deploys ``traefik.py`` in place of a Traefik of 180 MB; its entry in
``binaries/`` is laid out by this script under the key of a wheel, with the right hash. The Swarm
archive deploys an image with one program of 1 kB, ``server.c``, in a Docker Swarm of its own; it
needs root and gcc. A process that was killed on purpose leaves the last attempt of each app open.

This file belongs to no later version: it is not linted, and is changed only to freeze another one.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.parse
from pathlib import Path

HERE = Path(__file__).parent
COMMIT, WHAT = sys.argv[1:]
OLD = Path(f"/tmp/warm-reconcile-{COMMIT}")
HOME = Path("/tmp/warm-reconcile-frozen")
PORT = "20999"
THIRTY_YEARS = 1_000_000_000
"""Seconds: the quarantine of the archives must hold in every later test."""
CALLER = "deploy-proxy.service"
CANNOT_ASK = f"""
[[probes]]
kind = "http"
name = "secure"
target_unit = "{CALLER}"
url = "https://127.0.0.1:1/"
ca_file = "/nonexistent/ca.pem"
"""


def pack(state: Path, name: str) -> None:
    archive = HERE / f"{name}.tar.gz"
    command = ["tar", "--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]
    command += ["--use-compress-program=gzip --best --no-name", f"--file={archive}"]
    subprocess.run([*command, f"--directory={state}", "."], check=True)
    print(archive, archive.stat().st_size, "bytes")


class Processes:
    """The app ``traefik`` of the process world."""

    state = HOME / "state"
    config = HOME / "config" / "traefik.toml"
    program = (HERE / "traefik.py").read_bytes()

    def __init__(self) -> None:
        (HOME / "releases").mkdir(parents=True)
        self.configure()

    def configure(self, more: str = "", quarantine: float = THIRTY_YEARS) -> None:
        url = f"http://127.0.0.1:{PORT}"
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(
            f'state_dir = "{self.state}"\ncaller = "{CALLER}"\n'
            f'[source]\nkind = "directory"\npath = "{HOME}/releases"\n'
            f"[retention]\nquarantine = {quarantine}\n"
            "[gate]\nrise = 2\nwindow = 0.2\ndeadline = 2.0\nverify_deadline = 2.0\n"
            f'[[probes]]\nkind = "traefik-ping"\ntarget_unit = "{CALLER}"\nurl = "{url}/ping"\n'
            f'[[probes]]\nkind = "identity"\ntarget_unit = "{CALLER}"\n'
            f'url = "{url}/.warm-reconcile/identity"\n{more}'
        )

    def release(self, label: str, fault: str = "healthy", program: bytes = b"") -> None:
        program = program or self.program
        key = hashlib.sha256(b"a wheel with " + program).hexdigest()
        binary = self.state / "traefik" / "binaries" / f"wheel-{key}"
        for directory in (self.state, binary.parents[1], binary.parent, binary):
            directory.mkdir(mode=0o700, exist_ok=True)
        (binary / "traefik").write_bytes(program)
        (binary / "traefik").chmod(0o755)
        promised = hashlib.sha256(b"other" if fault == "rotten" else program).hexdigest()
        (binary / "sha256").write_text(promised + "\n")
        place = HOME / "releases" / label
        (place / "dynamic").mkdir(parents=True)
        (place / "release.toml").write_text(f'version = "{label}"\nwheel_sha256 = "{key}"\n')
        (place / "traefik.yml").write_text(f"# {fault}\n")
        (place / "dynamic" / "site.yml").write_text("http: {}\n")

    def run(self, expected: str, *flags: str, **environment: str) -> None:
        command = [sys.executable, OLD / "runner" / "warm_reconcile.py", "traefik", "--json"]
        command += ["--config-dir", self.config.parent, *flags]
        known = {**os.environ, "FROZEN_PORT": PORT, "PYTHONPATH": str(OLD), **environment}
        ran = subprocess.run(command, env=known, capture_output=True, text=True)
        assert ran.stdout, ran
        outcome = json.loads(ran.stdout)["outcome"]
        print(ran.returncode, outcome, json.loads(ran.stdout)["reason"])
        assert outcome == expected, ran

    def die(self, moment: str) -> None:
        """Run, and be killed at a moment that ``killed_run.py`` of that version knows."""
        killed_run = OLD / "tests" / "integration" / "traefik" / "killed_run.py"
        command = [sys.executable, killed_run, self.config.parent, HOME / "trace", moment]
        path = f"{OLD}:{OLD / 'tests/integration'}"
        known = {**os.environ, "FROZEN_PORT": PORT, "PYTHONPATH": path}
        ran = subprocess.run(command, env=known, capture_output=True, text=True)
        print("killed", moment)
        assert ran.returncode == -signal.SIGKILL, ran

    def instances(self) -> list[Path]:
        """List the directories of the instances that run."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                for argument in (process / "cmdline").read_bytes().split(b"\0"):
                    prefix = f"--configFile={self.state}/".encode()
                    if argument.startswith(prefix):
                        found.append((int(process.name), Path(argument[13:].decode()).parent))
        return found

    def kill(self) -> None:
        for pid, _ in self.instances():
            os.kill(pid, signal.SIGKILL)
        while self.instances():
            pass

    def story(self) -> None:
        self.run("stranded")  # the source offers nothing
        self.configure(CANNOT_ASK)
        self.release("1.0.0")
        self.run("undecided")  # the gate can't ask, and nothing is proven
        self.configure()
        self.run("committed")
        self.run("unchanged")
        self.kill()
        self.run("restored")
        self.release("1.1.0")
        self.run("committed")
        self.configure(quarantine=0.001)
        self.release("1.1.1", "sick")
        self.run("rolled back")  # its quarantine has expired in every later test
        self.configure()
        shutil.rmtree(HOME / "releases" / "1.1.1")
        self.release("1.2.0", "sick")
        self.run("rolled back")
        self.run("unchanged")  # the latest is in quarantine
        self.release("1.3.0", "not executable", b"\x7fELF, or what is left of it")
        self.run("rolled back")  # the deployment fails, and the release is blamed
        self.release("1.4.0", "rotten", self.program + b"# rotten\n")
        self.run("rolled back")  # it fails before anything is touched: nobody is blamed
        shutil.rmtree(HOME / "releases" / "1.4.0")
        self.release("1.5.0", "spoils the store")
        self.run("rolled back")  # it can't be sealed
        shutil.rmtree(HOME / "releases" / "1.5.0")
        self.configure(CANNOT_ASK)
        self.release("1.6.0")
        self.run("undecided")  # neither the candidate nor last-good can be asked
        self.configure()
        self.run("rolled back")  # what was decided before is brought to an end
        self.die("before the first round of a gate")
        self.run("committed")  # the candidate was left serving: it is gated again
        for _, home in self.instances():
            (home / "sick").touch()
        self.run("restored")  # last-good is live and fails, and is deployed again
        self.kill()
        self.run("stranded", FROZEN_SICK="1")
        self.kill()
        self.run("restored")
        self.release("2.0.0")
        self.die("before the first round of a gate")
        self.die("before the first round of a gate")
        self.kill()


class Swarm:
    """The app ``traefik`` as a stack, on an engine of its own."""

    stack = "frozen"
    state = HOME / "state"
    probe = f'[[probes]]\nkind = "task"\ntarget_unit = "{CALLER}"\nport = 8080\nbody_contains = "ok"\n'

    def __init__(self) -> None:
        sys.path[:0] = [str(OLD / "tests" / "integration"), str(OLD / "tests"), str(OLD)]
        os.environ["PYTHONPATH"] = str(OLD)
        from swarm.engine import Engine
        from swarm.harness import Host

        self.engine = Engine(self.furnish)
        self.engine.begin()
        self.host = Host(self.engine, HOME)
        self.host.stack = self.host.variables["STACK_NAME"] = self.stack
        self.configure()

    def furnish(self, engine: object) -> None:
        """Make the image of one program."""
        server = HERE / "server.c"
        flags = "-Os -static -nostdlib -fno-stack-protector -fno-asynchronous-unwind-tables -s"
        linker = "-Wl,--build-id=none -Wl,-z,noseparate-code"
        built = HERE / "server.built"
        command = ["gcc", *flags.split(), *linker.split(), "-o", built, server]
        subprocess.run(command, check=True)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            member = tarfile.TarInfo("server")
            member.size, member.mode = built.stat().st_size, 0o755
            archive.addfile(member, io.BytesIO(built.read_bytes()))
        built.unlink()
        change = ["--change", 'ENTRYPOINT ["/server"]']
        engine.docker("import", *change, "-", "frozen:1", given=packed.getvalue())

    def configure(self, preflight: float = 0.0) -> None:
        self.host.configure(
            window=1.0, deadline=15.0, preflight=preflight, probes=self.probe,
            more=f"[retention]\nquarantine = {THIRTY_YEARS}\n",
        )

    def release(self, label: str, page: str = "ok") -> None:
        compose = f"""version: "3.8"
services:
  app:
    image: frozen:1
    environment: [FROZEN={label}]
    configs:
      - {{source: page, target: /page/index.html}}
    networks: [proxy]
    stop_signal: KILL
    deploy:
      restart_policy: {{delay: 1s}}
      labels: ["coop-cloud.${{STACK_NAME}}.version={label}"]
networks:
  proxy: {{external: true}}
configs:
  page: {{name: "${{STACK_NAME}}_page_${{PAGE_VERSION}}", file: page.html}}
"""
        recipe = HOME / "draft"
        shutil.rmtree(recipe, ignore_errors=True)
        recipe.mkdir()
        # What the harness of the tests edits has to be there.
        (recipe / "compose.yml").write_text(compose + "# traefik:v3.7.15 1.0.0+v3.7.15\n")
        (recipe / "abra.sh").write_text("export PAGE_VERSION=v1\n")
        (recipe / "page.html").write_text(f"{page} {label}\n")
        self.host.release(label, recipe=recipe)

    def run(self, expected: str) -> None:
        ran = self.host.run()
        print(ran.code, ran.outcome, ran.reason)
        assert ran.outcome == expected, ran

    def die(self, moment: str) -> None:
        ran = self.host.end(self.host.begin_killed(HOME / "trace", moment))
        print("killed", moment)
        assert ran.code == -signal.SIGKILL, ran

    def record(self) -> None:
        """Ask the engine what the reading commands ask, and keep its answers."""
        from runner.platforms.swarm.engine_api import Engine

        asked = {}
        engine = Engine(str(self.engine.socket))
        fetch = Engine._fetch

        async def recorded(self, path, parameters):
            response = await fetch(self, path, parameters)
            query = urllib.parse.urlencode(parameters)
            body = json.loads(response.content)
            asked[f"{path}?{query}" if query else path] = [response.status_code, body]
            return response

        Engine._fetch = recorded
        from runner.cli import app_state
        from runner.cli.commands import views
        from runner.app import find_app

        app = find_app("traefik", config=self.host.config, config_dir=HOME)
        found = app_state.survey(app, ask_source=True)
        print(views.status(found).text)
        print(views.plan(found).text)
        text = json.dumps(asked, indent=1, sort_keys=True)
        text = text.replace(f'"{os.uname().nodename}"', '"node"')
        (self.state / "engine.json").write_text(text + "\n")

    def story(self) -> None:
        self.release("1.0.0+v1.0.0")
        self.run("committed")
        self.release("1.1.0+v1.1.0")
        self.run("committed")
        self.run("unchanged")
        self.engine.docker("stack", "rm", self.stack)
        self.run("restored")
        self.configure(preflight=5.0)
        self.release("1.2.0+v1.2.0", "wrong")
        self.run("rolled back")  # the trial fails: last-good was not touched
        self.configure()
        self.release("1.3.0+v1.3.0", "wrong")
        self.run("rolled back")  # the gate fails, last-good is deployed again
        self.engine.kill()
        self.run("undecided")
        self.engine.start()
        self.run("unchanged")
        self.release("2.0.0+v2.0.0")
        self.die("before the first round of a gate")
        self.record()


if __name__ == "__main__":
    os.umask(0o022)
    shutil.rmtree(HOME, ignore_errors=True)
    made = {"process": Processes, "swarm": Swarm}[WHAT]()
    try:
        made.story()
        pack(made.state, f"{COMMIT}-{WHAT}")
    finally:
        made.kill() if WHAT == "process" else (made.host.stop(), made.engine.end())
