"""A workspace with a ledger, a real OpenID provider, and the portal served from it; a browser for who asks for one.

Alice's and Bob's messages are accepted and their passwords ready; Carol has an account and no certificate. The accounts of an
administrator, of the helpdesk and of an auditor are bound to nobody.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn

from distributor import bootstrap
from distributor.model.ports import Ledger
from distributor.portal.app import compose, create_app
from distributor.portal.sessions import SessionStore
from distributor.portal.visit import Portal
from tests import needs
from tests.authority import Authority
from tests.portal import openid
from tests.portal.visitor import Visitor
from tests.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

ACCOUNTS: openid.Accounts = {
    "u-alice": {"email": "alice@example.org", "email_verified": True, "name": "Alice Example"},
    "u-bob": {"email": "bob@example.org", "email_verified": True, "name": "Bob Example"},
    "u-bob-2": {"email": "bob@example.org", "email_verified": True, "name": "Bob again"},
    "u-carol": {"email": "carol@example.org", "email_verified": True, "name": "Carol Example"},
    "u-unverified": {"email": "bob@example.org", "email_verified": False, "name": "Mallory"},
    "u-admin": {"name": "Ada Admin", "groups": ["g-admins"]},
    "u-helpdesk": {"name": "Hugo Help", "groups": ["g-helpdesk"]},
    "u-audit": {"name": "Aud Itor"},
}
ENTRA: openid.Accounts = {
    "sub-1": {
        "oid": "0a1b2c3d-0000-4000-8000-00000000a11c",
        "tid": openid.TENANT,
        "preferred_username": "bob@example.org",
        "name": "Alice",
    },
    "sub-2": {"oid": "0a1b2c3d-0000-4000-8000-000000000b0b", "tid": "another-tenant", "name": "Bob"},
    "sub-3": {
        "oid": "0a1b2c3d-0000-4000-8000-0000000000aa",
        "tid": openid.TENANT,
        "email": "bob@example.org",
        "email_verified": True,
        "_claim_names": {"groups": "src1"},
        "name": "Nobody",
    },
}
SEND = """
+ server
+ people
$ distributor plan certificates --roster people.csv >/dev/null 2>&1
$ distributor send --yes >/dev/null 2>&1
"""
INIT = "$ distributor init >/dev/null 2>&1\n"
ROLES = 'helpdesk = ["g-helpdesk"]\nauditors = ["u-audit"]\n'

CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")  # in a container


@dataclass
class Clock:
    """The portal's clock, which a test may put forward."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Served:
    """A portal that is served."""

    url: str
    folder: Path
    ledger: Ledger
    portal: Portal
    clock: Clock
    issuer: str
    workspace: Workspace

    def visitor(self, **more: str) -> Visitor:
        return Visitor(self.url, **more)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> tuple[Path, Path]:
    """The workspace after `send`, and what this host remembers of its ledger; copied for each test."""
    base = tmp_path_factory.mktemp("portal")
    folder, state = base / "workspace", base / "state"
    folder.mkdir(mode=0o700)
    workspace = Workspace(folder, authority)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        workspace.run_script(INIT + SEND)
    workspace.close()
    return folder, state


@dataclass(frozen=True)
class Providers:
    """The port of every portal of this process, and the providers that know it, each started when it is asked for first."""

    folder: Path
    port: int
    ends: ExitStack
    running: dict[bool, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The portal's."""
        return f"http://localhost:{self.port}"

    def issuer(self, *, entra: bool) -> str:
        """The provider, or the one that is like Entra."""
        if entra not in self.running:
            made = openid.provider(self.folder, ENTRA if entra else ACCOUNTS, f"{self.url}/signed-in", entra=entra)
            self.running[entra] = self.ends.enter_context(made).issuer
        return self.running[entra]


@pytest.fixture(scope="session")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Providers]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with ExitStack() as ends:
        yield Providers(tmp_path_factory.mktemp("providers"), port, ends)


@dataclass
class Kit:
    """Makes portals on copies of the prepared workspace."""

    place: Path
    prepared: tuple[Path, Path]
    authority: Authority
    providers: Providers
    ends: ExitStack

    def workspace(self) -> Workspace:
        """The prepared workspace, in the place where it was prepared: its events name paths."""
        folder = self.prepared[0]
        shutil.copytree(folder, self.place / "kept", symlinks=True)
        self.ends.callback(self._put_back)
        return Workspace(folder, self.authority)

    def _put_back(self) -> None:
        shutil.rmtree(self.prepared[0])
        shutil.copytree(self.place / "kept", self.prepared[0], symlinks=True)

    def served(  # noqa: PLR0913  what portals differ in
        self,
        *,
        more: str = "",
        organisation: str = "",
        entra: bool = False,
        issuer: str = "",
        identity: bool = True,
        administrators: str = '["g-admins"]',
        workspace: Workspace | None = None,
    ) -> Served:
        """A portal; further lines of [portal] and [organisation]; without `identity`, this host cannot open passwords.

        `workspace`: instead of the prepared one.
        """
        workspace = workspace or self.workspace()
        listener = self.ends.enter_context(socket.create_server(("127.0.0.1", self.providers.port), backlog=512))
        url, issuer = self.providers.url, issuer or self.providers.issuer(entra=entra)
        write_portal(workspace.folder, url, issuer, f"administrators = {administrators}\n{more}")
        config = workspace.folder / "distributor.toml"
        text = config.read_text(encoding="utf-8").replace("[organisation]\n", f"[organisation]\n{organisation}\n")
        config.write_text(text if identity else re.sub(r"(?m)^identity = .*$", "", text), encoding="utf-8")
        settings = bootstrap.settings(workspace.folder / "distributor.toml")
        ledger = self.ends.enter_context(bootstrap.open_for_writing(settings, sends=True))
        clock = Clock()
        portal = replace(compose(settings, ledger), now=clock, sessions=SessionStore(ledger, clock))
        self.ends.enter_context(serving(portal, listener))
        self.ends.callback(workspace.close)
        return Served(url, workspace.folder, ledger, portal, clock, issuer, workspace)

    @contextmanager
    def again(self, portal: Portal) -> Iterator[str]:
        """Serve a portal once more, at another port; the URL. Its provider does not know it."""
        with socket.create_server(("127.0.0.1", 0)) as listener, serving(portal, listener):
            yield f"http://localhost:{listener.getsockname()[1]}"


def write_portal(folder: Path, url: str, issuer: str, more: str = "") -> None:
    """Add [portal] to the workspace's configuration."""
    (folder / "portal.secret").write_text(openid.SECRET, encoding="utf-8")
    (folder / "portal.secret").chmod(0o600)
    config = folder / "distributor.toml"
    keys = f'url = "{url}"\nauthority = "{issuer}"\nclient_id = "{openid.CLIENT}"\nsecret = "file:portal.secret"\n'
    config.write_text(f"{config.read_text(encoding='utf-8')}\n[portal]\n{keys}{ROLES}{more}\n", encoding="utf-8")


@contextmanager
def serving(portal: Portal, listener: socket.socket) -> Iterator[None]:
    """Serve a portal by uvicorn in a thread."""
    config = uvicorn.Config(create_app(portal), log_config=None, access_log=False, proxy_headers=False, ws="none", server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.005)  # asks again; ends with the start or the time
    assert server.started
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def kit(
    tmp_path: Path, prepared: tuple[Path, Path], authority: Authority, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kit]:
    state = tmp_path / "state"
    shutil.copytree(prepared[1], state)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    with ExitStack() as ends:
        yield Kit(tmp_path, prepared, authority, providers, ends)


@pytest.fixture
def served(kit: Kit, caplog: pytest.LogCaptureFixture) -> Served:
    """The portal, with people, helpdesk, administrator and auditor."""
    caplog.set_level(logging.INFO, "distributor.portal")
    return kit.served()


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """What drives browsers. Until it ends no test of the same thread can call `asyncio.run`."""
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415  few tests need it
    except ImportError:
        needs.lacking("the Python package playwright")
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """A real Chromium, the one of this machine."""
    browser = playwright.chromium.launch(executable_path=needs.require("chromium"), args=list(CHROMIUM))
    yield browser
    browser.close()
