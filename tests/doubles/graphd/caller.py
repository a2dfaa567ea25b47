"""Plain clients of the double for tests: httpx2 with a mailbox and messages of its own, and msal; nothing retries or translates."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msal
import requests

from tests.authority import Identity
from tests.doubles.graphd.cloud import Cloud

SECRET = "a-secret-of-the-app"
PATIENCE = 60.0  # seconds; a test that waits for silence says less


@dataclass
class Caller:
    """An app with a token at Graph, and a mailbox of its own."""

    cloud: Cloud
    app: str
    address: str
    http: httpx2.Client = field(repr=False)

    def create(self, mime: bytes, **headers: str) -> httpx2.Response:
        return self.http.post(
            f"/users/{self.address}/messages", content=base64.b64encode(mime), headers={"Content-Type": "text/plain", **headers}
        )

    def send(self, message: str, **headers: str) -> httpx2.Response:
        return self.http.post(f"/users/{self.address}/messages/{message}/send", headers=headers)

    def draft(self, number: int = 1, **headers: str) -> str:
        answer = self.create(self.mime(number), **headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def mime(self, number: int = 1, to: str = "alice@elsewhere.example", sender: str = "") -> bytes:
        lines = [f"From: {sender or self.address}", f"To: {to}", f"Subject: message {number}", f"Message-ID: {self.message_id(number)}"]
        return ("\r\n".join(lines) + "\r\nContent-Type: text/plain\r\n\r\nhello\r\n").encode()

    def message_id(self, number: int = 1) -> str:
        return f"<{number}.{self.address}>"

    def list(self, folder: str = "", **query: object) -> httpx2.Response:
        where = f"mailFolders/{folder}/messages" if folder else "messages"
        return self.http.get(f"/users/{self.address}/{where}", params={f"${name}": str(value) for name, value in query.items()})

    def by_message_id(self, number: int = 1, folder: str = "") -> list[dict[str, Any]]:
        return values(self.list(folder, filter=f"internetMessageId eq '{self.message_id(number)}'"))

    def left(self) -> list[dict[str, Any]]:
        return [record for record in self.cloud.stored() if record["mailbox"] == self.address]

    def counts(self) -> dict[str, Any]:
        return dict(self.cloud.counts()["mailboxes"][self.address])


def values(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return list(answer.json()["value"])


def code(answer: httpx2.Response) -> str:
    return str(answer.json()["error"]["code"])


@contextmanager
def connected(cloud: Cloud, token: str, **more: Any) -> Iterator[httpx2.Client]:  # noqa: ANN401
    context = ssl.create_default_context(cafile=cloud.ca)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(verify=context, headers=headers, base_url=f"{cloud.graph}/v1.0", trust_env=False, timeout=PATIENCE, **more) as http:
        yield http


@contextmanager
def signing_in(cloud: Cloud, app: str, identity: object = SECRET, **more: object) -> Iterator[msal.ConfidentialClientApplication]:
    """A real msal app that trusts the double; `more` is for its constructor."""
    with requests.Session() as session:
        session.verify, session.trust_env = str(cloud.ca), False
        options = {"authority": cloud.authority, "instance_discovery": False, "http_client": session, **more}
        yield msal.ConfidentialClientApplication(app, client_credential=identity, **options)


def signed_in(cloud: Cloud, app: str, identity: object = SECRET, scope: str = "", **more: object) -> dict[str, Any]:
    """What msal says: a token, or Entra's error."""
    with signing_in(cloud, app, identity, **more) as client:
        return dict(client.acquire_token_for_client([scope or cloud.scope]))


def certificate(identity: Identity, **more: str) -> dict[str, str]:
    """A certificate as msal takes it: PS256 and the SHA-256 thumbprint, unless `thumbprint` is given."""
    return {"private_key": identity.key_pem().decode(), "public_certificate": identity.pem.decode(), **more}
