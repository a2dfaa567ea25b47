"""Passwords that leave by letter or by mail: handed over together or not at all, taken back only where nothing was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from distributor.errors import InvalidInput, RequestDenied
from distributor.model.channels import LettersFile, PasswordMail, PasswordTo, ReadyPassword
from distributor.model.delivery import Delivery
from distributor.model.people import Address
from distributor.model.states import PasswordState, State
from tests.ledger.world import ME, World, draft, packed

MAIL = PasswordMail("anna@home.example", PasswordTo.ALTERNATE_EMAIL, "<m1@example.org>")


def accepted(world: World, channel: str, *names: str) -> list[str]:
    """Accepted deliveries of people with another mailbox, whose passwords go this way."""
    ids = []
    for name in names:
        asked = draft(name)
        person = replace(asked.person, alternate_email=f"{name}@home.example", manager="boss@example.org")
        (found,) = world.ledger.plan("plan-1", [replace(asked, person=person)])
        assert isinstance(found, Delivery)
        sealed = f"sealed password of {found.id}, which is long enough to be found".encode()
        world.ledger.enqueue([replace(packed(found.id, to=found.address), channel=channel, sealed=sealed)], ME)
        claim = world.claim()
        assert world.arm(claim)
        assert world.settle(claim, State.ACCEPTED)
        ids.append(found.id)
    return ids


def letters(ready: Sequence[ReadyPassword], digest: str = "ab" * 32) -> LettersFile:
    return LettersFile(digest, "/out/letters.pdf", "/out/.letters.part", len(ready))


def states(world: World, name: str) -> list[PasswordState]:
    return [envelope.state for envelope in world.ledger.envelopes(f"{name}@example.org")]


def test_only_the_channel_s_own_ready_passwords_are_listed(world: World) -> None:
    world.accepted("zoe")
    ids = accepted(world, "letter", "bert", "anna")
    held = world.queue("cleo")
    found = world.ledger.ready_passwords("letter")
    assert [one.address for one in found] == ["anna@example.org", "bert@example.org"]
    assert {one.delivery for one in found} == set(ids)
    assert not {one.delivery for one in found} & set(held)
    assert (found[0].sender, found[0].sent_at) == ("certs@example.org", world.clock.now)
    assert [one.address for one in world.ledger.ready_passwords("letter", "plan-1")] == ["anna@example.org", "bert@example.org"]
    assert world.ledger.ready_passwords("letter", "plan-2") == []
    world.clock.forward(days=14)
    assert world.ledger.ready_passwords("letter") == []


def test_letters_are_handed_over_together_and_the_file_is_known_until_it_is_finished(world: World) -> None:
    accepted(world, "letter", "anna", "bert")
    ready = world.ledger.ready_passwords("letter")
    world.ledger.hand_over_letters(ready, letters(ready), "printed")
    assert [states(world, name) for name in ("anna", "bert")] == [[PasswordState.HANDED_OVER]] * 2
    assert [envelope.sealed for envelope in world.ledger.envelopes("anna@example.org")] == [None]
    *_, last = world.ledger.history("bert@example.org")
    assert (last.event, last.evidence["channel"], last.evidence["document_sha256"]) == ("revealed", "letter", "ab" * 32)
    (unfinished,) = world.ledger.unfinished_letters()
    assert (unfinished.path, unfinished.part, unfinished.letters, unfinished.by) == (
        "/out/letters.pdf",
        "/out/.letters.part",
        2,
        "root@host",
    )
    world.ledger.finish_letters(unfinished, "written")
    assert world.ledger.unfinished_letters() == []
    assert world.ledger.ready_passwords("letter") == []


def test_where_one_password_is_not_ready_any_more_none_is_handed_over(world: World) -> None:
    first, _ = accepted(world, "letter", "anna", "bert")
    ready = world.ledger.ready_passwords("letter")
    world.another().hand_over(first, "she phoned", "reveal")
    with pytest.raises(RequestDenied, match="handed over on"):
        world.ledger.hand_over_letters(ready, letters(ready), "printed")
    assert states(world, "bert") == [PasswordState.READY]
    assert world.ledger.unfinished_letters() == []


def test_a_password_sealed_anew_since_it_was_opened_is_not_handed_over(world: World) -> None:
    accepted(world, "letter", "anna")
    (ready,) = world.ledger.ready_passwords("letter")
    with pytest.raises(RequestDenied, match="changed meanwhile"):
        world.ledger.hand_over_letters([replace(ready, sealed=b"another")], letters([ready]), "printed")
    assert states(world, "anna") == [PasswordState.READY]


@pytest.mark.parametrize("change", ["UPDATE person SET name = 'Mallory'", "UPDATE person SET alternate_email = 'mallory@home.example'"])
def test_a_person_changed_from_outside_gets_no_password(world: World, change: str) -> None:
    accepted(world, "letter", "anna")
    world.sql(change)
    world.spoiled = True
    ready = world.ledger.ready_passwords("letter")
    with pytest.raises(InvalidInput, match="modified outside distributor"):
        world.ledger.hand_over_letters(ready, letters(ready), "printed")
    assert states(world, "anna") == [PasswordState.READY]


def test_a_password_by_mail_is_handed_over_before_and_its_answer_noted_after(world: World) -> None:
    (id_,) = accepted(world, "mail", "anna")
    (ready,) = world.ledger.ready_passwords("mail")
    world.ledger.hand_over_mail(ready, MAIL, "sent")
    world.ledger.note_password_mail(id_, "accepted", "250 queued")
    revealed, noted = list(world.ledger.history("anna@example.org"))[-2:]
    assert (revealed.evidence["channel"], revealed.evidence["message_id"], revealed.evidence["recipient"]) == (
        "mail",
        "<m1@example.org>",
        "anna@home.example",
    )
    assert (noted.event, noted.evidence["outcome"], noted.evidence["said"]) == ("password-mailed", "accepted", "250 queued")
    assert not world.ledger.take_back_mail(ready, "too late")
    assert states(world, "anna") == [PasswordState.HANDED_OVER]


def test_a_roster_that_names_another_mailbox_by_now_stops_the_hand_over(world: World) -> None:
    accepted(world, "mail", "anna")
    (ready,) = world.ledger.ready_passwords("mail")
    asked = draft("anna", certificate="second")
    world.ledger.plan("plan-1", [replace(asked, person=replace(asked.person, alternate_email="new@home.example"))])
    with pytest.raises(RequestDenied, match="alternate_email has changed meanwhile"):
        world.ledger.hand_over_mail(ready, MAIL, "sent")
    assert states(world, "anna") == [PasswordState.READY]


def test_a_password_whose_message_was_not_sent_is_ready_again_with_the_same_bytes(world: World) -> None:
    accepted(world, "mail", "anna")
    (ready,) = world.ledger.ready_passwords("mail")
    world.ledger.hand_over_mail(ready, MAIL, "sent")
    assert world.ledger.take_back_mail(ready, "550 no such mailbox")
    assert world.ledger.ready_passwords("mail") == [ready]
    assert world.events()[-2:] == ["revealed", "password-ready"]
    world.ledger.hand_over_mail(ready, MAIL, "sent again")
    assert states(world, "anna") == [PasswordState.HANDED_OVER]


def test_a_password_that_was_replaced_meanwhile_is_not_taken_back(world: World) -> None:
    (id_,) = accepted(world, "mail", "anna")
    (ready,) = world.ledger.ready_passwords("mail")
    world.ledger.hand_over_mail(ready, MAIL, "sent")
    world.clock.forward(seconds=1)
    world.ledger.regenerate(id_, "lost")
    assert not world.ledger.take_back_mail(ready, "550 no such mailbox")
    assert states(world, "anna")[-1] is PasswordState.HANDED_OVER


def test_a_password_that_the_helpdesk_revealed_is_not_taken_back(world: World) -> None:
    (id_,) = accepted(world, "mail", "anna")
    (ready,) = world.ledger.ready_passwords("mail")
    world.ledger.hand_over(id_, "she phoned", "reveal")
    assert not world.ledger.take_back_mail(ready, "550 no such mailbox")


def test_handed_over_passwords_leave_no_trace_in_file_and_log(file_world: World) -> None:
    accepted(file_world, "letter", "anna", "bert")
    ready = file_world.ledger.ready_passwords("letter")
    folder = Path(file_world.url.partition(":///")[2]).parent

    def traces() -> set[str]:
        return {path.name for path in folder.iterdir() for one in ready if one.sealed in path.read_bytes()}

    assert traces() != set()
    file_world.ledger.hand_over_letters(ready, letters(ready), "printed")
    assert traces() == set()


def test_the_person_in_a_ready_password_is_the_ledger_s(world: World) -> None:
    accepted(world, "mail", "anna")
    (ready,) = world.ledger.ready_passwords("mail")
    assert (ready.name, ready.language, ready.columns) == ("anna Example", "de", {"room": "12"})
    assert ready.second_address(PasswordTo.ALTERNATE_EMAIL) == "anna@home.example"
    assert ready.second_address(PasswordTo.MANAGER) == "boss@example.org"
    assert Address("anna", "example.org").key == ready.address


def test_a_hand_over_to_a_message_that_nobody_answered_is_found(world: World) -> None:
    (anna, bert) = accepted(world, "mail", "anna", "bert")
    for one in world.ledger.ready_passwords("mail"):
        world.ledger.hand_over_mail(one, MAIL, "sent")
    world.ledger.note_password_mail(bert, "accepted", "250 queued")
    assert world.ledger.unanswered_mails(world.clock.now) == []
    world.clock.forward(minutes=30)
    assert world.ledger.unanswered_mails(world.clock.now) == [(anna, "anna@example.org")]
    world.ledger.note_password_mail(anna, "ambiguous", "killed")
    assert world.ledger.unanswered_mails(world.clock.now) == []


def test_a_password_that_the_helpdesk_revealed_waits_for_no_answer(world: World) -> None:
    (anna,) = accepted(world, "mail", "anna")
    world.ledger.hand_over(anna, "she phoned", "reveal")
    world.clock.forward(minutes=30)
    assert world.ledger.unanswered_mails(world.clock.now) == []
