"""Faults on demand: each waits for its operation, fires as often as it was told to, and spoils the answer or the line.

`do` is one of
  status             an error of the service: `status`, `code`, `message`, `retry_after`, `headers`
  401  429           the same with the status's usual words; `retry_after`
  504-before -after  a gateway gave up before, or after, the effect
  reset-before -after, silence-before -after    the line breaks (RST), or nothing is ever answered
  slow               the answer waits `seconds` first
  202-retry-after    the good answer, with a Retry-After of `seconds`
  garbage            bytes that are not HTTP
  truncated          the answer ends in the middle of its body
  html               a proxy's own page, 502 or `status`
  rewrite-message-id the message gets a Message-ID of the service's choice
  aadsts             Entra's error `number`, with `error`, `text` and `status`
Those of the first lines that name no side fire before the effect; with `after=True` the effect comes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.doubles.graphd.refusals import Denied, Refusal
from tests.doubles.graphd.wire import Answer

OPTIONS = {
    "status": {"status", "code", "message", "retry_after", "headers"},
    "401": {"code", "message"},
    "429": {"retry_after", "code", "message"},
    "504-before": set(),
    "504-after": set(),
    "reset-before": set(),
    "reset-after": set(),
    "silence-before": set(),
    "silence-after": set(),
    "slow": {"seconds"},
    "202-retry-after": {"seconds"},
    "garbage": set(),
    "truncated": set(),
    "html": {"status"},
    "rewrite-message-id": set(),
    "aadsts": {"number", "error", "text", "status"},
}
AFTER = frozenset({"504-after", "reset-after", "silence-after", "202-retry-after", "truncated"})
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>\r\n"


@dataclass
class Fault:
    """`match` is a text that the request has to contain: its target, its body, or the message it is about."""

    operation: str
    do: str
    times: int | None = 1
    skip: int = 0
    match: str | None = None
    options: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.do not in OPTIONS:
            raise ValueError(f'"{self.do}" is no fault; there are {", ".join(OPTIONS)}')
        if unknown := set(self.options) - OPTIONS[self.do] - {"after"}:
            raise ValueError(f'the fault "{self.do}" has no {", ".join(sorted(unknown))}')

    @property
    def after(self) -> bool:
        return self.do in AFTER or bool(self.options.get("after"))

    def option(self, name: str, default: object) -> object:
        return self.options.get(name, default)


class Faults:
    """Those that wait, in the order in which they were given. "*" stands for every operation of Graph."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []

    def take(self, operation: str, text: Callable[[], str], *, graph: bool = True) -> Fault | None:
        """The fault that fires now; one that skips this request leaves it to the next."""
        for fault in self.waiting:
            if fault.operation not in {operation, "*" if graph else operation}:
                continue
            if fault.match is not None and fault.match not in text():
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
                if not fault.times:
                    self.waiting.remove(fault)
            return fault
        return None


async def through(fault: Fault | None, perform: Callable[[], Answer], errors: Callable[[Exception], Answer]) -> Answer:
    """What goes back to the client when this fault stands in the way; without one, what the service says."""
    if fault is None or fault.do == "rewrite-message-id":
        return perform()
    good = perform() if fault.after else Answer(200)
    if fault.do != "slow":
        return _spoiled(fault, good, errors)
    await asyncio.sleep(float(str(fault.option("seconds", 1))))
    return good if fault.after else perform()


def _spoiled(fault: Fault, good: Answer, errors: Callable[[Exception], Answer]) -> Answer:
    kind = fault.do.removesuffix("-before").removesuffix("-after")
    match kind:
        case "reset" | "silence" | "garbage" | "truncated":
            return replace(good, how=kind)
        case "202-retry":
            return good.with_headers({"Retry-After": str(fault.option("seconds", 5))})
        case "html":
            return Answer(int(str(fault.option("status", 502))), HTML, {"Content-Type": "text/html", "Server": "proxy"})
        case "aadsts":
            return errors(_denied(fault))
        case _:
            return errors(_refusal(fault, kind))


def _denied(fault: Fault) -> Denied:
    number, status = int(str(fault.option("number", 50034))), int(str(fault.option("status", 400)))
    return Denied(number, str(fault.option("error", "invalid_grant")), str(fault.option("text", "The double was told to say so.")), status)


USUAL = {
    "401": (401, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired."),
    "429": (429, "ApplicationThrottled", "Application is over its MailboxConcurrency limit."),
    "504": (504, "UnknownError", "The server, while acting as a proxy, did not receive a timely response from the upstream server."),
    "status": (503, "ErrorServerBusy", "The server cannot service this request right now. Try again later."),
}


def _refusal(fault: Fault, kind: str) -> Refusal:
    status, code, message = USUAL[kind]
    options = fault.options
    retry_after = options.get("retry_after", 1 if kind == "429" else None)
    return Refusal(
        int(str(options.get("status", status))),
        str(options.get("code", code)),
        str(options.get("message", message)),
        retry_after=None if retry_after is None else float(str(retry_after)),
        headers=options.get("headers") if isinstance(options.get("headers"), dict) else None,
    )
