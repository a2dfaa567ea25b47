"""The files in docs/deploy work: units as systemd reads them, nginx with the example, and what the container file names."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import signal
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
from typing import Any

import pytest
import typer
import yaml

from distributor.cli.app import program
from tests.authority import Authority
from tests.cli.test_docs import fault
from tests.doubles.graphd.trust import make
from tests.needs import require
from tests.portal.conftest import INIT, write_portal
from tests.workspace import Workspace

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
SYSTEMD = DEPLOY / "systemd"
UNITS = sorted(path.name for path in SYSTEMD.glob("*.service"))
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

SHARED = Path("distributor-.service.d") / "hardening.conf"
MOST_EXPOSED = "11"  # of 100: 1.1


def installed(folder: Path, *, without: str = "") -> Path:
    """The units as an administrator copies them, in a folder like /; without the lines of what they share that a pattern finds."""
    place = folder / "etc" / "systemd" / "system"
    shutil.copytree(SYSTEMD, place)
    text = (place / SHARED).read_text(encoding="utf-8")
    (place / SHARED).write_text("".join(line for line in text.splitlines(keepends=True) if not (without and re.match(without, line))))
    return place


def security(folder: Path, name: str, code: int | None = 0) -> str:
    question = [require("systemd-analyze"), "security", "--offline=yes", "--no-pager", f"--root={folder}", f"--threshold={MOST_EXPOSED}"]
    return run(*question, name, code=code)


def test_there_is_a_unit_for_each_command_that_runs_by_itself() -> None:
    assert UNITS == ["distributor-portal.service", "distributor-send.service", "distributor-track.service"]


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault_in_a_unit(name: str, tmp_path: Path) -> None:
    place, expected = installed(tmp_path), {"is not executable", "sysinit.target not found"}  # there is nothing else in that folder

    def faults() -> list[str]:
        argv = [require("systemd-analyze"), "verify", f"--root={tmp_path}", name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return [line for line in done.stderr.splitlines() if not any(part in line for part in expected)]

    assert faults() == []
    (place / SHARED).write_text((place / SHARED).read_text(encoding="utf-8").replace("ProtectHome=", "ProtectHom="), encoding="utf-8")
    assert any("Unknown key" in line for line in faults())


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_exposes_little(name: str, tmp_path: Path) -> None:
    installed(tmp_path)
    security(tmp_path, name)
    shutil.rmtree(tmp_path / "etc")
    installed(tmp_path, without="Protect|Private|Restrict|Capability|SystemCall")
    assert security(tmp_path, name, code=None) != "0"


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_exists(name: str) -> None:
    (line,) = re.findall(r"^ExecStart=/usr/local/bin/(distributor .*)$", (SYSTEMD / name).read_text(encoding="utf-8"), re.MULTILINE)
    existing(line)


def system_calls(group: str) -> set[str]:
    """A group of system calls, and the groups in it."""
    lines = [line.strip() for line in run(require("systemd-analyze"), "syscall-filter", group).splitlines()[1:]]
    names = [line for line in lines if line and not line.startswith("#")]
    return {name for name in names if not name.startswith("@")}.union(*(system_calls(name) for name in names if name.startswith("@")))


TRACKER = '\n[[trackers]]\nkind = "imap"\nhost = "127.0.0.1"\nport = 9\ntls = "none"\nusername = "me"\npassword = "file:portal.secret"\n'


@pytest.mark.slow(reason="three services are traced")
@pytest.mark.parametrize("name", UNITS)
def test_what_a_unit_forbids_is_not_needed(name: str, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    workspace = Workspace(tmp_path / "work", authority)
    workspace.run_script(f"{INIT}+ server\n+ people\n$ distributor plan certificates --roster people.csv >/dev/null 2>&1\n")
    write_portal(workspace.folder, "http://localhost:9", "http://127.0.0.1:9/none", TRACKER)
    (words,) = re.findall(r"^ExecStart=\S+ (.*)$", (SYSTEMD / name).read_text(encoding="utf-8"), re.MULTILINE)
    trace, words = tmp_path / "trace", words.replace("--port 8000", "--port 0")
    argv = [require("strace"), "-f", "-qq", "-o", str(trace), sys.executable, "-m", "distributor", *words.split()]
    environment = {**workspace.environment(), "XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(
        argv, cwd=workspace.folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        limit = threading.Timer(STARTS, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        wanted = {"distributor-send.service": '"accepted"', "distributor-track.service": '"refused"'}.get(name, "listening on")
        assert any(wanted in line for line in process.stderr)
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
        os.kill(int(child), signal.SIGTERM)
        process.stderr.read()
        limit.cancel()
    workspace.close()
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    used = {found[1] for line in lines if (found := re.match(r"\d+ +([a-z]\w*)\(", line))}
    allowed = system_calls("@system-service") - system_calls("@privileged") - system_calls("@resources")
    assert len(used) > 40
    assert used - allowed <= {"fchown"}  # SQLite's, where root runs it
    assert [line for line in lines if "PROT_WRITE|PROT_EXEC" in line or ("mprotect(" in line and "PROT_EXEC" in line)] == []
    opened = re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)", [^,)]*(?:O_WRONLY|O_RDWR|O_CREAT)[^)]*\) += \d', "\n".join(lines))
    assert {path for path in opened if not path.startswith((str(tmp_path), "/dev/null", "/dev/shm", "/tmp"))} == set()  # noqa: S108  private


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


def calls_of_pip() -> list[list[str]]:
    return [shlex.split(rest) for name, rest in steps() if name == "RUN" and " -m pip " in rest]


def test_the_container_file_has_only_instructions_that_exist() -> None:
    known = "ARG FROM COPY WORKDIR RUN USER LABEL ENV EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD"
    assert {name for name, _ in steps()} <= set(known.split())
    assert [rest for name, rest in steps() if name == "FROM"] == ["$BASE AS build", "$BASE"]
    assert [rest for name, rest in steps() if name == "USER"] == ["10001"]


def test_every_file_that_the_build_installs_from_is_here_with_hashes() -> None:
    files = re.findall(r"-r (\S+)", " ".join(rest for name, rest in steps() if name == "RUN"))
    assert set(files) == {f"requirements/{name}.txt" for name in ("runtime", "portal", "postgresql", "imap", "build")}
    for name in files:
        text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text(encoding="utf-8"))
        pins = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert pins, name
        assert [line for line in pins if "==" not in line or "--hash=sha256:" not in line] == [], name


def test_every_option_of_the_builds_pip_exists() -> None:
    assert len(calls_of_pip()) == 4
    for call in calls_of_pip():
        command = next(word for word in call if word in {"install", "wheel"})
        known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", run(sys.executable, "-m", "pip", command, "--help")))
        options = [word for word in call[call.index("pip") :] if word.startswith("-")]
        assert set(options) <= known, call


def test_what_the_image_copies_is_made_by_the_build() -> None:
    copied = [rest.split()[1] for name, rest in steps() if name == "COPY" and rest.startswith("--from=build")]
    assert copied == ["/opt/distributor"]
    assert ("RUN", "python3 -m venv --without-pip /opt/distributor") in steps()
    (path,) = (rest for name, rest in steps() if name == "ENV")
    assert "PATH=/opt/distributor/bin:" in path


def test_the_image_starts_a_command_that_exists() -> None:
    words = [json.loads(rest) for name, rest in steps() if name in {"ENTRYPOINT", "CMD"}]
    existing(shlex.join(word for part in words for word in part))


# --- the compose file --------------------------------------------------------------------------------------------------


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return found


def test_each_service_runs_a_command_that_exists_and_may_do_little() -> None:
    assert services().keys() == {"database", "portal", "send", "track"}
    for name, service in services().items():
        assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"]), name
        if name != "database":
            existing(shlex.join(["distributor", *service["command"]]))
            assert service["build"]["dockerfile"] == "docs/deploy/Containerfile"


def test_only_the_portal_listens_and_only_on_loopback() -> None:
    assert {name: service["ports"] for name, service in services().items() if "ports" in service} == {"portal": ["127.0.0.1:8000:8000"]}
    assert services()["database"]["networks"] == ["database"]  # which is internal
    assert yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["networks"]["database"] == {"internal": True}


def test_a_service_may_take_as_long_to_stop_as_its_unit() -> None:
    units = {name: (SYSTEMD / f"distributor-{name}.service").read_text(encoding="utf-8") for name in ("send", "track")}
    stop = {name: re.findall(r"TimeoutStopSec=(\d+m)in", text) for name, text in units.items()}
    assert stop == {name: [services()[name]["stop_grace_period"]] for name in units}
