"""The class of a failed delivery, by its code and by the words of servers of several makes, and what a person is told."""

from __future__ import annotations

import pytest

from distributor.model.bounces import REMEDIES, WORDS, BounceClass, bounce, classify, with_reply

B = BounceClass


@pytest.mark.parametrize(
    ("status", "diagnostic", "kind"),
    [
        ("5.1.1", "smtp; 550 5.1.1 <a@b>: Recipient address rejected: User unknown in local recipient table", B.NO_SUCH_MAILBOX),
        ("5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", B.NO_SUCH_MAILBOX),
        ("5.4.1", "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", B.NO_SUCH_MAILBOX),
        ("5.1.1", "550-5.1.1 The email account that you tried to reach does not exist", B.NO_SUCH_MAILBOX),
        ("5.0.0", "550 No Such User Here", B.NO_SUCH_MAILBOX),
        ("5.1.2", "Host or domain name not found. Name service error", B.NO_SUCH_DOMAIN),
        ("5.4.4", "Host or domain name not found", B.NO_SUCH_DOMAIN),
        ("5.4.310", "DNS domain gone.example does not exist", B.NO_SUCH_DOMAIN),
        ("5.2.2", "552 5.2.2 Mailbox is over quota", B.MAILBOX_FULL),
        ("4.2.2", "452 4.2.2 The email account that you tried to reach is over quota", B.MAILBOX_FULL),
        ("5.0.0", "552 mailbox full", B.MAILBOX_FULL),
        ("5.2.1", "550 5.2.1 The email account that you tried to reach is disabled", B.MAILBOX_DISABLED),
        ("", "account has been suspended", B.MAILBOX_DISABLED),
        ("5.0.350", "550 5.0.350 One or more of the attachments in your email is of a file type that is NOT allowed", B.ATTACHMENT_REFUSED),
        ("5.7.0", "552-5.7.0 This message was blocked because its content presents a potential security issue", B.ATTACHMENT_REFUSED),
        ("5.7.1", "554 5.7.1 attachment type .p12 not allowed", B.ATTACHMENT_REFUSED),
        ("5.3.4", "552 5.3.4 Message size exceeds fixed limit", B.MESSAGE_TOO_LARGE),
        ("5.2.3", "550 5.2.3 RESOLVER.RST.RecipSizeLimit", B.MESSAGE_TOO_LARGE),
        ("5.0.0", "552 message too large", B.MESSAGE_TOO_LARGE),
        ("5.7.606", "550 5.7.606 Access denied, banned sending IP [192.0.2.1]", B.BLOCKED),
        ("5.7.1", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", B.BLOCKED),
        ("5.7.1", "554 5.7.1 Message rejected as spam", B.BLOCKED),
        ("5.7.1", "550 5.7.1 Message rejected due to local policy", B.POLICY),
        ("5.7.1", "550 5.7.1 no", B.POLICY),
        ("5.7.133", "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required", B.POLICY),
        ("5.7.26", "550-5.7.26 Unauthenticated email from example.org is not accepted", B.POLICY),
        ("5.4.7", "delivery time expired", B.EXPIRED),
        ("4.4.7", "message expired, could not be delivered", B.EXPIRED),
        ("4.4.1", "connection timed out", B.EXPIRED),
        ("5.4.300", "550 5.4.300 Message expired", B.EXPIRED),
        ("5.4.14", "554 5.4.14 Hop count exceeded - possible mail loop ATTR34", B.MAIL_LOOP),
        ("5.4.6", "5.4.6 (unrouteable) routing loop detected", B.MAIL_LOOP),
        ("5.0.0", "550 5.2.2 over quota", B.MAILBOX_FULL),
        ("5.9.9", "no", B.OTHER),
        ("", "", B.OTHER),
    ],
)
def test_code_and_words_give_the_class(status: str, diagnostic: str, kind: BounceClass) -> None:
    assert classify(status, diagnostic) is kind


def test_a_number_in_the_words_that_is_no_code_decides_nothing() -> None:
    assert classify("", "host 192.5.2.2.9 said no") is B.OTHER


def test_the_words_are_plain_and_end_with_the_servers_own() -> None:
    assert bounce("5.2.2", "552 5.2.2 Mailbox\n  over quota").said == "the mailbox is full: 552 5.2.2 Mailbox over quota"
    assert bounce("5.0.350", "file type not allowed").said == "the organisation refuses this attachment type: 5.0.350 file type not allowed"
    assert bounce("", "").said == "the message could not be delivered"
    assert with_reply("delayed", "4.4.1", "") == "delayed: 4.4.1"


def test_every_class_has_words_and_a_next_step() -> None:
    assert set(WORDS) == set(REMEDIES) == set(B)
    assert all("{" not in line.format(address="a@b") for line in REMEDIES.values())


@pytest.mark.parametrize("unit", ["attachment ", "over ", "user ", "a ", "domain not ", "x" * 50])
def test_long_words_take_no_long_time(unit: str) -> None:
    assert classify("5.0.0", unit * 100_000) in B
