"""Delivery reports (RFC 3464) and read receipts (RFC 8098): what each mail system writes, and what must not be taken for one."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.mail import reports
from distributor.mail.notices import NoticeRules, parse
from distributor.model.notices import Action, AutomaticReply, DeliveryReport, ReadReceipt, Unknown

FILES = Path(__file__).parents[1] / "data" / "mail" / "reports"
RULES = NoticeRules(frozenset({"certificates@example.org"}), frozenset({"send again"}))
FAILED, DELAYED = Action.FAILED, Action.DELAYED


def of_file(name: str) -> bytes:
    return (FILES / f"{name}.eml").read_bytes().replace(b"\n", b"\r\n")


def reported(raw: bytes) -> DeliveryReport:
    found = parse(raw, RULES)
    assert isinstance(found, DeliveryReport), found
    return found


def report(*recipients: str, message: str = "Reporting-MTA: dns; mx.example.net", returned: str = "Message-ID: <d-1@example.org>") -> bytes:
    """A report with these per-recipient fields, lines separated by `|`."""
    status = "\r\n\r\n".join([message, *recipients]).replace("|", "\r\n")
    return (
        "From: postmaster@example.net\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nsend again\r\n"
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{returned}\r\n\r\n--b--\r\n"
    ).encode()


def one(*fields: str) -> tuple[str, Action, str, str]:
    """The report for the one recipient with these fields."""
    [found] = reported(report("|".join(fields))).recipients
    return found.address, found.action, found.status, found.diagnostic


BOB = "Final-Recipient: rfc822; bob@example.net"


@pytest.mark.parametrize(
    ("name", "address", "action", "status"),
    [
        ("exchange-online-failed", "bob@example.net", Action.FAILED, "5.1.10"),
        ("exchange-online-attachment", "bob@example.org", Action.FAILED, "5.0.350"),
        ("exchange-delayed", "bob@example.net", Action.DELAYED, "4.4.7"),
        ("gmail-failed", "bob@example.net", Action.FAILED, "5.2.2"),
        ("exim-failed", "bob@example.net", Action.FAILED, "5.7.1"),
        ("sendmail-expired", "bob@example.net", Action.FAILED, "4.4.7"),
        ("courier-failed", "bob@example.net", Action.FAILED, "5.0.0"),
        ("domino-failed", "bob@example.net", Action.FAILED, "5.1.1"),
        ("opensmtpd-failed", "bob@example.net", Action.FAILED, "5.1.1"),
        ("postfix-failed", "bob@reject.example", Action.FAILED, "5.1.1"),
        ("postfix-delayed", "bob@later.example", Action.DELAYED, "4.2.2"),
        ("postfix-relayed", "bob@relay.example", Action.RELAYED, "2.0.0"),
        ("postfix-delivered", "carol@example.org", Action.DELIVERED, "2.0.0"),
        ("postfix-expanded", "team@example.org", Action.EXPANDED, "2.0.0"),
    ],
)
def test_a_report_of_each_mail_system_says_what_was_done_with_which_message(name: str, address: str, action: Action, status: str) -> None:
    found = reported(of_file(name))
    [recipient] = found.recipients
    assert (recipient.address, recipient.action, recipient.status) == (address, action, status)
    assert re.fullmatch(r"<d-\d@example\.org>", "".join(found.about.returned)), found.about
    assert found.machine_readable


def test_the_servers_words_envelope_id_reporter_and_answered_message_are_kept() -> None:
    of_postfix, of_exchange = reported(of_file("postfix-failed")), reported(of_file("exchange-online-failed"))
    assert of_postfix.recipients[0].diagnostic == "550 5.1.1 no such mailbox is on this server"
    assert (of_postfix.about.envelope_id, of_postfix.reporter) == ("g-1", "mx.example.org")
    assert of_exchange.about.answers == ("<d-1@example.org>",)


# --- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("rfc822; Bob@Example.NET", "bob@example.net"),
        ("RFC822;<bob@example.net>", "bob@example.net"),
        ("rfc822; bob@example.net (Bob Miller)", "bob@example.net"),
        ("<bob@example.net>", "bob@example.net"),
        ("utf-8; gr\\x{FC}n@example.net", "grün@example.net"),
        ("utf-8; grün@example.net", "grün@example.net"),
        ("rfc822; bob+2Btag@example.net", "bob+tag@example.net"),
        ("rfc822; bob+20@example.net", "bob+20@example.net"),
        ("X400; /CN=bob", ""),
        ("rfc822; bob", ""),
        ("rfc822; bob@example.net, eve@example.net", ""),
        ("utf-8; \\x{FFFFFF}@example.net", ""),
    ],
)
def test_an_address_is_read_or_left_empty(said: str, address: str) -> None:
    assert one(f"Original-Recipient: {said}", "Final-Recipient: X400; x", "Action: failed")[0] == address


def test_the_original_recipient_comes_before_the_final_one() -> None:
    assert (
        one("Final-Recipient: rfc822; b@example.com", "Original-Recipient: rfc822; bob@example.net", "Action: failed")[0]
        == "bob@example.net"
    )
    assert one(BOB, "Original-Recipient: rfc822; unknown", "Action: failed")[0] == "bob@example.net"


def test_a_plus_that_the_final_recipient_has_too_is_no_code() -> None:
    plus = "rfc822; bob+2Btag@example.net"
    assert one(f"Original-Recipient: {plus}", f"Final-Recipient: {plus}", "Action: failed")[0] == "bob+2btag@example.net"


@pytest.mark.parametrize(
    ("action", "status", "diagnostic", "expected"),
    [
        ("failed", "5.1.1", "smtp; 550 no", (FAILED, "5.1.1", "550 no")),
        ("Failed (see below)", "5.1.1 (no such user)", "", (FAILED, "5.1.1", "no such user")),
        ("failed", "4.4.7", "", (FAILED, "4.4.7", "")),  # it was tried until it expired
        ("delayed", "5.1.1", "", (DELAYED, "5.1.1", "")),
        ("delayed", "", "", (DELAYED, "", "")),
        ("failed", "5.0.0", "smtp; 552 5.2.2 full", (FAILED, "5.2.2", "552 5.2.2 full")),
        ("failed", "5.1.1", "smtp; 552 5.2.2 full", (FAILED, "5.1.1", "552 5.2.2 full")),
        ("failed", "2.0.0", "smtp; 552 5.2.2 full", (FAILED, "5.2.2", "552 5.2.2 full")),
        ("failed", "", "smtp; 550 rejected by 5.1.1.9", (FAILED, "", "550 rejected by 5.1.1.9")),
        ("failed", "5.1.1", "smtp; 550 Empfänger unbekannt", (FAILED, "5.1.1", "550 Empfänger unbekannt")),
        ("delivered", "2.1.5", "", (Action.DELIVERED, "2.1.5", "")),
    ],
)
def test_action_and_status_make_one_outcome(action: str, status: str, diagnostic: str, expected: tuple[Action, str, str]) -> None:
    fields = [BOB, f"Action: {action}", f"Status: {status}", f"Diagnostic-Code: {diagnostic}"]
    assert one(*fields) == ("bob@example.net", *expected)


@pytest.mark.parametrize(
    "fields",
    [
        "Action: failed|Status: 2.0.0",
        "Action: delayed|Status: 2.0.0|Diagnostic-Code: smtp; 250 2.1.5 fine",
        "Action: delivered|Status: 5.1.1",
        "Action: relayed|Status: 4.2.2",
        "Action: queued|Status: 5.1.1",
        "Action: undelivered",
        "Status: 5.1.1",
    ],
)
def test_a_report_that_contradicts_itself_or_names_no_action_counts_for_nothing(fields: str) -> None:
    assert parse(report(f"{BOB}|{fields}"), RULES) == Unknown("a report that contradicts itself, or does not say what was done")


def test_each_recipient_has_a_report_of_its_own() -> None:
    eve = "Final-Recipient: rfc822; eve@example.net|Action: delayed|Status: 4.2.2"
    contradiction = "Final-Recipient: rfc822; mallory@example.net|Action: failed|Status: 2.0.0"
    found = reported(report(f"{BOB}|Action: failed|Status: 5.1.1", eve, contradiction)).recipients
    assert [(each.address, each.action) for each in found] == [("bob@example.net", Action.FAILED), ("eve@example.net", Action.DELAYED)]


def test_an_empty_line_in_the_middle_of_a_recipients_fields_is_no_end() -> None:
    assert one(f"{BOB}||Action: failed||Status: 5.1.1")[:3] == ("bob@example.net", FAILED, "5.1.1")


@pytest.mark.parametrize("name", ["Original-Message-ID", "X-Original-Message-ID"])
def test_a_message_id_among_the_reports_fields_is_the_messages(name: str) -> None:
    raw = report(f"{BOB}|Action: failed", message=f"Reporting-MTA: dns; x|{name}: <d-2@example.org>", returned="Subject: x")
    assert reported(raw).about.returned == ("<d-2@example.org>",)


@pytest.mark.parametrize("kind", ["message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "message/global"])
@pytest.mark.parametrize("coded", [True, False])
def test_a_returned_message_is_read_in_any_form(kind: str, coded: bool) -> None:  # noqa: FBT001  a parameter of the test
    header = "Received: x\r\nMessage-ID:\r\n <d-3@example.org>\r\n\r\nMessage-ID: <of-the-body@example.org>\r\n"
    raw = report(f"{BOB}|Action: failed", returned=base64.b64encode(header.encode()).decode() if coded else header)
    encoding = b"\r\nContent-Transfer-Encoding: base64" if coded else b""
    raw = raw.replace(b"text/rfc822-headers", kind.encode() + encoding)
    assert reported(raw).about.returned == ("<d-3@example.org>",)


# --- what is none ----------------------------------------------------------------------------------------------------


def test_a_report_that_a_person_forwards_is_none() -> None:
    for wrapped in (
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n%s\r\n--o--",
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\nlook\r\n--o\r\n%s\r\n--o--",
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n%s\r\n--o--",
        b"Content-Type: message/rfc822\r\n\r\n%s",
    ):
        inner = report(f"{BOB}|Action: failed|Status: 5.1.1").partition(b"\r\n")[2].replace(b"send again", b"not delivered")
        raw = b"From: alice@example.org\r\nTo: certificates@example.org\r\nMessage-ID: <x@example.org>\r\n" + wrapped % inner
        assert isinstance(parse(raw, RULES), Unknown), wrapped


def test_the_footer_of_a_mailing_list_does_not_hide_a_report_of_a_mail_system() -> None:
    inner = report(f"{BOB}|Action: failed|Status: 5.1.1").partition(b"\r\n")[2]
    head = b"From: postmaster@example.net\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n"
    assert reported(head + inner + b"\r\n--o\r\n\r\nfooter\r\n--o--").recipients[0].address == "bob@example.net"


def test_a_report_of_another_kind_is_left_alone_even_with_a_phrase_in_it() -> None:
    raw = report().replace(b"message/delivery-status", b"message/feedback-report")
    assert parse(b"To: certificates@example.org\r\nMessage-ID: <x@y>\r\n" + raw, RULES) == Unknown("a report of another kind")


def test_a_report_cut_in_the_middle_of_a_line_names_no_other_recipient() -> None:
    whole = report(f"{BOB}|Action: failed|Status: 5.1.1", "Action: failed|Final-Recipient: rfc822; eve@example.network")
    cut = whole[: whole.index(b"ork")]
    assert [each.address for each in reported(cut).recipients] == ["bob@example.net"]
    assert isinstance(parse(whole[: whole.index(b"led\r\nStatus")], RULES), Unknown)


def test_an_automatic_reply_is_none() -> None:
    raw = report(f"{BOB}|Action: failed").replace(b"multipart/report", b"multipart/mixed").replace(b"postmaster", b"alice")
    assert parse(b"Auto-Submitted: auto-replied\r\n" + raw, RULES) == AutomaticReply("Auto-Submitted")


# --- receipts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "disposition", "automatic"),
    [
        ("receipt-exchange", "displayed", True),
        ("receipt-exchange-unread", "deleted", True),
        ("receipt-thunderbird", "displayed", False),
        ("receipt-gmail", "displayed", False),
    ],
)
def test_a_receipt_of_each_mail_program_says_which_message_was_opened(name: str, disposition: str, *, automatic: bool) -> None:
    found = parse(of_file(name), RULES)
    assert isinstance(found, ReadReceipt)
    assert (found.address, found.disposition, found.automatic) == ("bob@example.net", disposition, automatic)
    assert "<d-1@example.org>" in (*found.about.returned, *found.about.answers)


def test_a_receipt_without_a_disposition_is_a_report_of_another_kind() -> None:
    assert parse(of_file("receipt-gmail").replace(b"Disposition:", b"X-Said:"), RULES) == Unknown("a report of another kind")


# --- hostile reports -------------------------------------------------------------------------------------------------


def test_only_the_first_recipients_of_a_report_are_read() -> None:
    assert len(reported(report(*[f"{BOB}|Action: failed"] * 1000)).recipients) == reports.MOST_RECIPIENTS


@pytest.mark.parametrize(
    "raw",
    [
        report(*["\r\n" * 3] * 10_000),
        report(f"{BOB}|Action: failed|Diagnostic-Code: {'(' * 60_000}"),
        report(f"Final-Recipient: rfc822; {'(' * 30_000}|Action: failed"),
        report(f"{BOB}|Action: failed|Status: {'5.' * 30_000}"),
        report(f"{BOB}|Action: {' ' * 60_000}failed"),
        report(f"{BOB}|Action: failed", returned="Message-ID: " + "<" * 60_000),
    ],
)
def test_a_hostile_report_is_a_notice_like_any_other(raw: bytes) -> None:
    found = parse(raw, RULES)
    assert isinstance(found, DeliveryReport | Unknown)
    assert len(repr(found)) < 3000


WHOLE = sorted(FILES.glob("*.eml"))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WHOLE), st.data())
def test_a_changed_report_names_no_recipient_that_is_not_in_the_mail(path: Path, data: st.DataObject) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["change", "remove", "repeat", "cut"])):
            case "change":
                raw[at] = data.draw(st.sampled_from(b"\r\n:;<>@.+()= ab\xff"))
            case "remove":
                del raw[at : at + data.draw(st.integers(1, 40))]
            case "repeat":
                raw[at:at] = raw[at : at + data.draw(st.integers(1, 200))]
            case _:
                del raw[at:]
        if not raw:
            return
    found = parse(bytes(raw), RULES)
    if isinstance(found, DeliveryReport | ReadReceipt):
        texts = [raw.decode("latin-1").lower(), *(_decoded(block) for block in re.split(rb"\r?\n\r?\n", raw))]
        addresses = [each.address for each in found.recipients] if isinstance(found, DeliveryReport) else [found.address]
        assert all(any(address in text for text in texts) for address in addresses)


def _decoded(block: bytes) -> str:
    try:
        return base64.b64decode(block + b"==").decode("latin-1").lower()
    except binascii.Error:
        return ""
