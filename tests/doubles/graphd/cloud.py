"""Starts the double as a process, and is a test's handle on it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.graphd.settings import IDENTITY_HEADER, TENANT

ROOT = Path(__file__).parents[3]
ANSWER_WITHIN = 60.0  # seconds


class Refused(Exception):
    """The double does not understand an order."""


@dataclass(frozen=True)
class Cloud:
    """One tenant with its services. Roots and files for the program, orders for the test."""

    folder: Path
    login: str  # authority = f"{login}/{tenant}"
    graph: str  # the root; scope = f"{graph}/.default", calls go to f"{graph}/v1.0/…"
    port: int
    identity_port: int
    control_port: int
    key: str
    tenant: str = TENANT

    # --- for the program's configuration ----------------------------------------------------------------------------

    @property
    def authority(self) -> str:
        return f"{self.login}/{self.tenant}"

    @property
    def scope(self) -> str:
        return f"{self.graph}/.default"

    @property
    def ca(self) -> Path:
        """The PEM that a client has to trust."""
        return self.folder / "ca.pem"

    @property
    def signing_key(self) -> bytes:
        """The public key (PEM) for `verify`."""
        return (self.folder / "signing.pub.pem").read_bytes()

    @property
    def environment(self) -> dict[str, str]:
        """For httpx2 and requests to trust the double, and no proxy between."""
        return {"SSL_CERT_FILE": str(self.ca), "REQUESTS_CA_BUNDLE": str(self.ca), "NO_PROXY": "localhost,127.0.0.1"}

    @property
    def machine_identity(self) -> dict[str, str]:
        """The environment of a machine that has a managed identity."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://127.0.0.1:{self.identity_port}"}

    @property
    def app_service_identity(self) -> dict[str, str]:
        """That of an App Service."""
        return {"IDENTITY_ENDPOINT": f"http://127.0.0.1:{self.identity_port}/msi/token", "IDENTITY_HEADER": IDENTITY_HEADER}

    # --- who and what there is --------------------------------------------------------------------------------------

    def app(self, client_id: str | None = None, *, tenant: str = TENANT, **given: Any) -> str:  # noqa: ANN401  what an app has
        """Register an app, or change what is given of it; returns its client id.

        `secrets` {secret: when it expires (seconds of the double's clock) or None}, `certificates` [PEM], `federated` [{issuer, subject,
        key (PEM), audience}], `roles` and `outlook_roles` (application permissions), `delegated` (scopes), `exchange_roles` {mailbox:
        [role]} (RBAC for Applications), `mailboxes` (the only ones that an access policy leaves to `roles`; None: no policy), `consented`,
        `enabled`, `managed` ("system" or "user"), `sha1_thumbprints`, `name`.
        """
        client_id = client_id or str(uuid.uuid4())
        self.order("app", id=client_id, tenant=tenant, **given)
        return client_id

    def add_tenant(self, tenant: str, *domains: str) -> None:
        """Another tenant to sign in at; people and mailboxes are those of the first."""
        self.order("tenant", id=tenant, domains=domains)

    def user(self, mail: str | None = None, **properties: object) -> str:
        """A person, with Graph's names for the properties; returns the id. UPN, displayName and proxyAddresses follow the mail."""
        return self.users([{"mail": mail, **properties}])[0]

    def users(self, people: Iterable[Mapping[str, object]]) -> list[str]:
        """Many at once."""
        return list(self.order("users", users=list(people)))

    def change_user(self, user: str, **properties: object) -> None:
        self.order("change_user", user=user, **properties)

    def group(self, name: str, members: Sequence[str] = (), **properties: object) -> str:
        """A group of people (id or UPN) and of other groups (id); returns the id."""
        return str(self.order("group", properties={"displayName": name, **properties}, members=list(members)))

    def mailbox(self, address: str, *, send_as: Sequence[str] = (), **properties: object) -> str:
        """A mailbox, and its person if there is none with that UPN; returns the person's id. `send_as` are further senders."""
        return str(self.order("mailbox", address=address, send_as=list(send_as), properties=properties))

    def token(self, app: str, audience: str | None = None, *, seconds: float | None = None, **claims: object) -> str:
        """An access token without signing in; claims such as `roles` replace those of the app."""
        return str(self.order("token", app=app, audience=audience or self.graph, seconds=seconds, claims=claims))

    def intune(self, **given: object) -> None:
        """Set Intune: `keys` [(provider, name, private key as PEM)] of the connector, `apps` [(name, type)], `licensed`, and so on."""
        self.order("intune", **given)

    # --- what shall happen ------------------------------------------------------------------------------------------

    def fault(self, operation: str, do: str, *, times: int | None = 1, skip: int = 0, match: str | None = None, **options: object) -> None:
        """The next `times` calls of an operation (None: all of them) go wrong, after `skip` good ones; see faults.py for `do`.

        An operationId, "*" (all of Graph), "token", "devicecode", "discovery" or "identity". `match` is a text in the request or message.
        """
        self.order("fault", operation=operation, action=do, times=times, skip=skip, match=match, options=options)

    def clear_faults(self) -> None:
        self.order("clear_faults")

    def faults(self) -> list[dict[str, Any]]:
        """Those that have not fired as often as they shall."""
        return list(self.order("faults"))

    def set(self, **settings: object) -> dict[str, object]:
        """Limits, delays and habits; see settings.py. Returns what was set before."""
        return dict(self.order("set", **settings))

    @contextmanager
    def during(self, **settings: object) -> Iterator[None]:
        """The same for a while."""
        before = self.set(**settings)
        try:
            yield
        finally:
            self.set(**before)

    def advance(self, seconds: float) -> float:
        """Move the clock; real time goes on besides. Returns what it shows."""
        return float(self.order("advance", seconds=seconds))

    def now(self) -> float:
        """The double's clock, in seconds since 1970."""
        return float(self.order("now"))

    def revoke_tokens(self) -> None:
        """Every access token that is out gets a 401 from Graph."""
        self.order("revoke_tokens")

    def expire_page_tokens(self) -> None:
        """Every nextLink of the directory and the trace that is out gets Directory_ExpiredPageToken."""
        self.order("expire_page_tokens")

    def forget_deltas(self) -> None:
        """Every deltaLink that is out gets 410."""
        self.order("forget_deltas")

    def close_idle(self) -> int:
        """Hang up on kept connections that wait; returns how many."""
        return int(self.order("close_idle"))

    def approve(self, user_code: str, user: str) -> None:
        """The person signs in on the device page."""
        self.order("decide", code=user_code, user=user, approve=True)

    def decline(self, user_code: str) -> None:
        self.order("decide", code=user_code, user="", approve=False)

    def deliver(self, mailbox: str, mime: bytes) -> str:
        """A message arrives in the Inbox: a bounce, a reply; returns its id."""
        return str(self.order("deliver", mailbox=mailbox, mime=mime.decode("latin-1")))

    def mail_folder(self, mailbox: str, name: str) -> None:
        """A folder that a person made beside the Inbox."""
        self.order("mail_folder", mailbox=mailbox, name=name)

    def fate(self, recipient: str, status: str) -> None:
        """What the trace says, once settled, of messages to an address; otherwise delivered."""
        self.order("fate", recipient=recipient, status=status)

    def trace(self, message_id: str, sender: str, recipient: str, **row: object) -> None:
        """A row of the trace for a message that went another way, such as SMTP; `at`, `status`, `subject`, `size`."""
        self.order("trace", row={"messageId": message_id, "senderAddress": sender, "recipientAddress": recipient, **row})

    # --- what has happened ------------------------------------------------------------------------------------------

    def stored(self) -> list[dict[str, Any]]:
        """Every message that left, in order, from the log on the disk; it outlives the double."""
        log = self.folder / "messages.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def bytes_of(self, record: Mapping[str, Any]) -> bytes:
        """A message as it left."""
        return (self.folder / "messages" / f"{record['sha256']}.eml").read_bytes()

    def messages(self, mailbox: str, folder: str) -> list[dict[str, Any]]:
        """A folder's messages as Graph shows them, oldest first; also "recoverableitemspurges" and "recoverableitemsdeletions"."""
        return list(self.order("folder", mailbox=mailbox, folder=folder))

    def intune_state(self) -> dict[str, Any]:
        """Records, configurations, profiles, refusals with their reasons, and how often each record was written."""
        return dict(self.order("intune_state"))

    def installed(self) -> list[dict[str, Any]]:
        """What the connector would install, each package opened with the password that it decrypts."""
        found: list[dict[str, Any]] = []
        while part := self.order("intune_opened", start=len(found), number=500):
            found += part
        return found

    def requests(self, operation: str | None = None) -> list[dict[str, Any]]:
        """What was asked, oldest first: at, method, target, operation, app, status, code, how, fault, prefer, type, size."""
        return list(self.order("requests", operation=operation))

    def counts(self) -> dict[str, Any]:
        """What was done, and the most of it.

        Under `mailboxes`, by address: requests (by operation), refused, messages, over_pace, max_in_flight, messages_per_minute,
        recipients_per_day. For all: requests, token_requests, token_requests_by_grant, tokens_issued, refused_traces.
        """
        return dict(self.order("counts"))

    @property
    def over_pace(self) -> int:
        """Messages that came faster than a mailbox may send; the service delays them."""
        return sum(one["over_pace"] for one in self.counts()["mailboxes"].values())

    def violations(self) -> list[str]:
        """Where the double itself broke the description of Graph, or lacked something; a test wants none."""
        return list(self.order("violations"))

    def refusals(self) -> list[str]:
        """Requests that broke the description: a client's fault."""
        return list(self.order("refusals"))

    def order(self, do: str, **what: object) -> Any:  # noqa: ANN401  as the order has it
        """One order to the control port. Raises Refused."""
        line = json.dumps({"do": do, "key": self.key, **what})
        with socket.create_connection(("127.0.0.1", self.control_port), ANSWER_WITHIN) as line_to, line_to.makefile("rwb") as both:
            both.write(line.encode() + b"\n")
            both.flush()
            answer = json.loads(both.readline())
        if "error" in answer:
            raise Refused(f"{do}: {answer['error']}")
        return answer["result"]


@contextmanager
def graphd(folder: Path, *, port: int = 0, orders: Sequence[Mapping[str, object]] = ()) -> Iterator[Cloud]:
    """A running double. Its log survives it, and a second one in the same folder goes on in the same log, with the same CA and keys.

    `orders` are obeyed before anybody can connect: {"do": "mailbox", "address": …}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "orders.json"
    script.write_text(json.dumps(list(orders)))
    argv = [sys.executable, "-m", "tests.doubles.graphd", "--folder", str(folder), "--port", str(port), "--orders", str(script)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield Cloud(folder, **json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(60)
