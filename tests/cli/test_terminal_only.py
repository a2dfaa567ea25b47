"""What happens only where a person sits: questions, a password on the screen, a bar, colours."""

from __future__ import annotations

import json

import pytest

from tests.cli.screen import screen
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")


def test_a_password_is_shown_large_and_gone_after_enter(sent: Workspace) -> None:
    with screen(sent.folder, sent.environment(), "password", "reveal", "alice@example.org", "--reason", "she called") as terminal:
        terminal.until("press Enter to clear the screen")
        assert "\x1b[?1049h" in terminal.shown  # the terminal's other screen, which leaves no scroll-back
        terminal.press("\n")
        terminal.until("\x1b[?1049l")
        assert terminal.end() == 0
    events = json.loads(sent.run("distributor history alice@example.org --json").stdout)["events"]
    assert events[-1]["event"] == "revealed"
    assert events[-1]["evidence"]["reason"] == "she called"


def test_an_interrupt_clears_the_password_too(sent: Workspace) -> None:
    with screen(sent.folder, sent.environment(), "password", "reveal", "alice@example.org", "--reason", "she called") as terminal:
        terminal.until("press Enter")
        terminal.press("\x03")
        terminal.until("\x1b[?1049l")
        assert terminal.end() == 130


def test_the_question_names_number_domains_and_sender_and_no_means_no(planned: Workspace) -> None:
    with screen(planned.folder, planned.environment(), "send") as terminal:
        terminal.until("Send 2 messages from certificates@example.org to 1 domain (example.org)? [y/N] ")
        terminal.press("n\n")
        assert terminal.end() == 1
        assert "error: cancelled; nothing sent" in terminal.shown
    assert planned.handler.messages == []


def test_yes_means_yes_and_the_bar_shows_it(planned: Workspace) -> None:
    with screen(planned.folder, planned.environment(), "send") as terminal:
        terminal.until("[y/N] ")
        terminal.press("y\n")
        assert terminal.end() == 0
        assert "sending" in terminal.shown
        assert "2 messages accepted" in terminal.shown
    assert len(planned.handler.messages) == 2


def test_an_interrupted_question_is_exit_130_and_sends_nothing(planned: Workspace) -> None:
    with screen(planned.folder, planned.environment(), "send") as terminal:
        terminal.until("[y/N] ")
        terminal.press("\x03")
        assert terminal.end() == 130
        assert "interrupted; nothing is lost" in terminal.shown
    assert planned.handler.messages == []


def test_colours_are_left_out_where_they_are_not_wanted(planned: Workspace) -> None:
    with screen(planned.folder, planned.environment(), "status") as terminal:
        assert terminal.end() == 0
        assert "\x1b[" in terminal.shown
    with screen(planned.folder, {**planned.environment(), "NO_COLOR": "1"}, "status") as terminal:
        assert terminal.end() == 0
        assert "\x1b[" not in terminal.shown
