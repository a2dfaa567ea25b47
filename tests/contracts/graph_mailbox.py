"""What graph tests share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from distributor.adapters.transports import graph
from distributor.adapters.transports.graph import GraphTransport, Settings
from distributor.model.attempts import DraftRef, OutboundMessage, Outcome, TrackedMessage, TrackingEvent
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic
from distributor.model.ports import CommitIntent
from distributor.model.secret import Secret
from distributor.model.states import State
from tests.doubles.graphd import Cloud
from tests.doubles.graphd.caller import Caller, connected

SECRET = "a-secret-of-the-app"
ROLES = ["Mail.Send", "Mail.ReadWrite"]
PATIENCE = 0.5  # seconds a message waits for an answer that never comes
CREATE, SEND, LOOK = "user.createMessage", "message.send", "user.listMessages"


@dataclass
class IntentRecorder:
    """Records the intent to send, or refuses to; and keeps the drafts it was given."""

    verdict: bool = True
    handles: list[DraftRef | None] = field(default_factory=list)

    async def __call__(self, handle: DraftRef | None = None, /) -> bool:
        self.handles.append(handle)
        return self.verdict


@dataclass
class GraphMailbox:
    """A mailbox of its own with an app that may use it; `slept` is how long the transport would have waited."""

    cloud: Cloud
    address: str
    app: str
    slept: list[float] = field(default_factory=list)
    moves: bool = False  # the cloud's clock with every sleep

    def settings(self, **changes: object) -> Settings:
        names = {"tenant": self.cloud.tenant, "client_id": self.app, "secret": Secret(SECRET), "login": self.cloud.login}
        silent = any("silence" in fault["do"] for fault in self.cloud.faults())
        usual = {"graph": self.cloud.graph, "mailbox": self.address, "reply_timeout": PATIENCE if silent else 10.0}
        return Settings(**{**names, **usual, **changes})

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.moves:
            self.cloud.advance(seconds)

    def open(self, accounts: Sequence[Account] = (), **changes: object) -> GraphTransport:
        return graph.open(self.settings(**changes), accounts, sleep=self.sleep)

    def outbound(self, number: int = 1, attempt: int = 1) -> OutboundMessage:
        head = f"From: {self.address}\r\nTo: p{number}@elsewhere.example\r\nMessage-ID: {self.message_id(number)}\r\n"
        message = f"{head}Content-Type: text/plain\r\n\r\nletter {number}\r\n".encode()
        return OutboundMessage(f"d-{number}", self.address, f"p{number}@elsewhere.example", self.message_id(number), message, attempt)

    def message_id(self, number: int = 1) -> str:
        return f"<{number}.{self.address}>"

    def deliver(
        self, *outgoing: OutboundMessage, record_intent: CommitIntent | None = None, transport: GraphTransport | None = None
    ) -> list[Outcome]:
        """One after the other, in one run."""
        opened = transport or self.open()

        async def go() -> list[Outcome]:
            connection = opened.connection()
            try:
                return [await connection.deliver(message, record_intent or IntentRecorder()) for message in outgoing]
            finally:
                await opened.finish()

        return asyncio.run(go())

    def once(
        self, number: int = 1, attempt: int = 1, record_intent: CommitIntent | None = None, transport: GraphTransport | None = None
    ) -> Outcome:
        return self.deliver(self.outbound(number, attempt), record_intent=record_intent, transport=transport)[0]

    def sought(self, number: int = 1) -> TrackedMessage:
        return TrackedMessage(f"d-{number}", self.message_id(number), self.address, "p", State.AMBIGUOUS, datetime.now(UTC))

    def look(self, number: int = 1) -> TrackingEvent | None:
        """What the mailbox says of a message that is ambiguous."""
        transport = self.open(reply_timeout=10.0)

        async def go() -> list[TrackingEvent]:
            tracker = transport.tracker()
            try:
                return [event async for event in tracker.track([self.sought(number)])]
            finally:
                await tracker.close()

        return next(iter(asyncio.run(go())), None)

    def check(self, **changes: object) -> list[Diagnostic]:
        return asyncio.run(self.open(**changes).check())

    def left(self) -> list[dict[str, Any]]:
        return [record for record in self.cloud.stored() if record["mailbox"] == self.address]

    def lying(self, folder: str) -> list[str]:
        return [message["internetMessageId"] for message in self.cloud.messages(self.address, folder)]

    def asked(self) -> list[str]:
        """The operations that this app asked for, oldest first."""
        return [one["operation"] for one in self.cloud.requests() if one.get("app") == self.app]

    def by_hand(self, act: Callable[[Caller], object]) -> object:
        """What somebody else does in the mailbox, with an app of their own."""
        other = self.cloud.app(roles=ROLES)
        with connected(self.cloud, self.cloud.token(other)) as http:
            return act(Caller(self.cloud, other, self.address, http))

    def draft(self, number: int = 1) -> str:
        return str(self.by_hand(lambda caller: caller.create(self.outbound(number).message).json()["id"]))


def mailbox_at(cloud: Cloud, patch: pytest.MonkeyPatch, **app: object) -> GraphMailbox:
    patch.setenv("SSL_CERT_FILE", str(cloud.ca))
    patch.setenv("NO_PROXY", "localhost")
    address = f"certs-{uuid.uuid4().hex[:8]}@example.org"
    cloud.mailbox(address)
    return GraphMailbox(cloud, address, cloud.app(**{"secrets": {SECRET: None}, "roles": ROLES, **app}))


def spotless(cloud: Cloud) -> None:
    waiting = cloud.faults()
    cloud.clear_faults()
    assert (waiting, cloud.violations(), cloud.refusals()) == ([], [], [])
