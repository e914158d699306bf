#!/usr/bin/python3
"""The old job, for the proofs only: deploy Traefik, then wait for the dashboard's page.

It replaces ``warm_reconcile.py``. For apps other than Traefik it executes the real tool, because
their gates had no fault. The deployment is the same recipe with the same overlay; the one
difference is the page that it requests until it answers 200: only systemd ends the wait.
"""

import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PAGE = "https://ci.commoninternet.net/"
PAUSE = 1.0
REAL = "/opt/warm-reconcile/bin/warm-reconcile"


def deploy() -> None:
    plan = json.loads(Path("/opt/proofs/old-gate.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        for directory in plan["directories"]:
            shutil.copytree(directory, place, dirs_exist_ok=True)
        files = [f"--compose-file={place}/{name}" for name in ("compose.yml", "compose.gate.yml")]
        environment = {**os.environ, **plan["variables"]}
        rendered = subprocess.run(
            ["docker", "stack", "config", *files], env=environment, check=True, capture_output=True
        )
        command = ["docker", "stack", "deploy", "--resolve-image=never", "--compose-file=-"]
        subprocess.run([*command, plan["stack"]], input=rendered.stdout, check=True)


def answer() -> str:
    try:
        with urllib.request.urlopen(PAGE, timeout=5, context=ssl.create_default_context()) as page:
            return str(page.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return str(getattr(error, "reason", error))


def main() -> None:
    if sys.argv[1:2] != ["traefik"]:
        os.execv(REAL, [REAL, "run", *sys.argv[1:]])  # noqa: S606 - no shell is wanted
    deploy()
    last = ""
    while last != "200":
        now = answer()
        if now != last:
            print(f"{PAGE}: {now}", flush=True)
        last = now
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
