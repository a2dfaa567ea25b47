"""Pages of the administrator, the helpdesk and the auditor. Each sees only their own; they are in the language of the command line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta

from starlette.responses import RedirectResponse, Response, StreamingResponse

from distributor.errors import Error, RequestDenied
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.people import BadAddress, key_of, parse_address
from distributor.model.ports import Ledger
from distributor.model.states import PasswordState, RequestState, State
from distributor.portal.pages import show
from distributor.portal.person import CHANNEL, show_password
from distributor.portal.security import SEARCHES, log
from distributor.portal.sessions import Role
from distributor.portal.sign_in import again_first
from distributor.portal.views import CHART_DAYS, CHARTED, chart
from distributor.portal.visit import Figures, Limited, NotHere, Page, Portal, Visit
from distributor.workflows import audit, tracking
from distributor.workflows import incident as workflow

MOST_FOUND = 50  # people that a search lists
MOST_LISTED = 100  # requests, or ambiguous deliveries, on a page
MOST_EVENTS = 1000  # of a person's history on a page, the last ones
LONGEST_SEARCH = 254  # characters
IN_MEMORY = 4 * 2**20  # bytes of an export before it is kept in a temporary file, which has no name
NOTICES = {
    "approved": "Approved. The next `distributor send` sends it.",
    "denied": "Denied.",
    "accepted": "Settled: the server has the message, and its password is available.",
    "again": "Settled: the message is queued again.",
}


# --- administrator ---------------------------------------------------------------------------------------------------


def overview(portal: Portal, visit: Visit) -> Response:
    """Counts by state, and what happened in the last thirty days."""
    now = portal.now()
    figures = portal.figures.get(now, lambda: _figures(portal.ledger, now))
    days, counts = figures.days, figures.counts
    paths = {State.AMBIGUOUS: "/admin/ambiguous"}
    return show(
        portal,
        visit,
        "admin",
        section="/admin",
        counts=[(str(state), counts[state], paths.get(state, "")) for state in State if counts.get(state)],
        open=len(portal.ledger.requests((RequestState.OPEN,))),
        chart=chart(days, now.date()),
        charted=[str(state) for state in CHARTED],
        days=days,
    )


def _figures(ledger: Ledger, now: datetime) -> Figures:
    begin = (now - timedelta(days=CHART_DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [count for count in ledger.timeline(begin) if count.state in CHARTED]
    return Figures(now, days, ledger.counts(DeliveryFilter()))


def requests(portal: Portal, visit: Visit) -> Response:
    """Requests that wait for a decision."""
    return _requests(portal, visit)


def _requests(portal: Portal, visit: Visit, *, fault: str = "", missing: str = "") -> Response:
    found = portal.ledger.requests((RequestState.OPEN,))
    return show(
        portal,
        visit,
        "requests",
        _status(fault, missing),
        section="/admin/requests",
        requests=found[:MOST_LISTED],
        total=len(found),
        waiting=portal.ledger.unplanned()[:MOST_LISTED],
        notice=NOTICES.get(visit.query.get("notice", ""), ""),
        fault=fault,
        missing=missing,
    )


def approve(portal: Portal, visit: Visit) -> Response:
    """Approve a request and plan the new generation."""
    ledger = portal.ledger.acting_as(visit.signed_in.by)
    try:
        approved = ledger.decide(visit.params["request"], "", approve=True)
    except RequestDenied as denied:
        return _requests(portal, visit, fault=str(denied))
    try:
        why = portal.actions.fulfil(ledger, approved.address)
    except Error as error:
        why = str(error)
    if why:
        return _requests(portal, visit, fault=f"not planned: {why}")
    return RedirectResponse("/admin/requests?notice=approved", 303)


def deny(portal: Portal, visit: Visit) -> Response:
    """Deny a request, with a reason that the person reads."""
    reason = visit.text("reason", 300)
    if not reason:
        return _requests(portal, visit, missing=visit.params["request"])
    try:
        portal.ledger.acting_as(visit.signed_in.by).decide(visit.params["request"], reason, approve=False)
    except RequestDenied as denied:
        return _requests(portal, visit, fault=str(denied))
    return RedirectResponse("/admin/requests?notice=denied", 303)


def ambiguous(portal: Portal, visit: Visit) -> Response:
    """Deliveries that may have been sent."""
    return _ambiguous(portal, visit)


def _ambiguous(portal: Portal, visit: Visit, *, fault: str = "", missing: str = "") -> Response:
    found = portal.ledger.newest((State.AMBIGUOUS,), MOST_LISTED)
    attempts = portal.ledger.ambiguous(DeliveryFilter(ids=frozenset(d.id for d in found))) if found else []
    total = portal.ledger.counts(DeliveryFilter()).get(State.AMBIGUOUS, 0)
    return show(
        portal,
        visit,
        "ambiguous",
        _status(fault, missing),
        section="/admin/ambiguous",
        attempts=attempts,
        more=total if total > len(attempts) else 0,
        notice=NOTICES.get(visit.query.get("notice", ""), ""),
        fault=fault,
        missing=missing,
    )


def resolve(portal: Portal, visit: Visit) -> Response:
    """Settle an ambiguous delivery, because a person knows."""
    delivery, decision, reason = visit.params["delivery"], visit.form.get("decision", ""), visit.text("reason", 300)
    if portal.ledger.delivery(delivery) is None or decision not in {"accepted", "again"}:
        raise NotHere
    if not reason:
        return _ambiguous(portal, visit, missing=delivery)
    ledger = portal.ledger.acting_as(visit.signed_in.by)
    try:
        if decision == "accepted":
            tracking.accept(ledger, delivery, reason)
        else:
            portal.actions.send_again(ledger, delivery, reason)
    except RequestDenied as denied:
        return _ambiguous(portal, visit, fault=f"{denied}; {denied.hint}" if denied.hint else str(denied))
    return RedirectResponse(f"/admin/ambiguous?notice={decision}", 303)


def incident_form(portal: Portal, visit: Visit) -> Response:
    """What an incident does, before it is done."""
    return _incident(portal, visit, _known(portal, visit.query.get("address", "")))


def _incident(portal: Portal, visit: Visit, address: str, *, missing: bool = False) -> Response:
    return show(portal, visit, "incident", 422 if missing else 200, section="/admin", address=address, exposed=None, missing=missing)


def incident(portal: Portal, visit: Visit) -> Response:
    """Destroy a person's passwords, stop what is not sent, and show what the CA needs."""
    address, reason = _known(portal, visit.form.get("address", "")), visit.text("reason", 300)
    if not reason:
        return _incident(portal, visit, address, missing=True)
    exposed = portal.ledger.acting_as(visit.signed_in.by).incident(key_of(address), reason)
    log.warning("%s reported an incident", visit.signed_in.by)
    found = workflow.certificates(exposed)
    to_ca = "\n".join(workflow.for_ca(found))
    to_person, _ = portal.actions.incident_text(portal.ledger, address, found)
    return show(
        portal, visit, "incident", section="/admin", address=address, exposed=exposed, to_ca=to_ca, to_person=to_person, missing=False
    )


def admin_people(portal: Portal, visit: Visit) -> Response:
    """Search for a person."""
    return _people(portal, visit, "People", "/admin", "/admin/people", "/admin/person")


def admin_person(portal: Portal, visit: Visit) -> Response:
    """Everything about a person."""
    return _person(portal, visit, "/admin", "/admin/people", history=True, incident=True)


# --- helpdesk --------------------------------------------------------------------------------------------------------


def helpdesk_people(portal: Portal, visit: Visit) -> Response:
    """Find the person who calls."""
    return _people(portal, visit, "Helpdesk", "/helpdesk", "/helpdesk", "/helpdesk/person")


def helpdesk_person(portal: Portal, visit: Visit) -> Response:
    """Where a person's deliveries stand, and the buttons that show a password."""
    return _caller(portal, visit, visit.query.get("address", ""))


def _caller(portal: Portal, visit: Visit, address: str, *, missing: str = "", fault: str = "") -> Response:
    found = _deliveries(portal, address)
    ready = [d for d in found if d.password_state is PasswordState.READY and d.password_channel == CHANNEL]
    why = "No password is ready." if portal.actions.vault else "This portal opens no passwords: use `distributor password reveal`."
    return show(
        portal,
        visit,
        "person",
        _status(fault, missing),
        section="/helpdesk",
        back="/helpdesk",
        address=found[0].address,
        name=found[-1].name,
        deliveries=found,
        reveals=ready if portal.actions.vault else [],
        why_not=why,
        missing=missing,
        fault=fault,
        events=None,
        incident=False,
    )


def helpdesk_reveal(portal: Portal, visit: Visit) -> Response:
    """Show a password to the helpdesk, with a reason, after a fresh sign-in."""
    delivery, reason = portal.ledger.delivery(visit.params["delivery"]), visit.text("reason", 300)
    if delivery is None or delivery.password_channel != CHANNEL or portal.actions.vault is None:
        raise NotHere
    if not reason:
        return _caller(portal, visit, delivery.address, missing=delivery.id)
    if not visit.signed_in.is_fresh(portal.now()):
        return again_first(portal, visit, f"/helpdesk/again/{delivery.id}")
    try:
        return show_password(portal, visit, delivery, reason, leave="/helpdesk")
    except RequestDenied as denied:
        return _caller(portal, visit, delivery.address, fault=str(denied))


def helpdesk_again(portal: Portal, visit: Visit) -> Response:
    """Where a fresh sign-in leads back to: the person's page, for the reason to be entered again."""
    delivery = portal.ledger.delivery(visit.params["delivery"])
    if delivery is None:
        raise NotHere
    return _caller(portal, visit, delivery.address)


# --- auditor ---------------------------------------------------------------------------------------------------------


def audit_people(portal: Portal, visit: Visit) -> Response:
    """Search for a person, and export."""
    return _people(portal, visit, "Audit", "/audit", "/audit", "/audit/person", export=True)


def audit_person(portal: Portal, visit: Visit) -> Response:
    """A person's history."""
    return _person(portal, visit, "/audit", "/audit", history=True)


def export(portal: Portal, visit: Visit) -> Response:
    """Every event as a file; that it was exported is the last one."""
    form = visit.form.get("format", "")
    if form not in {"jsonl", "csv"}:
        raise NotHere
    portal.ledger.acting_as(visit.signed_in.by).note_export(form)
    kind = "text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson"
    headers = {"content-disposition": f'attachment; filename="events-{portal.now():%Y-%m-%d}.{form}"'}
    return StreamingResponse(_exported(portal, form), media_type=kind, headers=headers)


def _exported(portal: Portal, form: str) -> Iterator[bytes]:
    """The export in parts. It is written first, so that the ledger is not read at the speed of a slow visitor."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        audit.export(portal.ledger.records(), form, lambda text: file.write(text.encode()))
        file.seek(0)
        while part := file.read(2**18):
            yield part


# --- shared ----------------------------------------------------------------------------------------------------------


def _status(fault: object, missing: object) -> int:
    return 409 if fault else 422 if missing else 200


def _people(portal: Portal, visit: Visit, title: str, section: str, action: str, person: str, *, export: bool = False) -> Response:  # noqa: PLR0913, PLR0917  what the pages differ in
    text = " ".join(visit.query.get("q", "").split())[:LONGEST_SEARCH]
    if text and not portal.rates.allow(SEARCHES, visit.signed_in.by):
        raise Limited
    found = portal.ledger.search(text, MOST_FOUND) if text else []
    return show(
        portal,
        visit,
        "people",
        section=section,
        title=title,
        action=action,
        person=person,
        text=text,
        found=found,
        most=MOST_FOUND,
        export=export,
    )


def _person(portal: Portal, visit: Visit, section: str, back: str, *, history: bool, incident: bool = False) -> Response:  # noqa: PLR0913  what the pages differ in
    found = _deliveries(portal, visit.query.get("address", ""))
    events = list(portal.ledger.history(key_of(found[0].address)))[-MOST_EVENTS:] if history else None
    return show(
        portal,
        visit,
        "person",
        section=section,
        back=back,
        address=found[0].address,
        name=found[-1].name,
        deliveries=found,
        reveals=None,
        fault="",
        events=events,
        incident=incident,
    )


def _known(portal: Portal, address: str) -> str:
    return _deliveries(portal, address)[0].address


def _deliveries(portal: Portal, address: str) -> list[Delivery]:
    """A person's deliveries, oldest first. Raises NotHere where there is nobody."""
    match parse_address(address[:LONGEST_SEARCH]):
        case BadAddress():
            raise NotHere
        case parsed:
            found = list(portal.ledger.deliveries(DeliveryFilter(addresses=frozenset({parsed.key}))))
    if not found:
        raise NotHere
    return found


PAGES = (
    Page("/admin", overview, Role.ADMINISTRATOR),
    Page("/admin/requests", requests, Role.ADMINISTRATOR),
    Page("/admin/requests/{request}/approve", approve, Role.ADMINISTRATOR, post=True),
    Page("/admin/requests/{request}/deny", deny, Role.ADMINISTRATOR, post=True),
    Page("/admin/ambiguous", ambiguous, Role.ADMINISTRATOR),
    Page("/admin/ambiguous/{delivery}", resolve, Role.ADMINISTRATOR, post=True),
    Page("/admin/incident", incident_form, Role.ADMINISTRATOR),
    Page("/admin/incident", incident, Role.ADMINISTRATOR, post=True),
    Page("/admin/people", admin_people, Role.ADMINISTRATOR),
    Page("/admin/person", admin_person, Role.ADMINISTRATOR),
    Page("/helpdesk", helpdesk_people, Role.HELPDESK),
    Page("/helpdesk/person", helpdesk_person, Role.HELPDESK),
    Page("/helpdesk/again/{delivery}", helpdesk_again, Role.HELPDESK),
    Page("/helpdesk/reveal/{delivery}", helpdesk_reveal, Role.HELPDESK, post=True),
    Page("/audit", audit_people, Role.AUDITOR),
    Page("/audit/person", audit_person, Role.AUDITOR),
    Page("/audit/export", export, Role.AUDITOR, post=True),
)
