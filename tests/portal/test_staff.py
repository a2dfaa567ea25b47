"""What administrator, helpdesk and auditor can do, and what each cannot."""

from __future__ import annotations

import json

import pytest

from distributor.errors import UsageError
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.requests import RequestLimits
from distributor.model.states import PasswordState, RequestState, State
from distributor.workflows import audit
from tests.portal.conftest import Kit, Served

ALICE, BOB = "alice@example.org", "bob@example.org"


def of(served: Served, address: str) -> list[Delivery]:
    return list(served.ledger.deliveries(DeliveryFilter(addresses=frozenset({address}))))


def request(served: Served, address: str, by: str = "portal:u-alice") -> str:
    served.visitor().sign_in("u-alice")  # which binds
    return served.ledger.acting_as(by).ask(of(served, address)[-1].id, "new phone", limits=RequestLimits()).id


# --- administrator ---------------------------------------------------------------------------------------------------


def test_the_overview_counts_and_draws(served: Served) -> None:
    page = served.visitor().sign_in("u-admin")
    assert page.url == f"{served.url}/admin"
    assert "accepted 2" in page.text
    assert page.body.count('<rect class="accepted"') == 1
    assert "2 accepted" in page.body


def test_an_approved_request_is_planned_as_a_new_generation(served: Served) -> None:
    request(served, ALICE)
    admin = served.visitor()
    admin.sign_in("u-admin")
    queue = admin.get("/admin/requests")
    assert "new phone" in queue.text
    done = admin.submit(queue, "approve")
    assert "Approved." in done.text
    old, new = of(served, ALICE)
    assert (new.generation, new.state, old.password_state) == (2, State.PLANNED, PasswordState.DESTROYED)
    [decided] = served.ledger.requests()
    assert (decided.state, decided.decided_by, decided.planned) == (RequestState.APPROVED, "portal:u-admin", new.id)


def test_a_request_is_denied_with_a_reason_only(served: Served) -> None:
    request(served, ALICE)
    admin = served.visitor()
    admin.sign_in("u-admin")
    queue = admin.get("/admin/requests")
    missing = admin.submit(queue, "deny")
    assert missing.status == 422
    assert "Say why; the person reads it." in missing.text
    assert "Denied." in admin.submit(queue, "deny", reason="call us first").text
    [denied] = served.ledger.requests()
    assert (denied.state, denied.answer, denied.decided_by) == (RequestState.DENIED, "call us first", "portal:u-admin")
    assert of(served, ALICE)[-1].password_state is PasswordState.READY


def test_nobody_approves_their_own_request(kit: Kit) -> None:
    served = kit.served(administrators='["u-alice"]')
    alice = served.visitor()
    alice.submit(alice.submit(alice.sign_in("u-alice"), "again"), "again", reason="phone")
    queue = alice.get("/admin/requests")
    assert "This is your own request" in queue.text
    assert "approve" not in {action for form in queue.forms for action in form.actions}
    [asked] = served.ledger.requests()
    token = queue.form("sign-out").fields["token"]
    refused = alice.request("POST", f"/admin/requests/{asked.id}/approve", {"token": token})
    assert refused.status == 409
    assert "the requester cannot approve the request" in refused.text
    assert served.ledger.requests()[0].state is RequestState.OPEN


def test_an_unknown_request_is_not_found(served: Served) -> None:
    admin = served.visitor()
    token = admin.sign_in("u-admin").form("sign-out").fields["token"]
    assert admin.request("POST", "/admin/requests/r-01/approve", {"token": token}).status == 404
    with pytest.raises(UsageError):
        served.ledger.decide("r-01", "", approve=True)


def ambiguous(served: Served) -> Delivery:
    """Bob's second copy was being sent when the connection was lost."""
    config = (served.folder / "distributor.toml").read_text(encoding="utf-8")
    served.workspace.folder.joinpath("server").mkdir()
    served.workspace.add_faulty_server("DOT:stored-drop:1")
    served.workspace.run('distributor resend bob@example.org --reason "new phone" --yes')
    (served.folder / "distributor.toml").write_text(config, encoding="utf-8")
    found = of(served, BOB)[-1]
    assert found.state is State.AMBIGUOUS
    return found


@pytest.mark.parametrize(("decision", "state"), [("accepted", State.ACCEPTED), ("again", State.QUEUED)])
def test_an_ambiguous_delivery_is_settled_with_a_reason(served: Served, decision: str, state: State) -> None:
    delivery, admin = ambiguous(served), served.visitor()
    admin.sign_in("u-admin")
    page = admin.get("/admin/ambiguous")
    assert delivery.id in page.text
    missing = admin.submit(page, f"/admin/ambiguous/{delivery.id}", decision=decision)
    assert (missing.status, of(served, BOB)[-1].state) == (422, State.AMBIGUOUS)
    done = admin.submit(page, f"/admin/ambiguous/{delivery.id}", decision=decision, reason="the log of mx1")
    assert "Settled:" in done.text
    last = [event for event in served.ledger.history(BOB) if event.event == state][-1]
    assert (of(served, BOB)[-1].state, last.by, last.evidence["reason"]) == (state, "portal:u-admin", "the log of mx1")


def test_a_person_is_found_and_shown_with_their_history(served: Served) -> None:
    admin = served.visitor()
    found = admin.submit(admin.sign_in("u-admin"), "/admin/people", q="ALI")
    assert ALICE in found.text
    assert BOB not in found.text
    person = admin.get(next(link for link in found.links if "alice" in link))
    assert person.text.count("transmitting") == 1
    assert "250 2.0.0 queued" in person.text
    assert admin.get("/admin/person?address=nobody@example.org").status == 404
    assert admin.get("/admin/person?address=").status == 404


def test_an_incident_is_confirmed_first_and_then_says_what_the_ca_needs(served: Served) -> None:
    admin = served.visitor()
    admin.sign_in("u-admin")
    form = admin.get(f"/admin/incident?address={ALICE}")
    assert "This cannot be undone" in form.text
    assert of(served, ALICE)[-1].password_state is PasswordState.READY
    assert admin.submit(form, "/admin/incident").status == 422
    done = admin.submit(form, "/admin/incident", reason="phone stolen")
    delivery = of(served, ALICE)[-1]
    assert f"serial={delivery.certificate_serial}" in done.text
    assert "keyCompromise" in done.text
    assert delivery.password_state is PasswordState.DESTROYED
    assert of(served, BOB)[-1].password_state is PasswordState.READY
    last = [event for event in served.ledger.history(ALICE) if event.event == "incident"]
    assert [event.by for event in last] == ["portal:u-admin"]


# --- helpdesk --------------------------------------------------------------------------------------------------------


def test_the_helpdesk_reveals_a_password_with_a_reason(served: Served) -> None:
    helpdesk = served.visitor()
    start = helpdesk.sign_in("u-helpdesk")
    assert start.url == f"{served.url}/helpdesk"
    found = helpdesk.submit(start, "/helpdesk", q="bob@")
    person = helpdesk.get(next(link for link in found.links if "bob" in link))
    assert helpdesk.submit(person, "reveal").status == 422
    assert of(served, BOB)[-1].password_state is PasswordState.READY
    shown = helpdesk.submit(person, "reveal", reason="called back at her desk phone, ticket 4711")
    assert 'class="groups"' in shown.body
    [event] = [event for event in served.ledger.history(BOB) if event.event == "revealed"]
    assert (event.by, event.evidence["reason"]) == ("portal:u-helpdesk", "called back at her desk phone, ticket 4711")
    assert helpdesk.submit(person, "reveal", reason="again").status == 409
    assert "No password is ready." in helpdesk.get(f"/helpdesk/person?address={BOB}").text


def test_the_helpdesk_needs_a_fresh_sign_in(served: Served) -> None:
    helpdesk = served.visitor()
    helpdesk.sign_in("u-helpdesk", ago=3600)
    person = helpdesk.get(f"/helpdesk/person?address={BOB}")
    asked = helpdesk.submit(person, "reveal", reason="ticket 4711")
    assert "/interaction/" in asked.url
    assert of(served, BOB)[-1].password_state is PasswordState.READY
    back = helpdesk.sign_in("u-helpdesk", page=asked)
    assert BOB in back.text
    assert 'class="groups"' in helpdesk.submit(back, "reveal", reason="ticket 4711").body


def test_the_helpdesk_sees_no_history_and_has_no_other_buttons(served: Served) -> None:
    helpdesk = served.visitor()
    helpdesk.sign_in("u-helpdesk")
    page = helpdesk.get(f"/helpdesk/person?address={ALICE}")
    assert {action for form in page.forms for action in form.actions} == {"sign-out", "reveal"}
    assert "History" not in page.text
    assert "Incident" not in page.text


# --- auditor ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_export_is_whole_and_records_itself(served: Served, form: str) -> None:
    auditor = served.visitor()
    start = auditor.sign_in("u-audit")
    assert start.url == f"{served.url}/audit"
    export = auditor.submit(start, "/audit/export", format=form)
    assert export.header("content-disposition").endswith(f'.{form}"')
    report = audit.prove_export(export.body.splitlines(keepends=True))
    assert (report.findings, report.events) == ((), served.ledger.position())
    if form == "jsonl":
        last = json.loads(export.body.splitlines()[-1])
        assert (last["event"], last["by"], last["evidence"]) == ("exported", "portal:u-audit", {"format": "jsonl"})
    assert served.ledger.prove().findings == ()


def test_an_auditor_reads_histories_and_changes_nothing(served: Served) -> None:
    auditor = served.visitor()
    auditor.sign_in("u-audit")
    page = auditor.get(f"/audit/person?address={ALICE}")
    assert "transmitting" in page.text
    assert {action for form in page.forms for action in form.actions} == {"sign-out"}


def test_everything_that_was_done_in_the_portal_is_proved(served: Served) -> None:
    alice = served.visitor()
    alice.submit(alice.sign_in("u-alice"), "reveal")
    home = alice.get("/")
    alice.submit(home, "again", reason="phone")
    alice.submit(home, f"/confirm/{of(served, ALICE)[-1].id}")
    assert served.ledger.prove().findings == ()
