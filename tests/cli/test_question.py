"""What the question before a run says of its length: the slowest mailbox decides, and the day's limit is said in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.screen import screen
from tests.workflows import outbox
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

TWO = '\n[[senders]]\naddress = "certificates2@example.org"\n'


def limits(workspace: Workspace, *lines: str, end: str = "") -> None:
    config = workspace.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[transport]\n", "[transport]\n" + "".join(f"{line}\n" for line in lines)) + end, encoding="utf-8")


def asked(workspace: Workspace, *words: str) -> str:
    """What stands in parentheses after the domains."""
    with screen(workspace.folder, workspace.environment(), "send", *words) as terminal:
        shown = terminal.until("[y/N] ")
        terminal.press("n\n")
        assert terminal.end() == 1
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "THEN", shown.rpartition("(example.org)")[2].partition("?")[0]).strip()


def freeze(workspace: Workspace, count: int) -> None:
    """Messages of the first mailbox, beside Alice's and Bob's, which are not made yet."""
    ledger = outbox.new_ledger(Path(workspace.folder / "distributor.db"))
    owner = outbox.me()
    name = "frozen"
    ledger.begin_plan(name, {})
    made = ledger.plan(name, [outbox.draft(number) for number in range(count)])
    ledger.enqueue([outbox.packed(one.id, one.address) for one in made], owner)
    ledger.close()


def test_a_mailbox_without_limits_says_nothing(planned: Workspace) -> None:
    assert asked(planned) == ""


def test_messages_that_are_made_for_one_of_two_mailboxes_take_as_long_as_that_one_needs(planned: Workspace) -> None:
    limits(planned, 'rate = "30/min"', end=TWO)
    freeze(planned, 298)  # and one of Alice and Bob
    assert asked(planned) == "(about 10 min at 30 messages a minute a mailbox)"


def test_what_is_more_than_a_day_s_messages_is_said(planned: Workspace) -> None:
    limits(planned, 'rate = "30/min"', "daily = 270")
    freeze(planned, 298)
    assert asked(planned) == "(about 9 min for 270 messages today; 30 more after THEN UTC: run `distributor send` again)"
    assert asked(planned, "--limit", "30") == "(about 1 min at 30 messages a minute)"


def test_what_left_already_counts(planned: Workspace) -> None:
    limits(planned, "daily = 3")
    assert planned.run("distributor send --yes").returncode == 0
    freeze(planned, 3)
    assert asked(planned) == "(1 message today; 2 more after THEN UTC: run `distributor send` again)"
    assert planned.run("distributor send --yes").returncode == 4
    none = "none now: a mailbox may send 3 messages in 24 hours"
    assert asked(planned) == f"({none}; 2 after THEN UTC: run `distributor send` again)"
