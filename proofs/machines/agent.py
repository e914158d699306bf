"""A client of QEMU's guest agent: runs commands in a virtual machine over a virtio-serial port."""

import base64
import json
import secrets
import socket
import time
from pathlib import Path
from typing import Any, Final

from proofs.machines.machine import Done, ProofError

CALL_LIMIT: Final = 600.0
SYNC_LIMIT: Final = 10.0
PAUSE: Final = 1.0
"""Seconds between two polls for the end of a command: each poll costs the machine time."""
ENVIRONMENT: Final = (
    "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin",
    "HOME=/root",
)


class Agent:
    """A connection to the agent of one boot."""

    def __init__(self, path: Path) -> None:
        """Args: ``path`` is the socket on which QEMU listens.

        Raises:
            OSError: no process listens there.
            TimeoutError: no agent answers yet.
        """
        self._read = b""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(CALL_LIMIT)
            self._socket.connect(str(path))
            self._synchronize()
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def run(self, *command: str, timeout: float) -> Done:
        """Run a command; ``timeout`` in seconds.

        Raises:
            ProofError: the command did not end within the timeout, or the agent doesn't answer.
        """
        program, *arguments = command
        deadline = time.monotonic() + timeout
        try:
            begun = self._call(
                "guest-exec",
                {
                    "path": program,
                    "arg": arguments,
                    "env": list(ENVIRONMENT),
                    "capture-output": True,
                },
            )
            while not (status := self._call("guest-exec-status", begun))["exited"]:
                if time.monotonic() > deadline:
                    raise ProofError(f"{' '.join(command)}: no end in {timeout:g} s")
                time.sleep(PAUSE)
        except OSError as error:
            raise ProofError(f"{' '.join(command)}: the guest agent is gone: {error}") from error
        code = status["exitcode"] if "exitcode" in status else -int(status["signal"])
        return Done(command, code, _text(status, "out-data"), _text(status, "err-data"))

    def _call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._send(name, arguments)
        answer = self._receive(time.monotonic() + CALL_LIMIT)
        if "error" in answer:
            raise ProofError(f"{name} {arguments}: {answer['error']['desc']}")
        returned: dict[str, Any] = answer["return"]
        return returned

    def _synchronize(self) -> None:
        """Skip answers to an earlier connection."""
        number = secrets.randbits(31)
        self._send("guest-sync", {"id": number})
        deadline = time.monotonic() + SYNC_LIMIT
        while self._receive(deadline).get("return") != number:
            pass

    def _send(self, name: str, arguments: dict[str, Any]) -> None:
        message = json.dumps({"execute": name, "arguments": arguments})
        self._socket.sendall(message.encode() + b"\n")

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._read:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            if not (more := self._socket.recv(65536)):
                raise ConnectionError("QEMU has closed the connection")
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _text(status: dict[str, Any], key: str) -> str:
    return base64.b64decode(status.get(key, "")).decode("utf-8", "replace")
