"""Lists ambiguous deliveries with their evidence, and settles them by a person's decision.

A message is not sent again while its last sender may still be alive: the end of data could still go out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from distributor.errors import RequestDenied
from distributor.model.delivery import Delivery, DeliveryFilter, LastAttempt, LeaseHolder
from distributor.model.ports import Ledger
from distributor.model.states import State

Alive = Callable[[LeaseHolder], bool | None]


@dataclass(frozen=True, slots=True)
class AmbiguousDelivery:
    """One ambiguous delivery. `retry_allowed_at`: when its message may be sent again; None: not while its sender runs."""

    delivery: Delivery
    armed_at: datetime | None
    evidence: str
    retry_allowed_at: datetime | None


def ambiguous_deliveries(
    ledger: Ledger, scope: DeliveryFilter, *, alive: Alive, now: datetime, attempt_timeout: timedelta
) -> Iterator[AmbiguousDelivery]:
    """Every ambiguous delivery, oldest first."""
    for attempt in ledger.ambiguous(scope):
        free_at, why = retry_allowed_at(attempt, alive, now, attempt_timeout)
        yield AmbiguousDelivery(attempt.delivery, attempt.armed_at, f"{attempt.delivery.said or 'no answer was recorded'}; {why}", free_at)


def accept(ledger: Ledger, delivery: str, reason: str) -> None:
    """Settle as accepted, because a person knows that the server has the message."""
    ledger.resolve(delivery, State.ACCEPTED, {"kind": "person", "reason": reason})


def send_again(  # noqa: PLR0913  what a use case needs
    ledger: Ledger, delivery: str, reason: str, *, alive: Alive, now: datetime, attempt_timeout: timedelta
) -> None:
    """Queue the same bytes again, because a person knows that the server does not have the message.

    Raises RequestDenied while its last sender may still be alive, with the time to wait.
    """
    for attempt in ledger.ambiguous(DeliveryFilter()):
        if attempt.delivery.id == delivery:
            free_at, why = retry_allowed_at(attempt, alive, now, attempt_timeout)
            if free_at is None:
                raise RequestDenied(why, where=delivery, hint="wait until that `distributor send` is done, then run the command again")
            if free_at > now:
                hint = f"run the command again after {free_at:%Y-%m-%d %H:%M:%S} UTC, in {_span(free_at - now)}"
                raise RequestDenied(why, where=delivery, hint=hint)
    ledger.resolve(delivery, State.QUEUED, {"kind": "person", "reason": reason})


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of a decision about all of a restored ledger. `left`: what was not settled, and why."""

    settled: int
    waiting: int
    left: tuple[tuple[Delivery, RequestDenied], ...]


def settle_restored(  # noqa: PLR0913  what a use case needs
    ledger: Ledger, reason: str, *, accepted: bool, alive: Alive, now: datetime, attempt_timeout: timedelta
) -> Settled:
    """Settle everything that became ambiguous because the ledger was restored; what may not be settled so is left as it is."""
    settled = waiting = 0
    left: list[tuple[Delivery, RequestDenied]] = []
    for attempt in ledger.ambiguous(DeliveryFilter()):
        if not attempt.restored:
            continue
        delivery = attempt.delivery
        free_at, _ = retry_allowed_at(attempt, alive, now, attempt_timeout)
        if not accepted and not attempt.replaced and (free_at is None or free_at > now):
            waiting += 1
            continue
        try:
            _settle_one(ledger, attempt, reason, accepted=accepted)
        except RequestDenied as error:
            left.append((delivery, error))
        else:
            settled += 1
    return Settled(settled, waiting, tuple(left))


def _settle_one(ledger: Ledger, attempt: LastAttempt, reason: str, *, accepted: bool) -> None:
    """Raises RequestDenied where the delivery may not be settled so."""
    id_ = attempt.delivery.id
    if accepted and attempt.replaced:  # "all of them arrived" hardly means both generations of one person
        hint = f"distributor withdraw {id_} --reason TEXT, or where this one arrived too: distributor resolve {id_} --accepted"
        raise RequestDenied("a later generation replaced it", where=id_, hint=hint)
    ledger.resolve(id_, State.ACCEPTED if accepted else State.QUEUED, {"kind": "person", "reason": reason})


def retry_allowed_at(attempt: LastAttempt, alive: Alive, now: datetime, attempt_timeout: timedelta) -> tuple[datetime | None, str]:
    """When the message may be sent again (None: not while its sender runs), and why."""
    since = attempt.armed_at or attempt.delivery.updated_at
    match alive(attempt.holder) if attempt.holder else None:
        case True if attempt.holder is not None:
            return None, f"its sender still runs (process {attempt.holder.pid})"
        case False:
            return min(since, now), "its sender has ended"
        case _ if since + attempt_timeout > now:
            return since + attempt_timeout, "its sender ran elsewhere and may still wait for an answer"
        case _:
            return since + attempt_timeout, "its sender cannot be waiting any more"


def _span(wait: timedelta) -> str:
    seconds = max(1, round(wait.total_seconds()))
    return f"{seconds} s" if seconds < 120 else f"{-(-seconds // 60)} min"  # noqa: PLR2004  two minutes
