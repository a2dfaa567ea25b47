"""The calendar file with a certificate's last day, by the rules of RFC 5545, read without the library that wrote it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from distributor.mail.calendar import LastDay, calendar_file
from distributor.mail.message import Attachment, MessageHeaders, RenderedText, compose
from distributor.mail.message import Mailbox as Box
from distributor.model.people import Address

NOW = datetime(2026, 11, 30, 19, 12, 7, 500, tzinfo=UTC)
TEXT = "Fragen Sie nach einem neuen: IT-Service, +49 30 1234567; und behalten Sie das alte für alte E-Mails \\ Übermut " * 2


def last(not_after: datetime = datetime(2028, 11, 1, 8, tzinfo=UTC), *, text: str = TEXT) -> LastDay:
    return LastDay("ab" * 32, not_after, "Ihr S/MIME-Zertifikat läuft ab", text)


def lines(data: bytes) -> list[str]:
    """Content lines, unfolded (RFC 5545 3.1)."""
    assert data.endswith(b"\r\n")
    assert b"\n" not in data.replace(b"\r\n", b"")
    physical = data.split(b"\r\n")[:-1]
    assert max(map(len, physical)) <= 75  # octets
    assert [line.decode() for line in physical]  # no character is cut
    return data.decode().replace("\r\n ", "").split("\r\n")[:-1]


def values(data: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in lines(data) if not line.startswith(("BEGIN", "END")))


def test_it_is_an_all_day_event_with_an_alarm_two_weeks_before() -> None:
    found = lines(calendar_file(last(), now=NOW))
    assert found[0] == "BEGIN:VCALENDAR"
    assert found[-1] == "END:VCALENDAR"
    assert {"DTSTART;VALUE=DATE:20281101", "DTEND;VALUE=DATE:20281102", "DTSTAMP:20261130T191207Z", "TRIGGER:-P14D"} <= set(found)
    alarm = found[found.index("BEGIN:VALARM") : found.index("END:VALARM")]
    assert {"ACTION:DISPLAY", "TRIGGER:-P14D"} <= set(alarm)
    assert any(line.startswith("DESCRIPTION:") for line in alarm)
    assert {"VERSION:2.0", "TRANSP:TRANSPARENT"} <= set(found)


def test_nobody_is_invited_and_nothing_is_asked_for() -> None:
    assert not re.search(rb"(?m)^(METHOD|ATTENDEE|ORGANIZER|URL|ATTACH)", calendar_file(last(), now=NOW))


def test_text_is_escaped_and_folded() -> None:
    description = next(line for line in lines(calendar_file(last(), now=NOW)) if line.startswith("DESCRIPTION:Fragen"))
    plain = re.sub(r"\\([\\;,])", r"\1", description.removeprefix("DESCRIPTION:"))
    assert plain == TEXT
    assert "IT-Service\\, +49" in description


def test_the_same_certificate_keeps_its_identity_and_another_has_its_own() -> None:
    one, again = (values(calendar_file(last(text=text), now=NOW + timedelta(days=n)))["UID"] for n, text in enumerate(("a", "b")))
    other = values(calendar_file(LastDay("cd" * 32, last().not_after, "t", "t"), now=NOW))["UID"]
    assert one == again != other


@pytest.mark.parametrize(("hours", "day"), [(0, "20281101"), (10, "20281031")])
def test_the_day_is_that_of_utc_as_in_the_message(hours: int, day: str) -> None:
    moment = datetime(2028, 11, 1, 8, tzinfo=timezone(timedelta(hours=hours)))
    assert f"DTSTART;VALUE=DATE:{day}" in lines(calendar_file(last(moment), now=NOW))


def test_a_message_carries_it_as_a_file_with_its_own_type() -> None:
    box = Box(Address("anna", "example.org"))
    headers = MessageHeaders(box, box, NOW, "1@example.org", "ab")
    data = compose(headers, RenderedText("de", "s", "t", "<p>t</p>"), Attachment("last-day.ics", b"x", "text/calendar; charset=utf-8"))
    assert b'Content-Type: text/calendar; charset=utf-8;\r\n name="last-day.ics"\r\n' in data
    assert b"x-pkcs12" not in data
    with pytest.raises(ValueError, match="content type"):
        compose(
            headers, RenderedText("de", "s", "t", "<p>t</p>"), Attachment("last-day.ics", b"x", "text/calendar\r\nBcc: eve@example.org")
        )
