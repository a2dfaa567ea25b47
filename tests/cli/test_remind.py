"""`distributor remind`: who is listed, what they are sent, and that nobody gets the same reminder twice."""

from __future__ import annotations

import json
import re
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from tests.workspace import PASSWORD, Workspace

DAY = 86400


def after(workspace: Workspace, days: float, command: str) -> tuple[int, str]:
    """The exit code and the output of a command by a clock that is some days ahead."""
    result = workspace.run(f"{sys.executable} -m tests.doubles.elsewhere {round(days * DAY)} - {command}")
    return result.returncode, result.stdout


def listed(workspace: Workspace, days: float, options: str = "") -> dict[str, list[dict[str, object]]]:
    code, answer = after(workspace, days, f"remind --json {options} 2>/dev/null")
    assert code == 0, answer
    return dict(json.loads(answer))


def addresses(rows: list[dict[str, object]]) -> list[str]:
    return [str(row["address"]).partition("@")[0] for row in rows]


def newest(workspace: Workspace) -> EmailMessage:
    message = message_from_bytes(workspace.handler.messages[-1], policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def words(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return " ".join(str(body.get_content()).split())


def calendar(message: EmailMessage) -> EmailMessage:
    (entry,) = message.iter_attachments()
    assert isinstance(entry, EmailMessage)
    return entry


def test_who_did_not_collect_the_password_is_written_to_once_after_three_days_and_once_on_the_last(sent: Workspace) -> None:
    before = len(sent.handler.messages)
    found = listed(sent, 0)
    assert list(found) == ["schema", "expiring", "uncollected", "unconfirmed", "sent"]
    assert (addresses(found["expiring"]), addresses(found["unconfirmed"]), found["sent"]) == ([], [], [])
    assert addresses(found["uncollected"]) == ["alice", "bob"]
    assert {row["due"] for row in found["uncollected"]} == {None}
    assert set(found["uncollected"][0]) >= {"id", "address", "name", "since", "expires_at", "last_reminder"}
    code, answer = after(sent, 3.1, "remind --send --yes")
    assert (code, "2 reminders sent" in answer) == (0, True), answer
    assert len(sent.handler.messages) == before + 2
    by_person = {str(one["To"]): one for one in (message_from_bytes(raw, policy=policy.default) for raw in sent.handler.messages[before:])}
    bob = by_person["Bob Example <bob@example.org>"]
    assert "Passwort" in str(bob["Subject"])
    assert (bob["Auto-Submitted"], bob["X-Auto-Response-Suppress"]) == ("auto-generated", "RN, NRN, OOF, AutoReply")
    assert not list(bob.iter_attachments())
    assert PASSWORD not in bob.as_string()
    code, answer = after(sent, 3.2, "remind --send --yes")
    assert (code, "no reminder is due now" in answer) == (0, True), answer
    code, answer = after(sent, 13.5, "remind --send --yes --to alice@example.org --json 2>/dev/null")
    (row,) = json.loads(answer)["sent"]
    assert (code, row["address"], row["kind"], row["step"], row["outcome"]) == (0, "alice@example.org", "uncollected", "last-day", "sent")
    assert len(sent.handler.messages) == before + 3
    names = [event["event"] for event in json.loads(sent.run("distributor history alice@example.org --json").stdout)["events"]]
    assert names[-3:] == ["accepted", "reminded", "reminded"]
    assert sent.run("distributor audit verify").returncode == 0


def test_a_certificate_that_expires_is_told_with_a_calendar_entry_until_it_is_replaced(sent: Workspace) -> None:
    sent.run('distributor password reveal alice@example.org --reason "called" --stdout')
    found = listed(sent, 340)
    assert addresses(found["expiring"]) == ["alice", "bob"]
    assert addresses(listed(sent, 340, "--days 5")["expiring"]) == []
    code, answer = after(sent, 340, "remind --send --yes --to alice@example.org")
    assert (code, "1 reminder sent" in answer) == (0, True), answer
    message = newest(sent)
    entry = calendar(message)
    assert (entry.get_content_type(), entry.get_param("method"), entry.get_content_charset()) == ("text/calendar", None, "utf-8")
    assert re.fullmatch(r"certificate-\d{4}-\d\d-\d\d\.ics", entry.get_filename() or "")
    day = str(found["expiring"][0]["not_after"])[:10]
    text = bytes(entry.get_payload(decode=True)).decode()  # type: ignore[arg-type]
    assert f"DTSTART;VALUE=DATE:{day.replace('-', '')}\r\n" in text
    assert "Keep the old certificate" in words(message)
    again = after(sent, 351, "remind --send --yes --to alice@example.org")  # the step of 14 days
    assert "no reminder is due now" not in again[1]
    uid = re.findall(r"UID:.*", text)
    assert re.findall(r"UID:.*", bytes(calendar(newest(sent)).get_payload(decode=True)).decode()) == uid  # type: ignore[arg-type]
    number = len(sent.handler.messages)
    assert after(sent, 365, "remind --send --yes --to alice@example.org")[0] == 0
    assert "CERTIFICATE HAS EXPIRED" in words(newest(sent))
    assert not list(newest(sent).iter_attachments())
    assert len(sent.handler.messages) == number + 1
    sent.add_pfx("alice", "alice@example.org", days=700)
    assert sent.run("distributor plan certificates/alice.pfx").returncode == 0
    assert addresses(listed(sent, 365)["expiring"]) == ["bob"]


def test_who_never_confirmed_is_asked_once_and_only_after_the_password_was_collected(sent: Workspace) -> None:
    sent.run('distributor password reveal bob@example.org --reason "called" --stdout')
    assert addresses(listed(sent, 8)["unconfirmed"]) == ["alice", "bob"]
    assert [row["due"] for row in listed(sent, 8)["unconfirmed"]] == [None, "7-days"]
    code, answer = after(sent, 8, "remind --send --yes --to bob@example.org")
    assert (code, "1 reminder sent" in answer) == (0, True), answer
    assert "Funktioniert" in str(newest(sent)["Subject"])
    code, answer = after(sent, 9, "remind --send --yes --to bob@example.org")
    assert "no reminder is due now" in answer


def test_a_reminder_that_the_server_refuses_at_its_end_is_tried_again(sent: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> str:
        return "554 5.7.1 not today"

    before = len(sent.handler.messages)
    monkeypatch.setattr(sent.handler, "handle_DATA", refuse)
    code, answer = after(sent, 3.1, "remind --send --yes --to alice@example.org")
    assert (code, "not sent: 554 5.7.1 not today" in answer, "1 not sent" in answer) == (1, True, True), answer
    monkeypatch.undo()
    code, answer = after(sent, 3.2, "remind --send --yes --to alice@example.org")
    assert (code, "1 reminder sent" in answer, len(sent.handler.messages)) == (0, True, before + 1), answer
    names = [event["event"] for event in json.loads(sent.run("distributor history alice@example.org --json").stdout)["events"]]
    assert names[-3:] == ["reminded", "reminder-refused", "reminded"]


def test_an_answer_that_is_lost_is_never_followed_by_the_same_reminder(sent: Workspace) -> None:
    sent.add_faulty_server("DOT:stored-drop:1")
    code, answer = after(sent, 3.1, "remind --send --yes --to alice@example.org")
    assert (code, "ambiguous" in answer) == (1, True), answer
    code, answer = after(sent, 3.2, "remind --send --yes --to alice@example.org")
    assert (code, "no reminder is due now" in answer) == (0, True), answer


def test_a_listing_ends_with_the_next_step_and_a_question_that_cannot_be_asked_names_its_flag(sent: Workspace) -> None:
    code, answer = after(sent, 3.1, "remind")
    assert code == 0
    assert answer.splitlines()[0] == "2 passwords not collected"
    assert answer.splitlines()[-1] == "2 reminders are due; next: distributor remind --send"
    assert all(len(line) <= 80 for line in answer.splitlines())
    code, answer = after(sent, 3.1, "remind --send")
    assert (code, "--yes" in answer) == (2, True), answer
    assert sent.run("distributor remind --yes").returncode == 2
    unknown = sent.run("distributor remind --to nobody@example.org")
    assert unknown.returncode == 1, unknown.stdout
