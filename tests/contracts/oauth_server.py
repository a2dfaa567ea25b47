"""A mail server that accepts the tokens of the Entra double."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distributor.adapters.transports import smtp
from distributor.clients.app_registration import AppRegistration
from distributor.model.attempts import Outcome
from distributor.model.delivery import Account
from distributor.model.secret import Secret
from tests.contracts.test_transports import intent, outbound
from tests.doubles.graphd import Cloud
from tests.doubles.sink import Sink, smtpd

SECRET = "a-secret-of-the-app"
SENDER = "certs@example.org"
OUTLOOK = "https://outlook.office365.com"


@dataclass
class OAuthServer:
    """A mail server that believes the tokens of a cloud, and an app of it."""

    sink: Sink
    cloud: Cloud
    sign_in: AppRegistration
    rights: Path

    def open(self, *accounts: Account, **more: object) -> smtp.SmtpTransport:
        usual = {"host": "localhost", "port": self.sink.port, "username": SENDER, "oauth": self.sign_in, "connect_timeout": 10.0}
        return smtp.open(smtp.Settings(**{**usual, **more}), accounts)

    def deliver(self, transport: smtp.SmtpTransport, *senders: str | None, messages: int = 1) -> list[Outcome]:
        """So many messages on a connection a sender, all side by side."""

        async def one(sender: str | None, number: int) -> list[Outcome]:
            connection = transport.connection(sender)
            outcomes = [await connection.deliver(outbound(100 * number + n), intent(True)) for n in range(messages)]
            await connection.close()
            return outcomes

        async def go() -> list[Outcome]:
            found = await asyncio.gather(*(one(sender, number) for number, sender in enumerate(senders or (None,))))
            assert await transport.finish() == []
            return [outcome for connection in found for outcome in connection]

        return asyncio.run(go())

    def let_in(self, *mailboxes: str, **more: str) -> None:
        """Whose mailboxes the app may open."""
        key = str(self.cloud.folder / "signing.pub.pem")
        fresh = self.rights.with_suffix(".new")
        fresh.write_text(json.dumps({"key": key, "audience": OUTLOOK, "role": "SMTP.SendAsApp", "mailboxes": mailboxes, **more}))
        fresh.rename(self.rights)

    def attempts(self) -> list[dict[str, Any]]:
        file = Path(f"{self.sink.log}.attempts")
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def users(self) -> list[str]:
        return [record["user"] for record in self.sink.stored()]

    @property
    def tokens(self) -> int:
        return self.cloud.counts()["token_requests"]


def app(cloud: Cloud, **more: object) -> AppRegistration:
    given = {"secrets": {SECRET: None}, "outlook_roles": ["SMTP.SendAsApp"], **more}
    return AppRegistration(tenant=cloud.tenant, client_id=cloud.app(**given), secret=Secret(SECRET), login=cloud.login)


@contextmanager
def started(folder: Path, cloud: Cloud, *rules: dict[str, object], options: tuple[str, ...] = ()) -> Iterator[OAuthServer]:
    folder.mkdir(exist_ok=True)
    rights, server = folder / "rights.json", str(cloud.folder / "server.pem")
    with smtpd(folder, *rules, options=("--tls", server, server, "--xoauth2", str(rights), *options)) as sink:
        oauth_server = OAuthServer(sink, cloud, app(cloud), rights)
        oauth_server.let_in(SENDER)
        yield oauth_server


@pytest.fixture
def oauth_server(tmp_path: Path, cloud: Cloud) -> Iterator[OAuthServer]:
    with started(tmp_path, cloud) as opened:
        yield opened
