"""What Exchange lets an app and a mailbox do, and how much of it they did. Counting goes on while a client is held back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.doubles.graphd.clock import Clock, Window
from tests.doubles.graphd.refusals import Refusal
from tests.doubles.graphd.settings import Settings

MINUTE, TEN_MINUTES, DAY = 60.0, 600.0, 86_400.0
TRACES = 300.0


@dataclass
class MailboxCounts:
    """One mailbox: its requests by operation, and the most of everything."""

    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)  # in_flight, requests, recipients
    messages: int = 0
    over_pace: int = 0
    max_in_flight: int = 0
    minute: Window = field(default_factory=lambda: Window(MINUTE))
    day: Window = field(default_factory=lambda: Window(DAY))

    def shown(self) -> dict[str, object]:
        return {
            "requests": dict(self.requests),
            "refused": dict(self.refused),
            "messages": self.messages,
            "over_pace": self.over_pace,
            "max_in_flight": self.max_in_flight,
            "messages_per_minute": self.minute.most,
            "recipients_per_day": self.day.most,
        }


@dataclass
class Limits:
    clock: Clock
    settings: Settings
    mailboxes: dict[str, MailboxCounts] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    token_requests: Counter[str] = field(default_factory=Counter)  # by grant
    tokens_issued: int = 0
    refused_traces: int = 0
    _in_flight: Counter[tuple[str, str]] = field(default_factory=Counter)
    _windows: dict[tuple[str, str], Window] = field(default_factory=dict)

    def counts(self, mailbox: str) -> MailboxCounts:
        return self.mailboxes.setdefault(mailbox, MailboxCounts())

    @contextmanager
    def counted(self, app: str, mailbox: str, operation: str) -> Iterator[Refusal | None]:
        """While one request is under way: the refusal it earns, if it earns one."""
        self.requests[operation] += 1
        if not mailbox:
            yield self._trace_refusal(app) if operation == "messageTrace.list" else None
            return
        counts, key = self.counts(mailbox), (app, mailbox)
        counts.requests[operation] += 1
        self._in_flight[key] += 1
        counts.max_in_flight = max(counts.max_in_flight, self._in_flight[key])
        try:
            yield self._refusal(counts, key)
        finally:
            self._in_flight[key] -= 1

    def _refusal(self, counts: MailboxCounts, key: tuple[str, str]) -> Refusal | None:
        now = self.clock.now()
        window = self._windows.setdefault(key, Window(TEN_MINUTES))
        if window.add(now) > self.settings.requests_per_ten_minutes:
            counts.refused["requests"] += 1
            return throttled("MailboxRequestRate", window.opens(now))
        if self._in_flight[key] > self.settings.in_flight:
            counts.refused["in_flight"] += 1
            return throttled("MailboxConcurrency", self.settings.retry_after)
        return None

    def _trace_refusal(self, app: str) -> Refusal | None:
        now = self.clock.now()
        window = self._windows.setdefault((app, "traces"), Window(TRACES))
        if window.add(now) > self.settings.traces_per_five_minutes:
            self.refused_traces += 1
            return Refusal(429, "TooManyRequests", "Too many requests.", retry_after=window.opens(now))
        return None

    def count_message(self, mailbox: str, recipients: int) -> None:
        """One message more. Past the pace it is only counted, since the service delays it; past the day's recipients it is refused."""
        now, counts = self.clock.now(), self.counts(mailbox)
        if counts.day.total(now) + recipients > self.settings.recipients_per_day:
            counts.refused["recipients"] += 1
            text = "The message can't be submitted because the sender's submission quota was exceeded. Please try again later."
            raise Refusal(429, "ErrorSubmissionQuotaExceeded", text)
        counts.day.add(now, recipients)
        counts.messages += 1
        if counts.minute.add(now) > self.settings.messages_per_minute:
            counts.over_pace += 1

    def shown(self) -> dict[str, object]:
        return {
            "mailboxes": {mailbox: counts.shown() for mailbox, counts in self.mailboxes.items()},
            "requests": dict(self.requests),
            "refused_traces": self.refused_traces,
            "token_requests": sum(self.token_requests.values()),
            "token_requests_by_grant": dict(self.token_requests),
            "tokens_issued": self.tokens_issued,
        }


def throttled(what: str, retry_after: float) -> Refusal:
    return Refusal(429, "ApplicationThrottled", f"Application is over its {what} limit.", retry_after=retry_after)
