"""Signed mails are taken apart to the byte, and a signature over a part of a mail is none over the mail."""

from __future__ import annotations

import base64
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.mail.received import BeyondLimits, read_mail
from distributor.mail.signed import SignedParts, named_deliveries, signed_parts
from tests.smime import detached, header, opaque, text

CMS = b"\x30\x03signature" * 20
ID = "d-01JX0ABCDEFGHJKMNPQRSTVWXY"
OTHER = "d-01JX0ABCDEFGHJKMNPQRSTVWXZ"
CONTENT = text(f"It works.\r\n> Reference: {ID}")
PARTLY = "only a part of the mail is signed"


def parts(mail: bytes) -> SignedParts:
    found = signed_parts(read_mail(mail))
    assert found is not None
    return found


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pkcs7-signature", "x-pkcs7-signature"])
@pytest.mark.parametrize("boundary", ["=_b1", "Apple-Mail=_2F(x)+?", "----=_Part:0"])
def test_the_first_part_is_taken_exactly_as_it_was_sent(kind: str, boundary: str) -> None:
    found = parts(detached(CONTENT, CMS, boundary=boundary, kind=kind))
    assert (found.content, found.cms, found.reason) == (CONTENT, CMS, "")


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"\r\n\r\n", CONTENT + b"\r\n\r\n", CONTENT.rstrip(), b"X: y\r\n\r\n--=_b1x\r\n--=_b\r\n"]
)
def test_neither_a_line_more_nor_one_less_is_taken(content: bytes) -> None:
    assert parts(detached(content, CMS)).content == content


def test_a_mail_stored_with_other_ends_of_line_is_read_as_it_was_signed() -> None:
    assert parts(detached(CONTENT, CMS).replace(b"\r\n", b"\n")).content == CONTENT


def test_a_part_that_is_a_multipart_itself_is_taken_whole() -> None:
    inner = EmailMessage()
    inner.set_content(f"It works.\n> Reference: {ID}\n", cte="quoted-printable")
    inner.add_alternative(f"<p>It works.</p><blockquote>Reference: <b>{ID}</b></blockquote>", subtype="html", cte="base64")
    content = inner.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert parts(detached(content, CMS)).content == content
    assert named_deliveries(content) == (ID,)


@pytest.mark.parametrize(
    "kind",
    [
        "pkcs7-mime; smime-type=signed-data",
        "x-pkcs7-mime; smime-type=Signed-Data",
        "pkcs7-mime",
    ],
)
def test_an_opaque_signature_has_its_content_in_it(kind: str) -> None:
    found = parts(opaque(CMS, kind=kind))
    assert (found.content, found.cms, found.reason) == (None, CMS, "")


def test_the_header_tells_who_claims_to_have_answered_what() -> None:
    head = header('"Example, Alice" <Alice@EXAMPLE.org>', In_Reply_To="<a@b>", References="<a@b>\r\n <c@d>", Message_ID="<9@phone>")
    found = parts(detached(CONTENT, CMS, head))
    assert (found.sender, found.message_id, found.about.answers) == ("alice@example.org", "<9@phone>", ("<a@b>", "<c@d>"))


@pytest.mark.parametrize("sender", ["a@example.org, b@example.org", "a@example.org <b@example.org>", "", "undisclosed"])
def test_who_cannot_be_told_is_nobody(sender: str) -> None:
    assert not parts(detached(CONTENT, CMS, header(sender))).sender
    assert not parts(detached(CONTENT, CMS, [*header(), "From: eve@example.org"])).sender


# --- what is not signed, or not wholly -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mail",
    [
        b"From: a@example.org\r\n\r\npkcs7 is a word\r\n",
        opaque(CMS, kind="pkcs7-mime; smime-type=enveloped-data"),
        detached(CONTENT, CMS, kind="pgp-signature"),
        b"",
    ],
)
def test_what_is_not_signed_is_nothing(mail: bytes) -> None:
    assert signed_parts(read_mail(mail)) is None


def wrapped(inside: bytes, kind: str = "mixed") -> bytes:
    """A mail with another one's body as its first part, and a text behind it."""
    body = inside[inside.index(b"Content-Type:") :]
    top = "\r\n".join([*header(), f'Content-Type: multipart/{kind}; boundary="outer"', "", "--outer", ""]).encode()
    return top + body + b"\r\n--outer\r\nContent-Type: text/plain\r\n\r\nsent through a mailing list\r\n--outer--\r\n"


@pytest.mark.parametrize("inside", [detached(CONTENT, CMS), opaque(CMS)], ids=["detached", "opaque"])
@pytest.mark.parametrize("kind", ["mixed", "related", "alternative"])
def test_a_signature_inside_another_mail_is_not_the_mails(inside: bytes, kind: str) -> None:
    found = parts(wrapped(inside, kind))
    assert (found.cms, found.content, found.reason) == (b"", None, PARTLY)


def test_a_signed_mail_that_was_forwarded_is_not_an_answer() -> None:
    top = "\r\n".join([*header(), "Content-Type: message/rfc822", "", ""]).encode()
    assert signed_parts(read_mail(top + detached(CONTENT, CMS))) is None


def test_a_third_part_is_not_signed_by_anybody() -> None:
    mail = detached(CONTENT, CMS).replace(b"--=_b1--", b"--=_b1\r\nContent-Type: text/plain\r\n\r\nadded\r\n--=_b1--")
    assert parts(mail).reason == "a signed mail has two parts, its content and the signature"


def test_parts_in_another_order_and_parts_cut_off_are_no_signature() -> None:
    good = detached(CONTENT, CMS)
    other = good.replace(b"application/pkcs7-signature; name", b"application/octet-stream; name")
    assert parts(other).reason == "the signature is not where it must be"
    assert parts(good[: good.index(b"--=_b1\r\nContent-Type: application")]).reason
    assert parts(good[: good.index(b"--=_b1\r\nContent-Type: text")]).reason


def test_what_is_behind_the_last_boundary_is_no_part_of_the_mail() -> None:
    found = parts(detached(CONTENT, CMS) + b"footer of a mailing list\r\n")
    assert (found.content, found.reason) == (CONTENT, "")


# --- deliveries that are named ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (f"Reference: {ID}", (ID,)),
        (f"> > Referenz: {ID.lower()}.", (ID,)),
        (f"{ID} {OTHER} {ID}", (ID, OTHER)),
        (f"mailto:certificates@example.org?body=Reference%3A%20{ID}", ()),
        (f"x{ID}", ()),
        (f"{ID}Q", ()),
        (f"{ID[:-1]}U", ()),
        ("d-01JX0", ()),
    ],
)
def test_a_delivery_is_named_by_its_whole_identifier(words: str, named: tuple[str, ...]) -> None:
    assert named_deliveries(text(words)) == named


def test_an_attachment_names_nothing() -> None:
    content = EmailMessage()
    content.set_content("It works.\n")
    content.add_attachment(f"Reference: {ID}\n", filename="notes.txt")
    assert named_deliveries(content.as_bytes()) == ()


# --- hostile ---------------------------------------------------------------------------------------------------------


def test_signed_contents_that_cost_too_much_are_refused() -> None:
    many = b"".join(b"--b\r\n\r\n\r\n" for _ in range(200))
    with pytest.raises(BeyondLimits):
        named_deliveries(b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + many + ID.encode())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_mail_takes_the_parser_away_from_what_it_signs(data: st.DataObject) -> None:
    """Where bytes before the signature change, the content is that of the mail, or there is none; it is never mended."""
    mail = bytearray(detached(CONTENT, CMS))
    place = data.draw(st.integers(0, len(mail) - 1))
    mail[place] = data.draw(st.integers(0, 255))
    try:
        found = signed_parts(read_mail(bytes(mail)))
    except (BeyondLimits, ValueError, LookupError, AttributeError, TypeError):  # the caller takes these for a malformed mail
        return
    if found is not None and found.content is not None and found.content != CONTENT:
        begins = detached(CONTENT, CMS).index(CONTENT)
        assert begins - 30 <= place <= begins + len(CONTENT) + 10


def test_base64_with_anything_else_in_it_is_still_read() -> None:
    mail = detached(CONTENT, CMS).replace(base64.b64encode(CMS)[:10], base64.b64encode(CMS)[:10] + b"\r\n")
    assert parts(mail).cms == CMS
