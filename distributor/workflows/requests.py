"""Requests for another copy: found by their id, asked for by a policy, and fulfilled by a new generation once they are approved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from distributor.errors import Error, InvalidInput, RequestDenied
from distributor.model.certificates import ParsedIdentities, SourceMaterial
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.issues import WorkerFailure
from distributor.model.people import key_of
from distributor.model.ports import Ledger, WorkerPool
from distributor.model.requests import REQUEST_PREFIX, CopyRequest, RequestLimits
from distributor.model.revocation import INCIDENT_RECORDED
from distributor.model.states import ID_PREFIX, RequestState, State
from distributor.workflows.resend import Places, renew

IsMember = Callable[[str], bool]  # whether the directory still has the person with this address; raises Error where it cannot tell
POLICY = "policy"  # who decides what nobody decided
GONE = "the person is no longer in the directory, or not with this address"
UNCHECKED = "cannot check whether the person is still in the directory"
SIGNS_ONLY = "this certificate only signs: have a new one issued instead of sending the key again"
_LOST = frozenset({State.REJECTED, State.BOUNCED, State.WITHDRAWN})  # nobody has the message of such a generation, nor will


@dataclass(frozen=True, slots=True)
class Fulfilled:
    """The new generation of an approved request."""

    request: CopyRequest
    delivery: Delivery
    signs_only: bool = False


@dataclass(frozen=True, slots=True)
class Unfulfilled:
    """Why an approved request has no new generation; denied where the person is gone or after an incident, else tried again."""

    request: CopyRequest
    reason: str
    hint: str | None = None

    @property
    def denied(self) -> bool:
        """Whether it is not tried again."""
        return self.request.state is RequestState.DENIED


def find(ledger: Ledger, text: str) -> CopyRequest:
    """The request whose id begins so. Raises RequestDenied."""
    beginning = text.strip().upper().removeprefix(REQUEST_PREFIX.upper())
    found = [request for request in ledger.requests() if request.id.removeprefix(REQUEST_PREFIX).startswith(beginning)] if beginning else []
    if len(found) == 1:
        return found[0]
    if not found:
        raise RequestDenied("no such request", where=text, hint="`distributor requests` lists them")
    raise RequestDenied(f"{len(found)} requests begin so", where=text, hint="write more of the id; `distributor requests` lists them")


def ask(  # noqa: PLR0913  a request and the policy for it
    ledger: Ledger, delivery: str, reason: str, limits: RequestLimits, *, automatic: bool = False, is_member: IsMember | None = None
) -> CopyRequest:
    """Record a request; `automatic`: approved at once. That of a person who is gone from the directory is recorded and denied.

    Where the directory cannot be reached, `fulfil` looks again. Raises RequestDenied beyond the limits.
    """
    known = ledger.delivery(delivery)
    gone = is_member is not None and known is not None and _is_gone(is_member, known.address) is True
    request = ledger.ask(delivery, reason, limits=limits, approve=automatic and not gone)
    return _deny(ledger, request, GONE) if gone else request


def _is_gone(is_member: IsMember, address: str) -> bool | Error:
    """Whether the directory no longer has the person; the error where it cannot tell."""
    try:
        return not is_member(address)
    except Error as error:
        return error


def _deny(ledger: Ledger, request: CopyRequest, why: str) -> CopyRequest:
    with suppress(RequestDenied):  # another process decided it first
        ledger.acting_as(POLICY).decide(request.id, why, approve=False)
    return find(ledger, request.id)


def fulfil(
    ledger: Ledger,
    request: CopyRequest,
    places: Places,
    pool: WorkerPool[SourceMaterial, ParsedIdentities],
    is_member: IsMember | None = None,
) -> Fulfilled | Unfulfilled:
    """Plan the new generation of an approved request; its password is a new one, and the old one is destroyed.

    May be repeated: a generation that was planned since the request was made is taken for it, also where this process did not plan it.
    A request that was denied meanwhile stays so.
    """
    newest = _newest(ledger, request)
    if why := _incident(ledger, newest):
        return Unfulfilled(_deny(ledger, request, why), why)
    if (since := _planned_since(newest, request)) is not None:
        return _record(ledger, request, since, signs_only=False)
    match _is_gone(is_member, request.address) if is_member is not None else False:
        case Error() as error:
            return Unfulfilled(request, f"{UNCHECKED}: {error}", error.hint)
        case True:
            return Unfulfilled(_deny(ledger, request, GONE), GONE)
        case _:
            pass
    watching = _UsageReader(pool, newest.certificate_sha256)
    try:
        new = renew(ledger, newest, request.reason, places, watching, asked=request.id)
    except (RequestDenied, InvalidInput) as error:
        return _not_planned(ledger, request, error)
    return Fulfilled(find(ledger, request.id), new, "encrypt" not in watching.usages)


def _incident(ledger: Ledger, newest: Delivery) -> str:
    """That an incident was recorded about the certificate, which ends its requests; empty where there was none."""
    why = ledger.revoked([newest.certificate_sha256]).get(newest.certificate_sha256, "")
    return why if why.startswith(INCIDENT_RECORDED) else ""


def _not_planned(ledger: Ledger, request: CopyRequest, error: Error) -> Fulfilled | Unfulfilled:
    """The result where this process could not plan: another one may have planned it at the same time, or somebody denied it."""
    now = find(ledger, request.id)
    if now.state is RequestState.DENIED:
        return Unfulfilled(now, f"it was denied by {now.decided_by} ({now.answer})")
    planned = _planned_since(_newest(ledger, request), request) if now.planned is None else ledger.delivery(now.planned)
    return Unfulfilled(now, str(error), error.hint) if planned is None else _record(ledger, request, planned, signs_only=False)


def _newest(ledger: Ledger, request: CopyRequest) -> Delivery:
    """The newest generation of the certificate that was asked about."""
    theirs = list(ledger.deliveries(DeliveryFilter(addresses=frozenset({key_of(request.address)}))))
    asked = next(delivery for delivery in theirs if delivery.id == request.delivery)
    return max((each for each in theirs if each.line == asked.line), key=lambda each: each.generation)


def _planned_since(newest: Delivery, request: CopyRequest) -> Delivery | None:
    """Ids of deliveries and requests come from one clock, and grow with it."""
    later = newest.id.removeprefix(ID_PREFIX) > request.id.removeprefix(REQUEST_PREFIX)
    return newest if later and newest.id != request.delivery and newest.state not in _LOST else None


def _record(ledger: Ledger, request: CopyRequest, new: Delivery, *, signs_only: bool) -> Fulfilled:
    with suppress(RequestDenied):  # another process recorded it first
        ledger.planned(request.id, new.id)
    return Fulfilled(find(ledger, request.id), new, signs_only)


@dataclass(slots=True)
class _UsageReader:
    """A pool that notes what one certificate is for, which the ledger does not keep."""

    pool: WorkerPool[SourceMaterial, ParsedIdentities]
    sha256: str
    usages: set[str] = field(default_factory=set)

    def map(self, jobs: Iterable[SourceMaterial]) -> Iterator[tuple[SourceMaterial, ParsedIdentities | WorkerFailure]]:
        for job, opened in self.pool.map(jobs):
            if not isinstance(opened, WorkerFailure):
                self.usages.update(*(each.facts.usages for each in opened.identities if each.facts.sha256 == self.sha256))
            yield job, opened
