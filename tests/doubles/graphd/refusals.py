"""The refusals of the three services, each in its own form: Graph (OData), Entra (OAuth with AADSTS codes), and their plain answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

from tests.doubles.graphd.clock import http_date, stamp
from tests.doubles.graphd.wire import Answer, Request


class Refusal(Exception):
    """Graph says no."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = f"{retry_after:g}"


class Denied(Exception):
    """Entra says no: the number after AADSTS, OAuth's error, the text, and the status."""

    def __init__(self, number: int, error: str, text: str, status: int = 400, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"AADSTS{number}: {text}")
        self.number, self.error, self.text, self.status = number, error, text, status
        self.headers = dict(headers or {})


def json_answer(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(value, ensure_ascii=False).encode()
    return Answer(status, body, {"Content-Type": "application/json; odata.metadata=minimal; charset=utf-8", **(headers or {})})


def graph_error(refusal: Refusal, request: Request, now: float) -> Answer:
    """`{"error": {"code", "message", "innerError"}}` with the numbers that support asks for."""
    request_id = str(uuid.uuid4())
    inner = {
        "date": stamp(now).removesuffix("Z"),
        "request-id": request_id,
        "client-request-id": request.headers.get("client-request-id", request_id),
    }
    value = {"error": {"code": refusal.code, "message": refusal.message, "innerError": inner}}
    return json_answer(refusal.status, value, {"request-id": request_id, **refusal.headers})


def entra_error(denied: Denied, request: Request, now: float) -> Answer:
    """`{"error", "error_description", "error_codes", ...}`; the numbers at the end of the description are part of it."""
    trace, correlation = str(uuid.uuid4()), request.headers.get("client-request-id", str(uuid.uuid4()))
    moment = stamp(now).replace("T", " ")
    description = f"AADSTS{denied.number}: {denied.text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {moment}"
    value = {
        "error": denied.error,
        "error_description": description,
        "error_codes": [denied.number],
        "timestamp": moment,
        "trace_id": trace,
        "correlation_id": correlation,
    }
    if denied.number == CONSENT_MISSING:
        value["suberror"] = "consent_required"
    return Answer(denied.status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8", **denied.headers})


def dated(answer: Answer, now: float) -> Answer:
    return answer.with_headers({"Date": http_date(now)})


CONSENT_MISSING = 65001
