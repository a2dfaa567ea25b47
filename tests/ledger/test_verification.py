"""Somebody edits a delivery, its person, certificate, password or message; `verify` says which field of which delivery it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from distributor.errors import InvalidInput
from distributor.ledger.opening import open_database
from distributor.ledger.transaction import Clock, NewEvent, write_transaction
from distributor.model.attempts import DraftRef, RecordIntent
from distributor.model.audit_log import ERASED
from distributor.model.certificates import CertificateInfo, Locator
from distributor.model.delivery import ExistingDelivery, Taken
from distributor.model.people import Address
from distributor.model.states import State
from distributor.pki import certificate
from tests.authority import Authority
from tests.ledger.world import ME, World, draft, found, packed, spelled


@dataclass
class Four:
    """Anna's password was revealed, Bert's is ready, Cleo's message waits, Dora is planned."""

    world: World
    ids: dict[str, str]

    def found(self, *statements: str) -> list[str]:
        return found(self.world, *(statement.format(**self.ids) for statement in statements))

    def says(self, name: str, words: str) -> str:
        return f"delivery {self.ids[name]}: {words}"


@pytest.fixture
def four(world: World) -> Four:
    ids = {"anna": world.accepted("anna"), "bert": world.accepted("bert")}
    world.ledger.hand_over(ids["anna"], "she phoned", "reveal")
    ids["cleo"] = world.queue("cleo")[0]
    ids["dora"] = world.plan("dora")[0].id
    assert world.ledger.verify() == []
    return Four(world, ids)


PASSWORDS = [
    ("anna", "state = 'ready'", """password's state is "ready", but the audit log says "handed-over\""""),
    ("anna", "closed_by = 'eve'", """password's closed_by is "eve", but the audit log says "root@host\""""),
    ("anna", "closed_at = NULL", """password's closed_at is empty, but the audit log says "2026-11-24T09:00:00.000000Z\""""),
    ("bert", "state = 'destroyed', sealed = NULL", """password's state is "destroyed", but the audit log says "ready\""""),
    ("bert", "sealed = NULL", """sealed password is missing, but the audit log says it is "ready\""""),
    ("bert", "channel = 'mail'", """password's channel is "mail", but the audit log says "reveal\""""),
    ("bert", "expires_at = NULL", """password's expires_at is empty, but the audit log says "2026-12-08T09:00:00.000000Z\""""),
    ("cleo", "state = 'ready'", """password's state is "ready", but the audit log says "held\""""),
]


@pytest.mark.parametrize(("who", "change", "words"), PASSWORDS, ids=lambda text: text.split(",")[0])
def test_a_password_that_was_edited_is_found(four: Four, who: str, change: str, words: str) -> None:
    findings = four.found(f"UPDATE handover SET {change} WHERE delivery = '{{{who}}}'")  # noqa: S608  tampering is the point
    assert findings[0] == four.says(who, words)


def test_a_password_that_was_removed_or_invented_is_found(four: Four) -> None:
    findings = four.found(
        "DELETE FROM handover WHERE delivery = '{bert}'",
        "INSERT INTO handover (delivery, state, channel) VALUES ('{dora}', 'destroyed', 'reveal')",
    )
    assert findings == [
        four.says("bert", 'has no password, but the audit log says it is "ready"'),
        four.says("dora", "has a password, but the audit log has none"),
    ]


DELIVERIES = [
    ("said", "'250 nice'", '"250 ok"'),
    ("message_id", "NULL", '"<{bert}@example.org>"'),
    ("package_sha256", "'00'", '"'),
    ("profile", "'strong'", '"phone"'),
    ("attempt", "7", "1"),
    ("deferrals", "7", "0"),
    ("generation", "7", "1"),
    ("language", "'fr'", '"de"'),
    ("updated_at", "'2020-01-01T00:00:00.000000Z'", '"2026-11-24T09:00:00.000000Z"'),
    ("armed_at", "'2020-01-01T00:00:00.000000Z'", "empty"),
    ("not_before", "'2020-01-01T00:00:00.000000Z'", "empty"),
    ("owner", "'me'", "empty"),
    ("plan", "'plan-2'", '"plan-1"'),
    ("certificate", "(SELECT certificate FROM delivery WHERE id = '{dora}')", f'"{draft("bert").facts.sha256}"'),
]


@pytest.mark.parametrize(("column", "value", "wanted"), DELIVERIES, ids=[column for column, *_ in DELIVERIES])
def test_a_delivery_that_was_edited_is_found(four: Four, column: str, value: str, wanted: str) -> None:
    four.world.ledger.begin_plan("plan-2", {})
    findings = four.found(f"UPDATE delivery SET {column} = {value} WHERE id = '{{bert}}'")  # noqa: S608  tampering is the point
    assert findings[0].startswith(four.says("bert", f"{column} is "))
    assert f"but the audit log says {wanted.format(**four.ids)}" in findings[0]
    assert all("None" not in line for line in findings)


def test_a_delivery_given_to_another_person_is_found(four: Four) -> None:
    ((bert,),) = four.world.sql("SELECT id FROM person WHERE key = 'bert@example.org'")
    findings = four.found("UPDATE delivery SET person = (SELECT id FROM person WHERE key = 'anna@example.org') WHERE id = '{bert}'")
    assert findings == [
        four.says("bert", """person's address is "anna@example.org", but the audit log says "bert@example.org\""""),
        f"person {bert}: has no delivery and no event",
    ]


def test_a_person_who_was_invented_is_found(four: Four) -> None:
    findings = four.found(
        "INSERT INTO person SELECT 'p-eve', 'eve@evil.example', 'eve@evil.example', "
        "name, language, phone, manager, alternate_email, columns FROM person WHERE key = 'bert@example.org'"
    )
    assert findings == ["person p-eve: has no delivery and no event"]


def test_people_of_whom_nothing_new_is_planned_leave_nothing(four: Four) -> None:
    """Known, and planned for somebody else: a plan that plans nothing keeps no person without a delivery."""
    known = draft("anna")
    taken = replace(known, person=replace(known.person, address=Address("stranger", "example.org")))
    assert [type(one) for one in four.world.ledger.plan("plan-1", [known, taken])] == [ExistingDelivery, Taken]
    assert four.world.ledger.verify() == []


OWNERS = [
    ("host = 'elsewhere'", 'host is "elsewhere", but its claims say "this-host"'),
    ("pid = 1", "pid is 1, but its claims say 4711"),
    ("started = '1'", f'started is "1", but its claims say "{ME.started}"'),
]


@pytest.mark.parametrize(("change", "words"), OWNERS, ids=["host", "pid", "started"])
def test_a_process_that_no_delivery_names_any_more_cannot_be_renamed_unseen(four: Four, change: str, words: str) -> None:
    assert four.world.sql("SELECT count(*) FROM delivery WHERE owner IS NOT NULL") == [(0,)]
    assert four.found(f"UPDATE owner SET {change}") == [f"owner me: {words}"]  # noqa: S608  tampering is the point


def test_a_process_that_claimed_cannot_vanish_unseen(four: Four) -> None:
    assert four.found("DELETE FROM owner") == ["owner me: has claims but is missing"]


def test_an_address_that_was_edited_is_found_but_not_one_that_a_later_roster_spells_otherwise(four: Four) -> None:
    four.world.ledger.plan("plan-1", [spelled("bert", "Bert")])
    assert four.world.sql("SELECT address FROM person WHERE key = 'bert@example.org'") == [("Bert@example.org",)]
    assert four.world.ledger.verify() == []
    findings = four.found("UPDATE person SET address = 'eve@example.org' WHERE key = 'bert@example.org'")
    assert findings[0] == four.says("bert", """person's address is "eve@example.org", but the audit log says "bert@example.org\"""")
    findings = four.found("UPDATE person SET key = 'eve@example.org' WHERE key = 'bert@example.org'")
    assert len(findings) == 1


@pytest.mark.parametrize("column", ["serial", "issuer", "not_after"])
def test_a_certificate_that_was_edited_is_found_at_its_delivery(four: Four, column: str) -> None:
    findings = four.found(
        f"UPDATE certificate SET {column} = 'x' WHERE sha256 = (SELECT certificate FROM delivery WHERE id = '{{bert}}')"  # noqa: S608
    )
    assert len(findings) == 1
    assert findings[0].startswith(four.says("bert", f"""certificate's {column} is "x", but the audit log says \""""))


OUTBOX_FIELDS = [
    ("address", "'evil@evil.example'", """outbox address is "evil@evil.example", but the audit log says "cleo@example.org\""""),
    ("sender", "'evil@evil.example'", """outbox sender is "evil@evil.example", but the audit log says "certs@example.org\""""),
    ("message_id", "'<x@y>'", """outbox message_id is "<x@y>", but the audit log says "<{cleo}@example.org>\""""),
    ("message", "(SELECT message FROM outbox WHERE delivery = '{bert}')", "outbox message does not match the audit log"),
]


@pytest.mark.parametrize(("column", "value", "words"), OUTBOX_FIELDS, ids=[column for column, *_ in OUTBOX_FIELDS])
def test_a_waiting_message_that_was_edited_is_found(four: Four, column: str, value: str, words: str) -> None:
    findings = four.found(f"UPDATE outbox SET {column} = {value} WHERE delivery = '{{cleo}}'")  # noqa: S608  tampering is the point
    assert findings == [four.says("cleo", words.format(**four.ids))]


def test_a_waiting_message_that_was_removed_is_found_and_one_that_left_long_ago_is_not_missed(four: Four) -> None:
    findings = four.found("DELETE FROM outbox")
    assert findings == [four.says("cleo", "has no message in the outbox, but the audit log has one")]


def test_a_message_frozen_for_another_than_was_planned_is_found(four: Four) -> None:
    four.world.sql("UPDATE person SET address = 'eve@example.org' WHERE key = 'dora@example.org'")
    four.world.ledger.enqueue([packed(four.ids["dora"], to="eve@example.org")], ME)
    findings = four.found("UPDATE person SET address = 'dora@example.org' WHERE key = 'dora@example.org'")
    assert findings == [four.says("dora", 'was planned for "dora@example.org", but its message is for "eve@example.org"')]


def test_a_process_that_holds_a_message_cannot_be_renamed_unseen(world: World) -> None:
    world.claimed()
    assert found(world, "UPDATE owner SET pid = 1") == ["owner me: pid is 1, but its claims say 4711"]


def test_the_bytes_of_a_certificate_and_of_an_authority_are_compared_with_their_hashes(world: World) -> None:
    world.plan("anna")
    sha = draft("anna").facts.sha256
    one, other = [str(row[0]) for row in world.sql("SELECT sha256 FROM authority ORDER BY sha256")]
    findings = found(
        world,
        f"UPDATE certificate SET der = (SELECT der FROM authority WHERE sha256 = '{one}')",  # noqa: S608  tampering is the point
        f"UPDATE authority SET der = (SELECT der FROM authority WHERE sha256 = '{one}')",  # noqa: S608
    )
    assert findings == [
        f"certificate {sha}: does not match its SHA-256",
        f"CA certificate {other}: does not match its SHA-256",
    ]


def test_a_certificate_s_columns_are_compared_with_its_bytes(world: World, authority: Authority) -> None:
    issued = authority.issue("anna@example.org", name="Anna").der
    info = certificate.info(issued)
    assert isinstance(info, CertificateInfo)
    planned = replace(draft("anna"), facts=info, leaf=issued)
    world.ledger.plan("plan-1", [planned])
    assert world.ledger.verify() == []
    findings = found(world, "UPDATE certificate SET subject = 'CN=Eve'")
    assert findings == [f'certificate {planned.facts.sha256}: subject is "CN=Eve", but the certificate says "{planned.facts.subject}"']


def erase(world: World, *which: int) -> None:
    """Take the personal fields away, and say so in an event."""
    numbers = ", ".join(map(str, which))
    world.sql(f"UPDATE event SET personal = NULL, salt = NULL WHERE commitment <> '' AND seq IN ({numbers})")  # noqa: S608
    database = open_database(world.url, create=False)
    with write_transaction(database, "root@host", Clock(database, world.clock)) as book:
        book.append([NewEvent(None, ERASED, evidence={"events": list(which)})])
    database.close()


def test_what_erased_events_do_not_tell_is_not_found_but_counted(four: Four) -> None:
    erase(four.world, *range(1, 15))
    assert four.found("UPDATE delivery SET said = 'x' WHERE id = '{bert}'", "UPDATE person SET phone = '1'") == []
    proof = four.world.ledger.prove()
    assert (proof.erased, proof.events, proof.deliveries) == (10, 15, 4)


def test_an_erasure_that_no_event_explains_is_found(four: Four) -> None:
    erase(four.world, 1, 2)
    assert four.world.ledger.verify() == []
    findings = four.found("UPDATE event SET personal = NULL, salt = NULL WHERE seq = 6")
    assert findings == ["event 6: its personal fields are missing, but no event records their erasure"]


# --- passwords, people, publications ---------------------------------------------------------------------------------


def test_passwords_that_changed_places_are_found_and_not_shown(four: Four) -> None:
    findings = four.found(
        "UPDATE handover SET sealed = (SELECT sealed FROM handover WHERE delivery = '{cleo}') WHERE delivery = '{bert}'",
    )
    assert findings == [four.says("bert", "password's sealed does not match the audit log")]
    with pytest.raises(InvalidInput, match=r"modified outside distributor \(password's sealed\); this password is not shown"):
        four.world.ledger.hand_over(four.ids["bert"], "he phoned", "reveal")


TEN_YEARS = [
    ("lasts = 315360000", "password's lasts is 315360000, but the audit log says 1209600"),
    ("lasts = NULL", "password's lasts is empty, but the audit log says 1209600"),
    ("expires_at = '2036-11-24T09:00:00.000000Z'", "password's expires_at is"),
    ("lasts = 315360000, expires_at = '2036-11-21T09:00:00.000000Z'", "password's lasts is 315360000, but the audit log says 1209600"),
]


@pytest.mark.parametrize(("change", "words"), TEN_YEARS, ids=[change for change, _ in TEN_YEARS])
def test_a_password_that_was_given_ten_years_is_found_and_not_shown(four: Four, change: str, words: str) -> None:
    findings = four.found(f"UPDATE handover SET {change} WHERE delivery = '{{bert}}'")  # noqa: S608  tampering is the point
    assert findings[0].startswith(four.says("bert", words))
    with pytest.raises(InvalidInput, match="this password is not shown"):
        four.world.ledger.hand_over(four.ids["bert"], "he phoned", "reveal")


def test_a_password_is_not_shown_to_a_person_whom_its_delivery_was_given_to(four: Four) -> None:
    four.world.sql(f"UPDATE delivery SET person = (SELECT id FROM person WHERE key = 'dora@example.org') WHERE id = '{four.ids['bert']}'")  # noqa: S608
    four.world.spoiled = True
    with pytest.raises(InvalidInput, match=r"\(person's address\); this password is not shown"):
        four.world.ledger.hand_over(four.ids["bert"], "she phoned", "reveal")


PERSON = [
    ("name", "'Eve'", '"Eve"', '"bert Example"'),
    ("phone", "'+49 666'", '"+49 666"', '"+49 30 1"'),
    ("manager", "'eve@example.org'", '"eve@example.org"', '"boss@example.org"'),
    ("alternate_email", "'eve@evil.example'", '"eve@evil.example"', '"bert@home.example"'),
    ("language", "'fr'", '"fr"', '"de-AT"'),
    ("columns", "''", "empty", '"sha256:'),
    ("address", "'Bert@example.org'", '"Bert@example.org"', '"bert@example.org"'),
]


@pytest.mark.parametrize(("column", "value", "now", "before"), PERSON, ids=[column for column, *_ in PERSON])
def test_a_person_who_was_edited_is_found(world: World, column: str, value: str, now: str, before: str) -> None:
    known = draft("bert")
    contacts = {"phone": "+49 30 1", "manager": "boss@example.org", "alternate_email": "bert@home.example"}
    world.ledger.plan("plan-1", [replace(known, person=replace(known.person, **contacts))])
    assert world.ledger.verify() == []
    (id_,) = world.sql("SELECT id FROM person")[0]
    (findings,) = found(world, f"UPDATE person SET {column} = {value}")  # noqa: S608  tampering is the point
    assert findings.startswith(f"person {id_}: {column} is {now}, but the audit log says {before}")


def test_what_a_later_roster_says_of_a_person_is_told_by_an_event(world: World) -> None:
    world.accepted("anna")
    world.ledger.plan("plan-1", [draft("anna", title="Anna Newname")])
    assert world.events()[-1] == "person-changed"
    assert world.ledger.verify() == []
    (findings,) = found(world, "UPDATE person SET name = 'anna Example'")
    assert findings.endswith('name is "anna Example", but the audit log says "Anna Newname"')


def test_no_event_holds_a_further_column_or_a_long_value_in_clear(world: World) -> None:
    known = draft("anna")
    columns = {"pin of the door": "4711-4711"}
    world.ledger.plan("plan-1", [replace(known, person=replace(known.person, name="x" * 5000, columns=columns))])
    (personal, evidence) = world.sql("SELECT personal, evidence FROM event")[0]
    assert "4711-4711" not in f"{personal}{evidence}"
    assert "x" * 2001 not in str(personal)
    assert world.ledger.verify() == []


def test_publications_that_were_invented_moved_or_removed_are_found(four: Four) -> None:
    world, sha = four.world, draft("anna").facts.sha256
    world.ledger.note_published(four.ids["anna"], "ldaps://there", "cn=anna")
    world.ledger.note_published(four.ids["bert"], "ldaps://there", "cn=bert")
    world.ledger.note_unpublished(four.ids["bert"], "ldaps://there", "cn=bert")
    assert world.ledger.verify() == []
    findings = four.found(
        "INSERT INTO publication (person, certificate, place, at) SELECT person, certificate, 'ldaps://evil', '' FROM publication",
        "DELETE FROM publication WHERE place = 'ldaps://there'",
    )
    assert findings == [
        f'publication of {sha} at "ldaps://evil": since "", but the audit log says none',
        f'publication of {sha} at "ldaps://there": none, but the audit log says since "2026-11-24T09:00:00.000000Z"',
    ]


PLACES = [
    ("UPDATE delivery SET locator = '{{}}' WHERE id = '{bert}'", "locator does not match the audit log"),
    ("UPDATE plan SET inputs = '{{}}'", "plan's inputs does not match the audit log"),
    (
        "UPDATE certificate SET chain = '[]' WHERE sha256 = (SELECT certificate FROM delivery WHERE id = '{bert}')",
        "certificate's chain does not match the audit log",
    ),
]


@pytest.mark.parametrize(("statement", "words"), PLACES, ids=["locator", "inputs", "chain"])
def test_paths_inputs_and_chains_are_compared_with_what_was_planned(four: Four, statement: str, words: str) -> None:
    assert four.says("bert", words) in four.found(statement)


def test_the_start_of_a_process_that_holds_a_message_is_compared_with_its_claim(world: World) -> None:
    world.claimed()
    findings = found(world, "UPDATE owner SET started = '1'")
    assert findings == [f'''owner me: started is "1", but its claims say "{ME.started}"''']


def test_the_ledger_s_own_note_of_its_end_is_of_the_last_event(four: Four) -> None:
    findings = four.found("UPDATE head SET at = '2099-01-01T00:00:00.000000Z'")
    assert findings == ["event 14: is dated 2026-11-24T09:00:00.000000Z, but the record of the last event says 2099-01-01T00:00:00.000000Z"]


def test_a_proof_names_the_last_event(four: Four) -> None:
    proof = four.world.ledger.prove()
    assert [(proof.events, proof.at, proof.hash)] == four.world.sql("SELECT seq, at, hash FROM head")


def test_findings_are_told_over_several_pages(world: World) -> None:
    world.queue(*(f"p{n}" for n in range(203)))
    assert world.ledger.prove().deliveries == 203
    assert len(found(world, "UPDATE outbox SET sender = 'x'")) == 203


def test_a_delivery_that_went_over_to_a_later_plan_is_what_its_events_tell(world: World) -> None:
    (anna,) = world.plan("anna")
    world.ledger.begin_plan("plan-2", {"sources": ["/elsewhere"]})
    world.ledger.plan("plan-2", [replace(draft("anna"), locator=Locator("pkcs12", (("/elsewhere/anna.pfx", None, "1" * 64),)))])
    assert world.sql("SELECT plan FROM delivery") == [("plan-2",)]
    assert world.ledger.verify() == []
    findings = found(world, "UPDATE delivery SET plan = 'plan-1'")
    assert findings[0] == f'delivery {anna.id}: plan is "plan-1", but the audit log says "plan-2"'
    assert findings[1:] == [f"delivery {anna.id}: plan's inputs does not match the audit log"]


def test_every_way_of_a_message_is_told_by_its_events(world: World) -> None:
    """Deferred, given back, taken by a silent sender, unclear, settled, replaced: each is what it must be at every step."""
    claim = world.armed()
    world.settle(claim, State.DEFERRED, response="", not_before=world.clock.now + timedelta(minutes=5))
    steps = [world.ledger.verify()]
    world.clock.forward(minutes=6)
    claim = world.claim()
    world.ledger.release([claim], ME)
    claim = world.claim()
    handle = DraftRef("draft-1", "<of-a-service@example.org>")
    world.ledger.write([RecordIntent(claim, timedelta(minutes=10), handle)], ME)
    steps.append(world.ledger.verify())
    world.clock.forward(hours=1)
    world.ledger.recover(lambda _: False)
    steps.append(world.ledger.verify())
    world.ledger.resolve(claim.id, State.QUEUED, {"kind": "person", "reason": "not there"})
    assert world.claim().message.delivery == claim.id
    world.clock.forward(hours=1)
    world.ledger.recover(lambda _: False)
    world.ledger.regenerate(claim.id, "lost")
    assert [*steps, world.ledger.verify()] == [[], [], [], []]
