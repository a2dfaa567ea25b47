"""What `track` shows of a round, its dates, and its log while it follows."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from distributor.cli import track
from distributor.errors import UsageError
from distributor.model.states import State
from distributor.workflows.notices import LeftAlone, MailboxReport, Remark
from distributor.workflows.tracking import StateChange, TrackingReport
from tests.cli.test_mailbox import add, ask, message_id
from tests.doubles.dovecot import PASSWORD, USER, Dovecot, dovecot
from tests.workspace import Workspace

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PATIENCE = 60.0  # seconds until a command that hangs is killed


def bounced(number: int, remedy: str = "") -> StateChange:
    return StateChange(f"d-{number}", f"p{number}@example.org", State.ACCEPTED, State.BOUNCED, "the mailbox is full", remedy)


def done(*moved: StateChange) -> track.TrackingRound:
    mails = MailboxReport(
        read=4,
        moved=list(moved),
        noted=[Remark("d-8", "p8@example.org", "delayed; the server goes on trying")],
        hints=[Remark("d-9", "p9@example.org", "there is no such mailbox")],
        left=[LeftAlone("<1@x>", "eve@example.org", "not authenticated: dmarc=fail")],
        unmatched=2,
    )
    return track.TrackingRound(TrackingReport(0, ()), mails, track.Revocations(), 0)


# --- one round -------------------------------------------------------------------------------------------------------


def test_bounced_deliveries_come_first_each_with_its_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    delivered = StateChange("d-1", "p1@example.org", State.ACCEPTED, State.DELIVERED, "delivered to the mailbox")
    track.show(done(delivered, bounced(2, "have the recipient free space"), bounced(3)), as_json=False)
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == ["address", "p2@example.org", "p3@example.org", "p1@example.org"]
    assert shown.err.splitlines() == [
        "4 mails read, 3 statuses changed, 1 noted, 2 unmatched",
        "noted: p8@example.org: delayed; the server goes on trying",
        "unmatched report, perhaps about p9@example.org (d-9): there is no such mailbox",
        "left alone: eve@example.org <1@x>: not authenticated: dmarc=fail",
        "next: p2@example.org: have the recipient free space",
        "next: p3@example.org: distributor history p3@example.org",
    ]


def test_of_many_bounced_deliveries_only_some_next_steps_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    track.show(done(*(bounced(number) for number in range(1, 9))), as_json=False)
    following = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ")]
    assert len(following) == 6
    assert following[-1] == "next: 3 more bounced; see docs/tracking.md#after-a-bounce"


def test_of_thousands_of_mails_that_lead_to_nothing_some_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    forged = [LeftAlone(f"<{number}@x>", "eve@example.org", "the signature is not valid") for number in range(3000)]
    remarks = [Remark("d-8", "p8@example.org", "delayed") for _ in range(22)]
    mails = MailboxReport(read=3044, left=forged, noted=remarks, hints=remarks)
    track.show(track.TrackingRound(TrackingReport(0, ()), mails, track.Revocations(), 0), as_json=False)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 + 3 * 21
    assert [lines[21], lines[42], lines[63]] == ["noted: 2 more", "unmatched report: 2 more", "left alone: 2980 more"]


def test_json_has_what_changed_what_was_noted_and_what_it_may_be_about(capsys: pytest.CaptureFixture[str]) -> None:
    track.show(done(bounced(2)), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["read"], found["unmatched"]) == ("distributor/track/1", 4, 2)
    assert found["moved"] == [
        {"id": "d-2", "address": "p2@example.org", "from": "accepted", "to": "bounced", "said": "the mailbox is full"}
    ]
    assert found["noted"] == [{"id": "d-8", "address": "p8@example.org", "said": "delayed; the server goes on trying"}]
    assert found["hints"] == [{"id": "d-9", "address": "p9@example.org", "said": "there is no such mailbox"}]


def test_a_bounce_needs_attention() -> None:
    assert (done().code, done(bounced(1)).code) == (0, 1)


# --- dates -------------------------------------------------------------------------------------------------------------


def test_a_date_of_the_last_year_is_taken() -> None:
    assert track.parse_date("2026-11-01", NOW) == datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "", "2025-01-01", "2026-12-01"])
def test_any_other_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        track.parse_date(text, NOW)
    assert "2026-11-30" in str(raised.value.hint)


# --- a mailbox ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def mailbox(sent: Workspace, server: Dovecot) -> Workspace:
    place = f'host = "localhost"\nport = {server.secure_port}\nusername = "{USER}"\n'
    requests = '[requests]\nby_mail = true\nauthserv_id = "mx.example.org"\naddress = "certs@example.org"\n'
    add(sent, f'[[trackers]]\nkind = "imap"\n{place}password = "env:IMAP_PASSWORD"\n{requests}')
    return sent


def environment(server: Dovecot) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(server.ca), "IMAP_PASSWORD": PASSWORD}


def test_mails_are_read_again_from_a_date_and_change_nothing(mailbox: Workspace, server: Dovecot) -> None:
    server.add(ask(1, "alice@example.org", message_id(mailbox, "alice@example.org")))
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    counts = []
    for options in ("", "", f"--since {yesterday}", ""):
        result = mailbox.run(f"distributor track --json {options} 2>/dev/null", **environment(server))
        found = json.loads(result.stdout)
        counts.append((found["read"], len(found["requests"])))
    assert counts == [(1, 1), (0, 0), (1, 0), (0, 0)]


def test_a_date_without_a_mailbox_and_with_follow_is_refused(sent: Workspace) -> None:
    add(sent, '[[trackers]]\nkind = "trace"\ntenant = "t"\nclient_id = "c"\nsecret = "env:NONE"\n')
    result = sent.run("distributor track --follow --since 2026-11-01")
    assert (result.returncode, "--follow and --since exclude each other" in result.stdout) == (2, True)


def followed(mailbox: Workspace, number: signal.Signals, **environment: str) -> list[dict[str, Any]]:
    """The lines of `track --follow`, which gets a signal after each round, and ends with 0."""
    command = [*mailbox.program(), "track", "--follow", "--log", "json"]
    where = {**mailbox.environment(), **environment}
    with subprocess.Popen(command, cwd=mailbox.folder, env=where, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(PATIENCE, process.kill)
        killer.start()
        try:
            assert process.stderr is not None
            lines = []
            for text in process.stderr:
                lines.append(json.loads(text))
                if lines[-1]["event"] == "round":
                    process.send_signal(number)
            assert process.wait() == 0
        finally:
            killer.cancel()
            process.kill()
    return lines


def test_track_follow_logs_each_round_until_a_signal_ends_it(mailbox: Workspace, server: Dovecot) -> None:
    server.add(ask(1, "alice@example.org", message_id(mailbox, "alice@example.org")))
    lines = followed(mailbox, signal.SIGTERM, **environment(server))
    assert [line["event"] for line in lines] == ["ready", "requested", "round", "stopped"]
    assert (lines[1]["address"], lines[2]["read"], lines[2]["moved"]) == ("alice@example.org", 1, 0)


def test_a_mailbox_that_cannot_be_read_does_not_end_it(mailbox: Workspace, server: Dovecot) -> None:
    lines = followed(mailbox, signal.SIGINT, **{**environment(server), "IMAP_PASSWORD": "not-the-password"})
    assert [line["event"] for line in lines] == ["ready", "refused", "round", "stopped"]
    assert (lines[1]["again_in"], "sign-in was refused" in lines[1]["message"], "not-the-password" in str(lines)) == (300, True, False)
