"""Estimates how long a `send` takes under rate limit and quota, for the question before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.ports import Ledger
    from distributor.workflows.sending.limits import Forecast


def duration(settings: Settings, ledger: Ledger, scope: DeliveryFilter, *, early: bool, limit: int | None) -> str:
    """The estimate in parentheses; empty where there is no limit."""
    from distributor.bootstrap import delivery

    transport = delivery.transport(settings, signed_in=False)
    if transport.per_minute is None and transport.daily is None:
        return ""
    found = _forecast(settings, ledger, scope, transport.per_minute, transport.daily, early=early, limit=limit)
    if found.later:
        return _in_days(found, transport.daily)
    if transport.per_minute is None:
        return ""
    each = " a mailbox" if settings.senders else ""
    return f" (about {span(found.lasts.total_seconds() / 60)} at {transport.per_minute:g} messages a minute{each})"


def _forecast(
    settings: Settings,
    ledger: Ledger,
    scope: DeliveryFilter,
    per_minute: float | None,
    daily: int | None,
    *,
    early: bool,
    limit: int | None,
) -> Forecast:
    from distributor.bootstrap import delivery
    from distributor.model.states import State
    from distributor.workflows.sending.limits import DAY, allocate, forecast
    from distributor.workflows.sending.run import partition_senders

    senders, now = delivery.senders(settings), ledger.now()
    waiting = allocate(ledger.due(scope, early=early), ledger.counts(scope).get(State.PLANNED, 0), senders)
    sent = [[] if daily is None else ledger.sent_times(now - DAY, each) for each in partition_senders(senders)]
    return forecast(waiting, sent, now=now, per_minute=per_minute, daily=daily, limit=limit)


def _in_days(found: Forecast, daily: int | None) -> str:
    from distributor.cli.render import counted

    again = f"after {found.again:%Y-%m-%d %H:%M} UTC: run `distributor send` again" if found.again else "another day"
    if not found.messages:
        return f" (none now: {counted(daily or 0, 'message')} in 24 hours are all that a mailbox may send; {found.later} {again})"
    lasts = f"about {span(found.lasts.total_seconds() / 60)} for " if found.lasts else ""
    return f" ({lasts}{counted(found.messages, 'message')} today; {found.later} more {again})"


def span(minutes: float) -> str:
    """`40 s`, `12 min`, `5 h 40 min`."""
    if minutes < 1:
        return f"{max(1, round(minutes * 60))} s"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"
