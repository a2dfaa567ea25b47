"""The ASGI application: routes, and what is done for every request before and after its handler.

Handlers are plain functions that run in threads, since the ledger, the vault and the provider block.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from distributor import bootstrap
from distributor.bootstrap import portal as parts
from distributor.config import Settings
from distributor.errors import Error, RequestDenied, ServiceUnavailable, UsageError
from distributor.mail.templates import packaged
from distributor.model.ports import Ledger
from distributor.portal import person, sign_in, staff
from distributor.portal.pages import is_staff_page, outcome, welcome
from distributor.portal.security import WRITES, Guard, RateLimits, log, same_token
from distributor.portal.sessions import Session, SessionStore, form_token, new_token
from distributor.portal.sign_in import LANGUAGE, SESSION, own_path, set_cookie, unavailable
from distributor.portal.views import STAFF_LANGUAGE, Views, accepted, nearest
from distributor.portal.visit import Actions, Limited, NotHere, Page, Portal, Visit

VISITOR = "__Host-visitor"  # the cookie that the forms of somebody who is not signed in belong to
VISITOR_SECONDS = 24 * 3600
TIDY_EVERY = 300.0  # seconds
PAGE_THREADS = 2  # more would only wait for each other: the ledger serves one at a time, and Python runs one
FORM_THREADS = 8  # apart, since planning a new generation takes seconds
PROVIDER_THREADS = 8  # apart, so that a provider that does not answer stops only sign-ins
SLOW = 45.0  # seconds for a request whose handler waits for the provider
PAGES = (*person.PAGES, *sign_in.PAGES, *staff.PAGES)
_OF_PROVIDER = frozenset({"/sign-in", sign_in.CALLBACK})
_HERE = Path(__file__).parents[1]


def create_app(portal: Portal) -> ASGIApp:
    """The application, with everything around it."""
    pages, forms = ThreadPoolExecutor(PAGE_THREADS, "page"), ThreadPoolExecutor(FORM_THREADS, "form")
    provider = ThreadPoolExecutor(PROVIDER_THREADS, "sign-in")

    def route(page: Page) -> Route:
        pool = provider if page.path in _OF_PROVIDER else forms if page.post else pages

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
        return _not_found(portal, request) if file is None else file.response()

    def healthy(request: Request) -> Response:
        del request
        return PlainTextResponse("ok")

    def missing(request: Request, error: Exception) -> Response:
        del error
        return _not_found(portal, request)

    routes = [*map(route, PAGES), Route("/static/{name}", static), Route("/healthz", healthy)]
    app = Starlette(
        routes=routes, exception_handlers={404: missing, 405: missing}, lifespan=lambda _: _lifespan(portal, pages, forms, provider)
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
            fulfil=partial(parts.fulfil, settings),
            send_again=partial(parts.send_again, settings),
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


def _answer(portal: Portal, page: Page, request: Request) -> Response:
    """Find the session, check who may do what, call the handler, and turn its errors into pages."""
    headers: Mapping[str, str] = request.state.headers
    cookies = cookie_parser(headers.get("cookie", ""))
    session = None
    try:
        session = portal.sessions.find(cookies.get(SESSION, ""))
    except Error as error:
        log.error("cannot read sessions: %s", error)
        return _finish(unavailable(portal, _visit(portal, request, cookies, None), ServiceUnavailable("ledger")), cookies)
    visit = _visit(portal, request, cookies, session)
    try:
        response = _allowed(portal, page, visit)
    except NotHere:
        response = outcome(portal, visit, "not_found", status=404)
    except Limited:
        log.warning("%s: too many requests to %s", session.by if session else visit.visitor, page.path)
        response = outcome(portal, visit, "limit", status=429)
    except RequestDenied as denied:
        log.warning("refused: %s", denied)
        response = outcome(portal, visit, "refused", status=409)
    except UsageError as unknown:  # an id that nothing has
        log.warning("refused: %s", unknown)
        response = outcome(portal, visit, "not_found", status=404)
    except ServiceUnavailable as error:
        response = unavailable(portal, visit, error)
    except Error as error:
        log.error("%s", error)
        response = outcome(portal, visit, "fault", status=500, help_too=True)
    except Exception as error:  # noqa: BLE001  no traceback reaches a visitor, and no value the log
        log.error("internal error: %s", _place(error))
        response = outcome(portal, visit, "fault", status=500, help_too=True)
    return _finish(response, cookies, visit)


def _allowed(portal: Portal, page: Page, visit: Visit) -> Response:
    if not page.open and visit.session is None:
        return RedirectResponse("/", 303) if visit.post else welcome(portal, visit, target=own_path(visit.path))
    if page.role is not None and page.role not in visit.signed_in.roles:
        raise NotHere
    if visit.post:
        if not same_token(visit.form.get("token", ""), visit.form_token):
            return outcome(portal, visit, "form", status=403)
        if visit.session is not None and not portal.rates.allow(WRITES, visit.session.by):
            raise Limited
    return page.handler(portal, visit)


def _visit(portal: Portal, request: Request, cookies: dict[str, str], session: Session | None) -> Visit:
    headers: Mapping[str, str] = request.state.headers
    if session is None and not cookies.get(VISITOR):
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


def _not_found(portal: Portal, request: Request) -> Response:
    cookies = cookie_parser(request.state.headers.get("cookie", ""))
    session = portal.sessions.find(cookies.get(SESSION, ""))
    return outcome(portal, _visit(portal, request, cookies, session), "not_found", status=404)


def _place(error: Exception) -> str:
    """The type of an error of our own and where it was raised; its text may hold a secret."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _HERE in Path(frame.filename).parents]
    place = f" in {Path(frames[-1].filename).relative_to(_HERE)} line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
