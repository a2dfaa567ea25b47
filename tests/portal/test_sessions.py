"""Sessions: when they end, what a stolen one is good for, and what the ledger keeps of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from distributor.model.requests import SignInAccount
from distributor.model.sign_in import SignedIn
from distributor.portal.sessions import IDLE, LONGEST, SIGN_IN_TIME, BegunSignIn, Role, stored
from tests.portal.conftest import Kit, Served
from tests.portal.visitor import Visitor


def is_in(served: Served, cookie: str) -> bool:
    visitor = served.visitor()
    visitor.cookies["localhost"] = {"__Host-session": cookie}
    return "My certificates" in visitor.get("/").text


def test_the_cookies_are_for_this_host_only_and_hidden_from_scripts(served: Served) -> None:
    visitor = served.visitor()
    set_cookies = visitor.get("/").header("set-cookie")
    assert set_cookies.startswith("__Host-visitor=")
    visitor.sign_in("u-alice")
    for cookie in (set_cookies, *(value for name, value in visitor.get("/language").headers if name == "set-cookie")):
        parts = {part.strip().lower() for part in cookie.split(";")}
        assert {"path=/", "secure", "httponly", "samesite=lax"} <= parts
        assert not any(part.startswith("domain") for part in parts)
    assert len(visitor.session) >= 43


def test_each_sign_in_has_a_new_token_and_ends_the_session_before(served: Served) -> None:
    visitor = served.visitor()
    visitor.sign_in("u-alice")
    first = visitor.session
    page = visitor.get("/")
    assert is_in(served, first)
    token = page.form("sign-out").fields["token"]
    visitor.request("POST", "/sign-in", {"token": token, "target": "/"})
    assert visitor.session
    assert visitor.session != first
    assert not is_in(served, first)


def test_a_given_session_token_is_never_taken(served: Served) -> None:
    visitor = served.visitor()
    visitor.cookies["localhost"] = {"__Host-session": "a-token-that-an-attacker-chose"}
    visitor.sign_in("u-alice")
    assert visitor.session != "a-token-that-an-attacker-chose"


def test_signing_out_ends_the_session_in_the_ledger_too(served: Served) -> None:
    visitor = served.visitor()
    home = visitor.sign_in("u-alice")
    cookie = visitor.session
    out = visitor.submit(home, "sign-out", follow=False)
    assert out.header("clear-site-data") == '"cache", "storage"'
    assert not is_in(served, cookie)
    assert not visitor.session


def test_a_session_ends_after_fifteen_minutes_without_use(served: Served) -> None:
    visitor = served.visitor()
    visitor.sign_in("u-alice")
    served.clock.ahead = IDLE - timedelta(seconds=5)
    assert is_in(served, visitor.session)  # which is a use
    served.clock.ahead += IDLE - timedelta(seconds=5)
    assert is_in(served, visitor.session)
    served.clock.ahead += IDLE + timedelta(seconds=5)
    assert not is_in(served, visitor.session)


def test_a_session_ends_after_eight_hours_of_use(served: Served) -> None:
    visitor = served.visitor()
    visitor.sign_in("u-alice")
    while served.clock.ahead < LONGEST - timedelta(minutes=10):
        served.clock.ahead += timedelta(minutes=10)
        assert is_in(served, visitor.session)
    served.clock.ahead += timedelta(minutes=10)
    assert not is_in(served, visitor.session)


def test_the_last_use_is_written_once_a_minute_and_never_brings_a_session_back(served: Served) -> None:
    visitor = served.visitor()
    visitor.sign_in("u-alice")
    name = stored(visitor.session)
    seen = [served.ledger.read_session(name)]
    for seconds in (30, 59, 62, 90):
        served.clock.ahead = timedelta(seconds=seconds)
        visitor.get("/")
        seen.append(served.ledger.read_session(name))
    assert all(seen)
    assert len({session.seen for session in seen if session}) == 2
    served.ledger.end_sessions([name])
    served.ledger.touch_session(name, served.clock())
    assert served.ledger.read_session(name) is None


def test_the_ledger_has_hashes_of_tokens_only(served: Served) -> None:
    visitor = served.visitor()
    visitor.sign_in("u-alice")
    begun = served.visitor()
    begun.submit(begun.get("/"), "sign-in")
    cookies = [*visitor.cookies["localhost"].values(), *begun.cookies["localhost"].values()]
    files = [path for path in served.folder.iterdir() if path.name.startswith("distributor.db")]
    content = b"".join(path.read_bytes() for path in files)
    assert stored(visitor.session).encode() in content
    assert [cookie for cookie in cookies if cookie.encode() in content] == []


def test_a_begun_sign_in_cannot_be_read_from_the_ledger_and_works_once(served: Served) -> None:
    sessions = served.portal.sessions
    cookie = sessions.keep_sign_in(BegunSignIn({"code_verifier": "the-verifier"}, "/"))
    kept = served.ledger.read_session(stored(cookie))
    assert kept is not None
    assert "the-verifier" not in kept.data
    assert sessions.find(cookie) is None  # it is no session
    assert sessions.take_sign_in(cookie) == BegunSignIn({"code_verifier": "the-verifier"}, "/")
    assert sessions.take_sign_in(cookie) is None
    late = sessions.keep_sign_in(BegunSignIn({}, "/"))
    served.clock.ahead = SIGN_IN_TIME + timedelta(seconds=1)
    assert sessions.take_sign_in(late) is None


def test_a_session_is_no_begun_sign_in(served: Served) -> None:
    sessions = served.portal.sessions
    session = sessions.begin(SignedIn(SignInAccount("i", "s"), entra=False), None, frozenset({Role.AUDITOR}), "")
    assert sessions.take_sign_in(session.token) is None
    assert sessions.find(session.token) is not None


@pytest.mark.parametrize(("login", "path", "taken"), [("u-admin", "/admin", "administrators"), ("u-audit", "/audit", "auditors")])
def test_a_role_that_the_configuration_no_longer_gives_ends_in_open_sessions_too(
    served: Served, kit: Kit, login: str, path: str, taken: str
) -> None:
    visitor = served.visitor()
    visitor.sign_in(login)
    assert visitor.get(path).status == 200
    settings = replace(served.portal.settings, **{taken: ("somebody-else",)})
    with kit.again(replace(served.portal, settings=settings)) as url:
        after = Visitor(url)
        after.cookies = visitor.cookies
        assert after.get("/").status == 200
        assert "sign-out" in after.get("/").forms[0].actions
        assert after.get(path).status == 404


def test_what_has_ended_is_deleted(served: Served) -> None:
    sessions = served.portal.sessions
    sessions.keep_sign_in(BegunSignIn({}, "/"))
    assert sessions.tidy() == 0
    served.clock.ahead = IDLE + timedelta(minutes=1)
    assert sessions.tidy() == 1
