"""The ASGI application: routes, and what is done for every request before and after its handler.

Handlers are plain functions that run in threads, since the ledger, the vault and the provider block.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from distributor import bootstrap
from distributor.bootstrap import metrics, requests
from distributor.bootstrap import portal as parts
from distributor.config import Settings
from distributor.errors import Error, RequestDenied, ServiceUnavailable, UsageError
from distributor.mail.templates import packaged
from distributor.model.ports import Ledger
from distributor.portal import person, sign_in, staff
from distributor.portal.pages import is_staff_page, outcome, welcome
from distributor.portal.security import WRITES, Guard, RateLimits, log, place_of, same_token
from distributor.portal.sessions import Session, SessionStore, form_token, new_token
from distributor.portal.sign_in import LANGUAGE, SESSION, own_path, roles_of, set_cookie, unavailable
from distributor.portal.views import STAFF_LANGUAGE, Views, accepted, nearest
from distributor.portal.visit import Actions, Limited, NotHere, Page, Portal, Visit
from distributor.workflows.metrics import CONTENT_TYPE

VISITOR = "__Host-visitor"  # the cookie that the forms of somebody who is not signed in belong to
VISITOR_SECONDS = 24 * 3600
TIDY_EVERY = 300.0  # seconds
THREADS = {  # of pools that never wait for each other
    "page": 2,  # more would only wait for each other: the ledger serves one at a time, and Python runs one
    "form": 8,  # which may wait for the ledger's lock
    "plan": 8,  # a new generation, which takes seconds, or hangs with a source
    "sign-in": 8,  # so that a provider that does not answer stops nothing else
}
SLOW = 45.0  # seconds for a request whose handler waits for another service
PAGES = (*person.PAGES, *sign_in.PAGES, *staff.PAGES)
_OF_PROVIDER = frozenset({"/sign-in", "/reveal/{delivery}", "/helpdesk/reveal/{delivery}"})  # forms that may lead to a sign-in
_PLANS = frozenset({"/again/{delivery}", "/admin/requests/{request}/approve"})  # forms
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")  # as `new_token` makes them


def create_app(portal: Portal) -> ASGIApp:
    """The application, with everything around it."""
    pools = {name: ThreadPoolExecutor(threads, name) for name, threads in THREADS.items()}

    def route(page: Page) -> Route:
        pool = pools[_pool(page)]

        async def endpoint(request: Request) -> Response:
            if page.once and request.method == "HEAD":
                return PlainTextResponse("method not allowed", 405, headers={"allow": "GET"})
            try:
                async with asyncio.timeout(SLOW):
                    return await asyncio.get_running_loop().run_in_executor(pool, _answer, portal, page, request)
            except TimeoutError:
                return PlainTextResponse("the service does not answer", 503)

        return Route(page.path, endpoint, methods=["POST"] if page.post else ["GET"])

    def static(request: Request) -> Response:
        file = portal.views.files.get(request.scope["path"])
        return _answer(portal, None, request) if file is None else file.response()

    def healthy(request: Request) -> Response:
        del request
        return PlainTextResponse("ok")

    def missing(request: Request, error: Exception) -> Response:
        del error
        return _answer(portal, None, request)

    routes = [
        *map(route, PAGES),
        Route("/static/{name}", static),
        Route("/healthz", healthy),
        Route("/metrics", partial(_measured, portal)),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={404: missing, 405: missing},
        lifespan=lambda _: _lifespan(portal, *pools.values()),
    )
    app.router.redirect_slashes = False  # it would trust the Host header
    return Guard(app, url=portal.settings.url, forwarded=portal.settings.forwarded)


def compose(settings: Settings, ledger: Ledger) -> Portal:
    """The portal of a configuration, on an open ledger. Raises InvalidInput."""
    own, opened = parts.portal_settings(settings), parts.vault(settings)
    with bootstrap.with_location(settings):
        views = Views(packaged() / "portal", settings.organisation)
    return Portal(
        settings=own,
        organisation=settings.organisation,
        ledger=ledger,
        sessions=SessionStore(ledger, bootstrap.now),
        provider=parts.provider(settings),
        actions=Actions(
            vault=opened,
            ask=partial(requests.ask, settings),
            fulfil=partial(parts.fulfil, settings),
            incident_text=partial(requests.incident_text, settings),
            send_again=partial(parts.send_again, settings),
            metrics=partial(metrics.text, settings),
            metrics_token=parts.metrics_token(settings),
            address_of=partial(parts.address_of, settings),
        ),
        views=views,
        rates=RateLimits(),
        now=bootstrap.now,
    )


@asynccontextmanager
async def _lifespan(portal: Portal, *pools: ThreadPoolExecutor) -> AsyncIterator[None]:
    """While the portal runs, end sessions and passwords whose time is over; read the provider's metadata at the start."""

    async def work() -> None:
        with suppress(Error):
            await asyncio.to_thread(portal.provider.read_metadata)
        while True:
            try:
                await asyncio.to_thread(portal.sessions.tidy)
                await asyncio.to_thread(portal.ledger.expire)
            except Error as error:
                log.error("cannot end old sessions and passwords: %s", error)
            await asyncio.sleep(TIDY_EVERY)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)


# --- a request -------------------------------------------------------------------------------------------------------


def _pool(page: Page) -> str:
    if page.path == sign_in.CALLBACK or (page.post and page.path in _OF_PROVIDER):
        return "sign-in"
    if page.post:
        return "plan" if page.path in _PLANS else "form"
    return "page"


def _answer(portal: Portal, page: Page | None, request: Request) -> Response:
    """Find the session, check who may do what, call the handler, and turn its errors into pages; without a page, say that there is none."""
    headers: Mapping[str, str] = request.state.headers
    cookies = cookie_parser(headers.get("cookie", ""))
    try:
        session = _session(portal, cookies)
    except Exception as error:  # noqa: BLE001  as below
        log.error("cannot read sessions: %s", error if isinstance(error, Error) else place_of(error))
        return _finish(unavailable(portal, _visit(portal, request, cookies, None)), cookies)
    visit = _visit(portal, request, cookies, session)
    try:
        response = _allowed(portal, page, visit)
    except NotHere:
        response = outcome(portal, visit, "not_found", status=404)
    except Limited:
        log.warning("%s: too many requests to %s", session.by if session else visit.visitor, visit.path)
        response = outcome(portal, visit, "limit", status=429)
    except RequestDenied as denied:
        log.warning("refused: %s", denied)
        response = outcome(portal, visit, "refused", status=409)
    except UsageError as unknown:  # an id that nothing has
        log.warning("refused: %s", unknown)
        response = outcome(portal, visit, "not_found", status=404)
    except ServiceUnavailable as error:
        log.error("%s", error)
        response = unavailable(portal, visit)
    except Error as error:
        log.error("%s", error)
        response = outcome(portal, visit, "fault", status=500, help_too=True)
    except Exception as error:  # noqa: BLE001  no traceback reaches a visitor, and no value the log
        log.error("internal error: %s", place_of(error))
        response = outcome(portal, visit, "fault", status=500, help_too=True)
    return _finish(response, cookies, visit)


def _session(portal: Portal, cookies: Mapping[str, str]) -> Session | None:
    """The session, with those of its roles that the configuration still gives to this account or to its groups."""
    session = portal.sessions.find(cookies.get(SESSION, ""))
    if session is None:
        return None
    return replace(session, roles=session.roles & roles_of(portal.settings, session.account.subject, session.groups))


def _measured(portal: Portal, request: Request) -> Response:
    """Figures for Prometheus, to who has the token; without one in the configuration there is no such page."""
    token, given = portal.actions.metrics_token, request.state.headers.get("authorization", "")
    if token is None:
        return _answer(portal, None, request)
    if not same_token(given, f"Bearer {token.reveal()}"):
        return PlainTextResponse("unauthorized", 401, headers={"www-authenticate": "Bearer"})
    try:
        return PlainTextResponse(portal.actions.metrics(portal.ledger), media_type=CONTENT_TYPE)
    except Error as error:
        log.error("cannot read metrics: %s", error)
        return PlainTextResponse("the ledger does not respond", 503)


def _allowed(portal: Portal, page: Page | None, visit: Visit) -> Response:
    if page is None:
        raise NotHere
    if not page.open and visit.session is None:
        return RedirectResponse("/", 303) if visit.post else welcome(portal, visit, target=own_path(visit.path))
    if page.role is not None and page.role not in visit.signed_in.roles:
        raise NotHere
    if visit.post:
        if not same_token(visit.form.get("token", ""), visit.form_token):
            return outcome(portal, visit, "form", status=403)
        if visit.session is not None and page.limited and not portal.rates.allow(WRITES, visit.session.by):
            raise Limited
    return page.handler(portal, visit)


def _visit(portal: Portal, request: Request, cookies: dict[str, str], session: Session | None) -> Visit:
    headers: Mapping[str, str] = request.state.headers
    if session is None and not _TOKEN.fullmatch(cookies.get(VISITOR, "")):
        cookies[VISITOR] = new_token()
    return Visit(
        path=request.scope["path"],
        post=request.method == "POST",
        query=request.state.query,
        form=request.state.form,
        params=request.path_params,
        cookies=cookies,
        visitor=request.state.visitor,
        phone=_phone(headers.get("user-agent", "")),
        language=_language(portal, request.scope["path"], cookies, headers, session),
        form_token=form_token(session.token if session else cookies[VISITOR]),
        session=session,
    )


def _phone(agent: str) -> str:
    if "iPhone" in agent or "iPad" in agent:
        return "iphone"
    return "android" if "Android" in agent else ""


def _language(portal: Portal, path: str, cookies: Mapping[str, str], headers: Mapping[str, str], session: Session | None) -> str:
    """The chosen one, else that of the person's messages, else the browser's."""
    if session is not None and session.roles and is_staff_page(path):
        return STAFF_LANGUAGE
    tags = [cookies.get(LANGUAGE, ""), session.language if session else "", *accepted(headers.get("accept-language", ""))]
    return nearest([tag for tag in tags if tag] or list(portal.organisation.languages))


def _finish(response: Response, cookies: Mapping[str, str], visit: Visit | None = None) -> Response:
    """Give a new visitor the cookie that the forms on the page belong to."""
    if visit is not None and visit.session is None and response.status_code not in {301, 302, 303}:
        set_cookie(response, VISITOR, cookies[VISITOR], VISITOR_SECONDS)
    return response
