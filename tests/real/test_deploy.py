"""The files in docs/deploy work: units as systemd reads them, nginx with the example, and what the container file names."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer

from distributor.cli.app import program
from tests.cli.test_docs import fault
from tests.doubles.graphd.trust import make
from tests.needs import require

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted(path.name for path in DEPLOY.glob("*.service"))
HOST = "certificates.example.org"
LARGEST = 64 * 2**10  # bytes of a form
STARTS = 60.0  # seconds it may take on a busy machine
COMMANDS = frozenset(getattr(typer.main.get_command(program()), "commands", {}))


def run(*command: str, code: int | None = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout + done.stderr
    assert code is None or done.returncode == code, said
    return said if code is not None else str(done.returncode)


def existing(line: str) -> None:
    """A command line that the program knows; one of a command that is not built yet is no fault of the file."""
    if line.split()[1] not in COMMANDS:
        pytest.skip(f"there is no `distributor {line.split()[1]}` yet")
    assert fault(line) is None


# --- systemd -----------------------------------------------------------------------------------------------------------


def unit(name: str, folder: Path, *, without: str = "") -> str:
    """A copy that starts a program which is here, in place of an installed one; without the lines that a pattern finds."""
    text = (DEPLOY / name).read_text(encoding="utf-8").replace("ExecStart=/usr/local/bin/distributor ", "ExecStart=/bin/true ")
    assert "ExecStart=/bin/true " in text
    kept = [line for line in text.splitlines() if not (without and re.match(without, line))]
    (folder / name).write_text("\n".join(kept) + "\n", encoding="utf-8")
    return str(folder / name)


def test_there_is_a_unit_for_each_command_that_runs_by_itself() -> None:
    assert UNITS == ["distributor-portal.service", "distributor-send.service"]


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault_in_a_unit(name: str, tmp_path: Path) -> None:
    analyze = require("systemd-analyze")
    path = unit(name, tmp_path)
    assert run(analyze, "verify", path) == ""
    Path(path).write_text(Path(path).read_text(encoding="utf-8").replace("ProtectHome=", "ProtectHom="), encoding="utf-8")
    assert "Unknown key" in run(analyze, "verify", path)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_exposes_little(name: str, tmp_path: Path) -> None:
    question = [require("systemd-analyze"), "security", "--offline=yes", "--no-pager", "--threshold=30"]
    run(*question, unit(name, tmp_path))
    assert run(*question, unit(name, tmp_path, without="Protect|Private|Restrict|Capability|SystemCall"), code=None) != "0"


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_exists(name: str) -> None:
    (line,) = re.findall(r"^ExecStart=/usr/local/bin/(distributor .*)$", (DEPLOY / name).read_text(encoding="utf-8"), re.MULTILINE)
    existing(line)


# --- nginx -------------------------------------------------------------------------------------------------------------


@dataclass
class Proxy:
    """nginx with the example's configuration on loopback, and what the server behind it received."""

    secure: int
    plain: int
    trust: ssl.SSLContext
    received: list[dict[str, str]] = field(default_factory=list)

    def ask(self, method: str, body: bytes = b"", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        """One request over TLS."""
        connection = http.client.HTTPConnection(HOST, timeout=60)
        connection.sock = self.trust.wrap_socket(socket.create_connection(("127.0.0.1", self.secure), 60), server_hostname="localhost")
        try:
            connection.request(method, "/again", body, {"Host": HOST, **headers})
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def behind(received: list[dict[str, str]]) -> Iterator[int]:
    """A small HTTP server that keeps the headers of what arrives."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            self.rfile.read(length)
            received.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"length": length}).encode())

        do_GET = do_POST  # noqa: N815  the library's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def configuration(folder: Path, secure: int, plain: int, backend: int) -> str:
    """The example with ports and files of this test, within what a distribution's nginx.conf has around it."""
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    changes = {
        r"listen \[::\]:\d+( ssl)?;": "",
        r"listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
        r"listen 80;": f"listen 127.0.0.1:{plain};",
        r"/etc/ssl/certificates\.example\.org\.pem": str(folder / "server.pem"),
        r"/etc/ssl/private/certificates\.example\.org\.key": str(folder / "server.pem"),
        r"http://127\.0\.0\.1:8000": f"http://127.0.0.1:{backend}",
    }
    for pattern, instead in changes.items():
        text, number = re.subn(pattern, instead, text)
        assert number, pattern
    places = "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    account = "user root;\n" if os.geteuid() == 0 else ""  # the folder of a test is open to nobody else
    return f"{account}pid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{places}{text}\n}}\n"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    nginx, folder = require("nginx"), tmp_path_factory.mktemp("nginx")
    found = Proxy(free_port(), free_port(), ssl.create_default_context(cafile=make(folder).authority))
    with behind(found.received) as backend:
        (folder / "nginx.conf").write_text(configuration(folder, found.secure, found.plain, backend), encoding="utf-8")
        command = [nginx, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        assert "test is successful" in run(*command, "-t")
        with subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL) as process:
            try:
                _until_it_answers(found.secure, process)
                yield found
            finally:
                process.terminate()
                process.wait(60)


def _until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + STARTS
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"nginx does not answer (exit code {process.poll()})")


def test_the_proxy_replaces_the_address_that_a_visitor_claims(proxy: Proxy) -> None:
    response, _ = proxy.ask("GET", **{"X-Forwarded-For": "203.0.113.9"})
    assert response.status == 200
    assert proxy.received[-1]["x-forwarded-for"] == "127.0.0.1"
    assert proxy.received[-1]["host"] == HOST
    assert response.getheader("server") == "nginx"  # no version


def test_the_proxy_refuses_a_body_that_no_form_has(proxy: Proxy) -> None:
    response, said = proxy.ask("POST", b"x" * LARGEST)
    assert (response.status, json.loads(said)) == (200, {"length": LARGEST})
    before = len(proxy.received)
    response, _ = proxy.ask("POST", b"x" * (LARGEST + 1))
    assert (response.status, len(proxy.received)) == (413, before)


def test_the_proxy_takes_a_visitor_without_tls_to_the_address_with_it(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.plain, timeout=60)
    connection.request("GET", "/again?x=1", headers={"Host": HOST})
    response = connection.getresponse()
    connection.close()
    assert (response.status, response.getheader("location")) == (301, f"https://{HOST}/again?x=1")


# --- the container file ------------------------------------------------------------------------------------------------


def steps() -> list[tuple[str, str]]:
    """The instructions of the container file with their arguments."""
    lines = (DEPLOY / "Containerfile").read_text(encoding="utf-8").splitlines()
    found = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in found]


def test_the_container_file_has_only_instructions_that_exist() -> None:
    known = {"FROM", "COPY", "WORKDIR", "RUN", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in steps()} <= known
    assert [rest.split()[-1] for name, rest in steps() if name == "FROM"][:1] == ["build"]
    assert [rest for name, rest in steps() if name == "USER"] == ["10001"]


def test_every_file_that_the_build_installs_from_is_here_with_hashes() -> None:
    files = re.findall(r"-r (\S+)", " ".join(rest for name, rest in steps() if name == "RUN"))
    assert set(files) == {f"requirements/{name}.txt" for name in ("runtime", "portal", "postgresql", "build")}
    for name in files:
        text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text(encoding="utf-8"))
        pins = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert pins, name
        assert [line for line in pins if "==" not in line or "--hash=sha256:" not in line] == [], name


def test_every_option_of_the_builds_pip_exists() -> None:
    known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", run(sys.executable, "-m", "pip", "install", "--help")))
    calls = [shlex.split(rest) for name, rest in steps() if name == "RUN" and " pip install " in rest]
    assert len(calls) == 3
    for call in calls:
        options = [word for word in call[call.index("install") :] if word.startswith("-")]
        assert set(options) <= known, call


def test_what_the_image_copies_is_made_by_the_build() -> None:
    copied = [rest.split()[1] for name, rest in steps() if name == "COPY" and rest.startswith("--from=build")]
    assert copied == ["/opt/distributor"]
    assert ("RUN", "python -m venv /opt/distributor") in steps()
    (path,) = (rest for name, rest in steps() if name == "ENV")
    assert "PATH=/opt/distributor/bin:" in path


def test_the_image_starts_a_command_that_exists() -> None:
    words = [json.loads(rest) for name, rest in steps() if name in {"ENTRYPOINT", "CMD"}]
    existing(shlex.join(word for part in words for word in part))
