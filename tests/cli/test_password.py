"""A password that is spent: however its command ends, the last line says so, and how to get a new one."""

from __future__ import annotations

import os
import signal
from contextlib import closing

import pytest

from distributor.cli import app
from distributor.cli.password import CLEAR
from distributor.errors import InvalidInput
from distributor.ledger.sqlite import sqlite3
from distributor.workflows import reveal
from tests.cli.screen import Screen, screen
from tests.workspace import Workspace

WHOLE_COMMANDS = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

REVEAL = ("password", "reveal", "alice@example.org", "--reason", "she called")
SPENT = "alice@example.org: password revealed; if it is lost: distributor resend alice@example.org --reason TEXT"


def last(terminal: Screen) -> str:
    return terminal.shown.replace("\r", "").rstrip("\n").rpartition("\n")[2].removeprefix(CLEAR)


@WHOLE_COMMANDS
@pytest.mark.parametrize("how", ["\x03", "\x1c", signal.SIGTERM, signal.SIGHUP], ids=["Ctrl-C", "Ctrl-backslash", "SIGTERM", "SIGHUP"])
def test_an_interrupted_screen_says_that_the_password_is_spent(sent: Workspace, how: str | int) -> None:
    with screen(sent.folder, sent.environment(), *REVEAL) as terminal:
        terminal.until("press Enter")
        terminal.press(how) if isinstance(how, str) else os.kill(terminal.pid, how)
        assert terminal.end() == 130
    assert "\x1b[?1049l" in terminal.shown
    assert "nothing is lost" not in terminal.shown
    assert last(terminal) == f"hint: {SPENT}"


@WHOLE_COMMANDS
def test_after_enter_it_is_said_too_whatever_was_typed_before(sent: Workspace) -> None:
    with screen(sent.folder, sent.environment(), *REVEAL) as terminal:
        terminal.until("press Enter")
        os.write(terminal._terminal, b"\x1a\xff\xfe\n")  # noqa: SLF001  Ctrl-Z, which would leave it on the screen, and octets that are no text
        assert terminal.end() == 0
    assert last(terminal) == SPENT


@WHOLE_COMMANDS
def test_a_pipe_that_takes_nothing_says_that_the_password_is_spent(sent: Workspace) -> None:
    done = sent.run(f'distributor {" ".join(REVEAL[:3])} --reason "she called" --stdout >/dev/full')
    assert done.returncode == 3
    assert done.stdout.splitlines() == [
        "error: standard output: the password cannot be written: no space left on device",
        f"hint: {SPENT}",
    ]
    assert "handed-over" in sent.run("distributor status alice@example.org").stdout


@WHOLE_COMMANDS
def test_a_reader_that_is_gone_lost_the_password_and_that_is_said(sent: Workspace) -> None:
    done = sent.run(f'(sleep 1; distributor {" ".join(REVEAL[:3])} --reason "she called" --stdout; echo $? >&2) | true')
    assert done.stdout.splitlines() == ["error: standard output: the password cannot be written: broken pipe", f"hint: {SPENT}", "3"]


@WHOLE_COMMANDS
def test_an_envelope_that_does_not_open_is_spent_all_the_same(
    sent: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FailingReveal(reveal.Reveal):
        def hand_over(self, envelope: reveal.SealedPassword, reason: str) -> reveal.Secret:
            super().hand_over(envelope, reason)
            raise InvalidInput("it is damaged", where="envelope", hint="look for another")

    monkeypatch.setattr(reveal, "Reveal", FailingReveal)
    assert app.run(["--config", str(sent.folder / "distributor.toml"), *REVEAL, "--stdout"]) == 3
    assert capsys.readouterr().err == f"error: envelope: it is damaged\nhint: look for another; {SPENT}\n"


@WHOLE_COMMANDS
def test_an_interrupt_before_the_hand_over_spends_nothing(
    sent: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reveal.Reveal, "hand_over", interrupted)
    assert app.run(["--config", str(sent.folder / "distributor.toml"), *REVEAL, "--stdout"]) == 130
    assert capsys.readouterr().err == "interrupted; nothing is lost\n"
    assert "ready" in sent.run("distributor status alice@example.org").stdout


# --- a sealed password of another person ------------------------------------------------------------------------------


SWAP = """
UPDATE handover SET sealed = (SELECT h.sealed FROM handover h JOIN delivery d ON d.id = h.delivery JOIN person p ON p.id = d.person
WHERE p.key LIKE 'bob@%') WHERE delivery = (SELECT d.id FROM delivery d JOIN person p ON p.id = d.person WHERE p.key LIKE 'alice@%')
"""


def test_another_person_s_password_is_never_shown(sent: Workspace) -> None:
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection:
        assert connection.execute(SWAP).rowcount == 1
        connection.commit()
    done = sent.run("distributor password reveal alice@example.org --reason 'she called' --stdout")
    assert done.returncode == 3
    error, hint = done.stdout.splitlines()
    assert error.startswith("error: d-")
    assert error.endswith(": the sealed password belongs to another delivery")
    assert hint.startswith("hint: the ledger was modified outside distributor, no password was shown; run `distributor resend`")
    assert '"revealed"' not in sent.run("distributor history alice@example.org --json").stdout
    assert sent.run("distributor resend alice@example.org --reason 'was edited' --yes && distributor send --yes").returncode == 0
    assert sent.run("distributor password reveal alice@example.org --reason 'again' --stdout").returncode == 0
