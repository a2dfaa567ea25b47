"""A reminder's message is told from the package's of the same delivery, also by the server that reports about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from distributor.adapters.transports.smtp.session import mail
from distributor.mail.message import Mailbox, RenderedText
from distributor.model.attempts import OutboundMessage
from distributor.model.people import Address
from distributor.model.reminders import Reminder, ReminderKind
from distributor.workflows.remind import ReminderJob, ReminderMaker

NOW = datetime(2026, 11, 30, tzinfo=UTC)


class Texts:
    """The same text whatever is asked for."""

    def render(self, language: str, values: Mapping[str, object]) -> RenderedText:
        del language, values
        return RenderedText("en", "Subject", "Text\n", "<p>Text</p>\n")

    def render_files(self, language: str, names: tuple[str, ...], values: Mapping[str, object]) -> tuple[str, ...]:
        del language, names, values
        return ()


def test_the_envid_of_a_reminder_is_not_that_of_its_package() -> None:
    texts = dict.fromkeys(ReminderKind, Texts())
    reminder = Reminder(
        ReminderKind.UNCONFIRMED, "d-1", "anna@example.org", "Anna", "en", "0" * 64, "1", datetime(2027, 1, 1, tzinfo=UTC), NOW, None
    )
    sender = Mailbox(Address("certs", "example.org"))
    made = ReminderMaker(texts, "Example")(ReminderJob(reminder, "7-days", sender, {}, NOW))
    assert isinstance(made, OutboundMessage)
    words = mail(made, lambda extension: extension == "dsn")
    assert isinstance(words, tuple)
    assert words[-1] == b"ENVID=d-1-reminder.1"
