"""A machine in QEMU: with its own kernel, on a processor that is emulated in software."""

import contextlib
import signal
import socket
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from swarm.network import Load, Network, Reply, clean_environment, wait_for
from typing_extensions import override

from proofs.machines.agent import Agent
from proofs.machines.image import Base
from proofs.machines.machine import RUN_LIMIT, Done, ProofError

PROGRAM: Final = "qemu-system-x86_64"
AGENT: Final = "org.qemu.guest_agent.0"
BOOT_LIMIT: Final = 1200.0
OFF_LIMIT: Final = 180.0
HARDWARE: Final = (
    *("-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "2048"),
    *("-nodefaults", "-display", "none", "-no-reboot"),
)
CABLE: Final = "user,model=virtio-net-pci,restrict=on"
KERNEL_LINE: Final = (
    "root=/dev/vda rw console=ttyS0 quiet mitigations=off systemd.log_target=journal"
    # With AppArmor on, Docker needs apparmor_parser, which is not installed.
    " apparmor=0"
    " systemd.mask=serial-getty@ttyS0.service"
)


class Outside(Network):
    """The network of this host, from which a machine's forwarded port is reached."""

    @override
    def _make(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, self.name)

    @override
    def remove(self) -> None:
        self._entered.shutdown()


class Qemu:
    """A machine whose disk is the file ``image``."""

    def __init__(self, base: Base, image: Path, console: Path, slowness: float) -> None:
        """Args: ``console`` is the file that gets what the machine prints."""
        self.name = image.stem
        self.slowness = slowness
        self.port = _free_port()
        """A port of this host's loopback, forwarded to port 80 of the machine's network card."""
        self._base = base
        self._image = image
        self._console = console
        self._socket = image.with_suffix(".agent")
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: Agent | None = None
        self._outside = Outside("outside")

    # Its life ------------------------------------------------------------------------------------

    def boot(self) -> None:
        assert self._process is None
        self._socket.unlink(missing_ok=True)
        with self._console.open("ab") as console:
            self._process = subprocess.Popen(
                [
                    *(PROGRAM, *HARDWARE, "-serial", "stdio"),
                    *("-kernel", str(self._base.kernel), "-initrd", str(self._base.initrd)),
                    *("-append", KERNEL_LINE),
                    *("-drive", f"file={self._image},format=raw,if=virtio,cache=unsafe"),
                    *("-nic", f"{CABLE},hostfwd=tcp:127.0.0.1:{self.port}-:80"),
                    *("-device", "virtio-serial-pci"),
                    *("-chardev", f"socket,id=agent,path={self._socket},server=on,wait=off"),
                    *("-device", f"virtserialport,chardev=agent,name={AGENT}"),
                ],
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        what = f"a guest agent in {self.name}; see {self._console}"
        self._agent = wait_for(self._reach, what, BOOT_LIMIT)

    def _reach(self) -> Agent | None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ProofError(f"{self.name} did not start: {self._console.read_text()[-800:]}")
        with contextlib.suppress(OSError):
            return Agent(self._socket)
        return None

    def power_off(self) -> None:
        assert self._process is not None
        assert self._agent is not None
        with contextlib.suppress(ProofError):  # the agent may end before it answers
            self._agent.run("systemctl", "--no-block", "poweroff", timeout=OFF_LIMIT)
        try:
            self._process.wait(OFF_LIMIT)
        except subprocess.TimeoutExpired as error:
            raise ProofError(f"{self.name} did not shut down in {OFF_LIMIT:g} s") from error
        finally:
            self.cut_power()

    def cut_power(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(OFF_LIMIT)
            self._process = None

    # Requests and commands -----------------------------------------------------------------------

    def run(self, *command: str, timeout: float = RUN_LIMIT) -> Done:
        assert self._agent is not None
        return self._agent.run(*command, timeout=timeout * self.slowness)

    def get(self, url: str, *, host: str | None = None, timeout: float = 2.0) -> Reply | None:
        header = () if host is None else ("--header", f"Host: {host}" if host else "Host;")
        done = self.run(
            *("curl", "--silent", "--insecure", "--include", "--http1.1", "--noproxy", "*"),
            *("--connect-to", "::127.0.0.1:", "--max-time", f"{timeout * self.slowness:g}"),
            *header,
            url,
        )
        return _reply(done.out) if done.code == 0 else None

    def get_from_outside(self, url: str, *, host: str | None = None) -> Reply | None:
        """Request port 80 once, as a neighbour on the network does; None if there is no answer."""
        return self._outside.get(self._forwarded(url), host=host, timeout=2.0 * self.slowness)

    @contextlib.contextmanager
    def load(self, url: str, *, host: str | None = None, pause: float = 0.1) -> Generator[Load]:
        """Request port 80 from outside repeatedly and count answers; ``pause`` in seconds."""
        with self._outside.load(self._forwarded(url), host=host, pause=pause) as load:
            yield load

    def _forwarded(self, url: str) -> str:
        return f"http://127.0.0.1:{self.port}{urlsplit(url).path}"


def _reply(text: str) -> Reply:
    head, _, body = text.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Reply(int(first.split()[1]), {k.lower(): v.strip() for k, _, v in pairs}, body)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
