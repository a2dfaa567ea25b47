"""Plans a new generation for a person who needs another copy; first finds the certificate again, then the old password is destroyed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from distributor.errors import Error, RequestDenied
from distributor.model.certificates import Locator, ParsedIdentities, SourceMaterial
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.people import Person, key_of
from distributor.model.ports import Ledger, Source, WorkerPool
from distributor.model.revocation import INCIDENT_RECORDED
from distributor.model.states import Way
from distributor.workflows import lookup
from distributor.workflows.plan_messages import locator as locator_of

OpenPlan = Callable[[Mapping[str, object]], tuple[Source, Mapping[str, Person]]]
RELOCATED = "relocated"  # the event of a certificate that was found in another place
_HINT = "put the file back, run `distributor plan` on its new place, or add that place to [[sources]]"


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look. `configured`: the inputs of a plan made from `[[sources]]`, None without them; `plan_id`: the id for that plan."""

    open_plan: OpenPlan
    configured: Mapping[str, object] | None
    plan_id: str


def choose(ledger: Ledger, name: str, certificate: str | None, now: datetime, way: Way | None = None) -> Delivery:
    """The delivery to renew: the newest one of the only certificate that is still good, or of the one named.

    `name` and `certificate` as for `lookup.find`; `way`: for somebody who is served by both. Raises RequestDenied.
    """
    found = lookup.find(ledger, name, certificate)
    scope = DeliveryFilter(addresses=frozenset({key_of(found[0].address)}))
    newest = {each.line: each for each in sorted(ledger.deliveries(scope), key=_generation)}
    revoked = ledger.revoked(list({sha256 for sha256, _ in newest}))
    if certificate is not None or not lookup.names_address(name):
        named = next((each for each in found if way in {None, each.way}), found[0])
        others = [each for line, each in newest.items() if line[0] == named.certificate_sha256] if certificate is not None else [named]
        return _good(_by_way([newest[each.line] for each in others], name, way), now, revoked)
    newest = {line: each for line, each in newest.items() if line[0] not in revoked} or newest
    good = [each for each in newest.values() if each.certificate_not_after > now and not each.series] or [
        max(newest.values(), key=lambda each: each.certificate_not_after)
    ]
    if len({each.certificate_sha256 for each in good}) > 1:
        raise RequestDenied(f"{len(good)} certificates", where=name, hint=f"add --certificate: {lookup.certificates(good)}")
    same = [each for each in newest.values() if each.certificate_sha256 == good[0].certificate_sha256]
    return _good(_by_way(same, name, way), now, revoked)


def _by_way(found: Sequence[Delivery], name: str, way: Way | None) -> Delivery:
    """The one of this way, of deliveries of one certificate. Raises RequestDenied where that is not said."""
    wanted = [each for each in found if way in {None, each.way}]
    if len(wanted) == 1:
        return wanted[0]
    if not wanted:
        raise RequestDenied(f"not delivered by {way}", where=name, hint=f"leave out --way {way}")
    raise RequestDenied("delivered by mail and by Intune", where=name, hint="add --way mail or --way intune")


def _generation(delivery: Delivery) -> int:
    return delivery.generation


def _good(delivery: Delivery, now: datetime, revoked: Mapping[str, str]) -> Delivery:
    if (reason := revoked.get(delivery.certificate_sha256)) is not None:
        what = reason if reason.startswith(INCIDENT_RECORDED) else "the certificate was revoked"
        hint = "get a new certificate and run `distributor plan`"
        raise RequestDenied(f"{what}, and there is no newer one", where=delivery.address, hint=hint)
    if delivery.certificate_not_after <= now and not delivery.series:
        message = f"the certificate expired on {delivery.certificate_not_after:%Y-%m-%d}, and there is no newer one"
        raise RequestDenied(message, where=delivery.address, hint="get a new certificate and run `distributor plan`")
    return delivery


def renew(  # noqa: PLR0913  what the search needs, and for whom
    ledger: Ledger,
    old: Delivery,
    reason: str,
    places: Places,
    pool: WorkerPool[SourceMaterial, ParsedIdentities],
    *,
    asked: str | None = None,
) -> Delivery:
    """Find the certificate again, then plan the new generation. `asked`: the request that it fulfils.

    Raises RequestDenied when it is nowhere, before anything is changed.
    """
    plan, locator = ledger.locator(old.id)
    if places.configured is not None:
        found = _find(*places.open_plan(places.configured), pool, old, locator)
        if isinstance(found, Locator):
            ledger.begin_plan(places.plan_id, places.configured)
            return ledger.regenerate(old.id, reason, place=(places.plan_id, found), asked=asked)
    plan, found = _find_by_plans(ledger, _plans(ledger, old, plan), places, pool, old, locator)
    return ledger.regenerate(old.id, reason, place=(plan, found), asked=asked)


def _plans(ledger: Ledger, old: Delivery, plan: str) -> list[str]:
    """The plans that found a delivery's certificate, the last one first."""
    events = ledger.history(key_of(old.address))
    later = [str(event.evidence["plan"]) for event in events if event.delivery == old.id and event.event == RELOCATED]
    return list(dict.fromkeys((*reversed(later), plan)))


def _find_by_plans(  # noqa: PLR0913, PLR0917  what the search needs
    ledger: Ledger,
    plans: Sequence[str],
    places: Places,
    pool: WorkerPool[SourceMaterial, ParsedIdentities],
    old: Delivery,
    locator: Locator,
) -> tuple[str, Locator]:
    """The plan by which a certificate is found again, and its place. Raises RequestDenied with the error of the last plan."""
    refused: list[RequestDenied] = []
    for plan in plans:
        try:
            source, people = places.open_plan(ledger.plan_inputs(plan) or {})
        except Error as error:
            refused.append(RequestDenied(str(error), where=old.address, hint=_HINT))
            continue
        found = _find(source, people, pool, old, locator)
        if isinstance(found, Locator):
            return plan, found
        refused.append(RequestDenied(f"cannot find the certificate again ({found.message})", where=found.source or old.address, hint=_HINT))
    raise refused[0]


def _find(
    source: Source, people: Mapping[str, Person], pool: WorkerPool[SourceMaterial, ParsedIdentities], old: Delivery, locator: Locator
) -> Locator | Issue:
    """Where a source has the certificate now: at its old place, else anywhere; or why it is not at its old place."""
    person = next((person for person in people.values() if str(person.address) == old.address), None)
    same_place = source.fetch(locator, person)
    if isinstance(same_place, SourceMaterial) and _first_with(iter((same_place,)), pool, old) is not None:
        return locator
    only = {person.address.key: person} if person is not None else {}
    found = _first_with((find for find in source.finds(only) if isinstance(find, SourceMaterial)), pool, old)
    if found is not None:
        return locator_of(found)
    if isinstance(same_place, Issue):
        return same_place
    return Issue(Severity.ERROR, CheckId.UNREADABLE, "cannot open the file", source=same_place.source)


def _first_with(
    materials: Iterator[SourceMaterial], pool: WorkerPool[SourceMaterial, ParsedIdentities], old: Delivery
) -> SourceMaterial | None:
    """The first material that contains the certificate with its key."""
    for material, opened in pool.map(materials):
        if not isinstance(opened, WorkerFailure) and any(each.facts.sha256 == old.certificate_sha256 for each in opened.identities):
            return material
    return None
