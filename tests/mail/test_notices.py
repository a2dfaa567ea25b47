"""Mails become notices: requests of people are recognised, programs are not answered, and no mail makes the parser fail."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.mail.notices import NoticeRules, parse, phrase_key
from distributor.mail.received import LONGEST_VALUE, MOST_PARTS, read_mail
from distributor.model.mailboxes import LARGEST_MAIL
from distributor.model.notices import AutomaticReply, CopyRequestNotice, DeliveryReport, SignedAnswer, Unknown
from distributor.workflows.mail_reader import read

FILES = Path(__file__).parents[1] / "data" / "mail"
PHRASES = ("send again", "bitte erneut senden", "renvoyer le message")
OWN = frozenset({"certificates@example.org", "copies@example.org"})
RULES = NoticeRules(OWN, frozenset(map(phrase_key, PHRASES)), "mx.example.org")
ASKS = {
    "Authentication-Results": "mx.example.org; dmarc=pass header.from=example.org",
    "From": "Alice <alice@example.org>",
    "To": "certificates@example.org",
    "Subject": "send again",
    "Date": "Mon, 30 Nov 2026 10:00:00 +0100",
    "Message-ID": "<1@example.org>",
}


def of_file(name: str) -> bytes:
    return (FILES / f"{name}.eml").read_bytes().replace(b"\n", b"\r\n")


def mail(body: str = "", *more: str, **changes: str | None) -> bytes:
    """The mail that asks, with other fields (`_` for `-`) and further lines on top."""
    fields = {**ASKS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [*more, *(f"{name}: {value}" for name, value in fields.items() if value is not None), "", body]
    return "\r\n".join(lines).encode()


def asked(raw: bytes) -> CopyRequestNotice:
    found = parse(raw, RULES)
    assert isinstance(found, CopyRequestNotice), found
    return found


def test_a_reply_of_outlook_asks_in_its_first_line() -> None:
    found = asked(of_file("reply-outlook"))
    assert (str(found.sender), found.message_id) == ("alice@example.org", "<AM0PR01MB1234@eurprd01.prod.example>")
    assert (found.answers, found.direct) == (("<d-1@example.org>",), True)
    assert (found.sent_at, found.unauthenticated) == (datetime(2026, 11, 30, 9, tzinfo=UTC), "")


def test_a_reply_of_a_phone_asks_in_html() -> None:
    assert set(asked(of_file("reply-ios")).answers) == {"<d-1@example.org>", "<other@example.org>"}


def test_a_mail_to_the_request_address_asks_in_its_subject() -> None:
    found = asked(of_file("to-the-address"))
    assert (found.direct, found.answers) == (True, ())


def test_a_program_is_not_answered() -> None:
    assert parse(of_file("absence-note"), RULES) == AutomaticReply("Return-Path")


def test_a_report_is_none_of_the_programs_that_are_left_alone() -> None:
    assert isinstance(parse(of_file("bounce"), RULES), DeliveryReport)


SIGNED = 'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=b'


@pytest.mark.parametrize(
    ("line", "is_read"),
    [
        (SIGNED, True),
        (SIGNED.replace("pkcs7", "X-PKCS7"), True),
        ("Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m", True),
        ('Content-Type: application/x-pkcs7-mime; smime-type="Signed-Data"', True),
        ("Content-Type: application/pkcs7-mime; name=smime.p7m", True),
        ("Content-Type: application/pkcs7-mime; smime-type=enveloped-data", False),
        (SIGNED.replace("pkcs7", "pgp"), False),
        ("Content-Type: multipart/signed; boundary=b", False),
        (f"Auto-Submitted: auto-replied\r\n{SIGNED}", False),
        ("Content-Type: text/plain", False),
    ],
)
def test_a_mail_with_an_smime_signature_is_a_signed_answer(line: str, *, is_read: bool) -> None:
    raw = mail("--b\r\n\r\nit works\r\n--b--", line, Subject="x")
    assert isinstance(read(raw, RULES), SignedAnswer) == is_read


def test_a_signed_mail_that_asks_for_a_copy_is_a_request() -> None:
    raw = mail("--b\r\n\r\nsend again\r\n--b--", SIGNED, Subject="x")
    assert isinstance(read(raw, RULES), CopyRequestNotice)


def test_a_mail_without_signature_is_what_it_would_be_without_looking() -> None:
    assert read(mail("", Subject="x"), RULES) == Unknown("asks for nothing that is known")


def test_a_question_that_quotes_the_phrase_asks_for_nothing() -> None:
    assert parse(of_file("question"), RULES) == Unknown("asks for nothing that is known")


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        ("Return-Path: <>", "Return-Path"),
        ("Return-Path: < >", "Return-Path"),
        ("Auto-Submitted: auto-generated", "Auto-Submitted"),
        ("Auto-Submitted: auto-replied (vacation)", "Auto-Submitted"),
        ("Auto-Submitted:", "Auto-Submitted"),
        ("Precedence: bulk", "Precedence"),
        ("Precedence: List", "Precedence"),
        ("precedence: junk", "Precedence"),
        ("List-Id: <people.example.org>", "list-id"),
        ("X-Auto-Response-Suppress: OOF", "x-auto-response-suppress"),
        ("X-Loop: certificates@example.org", "x-loop"),
    ],
)
def test_each_sign_of_a_program_is_enough(line: str, sign: str) -> None:
    assert parse(mail("", line), RULES) == AutomaticReply(sign)


def test_a_person_may_say_that_no_program_wrote_it() -> None:
    asked(mail("", "Auto-Submitted: no", "Precedence: normal"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"From": "certificates@example.org"}, "sent by one of our own mailboxes"),
        ({"From": "Copies@Example.org"}, "sent by one of our own mailboxes"),
        ({"From": None}, "not one sender"),
        ({"From": "a@example.org, b@example.org"}, "not one sender"),
        ({"From": "a@example.org <b@example.org>"}, "not one sender"),
        ({"From": "Team: a@example.org;"}, "not one sender"),
        ({"From": "x (<a@example.org>) <b@example.org>"}, "not one sender"),
        ({"From": '"' + "a" * 2000 + '" <a@example.org>'}, "not one sender"),
        ({"Message_ID": None}, "no Message-ID"),
        ({"Message_ID": "<a b@c>"}, "no Message-ID"),
        ({"To": "bob@example.org"}, "neither a reply nor addressed to one of our mailboxes"),
        ({"Subject": "do not send again"}, "asks for nothing that is known"),
    ],
)
def test_a_mail_that_may_mean_something_else_is_left_alone(changes: dict[str, str | None], reason: str) -> None:
    assert parse(mail("", **changes), RULES) == Unknown(reason)


def test_a_mail_with_two_senders_in_two_fields_is_left_alone() -> None:
    assert parse(mail("", "From: eve@example.org"), RULES) == Unknown("not one sender")


@pytest.mark.parametrize("subject", ["Send again", "RE: AW: send  again!", "Re[2]: send again.", "=?utf-8?B?U2VuZCBhZ2Fpbg==?="])
def test_case_punctuation_and_reply_prefixes_do_not_matter(subject: str) -> None:
    asked(mail("", Subject=subject))


def test_lines_that_are_quoted_or_empty_are_not_the_first() -> None:
    asked(mail("\r\n> your certificate\r\n\r\n  Send again\r\n", Subject="x"))


def test_an_attached_text_asks_for_nothing() -> None:
    attached = "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nsend again"
    raw = mail(f"--b\r\n{attached}\r\n--b--", "Content-Type: multipart/mixed; boundary=b", Subject="x")
    assert parse(raw, RULES) == Unknown("asks for nothing that is known")


# --- hostile mails -----------------------------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    opened = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n" for n in range(levels))
    return mail("", Subject="x").rstrip() + b"\r\n" + opened.encode() + b"\r\nsend again"


def test_a_mail_nested_a_thousand_levels_deep_is_left_alone() -> None:
    assert parse(nested(1000), RULES) == Unknown(f"more than {MOST_PARTS} parts")
    asked(nested(20))


def test_a_chain_of_attached_mails_is_not_followed() -> None:
    chain = mail("Content-Type: message/rfc822\r\n\r\n" * 5000 + "send again", "Content-Type: message/rfc822", Subject="x")
    assert parse(chain, RULES) == Unknown("asks for nothing that is known")


def test_an_attached_mail_asks_for_nothing() -> None:
    raw = mail(
        "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nsend again\r\n--b--", "Content-Type: multipart/mixed; boundary=b"
    )
    assert parse(raw.replace(b"Subject: send again", b"Subject: x"), RULES) == Unknown("asks for nothing that is known")


def test_no_more_than_the_first_mebibyte_is_parsed() -> None:
    asked(mail("send again\r\n" + "x" * (LARGEST_MAIL + 10), Subject="x"))
    assert parse(mail(">\r\n" * LARGEST_MAIL + "send again\r\n", Subject="x"), RULES) == Unknown("asks for nothing that is known")


@pytest.mark.parametrize("charset", ["nonsense", "rot13", "unicode_escape", "idna", "utf-7", "utf-16", "x\x00y", "=?x?=", "base64"])
def test_a_charset_that_is_none_costs_nothing_else(charset: str) -> None:
    found = parse(mail("send again", f'Content-Type: text/plain; charset="{charset}"', Subject="x"), RULES)
    assert isinstance(found, CopyRequestNotice | Unknown)
    asked(mail("", f'Content-Type: text/plain; charset="{charset}"'))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"X: y\r\n" * 30_000 + mail(), "the header is too large"),
        (b"X: y\r\n" * 501 + mail(), "too many header fields"),
        (b"", "not one sender"),
        (b"\0" * 1000, "not one sender"),
        (b"\r\n\r\n", "not one sender"),
    ],
)
def test_what_is_no_reasonable_mail_is_left_alone(raw: bytes, reason: str) -> None:
    assert parse(raw, RULES) == Unknown(reason)


HOSTILE = {
    "comments": mail("", From="(" * 1900 + "alice@example.org"),
    "references": mail("", References="<" * 60_000 + "a@b>"),
    "to": mail("", To="a" * 100_000, In_Reply_To="<d@e>"),
    "subject": mail("", Subject="=?utf-8?q?" * 1000),
    "prefixes": mail("", Subject="re:" * 600),
    "boundary": mail("--\r\n" * 250_000, "Content-Type: multipart/mixed; boundary=-", Subject="x"),
    **{
        f"html of {piece}": mail(piece * 15_000, "Content-Type: text/html", Subject="x")
        for piece in ("<", "<!--", "<a ", "<a b='", "<![", "<style>", "<style", "</head ", "&#")
    },
    "parameters": mail("x", "Content-Type: text/plain; " + ";".join(f"a*{n}*=x" for n in range(9000)), Subject="x"),
    "results": mail("", "Authentication-Results: mx.example.org; dmarc=" + "a" * 9000),
    "results without end": mail("", "Authentication-Results: mx.example.org; " + "(" * 9000),
}


def test_parameters_are_read_from_the_beginning_of_a_field_only() -> None:
    part = '--b\r\nContent-Type: text/plain; x="' + ";" * 100_000 + "\r\n\r\nsend again\r\n--b--"
    raw = mail(part, 'Content-Type: multipart/mixed; boundary=b; x="' + ";" * 100_000, Subject="x")
    assert max(len(str(value)) for part in read_mail(raw).message.walk() for value in part.values()) <= LONGEST_VALUE
    asked(raw)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_mail_is_a_notice_like_any_other(name: str) -> None:
    assert isinstance(parse(HOSTILE[name], RULES), CopyRequestNotice | Unknown)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=3000))
def test_no_bytes_make_it_fail(raw: bytes) -> None:
    assert isinstance(parse(raw, RULES), AutomaticReply | Unknown)


FIELDS = st.sampled_from([*ASKS, "References", "In-Reply-To", "Content-Type", "Content-Transfer-Encoding", "Cc", "Return-Path"])
PIECES = st.sampled_from(
    [
        *ASKS.values(),
        "multipart/mixed; boundary=b",
        "--b",
        "message/rfc822",
        "base64",
        "=?utf-8?b?",
        "text/html",
        "<p>",
        "(",
        '"',
        ";",
        "<>",
    ]
)
VALUES = st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=5).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(FIELDS, VALUES), max_size=12), st.lists(st.one_of(PIECES, st.text(max_size=40)), max_size=20))
def test_nor_does_a_mail_made_of_telling_pieces(fields: list[tuple[str, str]], body: list[str]) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    found = parse((head + "\r\n" + "\r\n".join(body)).encode("utf-8", "surrogatepass"), RULES)
    assert isinstance(found, CopyRequestNotice | AutomaticReply | Unknown)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(FILES.glob("*.eml"))), st.data())
def test_nor_does_a_real_mail_with_some_bytes_changed(path: Path, data: st.DataObject) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(parse(bytes(raw), RULES), CopyRequestNotice | AutomaticReply | DeliveryReport | Unknown)


def test_a_message_of_pythons_own_making_is_read_too() -> None:
    message = EmailMessage()
    for name, value in ASKS.items():
        message[name] = value if name != "Subject" else "Ä"
    message.set_content("Send again\n\n-- \nAlice")
    asked(message.as_bytes())
