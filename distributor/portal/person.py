"""A person's own pages: certificates and where each stands, the password, another copy, and that it works."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import RedirectResponse, Response

from distributor.config.schema import RequestPolicy
from distributor.errors import Error, RequestDenied
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.people import key_of
from distributor.model.ports import Ledger
from distributor.model.requests import CopyRequest, RequestLimitReached
from distributor.model.revocation import IN_USE
from distributor.model.states import PasswordState, RequestState, State, Way
from distributor.portal.pages import outcome, show, welcome
from distributor.portal.security import REVEALS, log
from distributor.portal.sign_in import again_first
from distributor.portal.visit import LONGEST_REASON, Limited, NotHere, Page, PersonalDelivery, Portal, Visit
from distributor.workflows.reveal import Reveal

CHANNEL = "reveal"  # of passwords that are shown here
SAID = "confirmed in the portal, not proved"  # in the ledger
REASONS = ("phone", "password", "message", "failed", "other")
NOTICES = ("confirmed", "signed_out")  # texts that an address may ask for
_PREPARING = frozenset({State.PLANNED, State.QUEUED, State.CLAIMED, State.DEFERRED, State.TRANSMITTING})
_SENT = frozenset({State.ACCEPTED, State.DELIVERED})
_FAILED = frozenset({State.REJECTED, State.BOUNCED})


@dataclass(frozen=True, slots=True)
class Words:
    """The keys of the texts about a delivery, and what its owner can do."""

    state: str
    tone: str  # of its badge
    password: str  # empty: nothing is said
    request: str
    reveal: bool
    again: bool
    confirm: bool


def words(each: PersonalDelivery) -> Words:
    """What a delivery's owner is told."""
    state, tone = _state(each.delivery.state)
    if each.expired and not each.delivery.series:  # an old key for old mail has a password as any other
        return Words(state, "", "", "", reveal=False, again=False, confirm=False)
    ready = each.delivery.password_state is PasswordState.READY and each.delivery.password_channel == CHANNEL
    waiting = each.request is not None and each.request.state is not RequestState.DENIED and each.request.planned is None
    return Words(
        state,
        tone,
        _password(each.delivery),
        "" if each.request is None or each.request.planned else f"request_{each.request.state}",
        reveal=ready,
        again=not waiting and each.delivery.state not in _PREPARING | {State.AMBIGUOUS},
        confirm=each.delivery.state in _SENT and not each.expired,
    )


def _state(state: State) -> tuple[str, str]:
    if state in _PREPARING:
        return "state_preparing", "wait"
    if state in _SENT:
        return "state_sent", "wait"
    if state in _FAILED:
        return "state_failed", "bad"
    return {State.AMBIGUOUS: ("state_checking", "wait"), State.INSTALLED: ("state_installed", "good")}.get(state, ("state_withdrawn", ""))


def _password(delivery: Delivery) -> str:
    if delivery.state in _FAILED | {State.WITHDRAWN, State.INSTALLED, State.AMBIGUOUS}:
        return ""
    if delivery.password_channel not in {None, CHANNEL}:
        return f"password_{delivery.password_channel}" if delivery.password_state in {PasswordState.HELD, PasswordState.READY} else ""
    match delivery.password_state:
        case None | PasswordState.HELD:
            return "password_held"
        case PasswordState.HANDED_OVER:
            return "password_shown"
        case state:
            return f"password_{state}"


# --- certificates ----------------------------------------------------------------------------------------------------


def mine(portal: Portal, visit: Visit) -> list[PersonalDelivery]:
    """The newest generation by mail of each certificate of whoever is signed in, the one that is valid longest first."""
    address = visit.signed_in.address
    if address is None:
        return []
    key = key_of(address)
    newest: dict[str, Delivery] = {}
    for delivery in portal.ledger.deliveries(DeliveryFilter(addresses=frozenset({key}), way=Way.MAIL)):
        other = newest.get(delivery.certificate_sha256)
        if other is None or other.generation < delivery.generation:
            newest[delivery.certificate_sha256] = delivery
    ready = any(each.password_state is PasswordState.READY for each in newest.values())
    until = {envelope.delivery: envelope.expires_at for envelope in portal.ledger.envelopes(key)} if ready else {}
    asked = _last_requests(portal.ledger, key, newest)
    now = portal.now()
    found = [
        PersonalDelivery(d, until.get(d.id), asked.get(d.certificate_sha256), expired=d.certificate_not_after <= now)
        for d in newest.values()
    ]
    return sorted(found, key=lambda each: each.delivery.certificate_not_after, reverse=True)


def _last_requests(ledger: Ledger, key: str, newest: dict[str, Delivery]) -> dict[str, CopyRequest]:
    """The last request about each certificate; of earlier generations too, while no new one is planned."""
    found: dict[str, CopyRequest] = {}
    requests = ledger.requests(address=key)
    others = {id_: ledger.delivery(id_) for id_ in {request.delivery for request in requests} - {d.id for d in newest.values()}}
    of = {d.id: d.certificate_sha256 for d in (*newest.values(), *others.values()) if d is not None}
    for request in requests:
        found[of.get(request.delivery, "")] = request
    return found


def own(portal: Portal, visit: Visit) -> PersonalDelivery:
    """The delivery of whoever is signed in that a path names. Raises NotHere, also for somebody else's."""
    for each in mine(portal, visit):
        if each.delivery.id == visit.params["delivery"]:
            return each
    raise NotHere


def _by_intune(portal: Portal, visit: Visit) -> bool:
    """Whether Intune installs a certificate of whoever is signed in."""
    address = visit.signed_in.address
    if address is None:
        return False
    scope = DeliveryFilter(addresses=frozenset({key_of(address)}), way=Way.INTUNE)
    return any(each.state in IN_USE for each in portal.ledger.deliveries(scope))


def home(portal: Portal, visit: Visit) -> Response:
    """What somebody sees first: the way in, or their certificates."""
    notice = visit.query.get("notice", "")
    notice = notice if notice in NOTICES else ""
    if visit.session is None:
        return welcome(portal, visit, notice=notice)
    found = mine(portal, visit)
    return show(
        portal,
        visit,
        "home",
        section="/",
        current=[each for each in found if not each.expired],
        old=[each for each in found if each.expired],
        by_intune=_by_intune(portal, visit),
        words=words,
        notice=notice,
        leads_away=True,
    )


# --- the password ----------------------------------------------------------------------------------------------------


def reveal_form(portal: Portal, visit: Visit) -> Response:
    """The button that shows the password; the page itself shows nothing."""
    each = own(portal, visit)
    if not words(each).reveal:
        return RedirectResponse("/", 303)
    return show(portal, visit, "reveal", delivery=each.delivery, available=portal.actions.vault is not None, leads_away=True)


def reveal(portal: Portal, visit: Visit) -> Response:
    """Show the password, once, to somebody who has just proved who it is."""
    each = own(portal, visit)
    if not words(each).reveal or portal.actions.vault is None:
        raise RequestDenied("the password cannot be shown", where=each.delivery.id)
    if not visit.signed_in.is_fresh(portal.now()):
        return again_first(portal, visit, f"/reveal/{each.delivery.id}")
    return show_password(portal, visit, each.delivery, "asked for in the portal")


def show_password(portal: Portal, visit: Visit, delivery: Delivery, reason: str, leave: str = "/") -> Response:
    """The page with a password, after its hand-over is in the ledger. `leave`: where to go from there."""
    assert portal.actions.vault is not None  # noqa: S101  asked before
    if not portal.rates.allow(REVEALS, visit.signed_in.by):
        raise Limited
    channel = Reveal(portal.ledger.acting_as(visit.signed_in.by), portal.actions.vault)
    secret = channel.hand_over(channel.choose([delivery]), reason)
    return show(portal, visit, "password", delivery=delivery, password=secret.reveal(), leave=leave)


# --- another copy ----------------------------------------------------------------------------------------------------


def again_form(portal: Portal, visit: Visit) -> Response:
    """The form that asks for another copy."""
    each = own(portal, visit)
    if not words(each).again:
        return RedirectResponse("/", 303)
    return _again_page(portal, visit, each.delivery)


def _again_page(portal: Portal, visit: Visit, delivery: Delivery, *, missing: bool = False) -> Response:
    approval = portal.settings.requests is RequestPolicy.APPROVE
    status = 422 if missing else 200
    return show(portal, visit, "again", status, delivery=delivery, reasons=REASONS, approval=approval, missing=missing)


def again(portal: Portal, visit: Visit) -> Response:
    """Ask for another copy, which goes to the address on file."""
    each, t = own(portal, visit), portal.views.texts[visit.language]
    delivery, reason, more = each.delivery, visit.text("reason", 300), visit.text("more", 300)
    if not words(each).again:
        return RedirectResponse("/", 303)
    if not reason:  # pressed on the first page, or on the form without a choice
        return _again_page(portal, visit, delivery, missing="more" in visit.form)
    chosen = portal.views.texts["en"](f"reason_{reason}") if reason in REASONS else reason
    text = f"{chosen}: {more}"[:LONGEST_REASON] if more else chosen
    ledger = portal.ledger.acting_as(visit.signed_in.by)
    try:
        asked = portal.actions.ask(ledger, delivery.id, text)
    except RequestLimitReached as reached:
        day = t.day(reached.again) if reached.again else ""
        return outcome(portal, visit, "again_limit", status=429, help_too=True, date=day)
    except RequestDenied as denied:
        log.warning("request refused: %s", denied)
        return outcome(portal, visit, "again_refused", status=409, help_too=True)
    if portal.settings.requests is not RequestPolicy.AUTOMATIC:  # not by its state: whoever is gone from the directory is told nothing
        return outcome(portal, visit, "again_open", address=delivery.address)
    try:
        why = portal.actions.fulfil(ledger, asked.address)
    except Error as error:
        why = str(error)
    if why:  # it stays approved, and the next `send` plans it
        log.error("approved request %s is not planned yet: %s", asked.id, why)
    return outcome(portal, visit, "again_sent", address=delivery.address)


# --- it works --------------------------------------------------------------------------------------------------------


def confirm(portal: Portal, visit: Visit) -> Response:
    """Note that the certificate works, on the person's word."""
    each = own(portal, visit)
    if not words(each).confirm:
        raise RequestDenied("it cannot be confirmed in its state", where=each.delivery.id)
    evidence = {"kind": "portal", "proved": False, "said": SAID}
    portal.ledger.acting_as(visit.signed_in.by).confirm(each.delivery.id, evidence)
    return RedirectResponse("/?notice=confirmed", 303)


PAGES = (
    Page("/", home, open=True),
    Page("/reveal/{delivery}", reveal_form),
    Page("/reveal/{delivery}", reveal, post=True),
    Page("/again/{delivery}", again_form),
    Page("/again/{delivery}", again, post=True),
    Page("/confirm/{delivery}", confirm, post=True),
)
