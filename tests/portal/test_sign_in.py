"""Signing in: the way to the provider and back, who an account belongs to, and everything that somebody may tamper with."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from distributor.model.requests import SignInAccount
from distributor.model.sign_in import SignedIn
from distributor.portal.sign_in import person_of
from tests.portal.conftest import ENTRA, Kit, Served
from tests.portal.visitor import Answer, Visitor

ALICE, BOB = "alice@example.org", "bob@example.org"


def callback(visitor: Visitor, login: str) -> str:
    """The provider's answer to a sign-in that this visitor began: the address that it leads to, not yet visited."""
    page = visitor.submit(visitor.get("/"), "sign-in")
    form = page.forms[0]
    answer = visitor.request("POST", urljoin(page.url, form.action), {"login": login, "ago": "0", "go": "yes"}, follow=False)
    while not (place := urljoin(answer.url, answer.header("location"))).startswith(visitor.portal):
        answer = visitor.get(place, follow=False)
    return place


def with_query(address: str, **changed: str) -> str:
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    pairs = "&".join(f"{name}={value}" for name, value in {**query, **changed}.items() if value)
    return f"{address.partition('?')[0]}?{pairs}"


def refused(visitor: Visitor, answer: Answer) -> bool:
    return answer.status == 403 and not visitor.session and "You are not signed in" in answer.text


def test_the_first_sign_in_with_a_verified_address_binds_the_account(served: Served) -> None:
    account = SignInAccount(served.issuer, "u-alice")
    assert served.ledger.person_of(account) is None
    served.visitor().sign_in("u-alice")
    assert served.ledger.person_of(account) == ALICE
    [bound] = [event for event in served.ledger.history(ALICE) if event.event == "bound"]
    assert (bound.by, bound.evidence["how"], bound.evidence["subject"]) == ("portal:u-alice", "email", "u-alice")
    served.visitor().sign_in("u-alice")
    assert [event.event for event in served.ledger.history(ALICE)].count("bound") == 1


def test_an_address_that_is_not_verified_binds_nothing(served: Served) -> None:
    page = served.visitor().sign_in("u-unverified")
    assert "No certificate yet" in page.text
    assert served.ledger.person_of(SignInAccount(served.issuer, "u-unverified")) is None


def test_a_second_account_with_the_same_address_gets_nothing(served: Served) -> None:
    served.visitor().sign_in("u-bob")
    page = served.visitor(language="de").sign_in("u-bob-2")
    assert "Noch kein Zertifikat" in page.text
    assert BOB not in page.text


@pytest.mark.parametrize(
    "changed", [{"state": "x"}, {"state": ""}, {"code": "x"}, {"code": ""}, {"iss": "https://evil.example"}, {"iss": ""}]
)
def test_an_answer_that_was_tampered_with_is_refused(served: Served, changed: dict[str, str]) -> None:
    visitor = served.visitor()
    place = callback(visitor, "u-alice")
    assert refused(visitor, visitor.get(with_query(place, **changed)))
    assert refused(visitor, visitor.get(place))  # the sign-in was used up


def test_an_answer_works_once_and_only_for_whoever_began(served: Served) -> None:
    alice, mallory = served.visitor(), served.visitor()
    place = callback(alice, "u-alice")
    assert refused(mallory, mallory.get(place))
    mallory.submit(mallory.get("/"), "sign-in")
    assert refused(mallory, mallory.get(place))  # with a sign-in of their own
    assert "Certificate for alice@example.org" in alice.get(place).text
    again = served.visitor()
    again.cookies = {host: dict(kept) for host, kept in alice.cookies.items()}
    assert again.get(place).status == 403


def test_a_scanner_that_asks_for_the_answers_head_does_not_use_it_up(served: Served) -> None:
    visitor = served.visitor()
    place = callback(visitor, "u-alice")
    assert visitor.request("HEAD", place).status == 405
    assert "Certificate for alice@example.org" in visitor.get(place).text


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "/%2f/evil.example",
        "javascript:alert(1)",
        "/a?next=//evil.example",
        "",
    ],
)
def test_nobody_is_led_elsewhere_after_signing_in(served: Served, target: str) -> None:
    visitor = served.visitor()
    page = visitor.submit(visitor.get("/"), "sign-in", target=target)
    form = page.forms[0]
    answer = visitor.request("POST", urljoin(page.url, form.action), {"login": "u-alice", "ago": "0", "go": "yes"}, follow=False)
    while "/signed-in" not in (place := urljoin(answer.url, answer.header("location"))):
        answer = visitor.get(place, follow=False)
    assert visitor.get(place, follow=False).header("location") == "/"


def test_the_way_goes_on_to_the_page_that_was_asked_for(served: Served) -> None:
    visitor = served.visitor()
    page = visitor.get("/admin/requests")
    assert "Sign in with your work account" in page.text
    assert visitor.sign_in("u-admin", page=page).url == f"{served.url}/admin/requests"


def test_a_cancelled_sign_in_is_told_without_the_providers_text(served: Served) -> None:
    visitor = served.visitor()
    page = visitor.submit(visitor.get("/"), "sign-in")
    told = visitor.request("POST", urljoin(page.url, page.forms[0].action), {"login": "", "go": "no"})
    assert refused(visitor, told)
    assert "a description that nobody shows" not in told.body


def test_a_provider_that_does_not_answer_is_told(kit: Kit) -> None:
    served = kit.served(issuer="http://127.0.0.1:9/oidc")
    visitor = served.visitor()
    told = visitor.submit(visitor.get("/"), "sign-in")
    assert told.status == 503
    assert "Not available right now" in told.text
    assert "127.0.0.1:9" not in told.text


def test_too_many_failed_sign_ins_from_an_address_are_stopped(served: Served) -> None:
    visitor = served.visitor()
    found = [visitor.get("/signed-in?state=x&code=y").status for _ in range(62)]
    assert found == [403] * 60 + [429] * 2
    assert "Certificate for alice@example.org" in served.visitor().sign_in("u-alice").text  # who comes from the provider gets in


def test_returns_that_belong_to_nothing_never_stop_those_that_do(served: Served) -> None:
    stranger = served.visitor()
    waiting = callback(visitor := served.visitor(), "u-alice")
    assert {stranger.get("/signed-in?state=x").status for _ in range(700)} == {403, 429}
    assert "Certificate for alice@example.org" in visitor.get(waiting).text


@pytest.mark.parametrize(
    "address",
    [
        "al\u0131ce@example.org",  # dotless i
        "\uff41lice@example.org",  # full-width a
        "alice@\uff45xample.org",
        "alice@example\uff0eorg",
        "alice@e\u00adxample.org",  # soft hyphen
        "a\u200blice@example.org",
        "alice@example.org, bob@example.org",
        "alice@example.org\0",
        '"alice"@example.org',
        "Alice <alice@example.org>",
        "alice@example.org.",
        "alice+x@example.org",
    ],
)
def test_an_address_that_only_looks_like_a_persons_binds_nothing(served: Served, address: str) -> None:
    found = SignedIn(SignInAccount(served.issuer, "u-mallory"), entra=False, email=address)
    assert person_of(served.portal, found) is None
    assert "bound" not in {event.event for event in served.ledger.history(ALICE)}


def test_an_account_that_is_bound_stays_with_its_person_when_its_address_becomes_anothers(served: Served) -> None:
    account = SignInAccount(served.issuer, "u-bob")  # whose verified address is Bob's now
    served.ledger.bind(account, ALICE, "email")
    page = served.visitor().sign_in("u-bob")
    assert "Certificate for alice@example.org" in page.text
    assert BOB not in page.text
    assert "Zertifikat für bob@example.org" in served.visitor().sign_in("u-bob-2").text  # Bob himself is still free


# --- Entra -----------------------------------------------------------------------------------------------------------


def test_entras_preferred_username_and_mail_bind_nothing(kit: Kit) -> None:
    served = kit.served(entra=True)
    for login in ("sub-1", "sub-3"):
        page = served.visitor().sign_in(login)
        assert page.status == 200
        assert BOB not in page.text
        assert served.ledger.person_of(SignInAccount(served.issuer, str(ENTRA[login]["oid"]))) is None


def test_entras_object_id_binds_by_the_rosters_column(kit: Kit) -> None:
    object_id = str(ENTRA["sub-1"]["oid"])
    served = kit.served(entra=True)
    served.workspace.add_pfx("dora", "dora@example.org")
    roster = f"email,name,language,OID\ndora@example.org,Dora Example,en,{object_id.upper()}\n"
    (served.folder / "dora.csv").write_text(roster, encoding="utf-8")
    done = served.workspace.run("distributor plan certificates/dora.pfx --roster dora.csv")
    assert done.returncode == 0, done.stdout
    page = served.visitor().sign_in("sub-1")
    assert "Certificate for dora@example.org" in page.text
    [bound] = [event for event in served.ledger.history("dora@example.org") if event.event == "bound"]
    assert bound.evidence["how"] == "oid"


def test_an_account_of_another_tenant_does_not_get_in(kit: Kit) -> None:
    visitor = kit.served(entra=True).visitor()
    assert refused(visitor, visitor.sign_in("sub-2"))


def test_groups_that_entra_left_out_are_told_to_the_administrator(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    kit.served(entra=True).visitor().sign_in("sub-3")
    assert "Entra left out the groups of portal:0a1b2c3d" in caplog.text


def test_the_log_has_no_codes_states_or_cookies(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    visitor = served.visitor()
    place = callback(visitor, "u-alice")
    visitor.get(place)
    query = parse_qs(urlsplit(place).query)
    for secret in (query["code"][0], query["state"][0], *visitor.cookies["localhost"].values()):
        assert secret not in caplog.text
    assert re.search(r"GET /signed-in 303 \d+ ms from 127\.0\.0\.1", caplog.text)
