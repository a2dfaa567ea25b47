"""Bounces in words: read where a mail system wrote them, marked as guesses, and not read out of the mails of people."""

from __future__ import annotations

import logging
from html import escape

import pytest

from distributor.mail import bounce_texts
from distributor.mail.notices import NoticeRules, parse
from distributor.model.notices import Action, AutomaticReply, DeliveryReport, RecipientReport, Unknown
from tests.mail.test_reports import of_file

RULES = NoticeRules(frozenset({"certificates@example.org"}), frozenset())
WORDS = of_file("qmail-in-words").partition(b"\r\n\r\n")[2]
QUOTED = b"> The following address failed:\r\n> <bob@example.net>\r\n>\r\n> Message-ID: <d-1@example.org>\r\n"  # found without the marks


def mail(*head: str, body: bytes = WORDS) -> bytes:
    return (
        "".join(f"{line}\r\n" for line in (*head, "To: certificates@example.org", "Message-ID: <x@example.net>")).encode() + b"\r\n" + body
    )


FROM_SYSTEM = "From: MAILER-DAEMON@mail.example.net"
FROM_PERSON = "From: Alice <alice@example.org>"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qmail-in-words", "No mailbox here has that name. (#5.1.1)"),
        ("exim-in-words", "host mx.example.net [192.0.2.4]: 550 5.1.1 no such mailbox"),
    ],
)
def test_a_bounce_in_words_has_recipient_status_words_and_message_id_and_is_marked_as_a_guess(name: str, words: str) -> None:
    found = parse(of_file(name), RULES)
    assert isinstance(found, DeliveryReport)
    assert found.recipients == (RecipientReport("bob@example.net", Action.FAILED, "5.1.1", words),)
    assert (found.about.returned, found.machine_readable) == (("<d-1@example.org>",), False)


@pytest.mark.parametrize(
    "head",
    [
        [FROM_SYSTEM],
        ["From: Postmaster <>"],
        ["From: Mail Delivery System <x@example.net>"],
        [FROM_PERSON, "Return-Path: <>"],
        [FROM_PERSON, "Return-Path: <MAILER-DAEMON@mail.example.net>"],
        [FROM_SYSTEM, "Auto-Submitted: auto-replied"],
        ["From: gateway@example.net", "Subject: Undeliverable: your certificate"],
        ["From: gateway@example.net", "Subject: =?utf-8?q?Delivery_failure?="],
    ],
)
def test_what_a_mail_system_writes_is_read(head: list[str]) -> None:
    assert isinstance(parse(mail(*head), RULES), DeliveryReport)


@pytest.mark.parametrize(
    ("head", "body", "notice"),
    [
        ([FROM_PERSON], WORDS, Unknown("asks for nothing that is known")),
        ([FROM_PERSON, "Subject: Re: Undeliverable: your certificate"], WORDS, Unknown("asks for nothing that is known")),
        ([FROM_PERSON, "Subject: Undeliverable", "Auto-Submitted: auto-replied"], WORDS, AutomaticReply("Auto-Submitted")),
        ([FROM_PERSON, "Return-Path: <>", "Auto-Submitted: auto-replied"], WORDS, AutomaticReply("Return-Path")),
        ([FROM_PERSON, "Return-Path: <>", "X-Auto-Response-Suppress: All"], WORDS, AutomaticReply("Return-Path")),
        ([FROM_PERSON, "Return-Path: <>"], QUOTED, AutomaticReply("Return-Path")),
        (
            ["From: postmaster@example.net", "X-Auto-Response-Suppress: All"],
            b"I am away\r\n" + QUOTED,
            AutomaticReply("x-auto-response-suppress"),
        ),
        ([FROM_SYSTEM], b"All systems work again.\r\n", Unknown("asks for nothing that is known")),
    ],
)
def test_a_person_or_an_absence_note_that_quotes_a_bounce_is_none(head: list[str], body: bytes, notice: Unknown | AutomaticReply) -> None:
    assert parse(mail(*head, body=body), RULES) == notice


def test_the_same_words_without_quotation_marks_are_one() -> None:
    """As the tests above would pass if no pattern fitted."""
    found = parse(mail(FROM_PERSON, "Return-Path: <>", body=QUOTED.replace(b"> ", b"")), RULES)
    assert isinstance(found, DeliveryReport)
    assert [each.address for each in found.recipients] == ["bob@example.net"]  # and not the Message-ID


def test_a_bounce_that_is_attached_is_none() -> None:
    attached = b"--o\r\n\r\nSee below\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n" + of_file("qmail-in-words") + b"\r\n--o--"
    raw = mail(FROM_SYSTEM, "Content-Type: multipart/mixed; boundary=o", body=attached)
    assert isinstance(parse(raw, RULES), Unknown)


def test_html_and_quoted_printable_are_read_too() -> None:
    html = b"<html><body>" + escape(WORDS.decode()).replace("@", "=40").replace("\r\n", "<br>=\r\n").encode() + b"</body></html>"
    raw = mail(FROM_SYSTEM, "Content-Type: text/html", "Content-Transfer-Encoding: quoted-printable", body=html)
    found = parse(raw, RULES)
    assert isinstance(found, DeliveryReport)
    assert (found.recipients[0].address, found.about.returned) == ("bob@example.net", ("<d-1@example.org>",))


def test_a_warning_in_words_is_a_delay() -> None:
    body = b"Delivery to the following recipient has been delayed:\r\n\r\n  bob@example.net\r\n\r\nMessage will be retried\r\n"
    found = parse(mail(FROM_SYSTEM, body=body), RULES)
    assert isinstance(found, DeliveryReport)
    assert [(each.address, each.action) for each in found.recipients] == [("bob@example.net", Action.DELAYED)]


def test_a_mailbox_over_quota_that_dovecot_reports_like_a_receipt_is_a_failure() -> None:
    raw = of_file("receipt-exchange-unread").replace(
        b"From: Bob Miller <bob@example.net>", b"From: Mail Delivery Subsystem <postmaster@example.net>"
    )
    raw = raw.replace(b"send again", b"Your message to <bob@example.net> was automatically rejected:\r\nQuota exceeded")
    found = parse(raw, RULES)
    assert isinstance(found, DeliveryReport)
    assert (found.recipients[0].action, found.about.answers) == (Action.FAILED, ("<d-1@example.org>",))


@pytest.mark.parametrize("piece", [b"a" * 1000, b"a@", b"<", b"\n", b"Your message\n", b"did not reach the following recipient\n"])
def test_a_hostile_text_takes_no_long_time(piece: bytes) -> None:
    """The worker's limit of time would end it; `make bench notices` shows the time of real ones."""
    body = b"Hi. This is the qmail-send program\n\n" + piece * (900_000 // len(piece))
    assert isinstance(parse(mail(FROM_SYSTEM, body=body), RULES), DeliveryReport | Unknown)
    assert bounce_texts.MOST_LINES * bounce_texts.LONGEST_LINE < 2**18


def test_a_mail_that_the_patterns_fail_at_is_left_alone_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert parse(b"From: (\r\n\r\n" + WORDS.replace(b"Hi.", b""), RULES) == Unknown("not one sender")
    assert not caplog.records
