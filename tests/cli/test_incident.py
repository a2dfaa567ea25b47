"""`incident` on a terminal says first what it will do, and does nothing after a no."""

from __future__ import annotations

import pytest

from tests.cli.screen import screen
from tests.workspace import Workspace

COMMAND = ("incident", "alice@example.org", "--reason", "phone stolen")


@pytest.mark.parametrize(
    ("answer", "code", "password"), [("n\n", 1, "ready"), ("y\n", 1, "destroyed")]
)  # after a yes: her message has left
def test_it_asks_on_a_terminal_and_names_what_will_happen(sent: Workspace, answer: str, code: int, password: str) -> None:
    with screen(sent.folder, sent.environment(), *COMMAND) as terminal:
        terminal.until("[y/N]")
        shown = " ".join(terminal.shown.split())
        terminal.press(answer)
        assert terminal.end() == code
    assert "This destroys 1 password and withdraws 0 unsent messages; nothing is sent any more for 1 certificate." in shown
    assert password in sent.run("distributor status alice@example.org").stdout
