"""Hosts of our own on one machine: network namespaces on a switch that nothing else is connected to, and ways to cut them off."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.needs import lacking, require

NOBODY = "02:00:00:00:00:99"  # a hardware address that no host has: what is sent there is lost without a word
_numbers = count(1)


@dataclass
class Host:
    """A namespace with one address."""

    name: str
    namespace: str
    address: str
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def words(self) -> tuple[str, ...]:
        """What a command begins with to run there; the process that is started is the command's own."""
        return require("ip"), "netns", "exec", self.namespace

    def start(self, *argv: str | Path, output: Path | None = None, cwd: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """A process there, in a group of its own; its output is appended to a file."""
        with Path(output or os.devnull).open("ab") as file:
            process = subprocess.Popen(
                [*self.words(), *argv],
                cwd=cwd,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def run(self, *argv: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command there, and what it printed."""
        return subprocess.run(
            [*self.words(), *argv],
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def kill(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    """A signal for a process and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    if number in {signal.SIGKILL, signal.SIGTERM}:
        process.wait(120)


class Network:
    """The switch and its hosts."""

    def __init__(self) -> None:
        self._prefix = f"d{os.getpid()}n{next(_numbers)}"
        self._switch = f"{self._prefix}s"
        self.hosts: dict[str, Host] = {}

    def open(self) -> None:
        """Make the switch; a machine that allows none lacks it."""
        made = subprocess.run([require("ip"), "netns", "add", self._switch], capture_output=True, check=False)
        if made.returncode != 0:
            lacking("network namespaces (run as root)")
        self._ip("link", "add", "br0", "type", "bridge")
        self._ip("link", "set", "br0", "up")

    def host(self, name: str) -> Host:
        """One more host."""
        number = len(self.hosts) + 1
        made = Host(name, f"{self._prefix}{name}", f"10.99.0.{number}")
        subprocess.run([require("ip"), "netns", "add", made.namespace], check=True)
        self.hosts[name] = made
        self._ip("link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", made.namespace)
        self._ip("link", "set", f"p{number}", "master", "br0", "up")
        self._ip("addr", "add", f"{made.address}/24", "dev", "eth0", at=made.namespace)
        for device in ("lo", "eth0"):
            self._ip("link", "set", device, "up", at=made.namespace)
        return made

    def cut(self, one: Host, other: Host) -> None:
        """What they send to each other is lost from now on; neither is told."""
        for here, there in ((one, other), (other, one)):
            self._ip("neigh", "replace", there.address, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent", at=here.namespace)

    def heal(self, one: Host, other: Host) -> None:
        """They reach each other again."""
        for here, there in ((one, other), (other, one)):
            self._ip("neigh", "del", there.address, "dev", "eth0", at=here.namespace)

    def unplug(self, host: Host, *, back: bool = False) -> None:
        """Pull a host's cable, or put it back."""
        self._ip("link", "set", f"p{int(host.address.rpartition('.')[2])}", "up" if back else "down")

    def _ip(self, *words: str, at: str = "") -> None:
        subprocess.run([require("ip"), "-n", at or self._switch, *words], check=True, capture_output=True)

    def close(self) -> None:
        """End what runs on the hosts, and take everything down."""
        for host in self.hosts.values():
            for process in host.running:
                kill(process, signal.SIGCONT)
                kill(process)
        for namespace in (*(host.namespace for host in self.hosts.values()), self._switch):
            subprocess.run([require("ip"), "netns", "del", namespace], capture_output=True, check=False)


@contextmanager
def network() -> Iterator[Network]:
    """A network, taken down in the end."""
    made = Network()
    try:
        made.open()
        yield made
    finally:
        made.close()
