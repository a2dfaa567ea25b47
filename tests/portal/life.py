"""Three people, who looks after them, and an intruder: each has a browser, and the portal runs as a process."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from distributor import bootstrap
from distributor.ledger.sqlite import sqlite3
from tests import needs
from tests.portal import openid
from tests.portal.conftest import CHROMIUM, write_portal
from tests.portal.visitor import Visitor
from tests.test_secrets import spellings
from tests.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Playwright

DEVICES = {
    "iphone": ((390, 844), "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"),
    "android": ((412, 915), "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile"),
    "desktop": ((1280, 800), "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"),
}
ACCOUNTS: openid.Accounts = {
    "u-anna": {"email": "anna@example.org", "email_verified": True, "name": "Anna Example"},
    "u-ben": {"email": "ben@example.org", "email_verified": True, "name": "Ben Example"},
    "u-chloe": {"email": "chloe@example.org", "email_verified": True, "name": "Chloé Example", "groups": ["g-admins"]},
    "u-ada": {"name": "Ada Admin", "groups": ["g-admins"]},
    "u-hugo": {"name": "Hugo Help", "groups": ["g-helpdesk"]},
    "u-audit": {"name": "Aud Itor"},
    "u-eve": {"email": "eve@example.org", "email_verified": True, "name": "Eve"},
}
PREPARE = """
$ distributor init >/dev/null 2>&1
+ server
+ pfx anna anna@example.org
+ pfx ben ben@example.org
+ pfx chloe chloe@example.org
+ roster anna@example.org,Anna_Example,de ben@example.org,Ben_Example,en chloe@example.org,Chloé_Example,fr
$ distributor plan certificates --roster people.csv >/dev/null 2>&1
$ distributor send --yes >/dev/null 2>&1
"""
SESSION = "__Host-session"


@dataclass
class Somebody:
    """An account in its own browser profile."""

    life: Life
    login: str
    context: BrowserContext
    page: Page
    tokens: set[str] = field(default_factory=set)  # of every session there was

    def sign_in(self, *, ago: int = 0) -> None:
        """From the first page; `ago`: seconds since the provider saw who it is."""
        self.page.goto(self.life.url)
        self.page.click("[data-action=sign-in]")
        self.at_provider(ago=ago)

    def at_provider(self, *, ago: int = 0) -> None:
        """Say who it is on the provider's page, which the portal has opened."""
        assert "/interaction/" in self.page.url
        self.page.fill("input[name=login]", self.login)
        self.page.fill("input[name=ago]", str(ago))
        self.page.click("button[value=yes]")
        self.page.wait_for_url(f"{self.life.url}/**")
        self.tokens.add(self.token)

    def see(self, path: str = "/") -> str:
        """Open a page of the portal; its text."""
        self.page.goto(self.life.url + path)
        return self.page.inner_text("main")

    def press(self, selector: str) -> str:
        """Press a button; the text of the page that comes."""
        with self.page.expect_navigation():
            self.page.click(selector)
        return self.page.inner_text("main")

    def shown(self) -> str:
        """The password on the page, from now on searched for everywhere."""
        password = self.page.inner_text("#groups")
        assert re.fullmatch(r"[^-\s]+(-[^-\s]+){4}", password)
        self.life.passwords.add(password)
        return password

    @property
    def token(self) -> str:
        return next(cookie["value"] for cookie in self.context.cookies(self.life.url) if cookie["name"] == SESSION)

    def robot(self) -> Visitor:
        """A program that has the browser's cookies."""
        found = Visitor(self.life.url)
        found.cookies["localhost"] = {cookie["name"]: cookie["value"] for cookie in self.context.cookies(self.life.url)}
        return found


@dataclass
class Life:
    """The portal, its workspace, and everybody who has a browser open."""

    url: str
    base: Path
    workspace: Workspace
    process: subprocess.Popen[bytes]
    playwright: Playwright
    javascript: bool
    ends: ExitStack
    everybody: list[Somebody] = field(default_factory=list)
    passwords: set[str] = field(default_factory=set)

    def somebody(self, login: str, *, device: str = "desktop", locale: str = "en") -> Somebody:
        """A person opens a browser."""
        (width, height), agent = DEVICES[device]
        context = self.playwright.chromium.launch_persistent_context(
            self.base / "profiles" / login,
            executable_path=needs.require("chromium"),
            args=list(CHROMIUM),
            viewport={"width": width, "height": height},
            user_agent=agent,
            locale=locale,
            java_script_enabled=self.javascript,
            permissions=["clipboard-write"],
        )
        self.ends.callback(context.close)
        self.everybody.append(Somebody(self, login, context, context.pages[0]))
        return self.everybody[-1]

    def run(self, command: str) -> str:
        """A command in the workspace, which must end well."""
        done = self.workspace.run(command)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def history(self, name: str) -> list[dict[str, object]]:
        """Events of a person."""
        found: list[dict[str, object]] = json.loads(self.run(f"distributor history {name}@example.org --json"))["events"]
        return found

    def events(self, name: str, event: str) -> list[dict[str, object]]:
        return [each for each in self.history(name) if each["event"] == event]

    def requests(self) -> list[dict[str, object]]:
        """Requests for another copy."""
        found: list[dict[str, object]] = json.loads(self.run("distributor requests --json"))["requests"]
        return found

    def position(self) -> int:
        """The number of the ledger's last event."""
        with closing(sqlite3.connect(self.workspace.folder / "distributor.db")) as database:
            found: int = database.execute("SELECT max(seq) FROM event").fetchone()[0]
        return found

    def waiting(self, name: str) -> tuple[str, bytes, str]:
        """A delivery whose password waits, that password as it is sealed, and opened."""
        settings = bootstrap.settings(self.workspace.folder / "distributor.toml")
        with bootstrap.open_for_reading(settings) as ledger:
            [(delivery, sealed)] = [(each.delivery, each.sealed) for each in ledger.envelopes(f"{name}@example.org") if each.sealed]
        password = bootstrap.vault(settings).open(sealed, delivery).reveal()
        self.passwords.add(password)
        return delivery, sealed, password

    def package(self, name: str) -> bytes:
        """The PFX of the last message that somebody got."""
        to = [message_from_bytes(raw, policy=default) for raw in self.workspace.handler.messages]
        last = [message for message in to if f"{name}@example.org" in message["To"]][-1]
        [attachment] = last.iter_attachments()
        content: bytes = attachment.get_content()
        return content

    def files_with(self, content: bytes) -> set[str]:
        """The files of the workspace in which something stands."""
        files = [path for path in self.workspace.folder.rglob("*") if path.is_file()]
        return {path.name for path in files if content in path.read_bytes()}

    def everywhere(self) -> dict[str, bytes]:
        """Every file of workspace, state, log, temporary folder and browser profiles, and what /proc tells about processes."""
        found = {str(path.relative_to(self.base)): path.read_bytes() for path in self.base.rglob("*") if path.is_file()}
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                for name in ("cmdline", "environ"):
                    try:
                        found[f"{process}/{name}"] = (process / name).read_bytes()
                    except OSError:
                        continue  # it is gone, or not ours
        return found


def opens(package: bytes, password: str) -> bool:
    """Whether a password opens a PFX."""
    try:
        return load_pkcs12(package, password.encode()).key is not None
    except ValueError:
        return False


def places_of(secret: str, places: dict[str, bytes]) -> list[str]:
    """Where a secret stands, also without its hyphens, in base64, hexadecimal or UTF-16."""
    words = spellings(secret.encode()) | spellings(secret.replace("-", "").encode())
    return [place for place, content in places.items() if any(word in content for word in words)]


def scan(robot: Visitor, *begin: str) -> set[str]:
    """Fetch every link, and the target of every form, by HEAD and GET, and send no form; which paths there were."""
    seen: set[str] = set()
    waiting = ["/", *begin]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        robot.request("HEAD", path, follow=False)
        page = robot.get(path, follow=False)
        found = {*page.links, *(form.action for form in page.forms), page.header("location")}
        waiting += [urljoin(path, link) for link in sorted(found) if link.startswith("/")]
    return seen


@contextmanager
def living(base: Path, workspace: Workspace, playwright: Playwright, *, javascript: bool) -> Iterator[Life]:
    """Certificates are sent, and the portal serves."""
    workspace.run_script(PREPARE)
    (base / "temporary").mkdir()
    with ExitStack() as ends:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        url = f"http://localhost:{port}"
        issuer = ends.enter_context(openid.provider(base, ACCOUNTS, f"{url}/signed-in")).issuer
        write_portal(workspace.folder, url, issuer, 'administrators = ["g-admins"]')
        words = [sys.executable, "-m", "distributor", "serve", "--port", str(port)]
        environment = {**workspace.environment(), "TMPDIR": str(base / "temporary")}
        log = ends.enter_context((base / "portal.log").open("wb"))
        process = ends.enter_context(subprocess.Popen(words, cwd=workspace.folder, env=environment, stdout=log, stderr=subprocess.PIPE))
        ends.callback(process.kill)
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first.startswith(b"listening on "), first + process.stderr.read()
        words = ["tee", "-a", os.fspath(base / "portal.log")]
        drain = ends.enter_context(subprocess.Popen(words, stdin=process.stderr, stdout=subprocess.DEVNULL))
        ends.callback(drain.wait, 30)
        ends.callback(process.kill)
        yield Life(url, base, workspace, process, playwright, javascript, ends)
