"""A person who asks again -> a new generation in the ledger, planned, whose certificate was found again before the old password dies."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from distributor.core.credentials import Locator, Material, Opened
from distributor.core.deliveries import Delivery, Scope
from distributor.core.findings import Failed, Issue
from distributor.core.people import Person
from distributor.core.ports import Ledger, Pool, Source
from distributor.core.publishing import REVOKED
from distributor.errors import Error, Refused

OpenPlan = Callable[[Mapping[str, object]], tuple[Source, Mapping[str, Person]]]
SHORTEST_NAME = 8  # hex digits that name a certificate


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look: `configured` is what `[[sources]]` would be kept as in a plan, None without them; `plan_id` is for a plan of them."""

    open_plan: OpenPlan
    configured: Mapping[str, object] | None
    plan_id: str


def choose(ledger: Ledger, address: str, certificate: str | None, now: datetime) -> Delivery:
    """The delivery that is to have a new generation: the newest one of the only certificate that is still good, or of the one named.

    `address` is an Address.key. Raises Refused.
    """
    newest: dict[str, Delivery] = {}
    for delivery in ledger.deliveries(Scope(address=address)):
        newest[delivery.certificate_sha256] = max(newest.get(delivery.certificate_sha256, delivery), delivery, key=_generation)
    if not newest:
        raise Refused(f'"{address}" is not in the ledger', hint="`distributor status` lists everybody who is")
    revoked = frozenset(event.evidence["certificate_sha256"] for event in ledger.history(address) if event.event == REVOKED)
    if certificate is not None:
        return _good(_named(newest, certificate.lower().replace(":", "")), now, revoked)
    newest = {sha256: delivery for sha256, delivery in newest.items() if sha256 not in revoked} or newest
    good = [delivery for delivery in newest.values() if delivery.certificate_not_after > now]
    if len(good) > 1:
        names = ", ".join(sorted(delivery.certificate_sha256 for delivery in good))
        raise Refused(f'"{address}" has {len(good)} certificates', hint=f"name one with --certificate: {names}")
    return _good(max(newest.values(), key=lambda delivery: delivery.certificate_not_after), now, revoked)


def _generation(delivery: Delivery) -> int:
    return delivery.generation


def _named(newest: Mapping[str, Delivery], certificate: str) -> Delivery:
    found = [delivery for sha256, delivery in newest.items() if len(certificate) >= SHORTEST_NAME and sha256.startswith(certificate)]
    if len(found) != 1:
        raise Refused(f'no such certificate: "{certificate}"', hint=f"there is: {', '.join(sorted(newest))}")
    return found[0]


def _good(delivery: Delivery, now: datetime, revoked: Container[object]) -> Delivery:
    if delivery.certificate_sha256 in revoked:
        hint = "get a new certificate and run `distributor plan`"
        raise Refused("the certificate was revoked, and there is none newer", where=delivery.address, hint=hint)
    if delivery.certificate_not_after <= now:
        message = f"the certificate expired on {delivery.certificate_not_after:%Y-%m-%d}, and there is none newer"
        raise Refused(message, where=delivery.address, hint="get a new certificate and run `distributor plan`")
    return delivery


def renew(ledger: Ledger, old: Delivery, reason: str, places: Places, pool: Pool[Material, Opened]) -> Delivery:
    """Find the certificate again, then plan the new generation.

    Raises Refused when it is nowhere, before anything is changed.
    """
    plan, locator = ledger.locator(old.id)
    if places.configured is not None and (found := _in_configured(places, pool, old, locator)) is not None:
        ledger.begin_plan(places.plan_id, places.configured)
        return ledger.regenerate(old.id, reason, place=(places.plan_id, found))
    _where_it_was(ledger.plan_inputs(plan) or {}, places, pool, old, locator)
    return ledger.regenerate(old.id, reason)


def _in_configured(places: Places, pool: Pool[Material, Opened], old: Delivery, locator: Locator) -> Locator | None:
    source, people = places.open_plan(places.configured or {})
    person = next((person for person in people.values() if str(person.address) == old.address), None)
    at_once = source.fetch(locator, person)
    if isinstance(at_once, Material) and _holding(iter((at_once,)), pool, old) is not None:
        return locator
    only = {person.address.key: person} if person is not None else {}
    found = _holding((find for find in source.finds(only) if isinstance(find, Material)), pool, old)
    return None if found is None else Locator(found.form, tuple((part.path, part.member, part.sha256) for part in found.parts))


def _where_it_was(inputs: Mapping[str, object], places: Places, pool: Pool[Material, Opened], old: Delivery, locator: Locator) -> None:
    hint = "put the file back where it was, or name its new place in [[sources]]"
    try:
        source, people = places.open_plan(inputs)
    except Error as error:
        raise Refused(str(error), where=old.address, hint=hint) from error
    person = next((person for person in people.values() if str(person.address) == old.address), None)
    match source.fetch(locator, person):
        case Issue(message=message, source=where):
            raise Refused(f"its certificate is not found again ({message})", where=where or old.address, hint=hint)
        case Material() as material if _holding(iter((material,)), pool, old) is None:
            raise Refused("its certificate is not found again (the file does not open)", where=material.source, hint=hint)


def _holding(materials: Iterator[Material], pool: Pool[Material, Opened], old: Delivery) -> Material | None:
    """The first material that holds the certificate with its key."""
    for material, opened in pool.map(materials):
        if not isinstance(opened, Failed) and any(each.facts.sha256 == old.certificate_sha256 for each in opened.credentials):
            return material
    return None
