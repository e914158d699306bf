#!/usr/bin/env python3
"""Stands for Traefik in the frozen state of the process world: a ping, and who it is.

It takes the port from the variable FROZEN_PORT, the version from ``release.toml``, and its faults
from the first line of ``traefik.yml`` and from a file ``sick`` beside that.
"""

import http.server
import json
import os
import signal
import sys
import threading
import tomllib
from pathlib import Path

HOME = Path(sys.argv[1].removeprefix("--configFile=")).parent
FAULT = (HOME / "traefik.yml").read_text().partition("\n")[0]
VERSION = tomllib.loads((HOME / "release.toml").read_text())["version"]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_sick = "sick" in FAULT or (HOME / "sick").exists() or "FROZEN_SICK" in os.environ
        body = json.dumps({"Version": VERSION}) if "identity" in self.path else "OK"
        self.send_response(500 if is_sick else 200)
        self.send_header("X-Warm-Reconcile-Token", os.environ["WARM_RECONCILE_TOKEN"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


if "spoils the store" in FAULT:  # what was taken in is not what a rollback would find
    digest = json.loads((HOME / "deployment.json").read_text())["release"]["digest"]
    (HOME.parents[1] / "releases" / digest / "files" / "traefik.yml").write_text("spoiled\n")
address = ("127.0.0.1", int(os.environ["FROZEN_PORT"]))
server = http.server.ThreadingHTTPServer(address, Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("serving", VERSION, flush=True)
server.serve_forever(0.01)
