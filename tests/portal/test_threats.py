"""Who can and cannot get what: a test for each row of the table in README's security model."""

from __future__ import annotations

import base64
import email
import re
from datetime import timedelta

from distributor import bootstrap
from distributor.bootstrap.portal import vault
from distributor.model.delivery import DeliveryFilter
from distributor.model.requests import SignInAccount
from distributor.model.states import PasswordState, RequestState
from distributor.portal.app import PAGES
from distributor.portal.sessions import IDLE, Role, stored
from tests.portal.conftest import Kit, Served
from tests.portal.test_person import ALICE, BOB, events, newest, sealed_password
from tests.portal.test_security import fill
from tests.portal.visitor import Answer, Visitor


def thief(served: Served, visitor: Visitor) -> Visitor:
    """Somebody who has a session's cookie, and nothing of the person's session at the provider."""
    found = served.visitor()
    found.cookies["localhost"] = {"__Host-session": visitor.session}
    return found


def shown(page: Answer) -> str:
    """The password on a page."""
    return "".join(re.findall(r'<span class="(?:group|hyphen)">([^<]*)</span>', page.body))


def other_pages(visitor: Visitor, own: Role) -> set[int]:
    """How pages of all other roles are answered."""
    token = visitor.get("/").form("sign-out").fields["token"]
    pages = [page for page in PAGES if page.role not in {None, own}]
    return {(visitor.request("POST", fill(p.path), {"token": token}) if p.post else visitor.get(fill(p.path))).status for p in pages}


# --- a stranger with a stolen session --------------------------------------------------------------------------------


def test_a_stolen_session_shows_no_password_five_minutes_after_the_sign_in(served: Served) -> None:
    alice = served.visitor()
    alice.sign_in("u-alice", ago=301)
    stranger = thief(served, alice)
    home = stranger.get("/")
    assert "/interaction/" in stranger.submit(home, "reveal").url  # the provider asks who it is
    assert newest(served, ALICE).password_state is PasswordState.READY
    page = stranger.sign_in("u-carol", page=stranger.submit(home, "reveal"))  # as somebody whom the stranger can be
    assert ALICE not in page.body
    assert newest(served, ALICE).password_state is PasswordState.READY


def test_a_stolen_session_sends_nothing_to_the_stranger(served: Served) -> None:
    alice = served.visitor()
    alice.sign_in("u-alice")
    stranger = thief(served, alice)
    form = stranger.submit(stranger.get("/"), "again")
    stranger.submit(
        form, "again", reason="phone", more="to mallory@evil.example", address="mallory@evil.example", to="mallory@evil.example"
    )
    [asked] = served.ledger.requests()
    assert (asked.address, asked.state) == (ALICE, RequestState.OPEN)


def test_a_stolen_session_ends_with_the_persons_and_without_use(served: Served) -> None:
    alice = served.visitor()
    home = alice.sign_in("u-alice")
    stranger = thief(served, alice)
    assert ALICE in stranger.get("/").text
    alice.submit(home, "sign-out")
    assert ALICE not in stranger.get("/").text
    alice.sign_in("u-alice")
    stranger = thief(served, alice)
    served.clock.ahead = IDLE + timedelta(seconds=1)
    assert ALICE not in stranger.get("/").text


def test_a_stolen_session_is_worth_nothing_after_an_incident(served: Served) -> None:
    alice = served.visitor()
    home = alice.sign_in("u-alice")
    served.ledger.incident(ALICE, "a stolen notebook")
    stranger = thief(served, alice)
    assert stranger.submit(home, "reveal").status == 409
    again = stranger.request("POST", home.form("again").action, {**home.form("again").fields, "reason": "phone", "more": ""})
    assert again.status == 409
    assert served.ledger.requests() == []


# --- the stolen laptop of the sending host ---------------------------------------------------------------------------


def test_the_ledger_and_the_configuration_open_no_password_and_no_session(kit: Kit) -> None:
    served = kit.served()
    alice = served.visitor()
    home = alice.sign_in("u-alice")
    files = [path for path in served.folder.iterdir() if path.name.startswith("distributor.")]
    assert {"distributor.db", "distributor.toml"} <= {path.name for path in files}
    laptop = b"".join(path.read_bytes() for path in files)
    passwords = [sealed_password(served, BOB), shown(alice.submit(home, "reveal"))]
    assert all(len(password) > 12 for password in passwords)
    for secret in (*passwords, *(password.replace("-", "") for password in passwords), alice.session, "BEGIN PRIVATE", "BEGIN ENCRYPTED"):
        assert secret.encode() not in laptop
    name = stored(alice.session)
    assert name.encode() in laptop
    robber = served.visitor()
    robber.cookies["localhost"] = {"__Host-session": name}
    assert ALICE not in robber.get("/").text


def test_without_the_vaults_key_neither_portal_nor_command_opens_a_password(kit: Kit) -> None:
    served = kit.served(identity=False)
    assert vault(bootstrap.settings(served.folder / "distributor.toml")) is None
    helpdesk = served.visitor()
    helpdesk.sign_in("u-helpdesk")
    token = helpdesk.get("/").form("sign-out").fields["token"]
    delivery = newest(served, BOB)
    assert helpdesk.request("POST", f"/helpdesk/reveal/{delivery.id}", {"token": token, "reason": "ticket"}).status == 404
    done = served.workspace.run(f"distributor password reveal {BOB} --reason ticket --stdout")
    assert done.returncode == 3
    assert "vault.identity" in done.stdout
    assert newest(served, BOB).password_state is PasswordState.READY


# --- the helpdesk's role alone ---------------------------------------------------------------------------------------


def test_the_helpdesk_alone_gets_a_password_on_record_and_no_message(served: Served) -> None:
    helpdesk = served.visitor()
    helpdesk.sign_in("u-helpdesk")
    assert other_pages(helpdesk, Role.HELPDESK) == {404}
    delivery, home = newest(served, BOB), helpdesk.get("/")
    token = home.form("sign-out").fields["token"]
    for path in (f"/again/{delivery.id}", f"/confirm/{delivery.id}", f"/reveal/{delivery.id}"):  # a person's, not theirs
        assert helpdesk.request("POST", path, {"token": token, "reason": "phone"}).status == 404
    person = helpdesk.get(f"/helpdesk/person?address={BOB}")
    assert shown(helpdesk.submit(person, "reveal", reason="ticket 4711"))
    [event] = [event for event in served.ledger.history(BOB) if event.event == "revealed"]
    assert (event.by, event.evidence["reason"]) == ("portal:u-helpdesk", "ticket 4711")
    assert [each.id for each in served.ledger.deliveries(DeliveryFilter(addresses=frozenset({BOB})))] == [delivery.id]


# --- the administrator's role ----------------------------------------------------------------------------------------


def test_the_administrator_alone_gets_no_password_no_export_and_no_copy_of_anybodys(served: Served) -> None:
    admin = served.visitor()
    admin.sign_in("u-admin")
    assert other_pages(admin, Role.ADMINISTRATOR) == {404}
    delivery = newest(served, BOB)
    token = admin.get("/").form("sign-out").fields["token"]
    for path in (f"/helpdesk/reveal/{delivery.id}", f"/reveal/{delivery.id}", f"/again/{delivery.id}", "/audit/export"):
        assert admin.request("POST", path, {"token": token, "reason": "x", "format": "csv"}).status == 404
    assert newest(served, BOB).password_state is PasswordState.READY
    assert served.ledger.requests() == []


def test_the_administrator_approves_no_request_of_their_own(served: Served) -> None:
    served.ledger.bind(SignInAccount(served.issuer, "u-admin"), ALICE, "email")
    admin = served.visitor()
    home = admin.sign_in("u-admin")
    assert ALICE in admin.get("/").text
    admin.submit(admin.submit(admin.get("/"), "again"), "again", reason="phone")
    [asked] = served.ledger.requests()
    token = home.form("sign-out").fields["token"]
    assert admin.request("POST", f"/admin/requests/{asked.id}/approve", {"token": token}).status == 409
    assert served.ledger.requests()[0].state is RequestState.OPEN


# --- somebody who reads the person's mail ----------------------------------------------------------------------------


def test_the_message_has_no_password_and_no_way_in(kit: Kit) -> None:
    served = kit.served(more='requests = "automatic"')
    alice = served.visitor()
    alice.submit(alice.submit(alice.sign_in("u-alice"), "again"), "again", reason="message")
    served.workspace.add_server()
    assert served.workspace.run("distributor send --yes").returncode == 0
    [message] = served.workspace.handler.messages
    password = shown(alice.submit(alice.get("/"), "reveal"))
    assert password
    parts = [part.get_payload(decode=True) for part in email.message_from_bytes(message).walk() if not part.is_multipart()]
    content = b"".join(part for part in parts if isinstance(part, bytes))
    for secret in (password, password.replace("-", ""), base64.b64encode(password.encode()).decode().rstrip("=")):
        assert secret.encode() not in content + message
    assert alice.session.encode() not in content
    reader = served.visitor()
    for link in re.findall(rf"{re.escape(served.url)}[^\s\"<>]*", content.decode("utf-8", "replace")):
        assert "Sign in with your work account" in reader.get(link).text


def test_who_reads_the_mail_gets_nothing_by_an_account_of_their_own_once_the_person_has_signed_in(served: Served) -> None:
    assert "No certificate yet" in served.visitor().sign_in("u-unverified").text
    bob = served.visitor(language="de")
    assert BOB in bob.sign_in("u-bob").text
    assert BOB not in served.visitor(language="de").sign_in("u-bob-2").text  # a second account that the provider verified by mail


def test_who_registers_with_the_persons_mail_first_is_taken_for_the_person_on_record(served: Served) -> None:
    """What the table warns of: the provider must not let people register themselves."""
    assert BOB in served.visitor().sign_in("u-bob-2").text
    assert BOB not in served.visitor(language="de").sign_in("u-bob").text
    [bound] = [event for event in served.ledger.history(BOB) if event.event == "bound"]
    assert (bound.by, bound.evidence["how"]) == ("portal:u-bob-2", "email")


# --- the identity provider's administrator ---------------------------------------------------------------------------


def test_the_providers_administrator_can_be_anybody_but_each_password_only_once_and_on_record(served: Served) -> None:
    alice = served.visitor()
    password = shown(alice.submit(alice.sign_in("u-alice"), "reveal"))
    other = served.visitor()
    home = other.sign_in("u-alice")  # which whoever runs the provider can do
    assert "reveal" not in {action for form in home.forms for action in form.actions}
    delivery = newest(served, ALICE)
    token = home.form("sign-out").fields["token"]
    told = other.request("POST", f"/reveal/{delivery.id}", {"token": token})
    assert (told.status, password in told.body) == (409, False)
    assert events(served, ALICE).count("revealed") == 1
    [bound] = [event for event in served.ledger.history(ALICE) if event.event == "bound"]
    assert bound.evidence["subject"] == "u-alice"
