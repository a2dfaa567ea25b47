"""Graph itself: each request is found in the description, counted, checked for limits and faults, let in, and answered."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from typing import Any

from tests.doubles.graphd import delta, directory, intune, mail, trace
from tests.doubles.graphd.apps import GRAPH, App, covers
from tests.doubles.graphd.call import Call
from tests.doubles.graphd.contract import Contract
from tests.doubles.graphd.faults import Fault, through
from tests.doubles.graphd.refusals import Refusal, dated, graph_error
from tests.doubles.graphd.state import ServiceState
from tests.doubles.graphd.tokens import Unverified, peek, verify
from tests.doubles.graphd.wire import Answer, Request, Send

DIRECTORY = ("/users", "/users/{user-id}", "/groups")
UNBELIEVED = {
    "malformed": "IDX14100: JWT is not well formed.",
    "signature": "Access token validation failure. Invalid signature.",
    "audience": "Access token validation failure. Invalid audience.",
    "expired": "Lifetime validation failed, the token is expired.",
    "early": "Lifetime validation failed, the token is not yet valid.",
}


class Graph:
    def __init__(self, service: ServiceState, contract: Contract, beta: Contract) -> None:
        self.service, self.contract = service, contract
        self.contracts = {"v1.0": contract, "beta": beta}
        self.deltas = delta.Deltas()
        for kind in ("message", "mailFolder", "user", "group"):
            service.properties[kind] = contract.properties(kind) | (directory.EVERYBODY if kind == "user" else frozenset())
        self.operations: dict[str, Callable[[Call], Answer]] = {
            **mail.OPERATIONS,
            **directory.OPERATIONS,
            "mailFolder.messagesDelta": delta.operation(self.deltas),
            "messageTrace.list": trace.listed,
            **intune.OPERATIONS,
        }

    async def serve(self, request: Request, send: Send) -> None:
        """`request.segments` begins with the root's own segment and the version."""
        try:
            call = self._found(request)
        except Refusal as refusal:
            await self._finish(request, None, graph_error(self._noted(request, refusal), request, self.service.clock.now()), send)
            return
        with self.service.limits.counted(call.app, self._box(call), call.operation.id) as throttle:
            await self._held(call, throttle, send)

    async def _held(self, call: Call, throttle: Refusal | None, send: Send) -> None:
        """While it is in flight."""
        if self.service.settings.latency and throttle is None:
            await asyncio.sleep(self.service.settings.latency)
        call.fault = None if throttle else self.service.faults.take(call.operation.id, lambda: self._text(call))
        answer = await through(call.fault, lambda: self.answer(call, throttle), lambda wrong: self._said(call, wrong))
        await self._finish(call.request, call, answer, send)

    def answer(self, call: Call, throttle: Refusal | None) -> Answer:
        if throttle is not None:
            return self._said(call, throttle)
        try:
            self._let_in(call)
            self._described(call)
            self._permitted(call)
            answer = self.operations.get(call.operation.id, _lacking)(call)
        except Refusal as refusal:
            answer = self._said(call, refusal)
        except Exception as wrong:  # noqa: BLE001  a fault of the double has to be seen by the test, not to end it
            self.service.violations.append("".join(traceback.format_exception(wrong)))
            answer = self._said(call, Refusal(500, "ErrorInternalServerError", f"The double failed: {wrong!r}"))
        if complaint := self._contract(call).answer_complaint(call.operation, answer):
            self.service.violations.append(complaint)
        return answer

    # --- the steps --------------------------------------------------------------------------------------------------

    def _found(self, request: Request) -> Call:
        claims = peek(_bearer(request) or "")
        contract = self.contracts.get(request.segments[1]) if len(request.segments) > 1 and request.segments[0] == "graph" else None
        if contract is None:
            raise Refusal(400, "BadRequest", "Invalid version.")
        operation, params = contract.find(request.method, request.segments[2:])
        return Call(self.service, request, operation, params, claims)

    def _contract(self, call: Call) -> Contract:
        return self.contracts[call.request.segments[1]]

    def _box(self, call: Call) -> str:
        user = self.service.directory.user(call.params.get("user-id", ""))
        address = self.service.mailboxes.get(user["id"]) if user else None
        return address.address if address and call.operation.template not in DIRECTORY else ""

    def _let_in(self, call: Call) -> None:
        token = _bearer(call.request)
        if token is None:
            raise _unauthorized("Access token is empty.")
        try:
            call.claims = verify(token, {self.service.graph, GRAPH}, self.service.signer.public_key, now=call.now)
        except Unverified as wrong:
            raise _unauthorized(UNBELIEVED[wrong.reason]) from wrong
        if call.claims.get("uti") not in self.service.live_tokens:
            raise _unauthorized("Continuous access evaluation resulted in challenge: the token was revoked.")

    def _described(self, call: Call) -> None:
        if len(call.request.body) > self.service.settings.largest_body:
            raise Refusal(413, "RequestEntityTooLarge", "The request is larger than the maximum allowed size.")
        try:
            call.query = self._contract(call).query(call.operation, call.request)
            call.body = self._contract(call).body(call.operation, call.request)
        except Refusal as refusal:
            raise self._noted(call.request, refusal) from refusal

    def _permitted(self, call: Call) -> None:
        """By the token's roles or scopes, and in a mailbox by what Exchange grants there besides."""
        scopes = set(str(call.claims.get("scp", "")).split())
        granted = {*call.claims.get("roles", ()), *scopes}
        app = self.service.apps.get(call.app)
        if "user-id" in call.params and call.operation.template not in DIRECTORY:
            self._permitted_in(call, app, granted, person=bool(scopes))
        elif not _enough(call, granted):
            raise _forbidden(call)

    def _permitted_in(self, call: Call, app: App | None, consented: set[str], *, person: bool) -> None:
        """Grants add up; an access policy narrows only those of Entra, and a person opens no mailbox but their own."""
        address = self._box(call)
        granted = set() if app is None or person else app.granted_in(address)
        if not address and not _enough(call, consented):
            raise _forbidden(call)
        mailbox = call.mailbox()
        if not _enough(call, consented | granted):
            raise _forbidden(call)
        if app is None or not (app.reaches(address) or _enough(call, granted)):
            raise Refusal(403, "ErrorAccessDenied", "Access to OData is disabled.")
        if person and call.claims.get("oid") != mailbox.owner:
            raise Refusal(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")

    # --- around them ------------------------------------------------------------------------------------------------

    def _said(self, call: Call, wrong: Exception) -> Answer:
        if not isinstance(wrong, Refusal):
            raise TypeError(f"Graph does not speak of {wrong!r}")
        return graph_error(wrong, call.request, call.now)

    def _noted(self, request: Request, refusal: Refusal) -> Refusal:
        self.service.refusals.append(f"{request.method} {request.target}: {refusal}")
        return refusal

    def _text(self, call: Call) -> str:
        """What a fault's `match` looks into: the request, and the message that it is about."""
        parts = [f"{call.request.method} {call.request.target}", _readable(call.request)]
        address = self.service.mailbox(call.params.get("user-id", ""))
        item = address.find(call.params["message-id"]) if address and "message-id" in call.params else None
        if item is not None:
            parts.append(self.service.delivered.bytes_of(item.message.sha256).decode("utf-8", "replace"))
        return "\n".join(parts)

    async def _finish(self, request: Request, call: Call | None, answer: Answer, send: Send) -> None:
        self.service.requests.append(_record(request, call, answer, self.service.clock.now()))
        await send(dated(answer, self.service.clock.now()))


def _record(request: Request, call: Call | None, answer: Answer, now: float) -> dict[str, Any]:
    fault: Fault | None = call.fault if call else None
    return {
        "at": now,
        "method": request.method,
        "target": request.target,
        "operation": call.operation.id if call else "unknown",
        "app": call.app if call else "",
        "params": call.params if call else {},
        "prefer": request.headers.get("prefer"),
        "type": request.media_type(),
        "size": len(request.body),
        "status": answer.status,
        "how": answer.how,
        "fault": fault.do if fault else None,
        "code": json.loads(answer.body)["error"]["code"] if answer.status >= 400 and answer.body.startswith(b'{"error"') else None,
    }


def _bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def _readable(request: Request) -> str:
    if request.media_type() != "text/plain":
        return request.body.decode("utf-8", "replace")
    try:
        return mail.read_mime(request.body).decode("utf-8", "replace")
    except Refusal:
        return ""


def _unauthorized(text: str) -> Refusal:
    headers = {"WWW-Authenticate": 'Bearer realm="", error="invalid_token"'}
    return Refusal(401, "InvalidAuthenticationToken", text, headers=headers)


def _enough(call: Call, granted: set[str]) -> bool:
    return all(covers(granted, wanted) for wanted in call.operation.permissions)


def _forbidden(call: Call) -> Refusal:
    if call.operation.template in DIRECTORY or call.operation.template.startswith("/groups/"):
        return Refusal(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
    return Refusal(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")


def _lacking(call: Call) -> Answer:
    raise NotImplementedError(f"the double has no {call.operation.id}")
