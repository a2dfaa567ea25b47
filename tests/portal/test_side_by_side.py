"""Several requests at a time, and several replicas on one ledger."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest

from distributor import bootstrap
from distributor.portal.security import RateLimits
from distributor.portal.sessions import SessionStore
from tests.authority import Authority
from tests.ledger.conftest import postgresql  # noqa: F401  a fixture
from tests.ledger.postgresql import Server
from tests.portal.conftest import INIT, SEND, Kit, Served, serving
from tests.portal.test_person import ALICE, events
from tests.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.portal.visitor import Visitor


@pytest.fixture(params=["sqlite", "postgresql"])
def served(request: pytest.FixtureRequest, kit: Kit, tmp_path: Path, authority: Authority) -> Served:
    """The portal on a ledger of each kind."""
    if request.param == "sqlite":
        return kit.served()
    server: Server = request.getfixturevalue("postgresql")
    folder = tmp_path / "workspace"
    folder.mkdir(mode=0o700)
    workspace = Workspace(folder, authority)
    workspace.run_script(INIT)
    config = folder / "distributor.toml"
    url = server.url(server.fresh())
    config.write_text(config.read_text(encoding="utf-8").replace("sqlite:///distributor.db", url), encoding="utf-8")
    workspace.run_script(INIT + SEND)  # the ledger on the server is made
    return kit.served(workspace=workspace)


@contextmanager
def replica(served: Served) -> Iterator[str]:
    """Another process of the portal, with a connection to the ledger of its own; its address."""
    settings = bootstrap.settings(served.folder / "distributor.toml")
    with bootstrap.open_for_writing(settings, sends=True) as ledger, socket.create_server(("127.0.0.1", 0)) as listener:
        portal = replace(served.portal, ledger=ledger, sessions=SessionStore(ledger, served.clock), rates=RateLimits())
        with serving(portal, listener):
            yield f"http://localhost:{listener.getsockname()[1]}"


def at(visitor: Visitor, url: str) -> Visitor:
    """The same browser, led to a replica by the proxy."""
    other = type(visitor)(url)
    other.cookies = visitor.cookies
    return other


def test_a_session_is_known_to_every_replica_and_ends_on_all(served: Served) -> None:
    with replica(served) as url:
        visitor = served.visitor()
        visitor.sign_in("u-alice")
        elsewhere = at(visitor, url)
        home = elsewhere.get("/")
        assert "Certificate for alice@example.org" in home.text
        cookies = {host: dict(kept) for host, kept in visitor.cookies.items()}
        elsewhere.submit(home, "sign-out")
        visitor.cookies = cookies
        assert "Sign in with your work account" in visitor.get("/").text


def test_a_sign_in_goes_on_at_another_replica_and_only_once(served: Served) -> None:
    with replica(served) as url:
        visitor = served.visitor()
        page = visitor.submit(visitor.get("/"), "sign-in")
        form = page.forms[0]
        answer = visitor.request("POST", urljoin(page.url, form.action), {"login": "u-alice", "ago": "0", "go": "yes"}, follow=False)
        while not (place := urljoin(answer.url, answer.header("location"))).startswith(served.url):
            answer = visitor.get(place, follow=False)
        cookies = {host: dict(kept) for host, kept in visitor.cookies.items()}
        elsewhere = at(visitor, url)
        assert elsewhere.get(place.replace(served.url, url), follow=False).status == 303
        visitor.cookies = cookies
        assert visitor.get(place).status == 403


def test_a_password_that_is_asked_for_many_times_at_once_is_shown_once(served: Served) -> None:
    with replica(served) as url:
        visitor = served.visitor()
        form = visitor.sign_in("u-alice").form("reveal")
        browsers = [visitor, at(visitor, url)] * 4
        with ThreadPoolExecutor(len(browsers)) as pool:
            answers = list(pool.map(lambda browser: browser.request("POST", form.action, form.fields), browsers))
        assert sorted(answer.status for answer in answers) == [200, *[409] * 7]
        assert sum('class="groups"' in answer.body for answer in answers) == 1
        assert events(served, ALICE).count("revealed") == 1


def test_a_replica_that_is_killed_under_load_takes_no_session_with_it(served: Served) -> None:
    words = [sys.executable, "-m", "distributor", "serve", "--port", "0"]
    with subprocess.Popen(words, cwd=served.folder, env=served.workspace.environment(), stderr=subprocess.PIPE, text=True) as other:
        try:
            assert other.stderr is not None
            said = next(line for line in other.stderr if "http://127.0.0.1:" in line)
            port = re.search(r"http://127\.0\.0\.1:(\d+)", said)
            assert port is not None
            _loses_nobody(served, f"http://localhost:{port[1]}", other)
        finally:
            other.kill()


def _loses_nobody(served: Served, url: str, other: subprocess.Popen[str]) -> None:
    visitors = [served.visitor() for _ in range(4)]
    for visitor, name in zip(visitors, ("u-alice", "u-bob", "u-admin", "u-helpdesk"), strict=True):
        visitor.sign_in(name)
    answered: list[int] = []

    def use(visitor: Visitor) -> None:
        elsewhere = at(visitor, url)
        with suppress(OSError, HTTPException):  # until it is gone
            while True:
                answered.append(elsewhere.get("/").status)
                if len(answered) == 40:
                    other.kill()

    with ThreadPoolExecutor(len(visitors)) as pool:
        list(pool.map(use, visitors))
    assert len(answered) >= 40
    assert set(answered) == {200}
    assert all("Sign in with your work account" not in visitor.get("/").text for visitor in visitors)
