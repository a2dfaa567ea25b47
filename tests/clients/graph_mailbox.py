"""A mailbox at the Graph double, and a client whose waiting times are recorded."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from distributor.clients.app_registration import AppRegistration
from distributor.clients.graph import GraphClient, HttpResponse, graph, path_segment
from distributor.model.secret import Secret
from tests.doubles.graphd import Cloud

SECRET = "a-secret-of-the-app"
ROLES = ["Mail.Send", "Mail.ReadWrite", "User.Read.All"]
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")


@dataclass
class GraphMailbox:
    """A mailbox of its own, and a client that writes down how long it would have slept."""

    cloud: Cloud
    sign_in: AppRegistration
    address: str
    slept: list[float] = field(default_factory=list)

    def open(self, root: str = "") -> GraphClient:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        return graph(self.sign_in, root or self.cloud.graph, sleep=sleep)

    def run(self, act: Callable[[GraphClient], Awaitable[Any]], root: str = "") -> Any:  # noqa: ANN401  whatever it came to
        async def go() -> object:
            opened = self.open(root)
            try:
                return await act(opened)
            finally:
                await opened.close()

        return asyncio.run(go())

    @property
    def messages(self) -> str:
        return f"users/{path_segment(self.address)}/messages"

    def mime(self) -> bytes:
        lines = f"From: {self.address}\r\nTo: alice@elsewhere.example\r\nSubject: s\r\nMessage-ID: <1.{self.address}>\r\n\r\nhello\r\n"
        return lines.encode()

    async def draft(self, opened: GraphClient) -> str:
        content = base64.b64encode(self.mime())
        made = await opened.call("POST", self.messages, mailbox=self.address, content=content, headers={"Content-Type": "text/plain"})
        assert isinstance(made, HttpResponse), made
        assert made.status == 201, made
        return str(made.body["id"])

    def asked(self) -> list[dict[str, Any]]:
        return [one for one in self.cloud.requests() if one.get("app") == self.sign_in.client_id]


@pytest.fixture
def cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("SSL_CERT_FILE", str(running.ca))
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    yield running
    faults = running.faults()
    running.clear_faults()
    assert faults == []
    assert running.violations() == []
    assert running.refusals() == []


@pytest.fixture
def mailbox(cloud: Cloud) -> GraphMailbox:
    app = cloud.app(secrets={SECRET: None}, roles=ROLES)
    address = f"certs-{uuid.uuid4().hex[:8]}@example.org"
    cloud.mailbox(address)
    return GraphMailbox(cloud, AppRegistration(tenant=cloud.tenant, client_id=app, secret=Secret(SECRET), login=cloud.login), address)
