from __future__ import annotations

import email
import email.policy
import re
import string
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage, Message
from email.utils import parseaddr

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distributor.mail.message import Attachment, Mailbox, MessageHeaders, RenderedText, compose
from distributor.mail.message import mailbox as header_mailbox
from distributor.model.people import Address, is_unsafe

PACKAGE = Attachment("Alice Example SMIME 2026.pfx", bytes(range(256)) * 13 + b"end")
WORDS = RenderedText("en", "Example AG: your certificate", "Hello\n\nAlice.\n", "<p>Hello <b>Alice</b></p>\n")
SENDER = Mailbox(Address("certificates", "example.org"), "Certificate Service")
ALICE = Mailbox(Address("alice", "example.org"), "Alice Example")
DATE = datetime(2026, 11, 24, 9, 30, 5, tzinfo=UTC)


def head(recipient: Mailbox = ALICE, sender: Mailbox = SENDER, message_id: str = "0123abcd@example.org") -> MessageHeaders:
    return MessageHeaders(sender, recipient, DATE, message_id, "f00dfeed")


def parsed(data: bytes) -> EmailMessage:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def twin(recipient: Mailbox, wording: RenderedText) -> EmailMessage:
    """The same message made by the standard library."""
    message = EmailMessage()
    message["From"] = HeaderAddress(SENDER.name, addr_spec=str(SENDER.address))
    message["To"] = HeaderAddress(recipient.name, recipient.address.local, recipient.address.domain)
    message["Subject"] = wording.subject
    message["Date"] = DATE
    message["Message-ID"] = "<0123abcd@example.org>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "RN, NRN, OOF, AutoReply"
    message.set_content(wording.text)
    message.add_alternative(wording.html, subtype="html")
    message.add_attachment(PACKAGE.data, maintype="application", subtype="x-pkcs12", filename=PACKAGE.file_name)
    message["Content-Language"] = wording.language  # set_content removes it
    return message


def content(part: Message) -> object:
    """What stands in a part, with line ends as Python writes them."""
    if part.is_multipart():
        return None
    found = part.get_content()  # type: ignore[attr-defined]  policy.default makes EmailMessage parts
    return found.replace("\r\n", "\n") if isinstance(found, str) else found


def flat(message: EmailMessage) -> list[object]:
    """Everything a reader sees of a message: headers, structure, contents."""
    names = (
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Language",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
    )
    headers = [(name, str(message[name])) for name in names]
    parts = [(part.get_content_type(), part.get_content_disposition(), part.get_filename(), content(part)) for part in message.walk()]
    return [*headers, *parts]


def test_a_message_reads_as_the_one_that_the_standard_library_makes() -> None:
    assert flat(twin(ALICE, WORDS)) == flat(parsed(compose(head(), WORDS, PACKAGE)))


NAMES = st.text(min_size=1, max_size=120).map(lambda t: " ".join(t.split())).filter(lambda t: t and not any(is_unsafe(c) for c in t))


@given(name=NAMES, subject=NAMES)
@example(name="=?utf-8?q?victim=40example=2Etest?=", subject="=?utf-8?q?hidden?=")
@example(name='"quoted\\" <mallory@example.test>, Bob', subject="a" * 300)
@example(
    name="Zoë von Würzburg-Straßer " * 4 + "x",
    subject="Ihr Zertifikat für sichere E-Mails auf dem Telefon \u2013 Österreichische Beispiel AG",
)
@example(name="a@b, c;d:e(f)[g]", subject=" ")
@example(name="\U0001d49c" * 100, subject="ü")
def test_any_name_and_subject_come_out_as_they_went_in(name: str, subject: str) -> None:
    mailbox = Mailbox(ALICE.address, name)
    wording = RenderedText("en", subject.strip() or "x", WORDS.text, WORDS.html)
    data = compose(head(mailbox), wording, PACKAGE)
    message = parsed(data)
    (only,) = message["To"].addresses
    assert only.addr_spec == "alice@example.org"
    assert name == shown(data)
    assert wording.subject == str(message["Subject"])
    assert all(len(line) <= 78 for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n"))


def shown(data: bytes) -> str:
    """The name in To, by the library's other reader: the newer one puts a space between two encoded-words of a name."""
    raw = email.message_from_bytes(data, policy=email.policy.compat32)["To"]
    name, address = parseaddr(raw.replace("\r\n", ""))
    assert address == "alice@example.org"
    return str(make_header(decode_header(name))) if name.startswith("=?utf-8?b?") else name


@settings(deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=400))
@example(text=".\n..\n.hidden\nFrom here\n=3D trailing \t\n" + "x" * 300 + "é" * 300)
@example(text="")
def test_any_text_survives(text: str) -> None:
    data = compose(head(), RenderedText("en", "s", text, text), PACKAGE)
    plain, html = (content(part) for part in parsed(data).walk() if part.get_content_maintype() == "text")
    assert plain == html == "".join(line + "\n" for line in text.splitlines() or [""])
    assert all(len(line) <= 78 for line in data.split(b"\r\n"))
    assert b"\n" not in data.replace(b"\r\n", b"") and b"\r" not in data.replace(b"\r\n", b"")  # noqa: PT018  one claim: CRLF only


def test_the_attachment_has_the_type_that_android_opens_and_both_names() -> None:
    data = compose(head(), WORDS, PACKAGE)
    assert b'Content-Type: application/x-pkcs12;\r\n name="Alice Example SMIME 2026.pfx"\r\n' in data
    assert b'Content-Disposition: attachment;\r\n filename="Alice Example SMIME 2026.pfx"\r\n' in data
    (part,) = parsed(data).iter_attachments()
    assert (PACKAGE.data, PACKAGE.file_name) == (part.get_content(), part.get_filename())


def test_text_stands_before_html_and_both_before_the_attachment() -> None:
    types = [part.get_content_type() for part in parsed(compose(head(), WORDS, PACKAGE)).walk()]
    assert types == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/x-pkcs12"]


def test_replies_are_suppressed_and_bounces_are_not() -> None:
    message = parsed(compose(head(), WORDS, PACKAGE))
    assert message["X-Auto-Response-Suppress"].split(", ") == ["RN", "NRN", "OOF", "AutoReply"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Precedence"] is None


@pytest.mark.parametrize(
    "name", ["Alice\r\nBcc: mallory@example.test", "Alice\x1b[31m", "ecilA\u202e", "Ali\u200dce", "\x00", "Alice\u2028Bcc: x"]
)
def test_a_name_that_hides_something_is_left_out(name: str) -> None:
    data = compose(head(Mailbox(ALICE.address, name)), WORDS, PACKAGE)
    assert b"\r\nTo: alice@example.org\r\n" in data
    assert b"Bcc" not in data


@pytest.mark.parametrize("name", ["علی\u200cرضا", "क्\u200dष"])  # noqa: RUF001  Persian, and Hindi
def test_a_name_that_is_spelled_with_joiners_stays(name: str) -> None:
    message = parsed(compose(head(Mailbox(ALICE.address, name)), WORDS, PACKAGE))
    assert message["To"].addresses[0].display_name == name


@pytest.mark.parametrize("name", ["", " ", "   "])
def test_without_a_name_the_address_stands_alone(name: str) -> None:
    assert header_mailbox(Mailbox(ALICE.address, name)) == "alice@example.org"


def test_an_address_beyond_ascii_is_written_raw_and_only_then_is_a_header_not_ascii() -> None:
    mailbox = Mailbox(Address("jürgen", "example.org"), "Jürgen")
    raw = compose(head(mailbox), WORDS, PACKAGE)
    assert "To: =?utf-8?b?SsO8cmdlbg==?= <jürgen@example.org>\r\n".encode() in raw
    assert compose(head(Mailbox(ALICE.address, "Jürgen")), WORDS, PACKAGE).isascii()


@given(local=st.text(string.ascii_lowercase + "ü.", min_size=64, max_size=64).filter(lambda t: "." not in t), labels=st.integers(1, 3))
def test_the_longest_address_still_fits(local: str, labels: int) -> None:
    mailbox = Mailbox(Address(local, ".".join(["d" * 60] * labels)), "A Name of Some Length")
    lines = compose(head(mailbox), WORDS, PACKAGE).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert all(len(line) < 998 for line in lines)


@pytest.mark.parametrize("subject", ["two\nlines", "a\rb", "a\x00b", "a\u202eb", "\x1b]0;x\x07"])
def test_a_subject_with_an_unprintable_character_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="unprintable"):
        compose(head(), RenderedText("en", subject, "t", "h"), PACKAGE)


@pytest.mark.parametrize("name", ['a".pfx', "a\r\nb.pfx", "ü.pfx", "../a.pfx", ".pfx", "", "a;b.pfx"])
def test_a_file_name_that_is_no_plain_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        compose(head(), WORDS, Attachment(name, b"x"))


@pytest.mark.parametrize("message_id", ["nothing", "a b@example.org", "a@b@c", "a@b>\r\nX: y", "@example.org", "a@"])
def test_a_message_id_that_is_none_is_refused(message_id: str) -> None:
    with pytest.raises(ValueError, match="Message-ID"):
        compose(head(message_id=message_id), WORDS, PACKAGE)


def test_the_same_values_make_the_same_bytes() -> None:
    assert compose(head(), WORDS, PACKAGE) == compose(head(), WORDS, PACKAGE)


def test_no_line_of_a_body_can_end_the_message_early() -> None:
    data = compose(head(), RenderedText("en", "s", "--=_f00dfeed.1--\n.\n", "--=_f00dfeed.2\n"), PACKAGE)
    assert len(list(parsed(data).walk())) == 5
    assert not re.search(rb"(?m)^\.\r$", data)
