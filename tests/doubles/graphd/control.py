"""The test's control port: one JSON line in, one out, on a port that Graph's clients do not know and behind a key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tests.doubles.graphd import apps, intune_state, messages, sending
from tests.doubles.graphd.apps import App
from tests.doubles.graphd.call import Call
from tests.doubles.graphd.entra import ENDPOINTS, Entra
from tests.doubles.graphd.faults import Fault
from tests.doubles.graphd.graph import Graph
from tests.doubles.graphd.mailbox import Item, Mailbox
from tests.doubles.graphd.mime import parse_message
from tests.doubles.graphd.state import ServiceState
from tests.doubles.graphd.wire import Port, Request

LINE = 2**26  # bytes; a hundred thousand people come in one order


class Control:
    def __init__(self, service: ServiceState, graph: Graph, entra: Entra, ports: list[Port], key: str) -> None:
        self.service, self.graph, self.entra, self.ports, self.key = service, graph, entra, ports, key

    async def open(self) -> int:
        self.server = await asyncio.start_server(self._meet, "127.0.0.1", 0, limit=LINE)
        return int(self.server.sockets[0].getsockname()[1])

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self.obey(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if order.pop("key", None) != self.key:
            return {"error": "the key is wrong"}
        act: Callable[..., Any] | None = getattr(self, f"on_{order.pop('do')}", None)
        if act is None:
            return {"error": "there is no such order"}
        try:
            return {"result": act(**order)}
        except (ValueError, TypeError, KeyError) as wrong:
            return {"error": str(wrong)}

    # --- who and what there is --------------------------------------------------------------------------------------

    def on_tenant(self, id: str, domains: list[str]) -> None:  # noqa: A002  the order's own word
        self.service.tenants[id] = tuple(one.casefold() for one in domains)

    def on_app(self, id: str, tenant: str, **given: Any) -> None:  # noqa: A002, ANN401
        app = self.service.apps.setdefault(id, App(id, tenant))
        apps.change(app, given)

    def on_users(self, users: list[dict[str, Any]]) -> list[str]:
        return [self.service.directory.add_user(one) for one in users]

    def on_change_user(self, user: str, **properties: Any) -> None:  # noqa: ANN401
        found = self.service.directory.user(user)
        if found is None:
            raise ValueError(f"there is no user {user}")
        found.update(properties)

    def on_group(self, properties: dict[str, Any], members: list[str]) -> str:
        return self.service.directory.add_group(properties, members)

    def on_mailbox(self, address: str, send_as: list[str], properties: dict[str, Any]) -> str:
        return self.service.add_mailbox(address, send_as, properties)

    def on_token(self, app: str, audience: str, seconds: float | None, claims: dict[str, Any]) -> str:
        found = self.service.apps[app]
        return self.service.token(found, audience, seconds=seconds, **{"roles": found.roles_at(audience), "idtyp": "app", **claims})

    def _box(self, address: str) -> Mailbox:
        found = self.service.addresses.get(address.lower())
        if found is None:
            raise ValueError(f"there is no mailbox {address}")
        found.settle(self.service.clock.now(), same_id=self.service.settings.id_after_send == "same")
        return found

    # --- what shall happen ------------------------------------------------------------------------------------------

    def on_set(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
        return self.service.settings.change(changes)

    def on_fault(self, operation: str, action: str, **given: Any) -> None:  # noqa: ANN401
        endpoints = {*ENDPOINTS.values(), "identity"}
        if operation not in {
            "*",
            *endpoints,
            *(one.id for contract in self.graph.contracts.values() for one in contract.operations.values()),
        }:
            raise ValueError(f"there is no operation {operation}")
        fault = Fault(operation, action, **given)
        if fault.do == "aadsts" and operation not in endpoints:
            raise ValueError("only Entra speaks of AADSTS")
        self.service.faults.waiting.append(fault)

    def on_faults(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.service.faults.waiting]

    def on_clear_faults(self) -> None:
        self.service.faults.waiting.clear()

    def on_advance(self, seconds: float) -> float:
        return self.service.clock.advance(seconds)

    def on_now(self) -> float:
        return self.service.clock.now()

    def on_revoke_tokens(self) -> None:
        self.service.live_tokens.clear()

    def on_expire_page_tokens(self) -> None:
        self.service.directory.page_tokens += 1

    def on_forget_deltas(self) -> None:
        self.graph.deltas.rounds.clear()

    def on_close_idle(self) -> int:
        return sum(port.close_idle() for port in self.ports)

    def on_decide(self, code: str, user: str, approve: bool) -> None:  # noqa: FBT001  it comes as JSON
        self.entra.devices.decide(code, user, approve=approve)

    def on_deliver(self, mailbox: str, mime: str) -> str:
        found = self._box(mailbox)
        data = mime.encode("latin-1")
        made = parse_message(data)
        self.service.delivered.keep(made.sha256, data)
        now = self.service.clock.now()
        return found.add(Item(made, "inbox", created=now, sent=now, read=False)).id

    def on_mail_folder(self, mailbox: str, name: str) -> None:
        self._box(mailbox).folders[name] = name

    def on_trace(self, row: dict[str, Any]) -> None:
        blank = {"id": sending.new_trace_id(), "subject": "", "size": 0, "at": self.service.clock.now()}
        self.service.traces.append(blank | row)

    def on_fate(self, recipient: str, status: str) -> None:
        self.service.fates[recipient.lower()] = status

    def on_intune(self, **given: Any) -> None:  # noqa: ANN401
        self.service.intune.set(**given)

    # --- what has happened ------------------------------------------------------------------------------------------

    def on_folder(self, mailbox: str, folder: str) -> list[dict[str, Any]]:
        """The messages as Graph shows them, oldest first."""
        found = self._box(mailbox)
        operation = next(one for one in self.graph.contract.operations.values() if one.id == "message.get")
        call = Call(self.service, Request("GET", "/", {}), operation, {}, {})
        return [messages.resource(item, found, call) for item in found.folder(folder)]

    def on_intune_state(self) -> dict[str, Any]:
        return intune_state.state(self.service.intune)

    def on_intune_opened(self, start: int, number: int) -> list[dict[str, Any]]:
        return self.service.intune.opened(start, number)

    def on_requests(self, operation: str | None) -> list[dict[str, Any]]:
        return [one for one in self.service.requests if operation in {None, one["operation"]}]

    def on_counts(self) -> dict[str, Any]:
        return self.service.limits.shown()

    def on_violations(self) -> list[str]:
        return self.service.violations

    def on_refusals(self) -> list[str]:
        return self.service.refusals
