"""A signed answer proves that a certificate is installed: the very one that was delivered, to the person it was delivered to, once."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from distributor.mail.notices import NoticeRules
from distributor.model.attempts import AttemptResult, RecordIntent, TrackingEvent
from distributor.model.certificates import CertificateInfo, Locator
from distributor.model.delivery import Delivery, DeliveryFilter, DeliveryRequest
from distributor.model.mailboxes import ReceivedMail
from distributor.model.notices import AutomaticReply, CopyRequestNotice, SignedAnswer, Unknown
from distributor.model.people import Address, Person
from distributor.model.ports import Ledger
from distributor.model.states import State
from distributor.pki import certificate
from distributor.workflows.mail_reader import read
from distributor.workflows.notices import MailboxReport, Verdict, take
from distributor.workflows.signed_answers import SAID, record
from distributor.workflows.tracking import StateChange
from tests.authority import Authority, Identity
from tests.smime import attributes, detached, header, opaque, openssl, proved_by_openssl, signed_data, signer_info, text
from tests.workflows import outbox

RULES = NoticeRules(frozenset({outbox.SENDER}), frozenset({"send again"}), "mx.example.org")


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org")


@pytest.fixture(scope="module")
def bob(authority: Authority) -> Identity:
    return authority.issue("bob@example.org")


@pytest.fixture
def ledger(tmp_path: Path, alice: Identity, bob: Identity) -> Iterator[Ledger]:
    """A message to each, accepted a moment ago."""
    found = outbox.new_ledger(tmp_path / "distributor.db")
    found.begin_plan("p", {})
    found.plan("p", [request("alice", alice), request("bob", bob)])
    send(found)
    yield found
    assert found.verify() == []
    found.close()


def request(name: str, identity: Identity) -> DeliveryRequest:
    facts = certificate.info(identity.der)
    assert isinstance(facts, CertificateInfo)
    locator = Locator("pkcs12", (("/nowhere.pfx", None, "0" * 64),))
    return DeliveryRequest(Person(Address(name, "example.org"), name), "en", facts, identity.der, (), locator)


def send(ledger: Ledger, state: State = State.ACCEPTED) -> None:
    """Send everything that is planned, with one result."""
    outbox.pack(ledger)
    owner, lease = outbox.me(), timedelta(minutes=1)
    claims = ledger.claim(owner, 10, lease, DeliveryFilter())
    assert all(ledger.write([RecordIntent(claim, lease) for claim in claims], owner))
    assert all(ledger.write([AttemptResult(claim, state, "250 ok") for claim in claims], owner))


def delivery(ledger: Ledger, name: str = "alice") -> Delivery:
    """The newest of a person."""
    return list(ledger.deliveries(DeliveryFilter(addresses=frozenset({f"{name}@example.org"}))))[-1]


def words(*named: Delivery) -> bytes:
    return text("It works.\r\n" + "".join(f"> Reference: {one.id}\r\n" for one in named))


def received(raw: bytes) -> ReceivedMail:
    return ReceivedMail("1", raw, datetime.now(UTC))


def answer(ledger: Ledger, raw: bytes) -> object:
    """What the workflow makes of a received mail."""
    notice = read(raw, RULES)
    assert isinstance(notice, SignedAnswer), notice
    return record(ledger, notice, received(raw))


def by_hand(identity: Identity, content: bytes, **what: object) -> bytes:
    return detached(content, signed_data([signer_info(identity, attributes(content, **what))], [identity.der]))  # type: ignore[arg-type]


# --- proved ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["detached", "opaque"])
def test_the_first_use_of_the_certificate_proves_that_it_is_installed(ledger: Ledger, alice: Identity, shape: str) -> None:
    one, content = delivery(ledger), words(delivery(ledger))
    raw = detached(content, openssl(alice, content)) if shape == "detached" else opaque(openssl(alice, content, "-nodetach"))
    assert answer(ledger, raw) == [StateChange(one.id, "alice@example.org", State.ACCEPTED, State.INSTALLED, SAID)]
    now = delivery(ledger)
    assert (now.state, now.response) == (State.INSTALLED, SAID)
    assert delivery(ledger, "bob").state is State.ACCEPTED


def test_the_evidence_is_enough_for_an_auditor_who_has_the_certificate(ledger: Ledger, alice: Identity) -> None:
    content = words(delivery(ledger))
    raw = detached(content, openssl(alice, content), header(Message_ID="<alice.1@phone>"))
    answer(ledger, raw)
    event = list(ledger.history("alice@example.org"))[-1]
    proof = base64.b64decode(str(event.evidence["cms"]))
    assert proved_by_openssl(proof, alice, None)
    assert proved_by_openssl(proof, alice, content)
    assert (event.event, event.evidence["kind"], event.evidence["proved"]) == ("installed", "signed-answer", True)
    assert event.evidence["certificate_sha256"] == hashlib.sha256(alice.der).hexdigest()
    assert event.evidence["mail_sha256"] == hashlib.sha256(raw).hexdigest()
    assert event.evidence["answer"] == "<alice.1@phone>"
    assert len(str(event.evidence["signature_sha256"])) == 64
    assert datetime.fromisoformat(str(event.evidence["signed_at"])) <= datetime.now(UTC)
    kept = next(one for one in ledger.records() if one.event.seq == event.seq)
    assert set(kept.personal or ()) == {"answer", "said"}


def test_the_proof_of_a_long_key_is_kept_whole(ledger: Ledger, alice: Identity) -> None:
    content = words(delivery(ledger))
    notice = read(by_hand(alice, content), RULES)
    assert isinstance(notice, SignedAnswer)
    record(ledger, replace(notice, proof="A" * 9000), received(b""))
    assert list(ledger.history("alice@example.org"))[-1].evidence["cms"] == "A" * 9000


def test_read_again_it_changes_nothing_and_no_second_answer_does(ledger: Ledger, alice: Identity) -> None:
    content = words(delivery(ledger))
    first = detached(content, openssl(alice, content))
    assert answer(ledger, first)
    before = ledger.position()
    assert answer(ledger, first) == ()
    assert answer(ledger, first.replace(b"<1@phone>", b"<replayed@elsewhere>")) == ()
    other = words(delivery(ledger)) + b"more\r\n"
    assert answer(ledger, by_hand(alice, other)) == "another signed answer has confirmed it before"
    assert ledger.position() == before


def test_what_was_only_said_in_the_portal_is_proved_afterwards(ledger: Ledger, alice: Identity) -> None:
    one = delivery(ledger)
    ledger.confirm(one.id, {"kind": "portal", "proved": False, "said": "confirmed in the portal, not proved"})
    raw = by_hand(alice, words(one))
    assert answer(ledger, raw) == [StateChange(one.id, "alice@example.org", State.INSTALLED, State.INSTALLED, SAID)]
    assert [event.event for event in ledger.history("alice@example.org")][-2:] == ["installed", "proved"]
    assert (delivery(ledger).state, delivery(ledger).response) == (State.INSTALLED, SAID)
    before = ledger.position()
    assert answer(ledger, raw) == ()
    assert answer(ledger, by_hand(alice, words(one) + b"more\r\n")) == "another signed answer has confirmed it before"
    assert ledger.position() == before
    assert ledger.verify() == []


def test_an_answer_to_a_message_that_is_unclear_proves_that_it_arrived(tmp_path: Path, alice: Identity) -> None:
    ledger = outbox.new_ledger(tmp_path / "unclear.db")
    ledger.begin_plan("p", {})
    ledger.plan("p", [request("alice", alice)])
    send(ledger, State.AMBIGUOUS)
    answer(ledger, by_hand(alice, words(delivery(ledger))))
    assert [event.event for event in ledger.history("alice@example.org")][-3:] == ["ambiguous", "delivered", "installed"]
    assert ledger.verify() == []
    ledger.close()


def test_a_phone_whose_clock_is_a_little_wrong_is_believed(ledger: Ledger, alice: Identity) -> None:
    content = words(delivery(ledger))
    assert isinstance(answer(ledger, by_hand(alice, content, signed_at=datetime.now(UTC) - timedelta(minutes=4))), list)


# --- left alone ------------------------------------------------------------------------------------------------------


def unchanged(ledger: Ledger, raw: bytes) -> object:
    before = ledger.position()
    found = answer(ledger, raw)
    assert ledger.position() == before
    return found


def test_another_certificate_of_the_same_person_proves_nothing(ledger: Ledger, authority: Authority) -> None:
    one, other = delivery(ledger), authority.issue("alice@example.org", days=30)
    assert unchanged(ledger, by_hand(other, words(one))) == f"signed with another certificate than the one of {one.id}"


def test_nobody_confirms_for_somebody_else(ledger: Ledger, alice: Identity, bob: Identity) -> None:
    theirs = delivery(ledger, "bob")
    assert unchanged(ledger, by_hand(alice, words(theirs))) == f"{theirs.id} was sent to another address"
    raw = by_hand(alice, words(theirs)).replace(b"From: alice@", b"From: bob@")
    assert unchanged(ledger, raw) == f"signed with another certificate than the one of {theirs.id}"
    mine = delivery(ledger)
    raw = by_hand(bob, words(mine)).replace(b"From: alice@", b"From: bob@")
    assert unchanged(ledger, raw) == f"{mine.id} was sent to another address"


def test_content_that_was_signed_again_is_the_second_signers(ledger: Ledger, alice: Identity, bob: Identity) -> None:
    content = words(delivery(ledger))
    again = signed_data([signer_info(bob, attributes(content))], [alice.der, bob.der])
    assert unchanged(ledger, detached(content, again)) == f"signed with another certificate than the one of {delivery(ledger).id}"


def test_the_outer_header_names_nothing(ledger: Ledger, alice: Identity) -> None:
    one = delivery(ledger)
    content = text("It works.")
    head = header(Subject=f"Re: {one.id}", In_Reply_To=str(one.message_id), References=str(one.message_id))
    raw = detached(content, openssl(alice, content), head)
    assert unchanged(ledger, raw) == "the signed text names no delivery"


def test_several_deliveries_are_not_chosen_from(ledger: Ledger, alice: Identity) -> None:
    raw = by_hand(alice, words(delivery(ledger), delivery(ledger, "bob")))
    assert unchanged(ledger, raw) == "the signed text names several deliveries"


def test_a_delivery_of_another_ledger_is_unknown(ledger: Ledger, alice: Identity) -> None:
    other = replace(delivery(ledger), id="d-01JX0ABCDEFGHJKMNPQRSTVWXY")
    assert unchanged(ledger, by_hand(alice, words(other))) == "the signed text names no delivery of this ledger"


def test_an_answer_to_an_earlier_copy_does_not_confirm_the_later_one(ledger: Ledger, alice: Identity) -> None:
    first = delivery(ledger)
    ledger.regenerate(first.id, "new phone")
    send(ledger)
    second = delivery(ledger)
    assert (second.generation, second.certificate_sha256) == (2, first.certificate_sha256)
    assert unchanged(ledger, by_hand(alice, words(first))) == f"a later copy replaced {first.id}"
    assert isinstance(answer(ledger, by_hand(alice, words(second))), list)
    assert [one.state for one in ledger.deliveries(DeliveryFilter(addresses=frozenset({"alice@example.org"})))] == ["accepted", "installed"]


@pytest.mark.parametrize(
    ("moved", "why"), [(timedelta(minutes=-6), "before the message was sent"), (timedelta(minutes=61), "after it was")]
)
def test_a_time_that_cannot_be_is_not_believed(ledger: Ledger, alice: Identity, moved: timedelta, why: str) -> None:
    content = words(delivery(ledger))
    found = unchanged(ledger, by_hand(alice, content, signed_at=datetime.now(UTC) + moved))
    assert isinstance(found, str)
    assert why in found


def test_without_a_time_nothing_is_proved(ledger: Ledger, alice: Identity) -> None:
    content = words(delivery(ledger))
    kept = [each for number, each in enumerate(attributes(content)) if number != 1]
    raw = detached(content, signed_data([signer_info(alice, kept)], [alice.der]))
    assert unchanged(ledger, raw) == "the signature has no time"


@pytest.mark.parametrize(
    ("state", "step"), [(State.BOUNCED, "observe"), (State.WITHDRAWN, "withdraw")], ids=["a bounced message", "one that never left"]
)
def test_what_did_not_arrive_is_not_installed(tmp_path: Path, alice: Identity, state: State, step: str) -> None:
    ledger = outbox.new_ledger(tmp_path / "other.db")
    ledger.begin_plan("p", {})
    ledger.plan("p", [request("alice", alice)])
    if step == "withdraw":
        ledger.withdraw(delivery(ledger).id, "left")
    else:
        send(ledger)
        ledger.observe([TrackingEvent(delivery(ledger).id, State.BOUNCED, "550 no such user", {"kind": "report"})])
    assert unchanged(ledger, by_hand(alice, words(delivery(ledger)))) == f"the delivery is {state}"
    ledger.close()


def test_an_answer_that_is_faster_than_the_servers_reply_is_read_again(tmp_path: Path, alice: Identity) -> None:
    ledger, owner, lease = outbox.new_ledger(tmp_path / "other.db"), outbox.me(), timedelta(minutes=1)
    ledger.begin_plan("p", {})
    ledger.plan("p", [request("alice", alice)])
    outbox.pack(ledger)
    (claim,) = ledger.claim(owner, 10, lease, DeliveryFilter())
    assert ledger.write([RecordIntent(claim, lease)], owner)
    raw = by_hand(alice, words(delivery(ledger)))
    notice, report = read(raw, RULES), MailboxReport()
    assert isinstance(notice, SignedAnswer)
    assert (take(ledger, received(raw), notice, report), report.left) == (Verdict.LATER, [])
    assert ledger.write([AttemptResult(claim, State.ACCEPTED, "250 ok")], owner)
    assert (take(ledger, received(raw), notice, report), delivery(ledger).state) == (Verdict.HANDLED, State.INSTALLED)
    ledger.close()


def test_a_changed_byte_and_a_part_of_a_mail_are_not_valid(ledger: Ledger, alice: Identity) -> None:
    content = words(delivery(ledger))
    good = by_hand(alice, content)
    assert unchanged(ledger, good.replace(b"It works.", b"it works.")) == "the signature is not valid: the content was changed"
    cut = good[: good.index(b"--=_b1\r\nContent-Type: application")]
    assert str(unchanged(ledger, cut)).startswith("the signature is not valid: ")
    outer = b'\r\nContent-Type: multipart/mixed; boundary="outer"\r\n\r\n--outer\r\n'
    body = good[good.index(b"Content-Type: multipart/signed") :]
    footer = b"\r\n--outer\r\nContent-Type: text/plain\r\n\r\nsent through a list\r\n--outer--\r\n"
    raw = "\r\n".join(header()).encode() + outer + body + footer
    assert unchanged(ledger, raw) == "the signature is not valid: only a part of the mail is signed"


# --- what a signed mail may be besides -------------------------------------------------------------------------------


def test_a_signed_mail_that_asks_for_another_copy_is_a_request(ledger: Ledger, alice: Identity) -> None:
    content = text(f"Send again\r\n> Reference: {delivery(ledger).id}")
    notice = read(detached(content, openssl(alice, content), header(In_Reply_To=str(delivery(ledger).message_id))), RULES)
    assert isinstance(notice, CopyRequestNotice)


def test_a_signed_mail_that_a_program_wrote_is_no_answer(ledger: Ledger, alice: Identity) -> None:
    content = words(delivery(ledger))
    raw = detached(content, openssl(alice, content), [*header(), "Auto-Submitted: auto-replied"])
    assert isinstance(read(raw, RULES), AutomaticReply)


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"Content-Type: application/pkcs7-mime\r\n\r\n", b"From: a@example.org\r\n\r\nhello"])
def test_no_mail_makes_the_reader_fail(raw: bytes) -> None:
    notice = read(raw, RULES)
    assert isinstance(notice, Unknown) or (isinstance(notice, SignedAnswer) and not notice.valid)
