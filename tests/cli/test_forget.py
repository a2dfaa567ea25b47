"""`audit forget` on a terminal says first what goes; after a yes, nothing that names the person is in the ledger, which still verifies."""

from __future__ import annotations

import pytest

from tests.cli.screen import screen
from tests.workspace import Workspace

COMMAND = ("audit", "forget", "alice@example.org", "--reason", "erasure request, ticket 4711")


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("y\n", 0)], ids=["no", "yes"])
def test_it_asks_on_a_terminal_and_names_what_goes(sent: Workspace, answer: str, code: int) -> None:
    with screen(sent.folder, sent.environment(), *COMMAND) as terminal:
        terminal.until("[y/N]")
        shown = " ".join(terminal.shown.split())
        terminal.press(answer)
        assert terminal.end() == code
    assert "Erase alice@example.org? This cannot be undone. Erased: the personal data of" in shown
    assert "1 certificate, 1 unopened password." in shown
    verified = sent.run("distributor audit verify")
    assert (verified.returncode, "with personal data erased" in verified.stdout) == (0, code == 0)
    ledger = b"".join(path.read_bytes() for path in sent.folder.glob("distributor.db*"))
    assert (b"alice@example.org" in ledger) is (code != 0)


def test_without_a_terminal_it_wants_the_flag(sent: Workspace) -> None:
    refused = sent.run(f"distributor {' '.join(COMMAND[:3])} --reason ticket")
    assert (refused.returncode, "add --yes" in refused.stdout) == (2, True)
