"""What the measurements stand on: people with certificates, a workspace, postfix's sink, and a stopwatch."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from tests.authority import Authority, own_key
from tests.needs import require

PASSWORD = "as-it-came-from-the-ca"
KEYS = 24  # making RSA keys is slow and not what is measured


def people(folder: Path, count: int, form: str = "pfx") -> Path:
    """`count` people's certificates (RSA-2048, two CA certificates) as PFX (AES-256) or plain PEM, and a roster that names each file."""
    authority = Authority("Bench")
    certificates = folder / "certificates"
    certificates.mkdir(parents=True)
    rows = ["email,name,language,file,password"]
    for n in range(count):
        address = f"person{n:05}@example.org"
        identity = authority.issue(address, name=f"Person {n}", key=own_key(n))
        data = identity.pfx(PASSWORD) if form == "pfx" else identity.pem + identity.key_pem()
        (certificates / f"{n:05}.{form}").write_bytes(data)
        password = PASSWORD if form == "pfx" else ""
        rows.append(f"{address},Person {n},{('en', 'fr', 'de')[n % 3]},certificates/{n:05}.{form},{password}")
    roster = folder / "people.csv"
    roster.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return roster


def many_people(folder: Path, count: int) -> Path:
    """As `people`, with plain PEM and a key of their own for everybody: on a curve, since RSA keys take a day to make."""
    authority = Authority("Bench")
    certificates = folder / "certificates"
    certificates.mkdir(parents=True)
    roster = folder / "people.csv"
    with roster.open("w", encoding="utf-8") as rows:
        rows.write("email,name,language,file,password\n")
        for n in range(count):
            address = f"person{n:06}@example.org"
            identity = authority.issue(address, name=f"Person {n}", key=ec.generate_private_key(ec.SECP256R1()))
            (certificates / f"{n:06}.pem").write_bytes(identity.pem + identity.key_pem())
            rows.write(f"{address},Person {n},{('en', 'fr', 'de')[n % 3]},certificates/{n:06}.pem,\n")
    return roster


def workspace(folder: Path, port: int, connections: int = 12) -> Path:
    """An initialised workspace that sends to a server on this machine."""
    distributor("init", str(folder / "workspace"))
    config = folder / "workspace" / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^port = \d+", f"port = {port}", text)
    config.write_text(re.sub(r"(?m)^connections = \d+", f"connections = {connections}", text), encoding="utf-8")
    return config


@dataclass
class Run:
    """What a command cost: seconds on the clock, CPU seconds with its children, MiB of its largest process, and its JSON."""

    wall: float
    cpu: float
    peak: float
    answer: dict[str, object]


@dataclass
class Pace:
    """People a second, and the CPU seconds for each."""

    rate: float
    cpu: float


def distributor(*arguments: str, config: Path | None = None) -> Run:
    """Run the program as a person does."""
    where = ["--config", str(config)] if config else []
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "distributor", *where, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
    )
    assert child.stdout is not None
    with child.stdout as stream:
        out = stream.read()
    _, status, used = os.wait4(child.pid, 0)  # of this command alone, with its children
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in {0, 1}:
        raise SystemExit(f"distributor {' '.join(arguments)} ended with {child.returncode}")
    answer = json.loads(out) if "--json" in arguments else {}
    return Run(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, answer)


def environment() -> dict[str, str]:
    """The variables of a measured command."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # or each start compiles anew
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_COLOR": "1"}


@contextmanager
def sink() -> Iterator[int]:
    """Postfix's smtp-sink on a free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([require("smtp-sink"), "-u", "nobody", f"127.0.0.1:{port}", "1000"]) as server:
        try:
            _listening(port)
            yield port
        finally:
            server.terminate()


def _listening(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            continue
        return
    raise SystemExit("smtp-sink does not answer")


def accepted(run: Run, count: int) -> None:
    """Insist that a send did what is being measured."""
    if run.answer.get("accepted") != count:
        raise SystemExit(f"expected {count} accepted messages: { {k: v for k, v in run.answer.items() if k != 'deliveries'} }")


def line(what: str, value: str, wanted: str = "") -> None:
    """One figure."""
    print(f"  {what:<58} {value:>16}   {wanted}", flush=True)
