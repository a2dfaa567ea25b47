"""What protects every page: headers, tokens of forms, roles, bounds, rate limits, and a log without secrets."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from distributor.errors import ServiceUnavailable
from distributor.model.delivery import DeliveryFilter
from distributor.model.requests import SignInAccount
from distributor.model.sign_in import SignedIn
from distributor.portal.app import PAGES, THREADS
from distributor.portal.security import address_of, network_of
from distributor.portal.sessions import Role
from tests.portal.conftest import Kit, Served
from tests.portal.visitor import Answer, Visitor

ALICE, BOB = "alice@example.org", "bob@example.org"
LOGINS = {None: "u-carol", Role.ADMINISTRATOR: "u-admin", Role.HELPDESK: "u-helpdesk", Role.AUDITOR: "u-audit"}


def raw(served: Served, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(served.url).port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": "localhost", "Content-Length": str(len(body)), **headers}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, path, response.getheaders(), response.read().decode())
    finally:
        connection.close()


def every_kind(served: Served) -> Iterator[Answer]:
    """A page, a redirect, errors, a file, a refusal."""
    visitor = served.visitor()
    yield visitor.get("/")
    yield visitor.sign_in("u-alice")
    yield visitor.get("/nothing")
    yield visitor.request("POST", "/reveal/d-1", {"token": "wrong"})
    yield visitor.request("POST", "/reveal/d-1", {"token": "x"}, {"Sec-Fetch-Site": "cross-site"})
    yield visitor.request("DELETE", "/")
    yield visitor.get("/?a=1&a=2")
    yield served.visitor().request("POST", "/sign-out", {"token": "x"}, follow=False)


def test_every_response_has_the_headers_that_protect_it(served: Served) -> None:
    answers = list(every_kind(served))
    assert [answer.status for answer in answers] == [200, 200, 404, 403, 403, 405, 400, 303]
    for answer in answers:
        policy = {part.split()[0]: part.split()[1:] for part in answer.header("content-security-policy").split("; ")}
        provider = [served.issuer.removesuffix("/oidc")] if len(policy["form-action"]) > 1 else []
        assert policy == {
            "default-src": ["'none'"],
            "style-src": ["'self'"],
            "img-src": ["'self'"],
            "script-src": ["'self'"],
            "form-action": ["'self'", *provider],
            "base-uri": ["'none'"],
            "frame-ancestors": ["'none'"],
        }
        assert answer.header("strict-transport-security") == "max-age=31536000"
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("referrer-policy") == "no-referrer"
        assert answer.header("cross-origin-opener-policy") == "same-origin"
        assert answer.header("cross-origin-resource-policy") == "same-origin"
        assert answer.header("cache-control") == "no-store"
        assert "geolocation=()" in answer.header("permissions-policy")
        assert answer.header("server") == ""


def test_pages_have_no_inline_scripts_styles_or_handlers(served: Served) -> None:
    pages = [served.visitor().get("/"), served.visitor().sign_in("u-alice"), served.visitor().sign_in("u-admin")]
    for page in pages:
        assert "<style" not in page.body
        assert " style=" not in page.body
        assert " onclick=" not in page.body


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost"},
    ],
)
def test_a_form_of_another_site_does_nothing_even_with_the_token(served: Served, headers: dict[str, str]) -> None:
    alice = served.visitor()
    home = alice.sign_in("u-alice")
    form = home.form("reveal")
    assert alice.request("POST", form.action, form.fields, headers).status == 403
    assert "revealed" not in {event.event for event in served.ledger.history(ALICE)}


@pytest.mark.parametrize("token", ["", "wrong", "of-bob", "ü"])
def test_a_form_without_the_visitors_own_token_does_nothing(served: Served, token: str) -> None:
    alice = served.visitor()
    form = alice.sign_in("u-alice").form("reveal")
    if token == "of-bob":
        token = served.visitor().sign_in("u-bob").form("reveal").fields["token"]
    told = alice.request("POST", form.action, {"token": token})
    assert told.status == 403
    assert "This page is out of date" in told.text
    assert "revealed" not in {event.event for event in served.ledger.history(ALICE)}


def test_signing_somebody_in_needs_a_token_too(served: Served) -> None:
    visitor = served.visitor()
    visitor.get("/")
    assert visitor.request("POST", "/sign-in", {"token": "x", "target": "/"}).status == 403


def fill(path: str) -> str:
    return path.replace("{delivery}", "d-01").replace("{request}", "r-01")


@pytest.mark.parametrize("role", LOGINS)
def test_pages_of_other_roles_are_answered_like_unknown_ones(served: Served, role: Role | None) -> None:
    visitor = served.visitor()
    home = visitor.sign_in(LOGINS[role])
    token = home.form("sign-out").fields["token"]
    unknown = visitor.get("/no-such-page")
    assert unknown.status == 404
    for page in (page for page in PAGES if page.role not in {None, role}):
        answer = visitor.request("POST", fill(page.path), {"token": token}) if page.post else visitor.get(fill(page.path))
        assert answer.status == 404, page.path
        assert answer.text == unknown.text
        assert dict(answer.headers).keys() == dict(unknown.headers).keys()
    assert visitor.get("/audit/export").status == 404  # a path that only takes forms
    own = [page.path for page in PAGES if page.role is role and role is not None and not page.post and "{" not in page.path]
    assert all(visitor.get(path).status in {200, 404} for path in own)


def test_nobody_sees_more_than_the_way_in_without_signing_in(served: Served) -> None:
    for page in PAGES:
        if page.path.startswith(("/signed-in", "/sign-in", "/language")):
            continue
        visitor = served.visitor()
        answer = visitor.request("POST", fill(page.path), {"token": "x"}) if page.post else visitor.get(fill(page.path))
        assert answer.status == 200
        assert "Sign in with your work account" in answer.text


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"token=" + b"x" * 20000, 413),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 415),
        ({"Content-Type": "application/json"}, b"{}", 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=%ff", 400),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=1&a=2", 400),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"&".join(b"a%d=1" % n for n in range(50)), 400),
    ],
)
def test_a_body_that_is_no_small_form_is_refused(served: Served, headers: dict[str, str], body: bytes, status: int) -> None:
    assert raw(served, "POST", "/sign-in", headers, body).status == status


def test_a_body_in_chunks_is_bounded_too(served: Served) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Transfer-Encoding": "chunked"}
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(served.url).port, timeout=60)
    connection.request("POST", "/sign-in", iter([b"a" * 4096] * 10), headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "a b"])
def test_the_host_header_changes_nothing(served: Served, host: str) -> None:
    visitor = served.visitor()
    answer = raw(served, "GET", "/", {"Host": host})
    assert "evil" not in answer.body + str(answer.headers)
    page = visitor.get("/")
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies["localhost"].items())
    body = f"token={page.form('sign-in').fields['token']}&target=/".encode()
    headers = {"Host": host, "Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie, "X-Forwarded-Host": "evil.example"}
    away = raw(served, "POST", "/sign-in", headers, body)
    if host.startswith("evil"):
        assert away.status == 303
        assert "evil" not in away.header("location")
        assert "signed-in" in away.header("location")


def test_who_is_limited_comes_from_the_connection_unless_a_proxy_is_configured(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "distributor.portal")
    raw(kit.served(), "GET", "/", {"X-Forwarded-For": "192.0.2.7"})
    assert "from 127.0.0.1" in caplog.text
    assert "192.0.2.7" not in caplog.text


def test_behind_a_proxy_its_own_entry_counts(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "distributor.portal")
    raw(kit.served(more="forwarded = true"), "GET", "/", {"X-Forwarded-For": "192.0.2.7, 198.51.100.9"})
    assert "from 198.51.100.9" in caplog.text


@pytest.mark.parametrize(
    ("entry", "address", "network"),
    [
        ("198.51.100.9", "198.51.100.9", "198.51.100.9"),
        (" 198.51.100.9:50123 ", "198.51.100.9", "198.51.100.9"),  # as Azure Application Gateway writes it
        ("2001:db8:1:2:3::4", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:3::4]:50123", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("unknown", "", ""),
        ("x\x1b[31m", "", ""),
        ("", "", ""),
    ],
)
def test_an_entry_of_a_proxy_is_an_address_without_port(entry: str, address: str, network: str) -> None:
    assert address_of(entry) == address
    assert network_of(address) == network


def test_a_proxy_that_is_not_configured_is_said_once(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        raw(served, "GET", "/healthz", {"X-Forwarded-For": "192.0.2.7"})
    assert caplog.text.count("portal.forwarded = true") == 1


def test_one_account_can_only_write_so_often(served: Served) -> None:
    alice = served.visitor()
    home = alice.sign_in("u-alice")
    delivery = next(iter(served.ledger.deliveries(DeliveryFilter(addresses=frozenset({ALICE})))))
    found = [alice.submit(home, "again", follow=False).status for _ in range(32)]
    assert found == [200] * 30 + [429] * 2
    assert alice.get(f"/again/{delivery.id}").status == 200
    assert alice.submit(home, "sign-out", follow=False).status == 303  # else whoever stole the session could keep it alive
    assert not alice.session


@pytest.mark.parametrize("path", ["/", "/admin", "/nothing", "/static/nothing", "/signed-in?state=a&code=b"])
@pytest.mark.parametrize("error", [ServiceUnavailable("the ledger stays locked", where="distributor.db"), ValueError("a secret value")])
def test_without_the_ledger_every_path_says_so(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, path: str, error: Exception
) -> None:
    def broken(*_: object) -> object:
        raise error

    monkeypatch.setattr(type(served.ledger), "read_session", broken)
    alice = served.visitor()
    alice.cookies["localhost"] = {"__Host-session": "a" * 43, "__Host-sign-in": "b" * 43}
    told = alice.get(path)
    assert told.status == 503
    assert "Not available right now" in told.text
    assert "a secret value" not in told.body + caplog.text
    assert "Traceback" not in caplog.text


def test_an_error_beyond_the_handlers_reaches_no_log_with_its_text(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise ZeroDivisionError("a secret value")

    monkeypatch.setattr("distributor.portal.app.cookie_parser", broken)
    assert served.visitor().get("/").status == 500
    assert served.visitor().get("/healthz").status == 200  # answered after the line of the first was written
    assert "internal error: ZeroDivisionError in portal/app.py line" in caplog.text
    assert "a secret value" not in caplog.text


@pytest.mark.parametrize("path", ["/again/%00", "/?q=%00", "/admin/requests/r%00/approve"])
def test_a_nul_is_refused_before_a_database_sees_it(served: Served, path: str) -> None:
    assert raw(served, "GET", path, {}).status == 400
    assert served.visitor().request("POST", "/sign-in", {"token": "\0"}).status == 400


def test_a_visitors_cookie_is_one_of_ours_or_a_new_one(served: Served) -> None:
    for cookie in ('"a\\012Set-Cookie: x=y"', "x", "a" * 44, '"\\377"'):
        found = raw(served, "GET", "/", {"Cookie": f"__Host-visitor={cookie}"}).header("set-cookie")
        assert re.match(r"__Host-visitor=[A-Za-z0-9_-]{43};", found)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_get_stays_get(served: Served, name: str) -> None:
    alice = served.visitor()
    form = alice.sign_in("u-alice").form("reveal")
    path = f"{form.action}?token={form.fields['token']}&_method=POST"
    for method in ("GET", "HEAD"):
        assert alice.request(method, path, headers={name: "POST"}).status == 200
    assert "revealed" not in {event.event for event in served.ledger.history(ALICE)}


def test_a_provider_that_never_answers_stops_no_page(kit: Kit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        served = kit.served(issuer=f"http://127.0.0.1:{silent.getsockname()[1]}/oidc")
        account = SignInAccount(served.issuer, "u-alice")
        served.ledger.bind(account, ALICE, "email")
        session = served.portal.sessions.begin(SignedIn(account, entra=False), ALICE, frozenset(), "en")
        alice = served.visitor()
        alice.cookies["localhost"] = {"__Host-session": session.token}
        home = alice.get("/")
        with ThreadPoolExecutor(THREADS["form"] + 2) as pool:
            waiting = [pool.submit(alice.submit, home, "reveal") for _ in range(THREADS["form"] + 2)]
            connection, _ = silent.accept()  # one of them asks, the others wait for it
            assert served.visitor().get("/").status == 200
            assert not any(each.done() for each in waiting)
            connection.close()
            silent.close()
            assert {each.result().status for each in waiting} == {503}


def test_the_log_is_a_line_a_request_without_query_or_control_characters(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.visitor().get("/admin/people?q=alice-in-the-query")
    raw(served, "GET", "/%0d%0aforged%1b[31m", {})
    lines = [record.getMessage() for record in caplog.records if record.name == "distributor.portal"]
    assert "alice-in-the-query" not in caplog.text
    assert lines[-1].startswith("GET /%0d%0aforged%1b[31m 404")
    admin = served.visitor()
    token = admin.sign_in("u-admin").form("sign-out").fields["token"]
    admin.request("POST", "/admin/requests/%0aforged%1b%5b31m/approve", {"token": token})
    lines = [record.getMessage() for record in caplog.records if record.name == "distributor.portal"]
    assert "refused: \\nforged\\x1b[31m: no such request" in lines
    assert all("\n" not in line and "\x1b" not in line for line in lines)


def test_an_error_of_ours_is_told_without_its_text(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise ZeroDivisionError("a secret value")

    alice = served.visitor()
    alice.sign_in("u-alice")
    monkeypatch.setattr(type(served.ledger), "envelopes", broken)
    told = alice.get("/")
    assert told.status == 500
    assert "Something went wrong" in told.text
    assert "a secret value" not in told.body + caplog.text
    assert "internal error: ZeroDivisionError in portal/person.py line" in caplog.text


def test_files_may_be_kept_and_an_svg_cannot_run_scripts(kit: Kit) -> None:
    logo = kit.prepared[0] / "logo.svg"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', encoding="utf-8")
    served = kit.served(organisation='logo = "logo.svg"\ncolour = "#ffcc00"')
    page = served.visitor().get("/")
    found = re.search(r'class="logo" src="([^"]+)"', page.body)
    assert found
    answer = served.visitor().get(found[1])
    assert "alert(1)" in answer.body
    assert answer.header("content-type") == "image/svg+xml"
    assert answer.header("content-security-policy").endswith("sandbox")
    assert answer.header("cache-control").startswith("public")
    style = served.visitor().get(next(part for part in page.body.split('"') if part.endswith(".css")))
    assert "--brand:#ffcc00;--on-brand:#000000" in style.body
    assert served.visitor().get("/static/../portal.secret").status == 404


def test_a_source_that_hangs_has_threads_of_its_own(kit: Kit) -> None:
    served, names = kit.served(more='requests = "automatic"'), []

    def fulfil(*_: object) -> str:
        names.append(threading.current_thread().name)
        return ""

    alice = served.visitor()
    alice.sign_in("u-alice")
    with kit.again(replace(served.portal, actions=replace(served.portal.actions, fulfil=fulfil))) as url:
        second = Visitor(url)
        second.cookies = alice.cookies
        second.submit(second.submit(second.get("/"), "again"), "again", reason="phone")
    assert [name.rpartition("_")[0] for name in names] == ["plan"]
