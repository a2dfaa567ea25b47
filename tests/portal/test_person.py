"""What people can do for themselves."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from distributor import bootstrap
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.states import PasswordState, RequestState, State, Way
from distributor.portal.person import words
from distributor.portal.visit import PersonalDelivery
from tests.ledger.world import draft
from tests.portal.conftest import Kit, Served

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DELIVERY = Delivery(
    *("d-1", "alice@example.org", "Alice", "en", 1, State.ACCEPTED, 1, None, None, None, None, None),
    *(LONG_AGO, "p", "ab", "0c", "CN=Alice", LONG_AGO, "reveal", PasswordState.READY),
)
ALICE, BOB = "alice@example.org", "bob@example.org"


def newest(served: Served, address: str) -> Delivery:
    return list(served.ledger.deliveries(DeliveryFilter(addresses=frozenset({address}))))[-1]


def events(served: Served, address: str) -> list[str]:
    return [event.event for event in served.ledger.history(address)]


def sealed_password(served: Served, address: str) -> str:
    """The password that waits for somebody, opened beside the portal."""
    envelope = served.ledger.envelopes(address)[0]
    assert envelope.sealed is not None
    settings = bootstrap.settings(served.folder / "distributor.toml")
    return bootstrap.vault(settings).open(envelope.sealed, envelope.delivery).reveal()


def test_somebody_signs_in_and_sees_their_certificate_only(served: Served) -> None:
    page = served.visitor().sign_in("u-alice")
    assert page.status == 200
    assert "Certificate for alice@example.org" in page.text
    assert BOB not in page.body


def test_somebody_without_a_certificate_is_told_so(served: Served) -> None:
    page = served.visitor().sign_in("u-carol")
    assert page.status == 200
    assert "There is no certificate for this account" in page.text


def test_the_password_is_shown_once_and_recorded_first(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    password, alice = sealed_password(served, ALICE), served.visitor()
    home = alice.sign_in("u-alice")
    page = alice.submit(home, "reveal")
    assert "".join(re.findall(r'<span class="(?:group|hyphen)">([^<]*)</span>', page.body)) == password
    assert page.header("cache-control") == "no-store"
    revealed = [event for event in served.ledger.history(ALICE) if event.event == "revealed"]
    assert [(event.by, event.evidence["channel"]) for event in revealed] == [("portal:u-alice", "reveal")]
    again = alice.submit(home, "reveal")
    assert again.status == 409
    assert password.split("-")[0] not in again.body
    assert "has been shown" in alice.get("/").text
    assert password not in caplog.text
    assert events(served, ALICE).count("revealed") == 1


def test_a_password_needs_a_fresh_sign_in(served: Served) -> None:
    alice = served.visitor()
    home = alice.sign_in("u-alice", ago=3600)
    asked = alice.submit(home, "reveal")
    assert "/interaction/" in asked.url
    assert newest(served, ALICE).password_state is PasswordState.READY
    back = alice.sign_in("u-alice", page=asked)
    assert back.url == f"{served.url}/reveal/{newest(served, ALICE).id}"
    assert newest(served, ALICE).password_state is PasswordState.READY  # a page that is fetched shows nothing
    assert 'class="groups"' in alice.submit(back, "reveal").body


def test_five_minutes_after_the_sign_in_it_is_not_fresh_any_more(served: Served) -> None:
    alice = served.visitor()
    home = alice.sign_in("u-alice")
    served.clock.ahead = timedelta(minutes=5, seconds=2)
    assert alice.submit(home, "reveal", follow=False).header("location").startswith(served.issuer)
    assert newest(served, ALICE).password_state is PasswordState.READY


def test_deliveries_of_others_are_answered_like_unknown_ones(served: Served) -> None:
    alice = served.visitor()
    home = alice.sign_in("u-alice")
    token = home.form("again").fields["token"]
    for action in ("reveal", "again", "confirm"):
        others = alice.request("POST", f"/{action}/{newest(served, BOB).id}", {"token": token, "reason": "phone"})
        unknown = alice.request("POST", f"/{action}/d-01AAAAAAAAAAAAAAAAAAAAAAAA", {"token": token, "reason": "phone"})
        assert others.status == unknown.status == 404
        assert others.body == unknown.body
    assert newest(served, BOB).password_state is PasswordState.READY
    assert served.ledger.requests() == []


def test_a_request_waits_for_an_administrator(served: Served) -> None:
    alice = served.visitor()
    form = alice.submit(alice.sign_in("u-alice"), "again")
    assert "Why do you need another copy?" in form.text
    nothing = alice.submit(form, "again")
    assert nothing.status == 422
    assert "Choose a reason." in nothing.text
    done = alice.submit(form, "again", reason="phone", more="ticket 4711")
    assert "An administrator looks at it" in done.text
    [request] = served.ledger.requests()
    assert (request.state, request.reason, request.by) == (RequestState.OPEN, "I have a new phone: ticket 4711", "portal:u-alice")
    home = alice.get("/")
    assert "An administrator has not decided yet." in home.text
    assert "again" not in {action for each in home.forms for action in each.actions}
    assert newest(served, ALICE).password_state is PasswordState.READY  # nothing is destroyed before the approval


def test_an_automatic_request_is_planned_at_once_with_a_new_password(kit: Kit) -> None:
    served = kit.served(more='requests = "automatic"')
    alice, old = served.visitor(), newest(served, ALICE)
    done = alice.submit(alice.submit(alice.sign_in("u-alice"), "again"), "again", reason="password")
    assert "goes to alice@example.org in a few minutes" in done.text
    new = newest(served, ALICE)
    assert (new.generation, new.state) == (2, State.PLANNED)
    assert [each.password_state for each in served.ledger.deliveries(DeliveryFilter(ids=frozenset({old.id})))] == [PasswordState.DESTROYED]
    assert "Being prepared" in alice.get("/").text


def test_the_fourth_request_of_a_month_names_the_day_from_which_it_works_again(served: Served) -> None:
    alice = served.visitor()
    home = alice.sign_in("u-alice")
    for _ in range(3):
        assert alice.submit(home, "again", reason="phone").status == 200
        [request] = served.ledger.requests([RequestState.OPEN])
        served.ledger.acting_as("helpdesk").decide(request.id, "not now", approve=False)
    refused = alice.submit(home, "again", reason="phone")
    assert refused.status == 429
    assert re.search(r"You can ask again from [A-Z][a-z]+ \d+, \d{4}\.", refused.text)
    assert "It was denied: not now" in alice.get("/").text


def test_somebody_confirms_that_it_works(served: Served) -> None:
    alice, delivery = served.visitor(), newest(served, ALICE)
    done = alice.submit(alice.sign_in("u-alice"), f"/confirm/{delivery.id}")
    assert "We noted that your certificate works." in done.text
    last = list(served.ledger.history(ALICE))[-1]
    assert (last.event, last.by, last.evidence["proved"]) == ("installed", "portal:u-alice", False)
    assert newest(served, ALICE).response == "confirmed in the portal, not proved"


def test_the_language_is_that_of_the_messages_and_can_be_changed(served: Served) -> None:
    bob = served.visitor(language="en-GB,en;q=0.9")
    home = bob.sign_in("u-bob")
    assert "Meine Zertifikate" in home.text
    french = bob.submit(home, "/language", language="fr")
    assert "Mes certificats" in french.text
    assert "Mes certificats" in bob.get("/").text
    assert "Meine" not in served.visitor(language="it, de;q=0.5").get("/").text
    assert "Accedi" in served.visitor(language="it, de;q=0.5").get("/").text


@pytest.mark.parametrize(("agent", "opened"), [("iPhone; CPU iPhone OS 18_0", 0), ("Linux; Android 15; Pixel 9", 1), ("X11; Linux", 0)])
def test_the_steps_of_the_visitors_phone_are_open_and_the_others_offered(served: Served, agent: str, opened: int) -> None:
    page = served.visitor(agent=agent).sign_in("u-alice")
    found = re.findall(r"<details( open)?>\s*<summary>([^<]+)", page.body)
    assert [name for _, name in found] == ["iPhone and iPad", "Android"]
    assert [bool(is_open) for is_open, _ in found] == [opened == 0, opened == 1]


def test_an_expired_certificate_is_for_old_mail(served: Served) -> None:
    served.clock.ahead = timedelta(days=800)
    page = served.visitor().sign_in("u-alice")
    assert "Certificates for old mail" in page.text
    assert "Expired on" in page.text
    assert {action for form in page.forms for action in form.actions} == {"sign-out"}


def test_who_is_served_by_intune_is_told_so(served: Served) -> None:
    request = replace(draft("carol"), way=Way.INTUNE)
    served.ledger.begin_plan("intune", {})
    served.ledger.plan("intune", [request])
    page = served.visitor().sign_in("u-carol")
    assert "Die Geräteverwaltung Ihrer Organisation installiert Ihr Zertifikat" in page.text
    assert "Noch kein Zertifikat" not in page.text


def test_an_old_key_for_old_mail_has_its_password() -> None:
    found = {}
    for series in ("", "1/2"):
        delivery = replace(DELIVERY, series=series)
        found[series] = words(PersonalDelivery(delivery, None, None, expired=True))
    assert (found[""].reveal, found["1/2"].reveal, found["1/2"].confirm) == (False, True, False)


def test_a_host_without_the_vaults_key_shows_no_password(kit: Kit) -> None:
    served = kit.served(identity=False)
    alice = served.visitor()
    home = alice.sign_in("u-alice")
    assert "Your helpdesk tells you the password." in alice.get(f"/reveal/{newest(served, ALICE).id}").text
    assert alice.submit(home, "reveal").status == 409
    assert newest(served, ALICE).password_state is PasswordState.READY


def test_fetching_every_link_changes_nothing(served: Served) -> None:
    """A scanner of links, with the cookies of each account, by GET and HEAD."""
    before = served.ledger.position()
    bound: int | None = None
    for login in ("u-alice", "u-admin", "u-helpdesk", "u-audit"):
        visitor = served.visitor()
        home = visitor.sign_in(login)
        bound = served.ledger.position() if login == "u-alice" else bound
        seen, waiting = set(), [home]
        while waiting:
            page = waiting.pop()
            links = {link for link in page.links if link.startswith("/")} | {form.action for form in page.forms}
            for link in sorted(links - seen - {"/sign-out"}):
                seen.add(link)
                assert visitor.request("HEAD", link, follow=False).body == ""
                waiting.append(visitor.get(link))
        for person in (ALICE, BOB):
            visitor.get(f"/admin/person?address={person}")
            visitor.get(f"/helpdesk/person?address={person}")
    assert bound == before + 1  # of the sign-in
    assert served.ledger.position() == bound
