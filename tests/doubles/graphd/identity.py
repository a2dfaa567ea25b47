"""A managed identity's token over plain HTTP on loopback: the metadata service of a machine, and App Service's endpoint."""

from __future__ import annotations

import json

from tests.doubles.graphd.apps import App
from tests.doubles.graphd.entra import Entra
from tests.doubles.graphd.faults import through
from tests.doubles.graphd.refusals import Denied, dated
from tests.doubles.graphd.settings import IDENTITY_HEADER
from tests.doubles.graphd.wire import Answer, Request, Send

MACHINE = ("metadata", "identity", "oauth2", "token")
APP_SERVICE = ("msi", "token")
NAMES = ("client_id", "object_id", "msi_res_id", "mi_res_id")


class Identity:
    def __init__(self, entra: Entra) -> None:
        self.entra, self.service = entra, entra.service

    async def serve(self, request: Request, send: Send) -> None:
        self.service.limits.requests["identity"] += 1
        fault = self.service.faults.take("identity", lambda: request.target, graph=False)
        answer = await through(fault, lambda: self.answer(request), _unwell)
        self.service.requests.append(
            {"at": self.service.clock.now(), "method": request.method, "target": request.target, "operation": "identity"}
            | {"status": answer.status, "fault": fault.do if fault else None}
        )
        await send(dated(answer, self.service.clock.now()))

    def answer(self, request: Request) -> Answer:
        query = dict(request.query)
        if request.segments not in {MACHINE, APP_SERVICE} or request.method != "GET":
            return _error(404, "not_found", "There is nothing here.")
        if wrong := _unproved(request, query):
            return wrong
        app = self._who(query)
        if app is None:
            return _error(400, "invalid_request", "Identity not found")
        try:
            resource = self.entra.known(query.get("resource", ""))
        except Denied as denied:
            return _error(400, denied.error, str(denied))
        self.service.limits.token_requests["managed_identity"] += 1
        return self._token(app, resource, machine=request.segments == MACHINE)

    def _who(self, query: dict[str, str]) -> App | None:
        wanted = [query[name] for name in NAMES if name in query]
        for app in self.service.apps.values():
            if (app.managed == "user" and app.id in wanted) or (app.managed == "system" and not wanted):
                return app
        return None

    def _token(self, app: App, resource: str, *, machine: bool) -> Answer:
        seconds = self.service.settings.token_seconds
        claims = {"roles": app.roles_at(resource)} if app.roles_at(resource) else {}
        token = self.service.token(app, resource, idtyp="app", oid=f"sp-{app.id}", sub=f"sp-{app.id}", **claims)
        now = int(self.service.clock.now() - self.service.clock.ahead)  # expires_on is read by the client's clock
        value = {"access_token": token, "client_id": app.id, "expires_on": str(now + seconds), "resource": resource, "token_type": "Bearer"}
        if machine:
            value |= {"expires_in": str(seconds), "ext_expires_in": str(seconds), "not_before": str(now)}
        return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"})


def _unwell(wrong: Exception) -> Answer:
    """What a fault says, with the headers it brings."""
    refused = _error(getattr(wrong, "status", 503), "temporarily_unavailable", str(wrong))
    return refused.with_headers(getattr(wrong, "headers", {}))


def _unproved(request: Request, query: dict[str, str]) -> Answer | None:
    if request.segments == MACHINE:
        if request.headers.get("metadata", "").lower() != "true":
            return _error(400, "invalid_request", "Required metadata header not specified")
        wanted = "2018-02-01"
    else:
        if request.headers.get("x-identity-header") != IDENTITY_HEADER:
            return _error(401, "unauthorized", "The identity header is wrong")
        wanted = "2019-08-01"
    if query.get("api-version") != wanted:
        return _error(400, "invalid_request", "Required query variable 'api-version' is missing or wrong")
    return None


def _error(status: int, error: str, text: str) -> Answer:
    return Answer(status, json.dumps({"error": error, "error_description": text}).encode(), {"Content-Type": "application/json"})
