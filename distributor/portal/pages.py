"""The pages that every part of the portal shows: a template for this visit, the way in, an outcome."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from distributor.portal.security import content_security_policy
from distributor.portal.sessions import Role
from distributor.portal.visit import Portal, Visit


def show(portal: Portal, visit: Visit, name: str, status: int = 200, /, *, leads_away: bool = False, **values: Any) -> Response:  # noqa: ANN401  a template's
    """A page for this visit. `leads_away`: one of its forms ends at the provider."""
    headers = {"content-security-policy": content_security_policy(*portal.provider.origins())} if leads_away else {}
    common: dict[str, Any] = {"section": "", "target": visit.path if not visit.post else "/"}
    return portal.views.page(
        name,
        visit.language,
        status,
        headers,
        **{**common, **values},
        session=visit.session,
        token=visit.form_token,
        phone=visit.phone,
    )


def welcome(portal: Portal, visit: Visit, notice: str = "", target: str = "/") -> Response:
    """The way in, for somebody who is not signed in. `target`: the page to show afterwards."""
    return show(portal, visit, "welcome", leads_away=True, notice=notice, target=target)


def outcome(portal: Portal, visit: Visit, key: str, *, status: int = 200, help_too: bool = False, **values: object) -> Response:
    """A page with a title and a sentence, of the texts KEY_title and KEY, or KEY_text."""
    t = portal.views.texts[visit.language]
    text = t(key if t.has(key) else f"{key}_text", **values)
    return show(portal, visit, "outcome", status, title=t(f"{key}_title"), text=text, help=help_too)


def staff_home(roles: frozenset[Role]) -> str:
    """Where somebody with a role, and no certificate, begins."""
    places = {Role.ADMINISTRATOR: "/admin", Role.HELPDESK: "/helpdesk", Role.AUDITOR: "/audit"}
    return next((place for role, place in places.items() if role in roles), "/")


def is_staff_page(path: str) -> bool:
    """Whether a page is in the language of the command line."""
    return path.startswith(("/admin", "/helpdesk", "/audit"))
