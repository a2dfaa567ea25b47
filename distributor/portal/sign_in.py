"""Signing in and out: to the provider and back, which person an account belongs to, and which roles it has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import replace

from starlette.responses import RedirectResponse, Response

from distributor.config.schema import Portal as PortalSettings
from distributor.errors import Error, RequestDenied
from distributor.model.delivery import DeliveryFilter
from distributor.model.people import BadAddress, key_of, parse_address
from distributor.model.sign_in import SignedIn, SignInCancelled, SignInRefused
from distributor.portal.pages import outcome, staff_home
from distributor.portal.security import FAILURES, SIGN_INS, log
from distributor.portal.sessions import LONGEST, SIGN_IN_TIME, BegunSignIn, Role
from distributor.portal.views import LANGUAGES
from distributor.portal.visit import Limited, Page, Portal, Visit

CALLBACK = "/signed-in"
SESSION, SIGN_IN, LANGUAGE = "__Host-session", "__Host-sign-in", "__Host-language"  # cookies
_TARGET = re.compile(r"/(?:[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*)?")
_YEAR = 365 * 24 * 3600  # seconds


def own_path(text: str) -> str:
    """A path of this portal to go on with; anything else is its first page."""
    return text if len(text) <= 100 and _TARGET.fullmatch(text) else "/"  # noqa: PLR2004  longer than all of ours


def set_cookie(response: Response, name: str, value: str, seconds: int) -> None:
    """Set a cookie that scripts do not see, and that other sites' forms do not send; Lax, so that the way back from the provider has it."""
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def remove_cookie(response: Response, name: str) -> None:
    """Remove one of our cookies."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")


# --- to the provider and back ----------------------------------------------------------------------------------------


def sign_in(portal: Portal, visit: Visit) -> Response:
    """Send somebody to the provider."""
    return _to_provider(portal, visit, own_path(visit.form.get("target", "")), fresh=False)


def again_first(portal: Portal, visit: Visit, target: str) -> Response:
    """Send somebody who signed in a while ago to the provider again; `target`: where to go on."""
    return _to_provider(portal, visit, target, fresh=True)


def _to_provider(portal: Portal, visit: Visit, target: str, *, fresh: bool) -> Response:
    if not portal.rates.allow(SIGN_INS, visit.network):
        raise Limited
    uri, flow = portal.provider.start(portal.settings.url.rstrip("/") + CALLBACK, fresh=fresh)
    response = RedirectResponse(uri, 303)
    cookie = portal.sessions.keep_sign_in(BegunSignIn(flow, target))
    set_cookie(response, SIGN_IN, cookie, int(SIGN_IN_TIME.total_seconds()))
    return response


def signed_in(portal: Portal, visit: Visit) -> Response:
    """The way back: check what the provider says, and begin a session with a new token."""
    begun = portal.sessions.take_sign_in(visit.cookies.get(SIGN_IN, ""))
    if begun is None:
        if not portal.rates.allow(FAILURES, visit.network):
            raise Limited
        response = _failed(portal, visit, "no sign-in was begun here, or it took longer than ten minutes")
    else:
        try:
            response = _begin_session(portal, visit, portal.provider.finish(begun.flow, visit.query), begun.target)
        except (SignInRefused, SignInCancelled) as refused:
            response = _failed(portal, visit, str(refused))
    remove_cookie(response, SIGN_IN)
    return response


def _failed(portal: Portal, visit: Visit, why: str) -> Response:
    log.warning("sign-in from %s refused: %s", visit.visitor, why)
    return outcome(portal, visit, "sign_in_failed", status=403, help_too=True)


def _begin_session(portal: Portal, visit: Visit, found: SignedIn, target: str) -> Response:
    if found.groups_left_out:
        log.warning(
            "Entra left out the groups of portal:%s, who has too many: assign the groups to the app registration and choose "
            '"Groups assigned to the application", or name the object id in [portal]',
            found.account.subject,
        )
    found = replace(found, groups=found.groups & {each for ids in _ids(portal.settings).values() for each in ids})
    roles = roles_of(portal.settings, found.account.subject, found.groups)
    address = person_of(portal, found)
    portal.sessions.end(visit.cookies.get(SESSION, ""))
    session = portal.sessions.begin(found, address, roles, _language(portal, address))
    log.info("%s signed in%s", session.by, f" as {', '.join(sorted(roles))}" if roles else "")
    start = staff_home(roles) if address is None and target == "/" else target
    response = RedirectResponse(start, 303)
    set_cookie(response, SESSION, session.token, int(LONGEST.total_seconds()))
    return response


def _language(portal: Portal, address: str | None) -> str:
    """The language of a person's last message."""
    if address is None:
        return ""
    *_, last = ("", *(each.language for each in portal.ledger.deliveries(DeliveryFilter(addresses=frozenset({key_of(address)})))))
    return last


# --- who it is -------------------------------------------------------------------------------------------------------


def person_of(portal: Portal, found: SignedIn) -> str | None:
    """The address of the person that an account is bound to; it is bound at the first sign-in, never by a mail address that may change."""
    bound = portal.ledger.person_of(found.account)
    if bound is not None:
        return bound
    address, how = (_by_object_id(portal, found.account.subject), "oid") if found.entra else (_by_verified_address(found), "email")
    if address is None:
        return None
    ledger = portal.ledger.acting_as(f"portal:{found.account.subject}")
    try:
        ledger.bind(found.account, key_of(address), how)
    except RequestDenied as denied:  # nobody has the address, or somebody else's account is bound to it
        log.warning("%s is not bound to a person: %s", f"portal:{found.account.subject}", denied)
    return portal.ledger.person_of(found.account)


def _by_object_id(portal: Portal, object_id: str) -> str | None:
    """By the roster's column `oid`, else by the directory."""
    addresses = portal.ledger.with_column("oid", object_id)
    if len(addresses) > 1:
        log.warning("the roster's column oid has the object id %s for %d people", object_id, len(addresses))
        return None
    if addresses:
        return addresses[0]
    try:
        return portal.actions.address_of(object_id)
    except Error as error:
        log.error("cannot look up the object id %s in the directory: %s", object_id, error)
        return None


def _by_verified_address(found: SignedIn) -> str | None:
    if not unicodedata.is_normalized("NFKC", found.email):  # parsing would turn a full-width domain into another one
        return None
    match parse_address(found.email):
        case BadAddress():
            return None
        case address:
            return str(address)


def roles_of(settings: PortalSettings, subject: str, groups: Collection[str]) -> frozenset[Role]:
    """The roles that the configuration gives to an account, by its object id or its groups."""
    mine = {subject, *groups}
    return frozenset(role for role, ids in _ids(settings).items() if not mine.isdisjoint(ids))


def _ids(settings: PortalSettings) -> dict[Role, tuple[str, ...]]:
    return {Role.ADMINISTRATOR: settings.administrators, Role.HELPDESK: settings.helpdesk, Role.AUDITOR: settings.auditors}


# --- out, and the language -------------------------------------------------------------------------------------------


def sign_out(portal: Portal, visit: Visit) -> Response:
    """End the session, here and in the ledger."""
    portal.sessions.end(visit.cookies.get(SESSION, ""))
    response = RedirectResponse("/?notice=signed_out", 303)
    remove_cookie(response, SESSION)
    response.headers["clear-site-data"] = '"cache", "storage"'  # "cookies" would remove those of the whole domain, other services' too
    return response


def choose_language(portal: Portal, visit: Visit) -> Response:
    """Remember the language that somebody chose."""
    del portal
    response = RedirectResponse(own_path(visit.form.get("target", "")), 303)
    if visit.form.get("language") in LANGUAGES:
        set_cookie(response, LANGUAGE, visit.form["language"], _YEAR)
    return response


def unavailable(portal: Portal, visit: Visit) -> Response:
    """A service does not answer; which one stands in the log."""
    return outcome(portal, visit, "unavailable", status=503, help_too=True)


PAGES = (
    Page("/sign-in", sign_in, open=True, post=True),
    Page(CALLBACK, signed_in, open=True, once=True),
    Page("/sign-out", sign_out, post=True, limited=False),  # whoever stole a session must not keep its owner from ending it
    Page("/language", choose_language, open=True, post=True),
)
