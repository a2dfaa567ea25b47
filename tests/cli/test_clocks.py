"""A clock that is wrong for one command: it is told, and the next command with the right clock does what it always does."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.doubles.sink import smtpd
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

HOUR, DAY = 3600, 86400
PATIENCE = 60.0  # seconds


def ahead(workspace: Workspace, seconds: int, command: str) -> subprocess.CompletedProcess[str]:
    return workspace.run(f"{sys.executable} -m tests.doubles.elsewhere {seconds} - {command}")


def listed(workspace: Workspace) -> dict[str, dict[str, object]]:
    rows = json.loads(workspace.run("distributor status --json 2>/dev/null").stdout)["deliveries"]
    return {str(row["address"]).partition("@")[0]: row for row in rows}


def test_messages_go_out_after_a_plan_from_the_future(planned: Workspace) -> None:
    planned.add_pfx("cleo", "cleo@example.org")
    assert ahead(planned, 5 * 365 * DAY, "plan certificates/cleo.pfx").returncode == 1  # by that clock it expired
    planned.add_pfx("dora", "dora@example.org")
    assert ahead(planned, 3 * HOUR, "plan certificates/dora.pfx").returncode == 0
    result = planned.run("distributor send --yes")
    assert (result.returncode, "3 messages accepted" in result.stdout) == (0, True), result.stdout
    assert "3 h ahead of the clock" in result.stdout
    assert "timedatectl set-ntp true" in result.stdout
    again = planned.run("distributor send --yes")
    assert (again.returncode, "ahead of the clock" in again.stdout) == (0, False), again.stdout
    verified = planned.run("distributor audit verify")
    assert (verified.returncode, "the numbers give the order" in verified.stdout) == (0, True), verified.stdout


@pytest.mark.parametrize("command", ["status", "audit verify", "doctor"])
def test_a_last_event_from_the_future_is_told_by_every_look(planned: Workspace, command: str) -> None:
    planned.add_pfx("dora", "dora@example.org")
    ahead(planned, 3 * HOUR, "plan certificates/dora.pfx")
    result = planned.run(f"distributor {command}")
    assert (result.returncode, "3 h ahead of the clock" in result.stdout) == (0, True), result.stdout


def test_a_server_that_says_later_is_asked_once_also_after_an_event_from_the_future(planned: Workspace) -> None:
    planned.add_pfx("later", "later@example.org")
    ahead(planned, 3 * HOUR, "plan certificates/later.pfx")
    report = json.loads(planned.run("distributor send --yes --json 2>/dev/null").stdout)
    assert (report["accepted"], report["deferred"]) == (2, 1)
    assert listed(planned)["later"]["attempts"] == 1


def test_two_harmless_commands_with_a_clock_ahead_cost_no_password(sent: Workspace) -> None:
    for seconds in (15 * DAY, 15 * DAY + 60):
        assert ahead(sent, seconds, "resolve").returncode == 0
    assert listed(sent)["alice"]["password"] == {"channel": "reveal", "state": "expired"}
    result = sent.run('distributor password reveal alice@example.org --reason "called" --stdout 2>/dev/null')
    assert (result.returncode, len(result.stdout.split())) == (0, 1), result.stdout
    assert sent.run("distributor audit verify").returncode == 0


def test_what_another_sender_holds_is_told_with_who_and_until_when(planned: Workspace) -> None:
    planned.add_faulty_server("DOT:silence:1")
    environment = planned.environment()
    argv = [sys.executable, "-m", "tests.doubles.elsewhere", "0", "another host", "send", "--limit", "1", "--yes"]
    with subprocess.Popen(argv, cwd=planned.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sender:
        deadline = time.monotonic() + PATIENCE
        while not any(row["state"] == "transmitting" for row in listed(planned).values()):
            assert time.monotonic() < deadline, "it never came to the end of data"
            time.sleep(0.1)
        sender.kill()
    with smtpd(planned.folder / "well") as well:
        planned._point_to(well.port)  # noqa: SLF001  the workspace's mail server
        report = planned.run("distributor send --yes --json")
        again = planned.run("distributor send --yes")
    assert (report.returncode, '"under_way": 1' in report.stdout, '"accepted": 1' in report.stdout) == (0, True, True), report.stdout
    assert (again.returncode, "nothing else is due now" in again.stdout) == (0, True), again.stdout
    assert f"1 message being sent by process {sender.pid} of " in again.stdout
    assert "`distributor send` takes over after 20" in again.stdout
    assert "1 message being sent by process" in planned.run("distributor status").stdout
