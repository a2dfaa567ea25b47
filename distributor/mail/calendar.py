"""Makes a calendar file (iCalendar, RFC 5545) with the last day of a certificate. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from icalendar import Alarm, Calendar, Event

CONTENT_TYPE = "text/calendar; charset=utf-8"
ALARM_BEFORE = timedelta(days=14)
_PRODUCT = "-//distributor//reminder//EN"


@dataclass(frozen=True, slots=True)
class LastDay:
    """An all-day event. `certificate` (SHA-256) is its identity: a file of a later reminder replaces the entry of an earlier one."""

    certificate: str
    not_after: datetime
    title: str
    text: str


def calendar_file(last: LastDay, *, now: datetime) -> bytes:
    """The file, with an alarm. It is an entry of one's own: no METHOD, no organizer, no attendee, so that nothing is answered."""
    calendar, event, alarm = Calendar(), Event(), Alarm()
    calendar.add("prodid", _PRODUCT)
    calendar.add("version", "2.0")
    day = last.not_after.astimezone(UTC).date()
    event.add("uid", f"{last.certificate}@certificate")
    event.add("dtstamp", now.astimezone(UTC).replace(microsecond=0))
    event.add("dtstart", day)
    event.add("dtend", day + timedelta(days=1))
    event.add("summary", last.title)
    event.add("description", last.text)
    event.add("transp", "TRANSPARENT")  # it does not make the day busy
    alarm.add("action", "DISPLAY")
    alarm.add("trigger", -ALARM_BEFORE)
    alarm.add("description", last.title)
    event.add_component(alarm)
    calendar.add_component(event)
    return bytes(calendar.to_ical())
