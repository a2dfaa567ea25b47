"""The portal's whole life in real browsers: people, their staff, an intruder, a scanner of links, and a search for secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.authority import Authority
from tests.portal.conftest import Served
from tests.portal.life import Life, Somebody, living, opens, places_of, scan
from tests.portal.test_browser import pasted
from tests.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

REVEAL, AGAIN, APPROVE, SIGN_OUT = ("[data-action=reveal]", "main [data-action=again]", "[data-action=approve]", "[data-action=sign-out]")
UNKNOWN = "d-01AAAAAAAAAAAAAAAAAAAAAAAA"
STAFF = ("/admin", "/admin/requests", "/admin/ambiguous", "/admin/people", "/helpdesk", "/audit")
ONE = ("/admin/person", "/admin/incident", "/helpdesk/person", "/audit/person")  # of one person


@pytest.fixture(params=[True, False], ids=["scripts", "without-scripts"])
def life(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority, playwright: Playwright, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Life]:
    base = tmp_path / "life"
    workspace = Workspace(base / "workspace", authority)
    workspace.folder.mkdir(mode=0o700, parents=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(base / "state"))
    try:
        with living(base, workspace, playwright, javascript=request.param) as found:
            yield found
    finally:
        workspace.close()


@pytest.mark.slow(reason="eight browsers; what each page does is tested beside it")
def test_three_people_their_helpdesk_administrators_auditor_and_an_intruder(life: Life) -> None:
    anna = installs(life)
    ben, chloe = asks_again(life)
    ada = decides(life, chloe)
    gets_another(life, ben)
    hugo = helps(life)
    audit = exports(life)
    eve = intrudes(life, anna, chloe)
    changes_nothing(life, anna, ben, chloe, ada, hugo, audit, eve)
    leaves_no_secret(life)


def installs(life: Life) -> Somebody:
    """Anna signs in, gets her password once, and says that it works."""
    anna = life.somebody("u-anna", device="iphone", locale="de")
    assert life.events("anna", "bound") == []
    anna.sign_in(ago=3600)
    assert [each["by"] for each in life.events("anna", "bound")] == ["portal:u-anna"]
    assert "Zertifikat für anna@example.org" in anna.page.inner_text("main")
    assert anna.page.inner_text("details[open] summary") == "iPhone und iPad"
    anna.press(REVEAL)
    assert life.events("anna", "revealed") == []
    anna.at_provider()  # the sign-in of an hour ago was not enough
    second = anna.context.new_page()
    second.goto(anna.page.url)
    anna.press(REVEAL)
    password = anna.shown()
    assert opens(life.package("anna"), password)
    if life.javascript:
        anna.page.click("#copy")
        anna.page.wait_for_selector("#state:text-is('Kopiert')")
        assert pasted(anna.page) == password
    else:
        assert not anna.page.is_visible("#copy")
    second.click(REVEAL)
    assert "Nicht möglich" in second.inner_text("h1")
    assert "Das Passwort wurde angezeigt." in anna.see()
    assert not anna.page.is_visible(REVEAL)
    assert len(life.events("anna", "revealed")) == 1
    assert "Ihr Zertifikat funktioniert" in anna.press("[action^='/confirm/'] button")
    assert [each["by"] for each in life.events("anna", "installed")] == ["portal:u-anna"]
    return anna


def asks_again(life: Life) -> tuple[Somebody, Somebody]:
    """Ben had his password and lost his phone; Chloé never had hers."""
    ben = life.somebody("u-ben", device="android")
    ben.sign_in()
    assert ben.page.inner_text("details[open] summary") == "Android"
    ben.press(REVEAL)
    assert opens(life.package("ben"), ben.shown())
    chloe = life.somebody("u-chloe", locale="fr")
    chloe.sign_in()
    assert "Certificat pour chloe@example.org" in chloe.page.inner_text("main")
    for who in (ben, chloe):
        who.see()
        who.press(AGAIN)
        who.page.check("input[value=phone]")
        who.page.fill("textarea", "ticket 4711")
        who.press(AGAIN)
    return ben, chloe


def decides(life: Life, chloe: Somebody) -> Somebody:
    """Chloé is an administrator too: she decides on Ben's request and not on her own. What waited for her is destroyed."""
    _, sealed, old = life.waiting("chloe")
    assert life.files_with(sealed) & {"distributor.db", "distributor.db-wal"}
    assert "This is your own request" in chloe.see("/admin/requests")
    assert chloe.page.locator(APPROVE).count() == 1
    mine = next(each["id"] for each in life.requests() if each["address"] == "chloe@example.org")
    robot = chloe.robot()
    token = robot.get("/admin/requests").form("sign-out").fields["token"]
    assert robot.request("POST", f"/admin/requests/{mine}/approve", {"token": token}).status == 409
    assert "Approved." in chloe.press(APPROVE)
    ada = life.somebody("u-ada")
    ada.sign_in()
    assert ada.page.url == f"{life.url}/admin"
    assert "ticket 4711" in ada.see("/admin/requests")
    assert "No request is waiting" in ada.press(APPROVE)
    assert {each["state"] for each in life.requests()} == {"approved"}
    assert life.files_with(sealed) == set()
    life.run("distributor send --yes")
    assert not opens(life.package("chloe"), old)
    return ada


def gets_another(life: Life, ben: Somebody) -> None:
    """Ben's second message has a second password."""
    assert len(life.workspace.handler.messages) == 5
    assert not any(opens(life.package("ben"), old) for old in life.passwords)
    ben.see()
    ben.press(REVEAL)
    assert opens(life.package("ben"), ben.shown())


def helps(life: Life) -> Somebody:
    """The helpdesk finds Chloé, tells her the password, and can do nothing else."""
    hugo = life.somebody("u-hugo")
    hugo.sign_in()
    hugo.page.fill("#q", "chl")
    hugo.press("text=Search")
    hugo.press("text=chloe@example.org")
    assert {each.get_attribute("action") for each in hugo.page.query_selector_all("main form[method=post]")} == {
        f"/helpdesk/reveal/{life.waiting('chloe')[0]}"
    }
    hugo.page.fill("input[name=reason]", "calls from her desk phone")
    hugo.press(REVEAL)
    assert opens(life.package("chloe"), hugo.shown())
    [told] = life.events("chloe", "revealed")
    assert told["by"] == "portal:u-hugo"
    assert "calls from her desk phone" in str(told["evidence"])
    robot = hugo.robot()
    token = robot.get("/helpdesk").form("sign-out").fields["token"]
    others = [path for path in (*STAFF, *ONE) if not path.startswith("/helpdesk")]
    assert {robot.get(f"{path}?address=ben@example.org").status for path in others} == {404}
    posts = (f"/admin/requests/{life.requests()[0]['id']}/deny", "/admin/incident", "/audit/export", f"/admin/ambiguous/{UNKNOWN}")
    fields = {"token": token, "reason": "why", "address": "ben@example.org", "format": "csv", "decision": "again"}
    assert {robot.request("POST", path, fields).status for path in posts} == {404}
    return hugo


def exports(life: Life) -> Somebody:
    """The auditor's export verifies."""
    audit = life.somebody("u-audit")
    audit.sign_in()
    for name, kind in (("JSON Lines", "jsonl"), ("CSV", "csv")):
        with audit.page.expect_download() as found:
            audit.page.click(f"text={name}")
        found.value.save_as(life.base / f"export.{kind}")
    assert "revealed" in (life.base / "export.csv").read_text(encoding="utf-8")
    life.run("distributor audit verify ../export.jsonl")
    return audit


def intrudes(life: Life, anna: Somebody, chloe: Somebody) -> Somebody:
    """An account without a person, and a person who tries others' deliveries: one answer to everything."""
    eve = life.somebody("u-eve")
    eve.sign_in()
    assert "There is no certificate for this account." in eve.page.inner_text("main")
    foreign, earlier = (str(life.history(name)[0]["delivery"]) for name in ("ben", "chloe"))
    before = life.position()
    for who in (eve, anna, chloe):
        robot = who.robot()
        token = robot.get("/").form("sign-out").fields["token"]
        for action in ("reveal", "again", "confirm"):
            answers = set()
            for id_ in (UNKNOWN, foreign, earlier):  # unknown, another's, and Chloé's own that a newer one replaced
                path = f"/{action}/{id_}"
                page, sent = robot.get(path), robot.request("POST", path, {"token": token, "reason": "phone"})
                answers |= {(page.status, page.body.replace(path, "")), (sent.status, sent.body.replace('value="/"', 'value=""'))}
            assert {status for status, _ in answers} == {404}
            assert len(answers) == 1, answers
        if who is not chloe:
            pages = {robot.get(f"{path}?address=ben@example.org").body.replace(path, "") for path in (*STAFF, *ONE, "/nowhere")}
            assert len(pages) == 1
    assert life.position() == before
    assert len([each for each in life.history("ben") if each["event"] == "bound"]) == 1
    return eve


def changes_nothing(life: Life, *everybody: Somebody) -> None:
    """A scanner of links has everybody's cookies and changes nothing."""
    before = life.position()
    people = [f"{path}?address={name}@example.org" for path in ONE for name in ("anna", "ben", "chloe")]
    ids = {str(each["delivery"]) for name in ("anna", "ben", "chloe") for each in life.history(name)}
    actions = ("reveal", "again", "confirm", "helpdesk/reveal", "helpdesk/again", "admin/ambiguous")
    paths = [f"/{action}/{id_}" for action in actions for id_ in ids]
    for who in everybody:
        seen = scan(who.robot(), *STAFF, *people, *paths)
        assert {"/sign-out", "/", *paths} <= seen
        assert who.see() != ""
        assert who.page.is_visible(SIGN_OUT)
    assert life.position() == before


def leaves_no_secret(life: Life) -> None:
    """Everybody signs out and closes the browser; no password and no session is anywhere."""
    for who in life.everybody:
        robot = who.robot()
        who.page.click(SIGN_OUT)
        who.page.wait_for_url(f"{life.url}/?notice=signed_out")
        assert robot.get("/").form("sign-in")
        who.context.close()
    places = life.everywhere()
    assert len(life.passwords) >= 5
    assert f"/proc/{life.process.pid}/environ" in places
    assert b"POST /reveal/" in places["portal.log"]
    assert places_of("chloe@example.org", places)  # a search that finds what is there
    tokens = {token for who in life.everybody for token in who.tokens}
    assert len(tokens) == 8
    assert {secret: found for secret in life.passwords | tokens if (found := places_of(secret, places))} == {}


def test_the_password_is_reached_by_tab_and_enter_alone(served: Served, chromium: Browser) -> None:
    context = chromium.new_context(locale="en")
    page = context.new_page()
    page.goto(served.url)

    def to(selector: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
                return
        pytest.fail(f"Tab does not reach {selector}")

    to("[data-action=sign-in]")
    page.keyboard.press("Enter")
    page.wait_for_url("**/interaction/**")
    page.fill("input[name=login]", "u-alice")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{served.url}/")
    to(REVEAL)
    page.keyboard.press("Enter")
    page.wait_for_selector("#groups")
    assert page.inner_text("#groups").count("-") == 4
    to("#copy")
    to("#hide")
    page.keyboard.press("Space")
    assert page.get_attribute("#groups", "class") == "groups hidden"
    context.close()
