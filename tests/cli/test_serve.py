"""`distributor serve` as a process: where it listens, how it ends, and what it says when it cannot begin."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.portal.conftest import write_portal
from tests.workspace import Workspace

ISSUER = "http://127.0.0.1:9/oidc"  # where nobody answers: the portal starts without its provider


@contextmanager
def serving(workspace: Workspace, *more: str) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "distributor", "serve", "--port", "0", *more]
    with subprocess.Popen(words, cwd=workspace.folder, env=workspace.environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_says_where_it_listens_answers_and_ends_cleanly(planned: Workspace) -> None:
    write_portal(planned.folder, "https://certificates.example.org", ISSUER)
    with serving(planned) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+) for https://certificates\.example\.org\n", first)
        assert found, first
        with urllib.request.urlopen(f"{found[1]}/", timeout=30) as answer:  # noqa: S310  loopback
            assert answer.status == 200
            assert "Example AG" in answer.read().decode()
        assert re.fullmatch(r"\S+Z request: GET / 200 \d+ ms from 127\.0\.0\.1\n", process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(30) == 0
    assert rest == "stopped\n"


def test_it_ends_when_it_is_told_to_while_it_starts(planned: Workspace) -> None:
    write_portal(planned.folder, "https://certificates.example.org", ISSUER)
    with serving(planned) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGTERM)  # the web server is not running yet
        assert process.wait(30) == 0


def test_without_the_vaults_key_it_says_that_it_shows_no_passwords(planned: Workspace) -> None:
    write_portal(planned.folder, "https://certificates.example.org", ISSUER)
    config = planned.folder / "distributor.toml"
    config.write_text(re.sub(r"(?m)^identity = .*$", "", config.read_text(encoding="utf-8")), encoding="utf-8")
    with serving(planned) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("listening on ")
        assert "the portal shows no passwords" in process.stderr.readline()


def test_what_is_missing_or_taken_is_said_with_its_place(planned: Workspace) -> None:
    told = planned.run("distributor serve")
    assert told.returncode == 3
    assert told.stdout.splitlines()[0] == "error: distributor.toml: no portal is configured"
    write_portal(planned.folder, "https://certificates.example.org", ISSUER)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = planned.run(f"distributor serve --port {taken.getsockname()[1]}")
    assert told.returncode == 3
    assert "address already in use" in told.stdout
    (planned.folder / "portal.secret").unlink()
    told = planned.run("distributor serve --port 0")
    assert told.returncode == 3
    assert re.match(r"error: distributor\.toml line \d+: portal\.secret: ", told.stdout)


def test_without_the_extra_it_names_what_to_install(planned: Workspace) -> None:
    write_portal(planned.folder, "https://certificates.example.org", ISSUER)
    (planned.folder / "starlette.py").write_text("raise ImportError(name='starlette')", encoding="utf-8")
    code = "import sys; sys.path.insert(0, '.'); from distributor.cli import app; sys.exit(app.run(['serve', '--port', '0']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=planned.folder,
        env=planned.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: the portal needs starlette, which is not installed",
        "hint: pip install 'distributor[portal]'",
    ]
