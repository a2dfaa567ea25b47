"""`send --to` sends to the people named and nobody else; `send --wait` stays until nothing is deferred."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from distributor.ledger.sqlite import sqlite3
from tests.workspace import Workspace


def test_only_the_people_named_are_sent_to(planned: Workspace) -> None:
    planned.run_script(
        "$ distributor send --to ALICE@example.org --yes\n1 message accepted\n...\n"
        "$ distributor status --state planned 2>/dev/null | grep -c bob@example.org\n1\n"
        "$ distributor send --to alice@example.org --to bob@example.org --dry-run look\n"
        "alice@example.org: nothing due (accepted)\nwould send to bob@example.org: look/d-...eml\n...\n"
        "$ distributor send --to nobody@example.org --to bob@example.org --yes\n"
        'error: "nobody@example.org" is not in the ledger\nhint: ...\n? 1\n'
        "$ distributor send --to bob --yes\nerror: ...\nhint: ...\n? 2\n"
        "$ distributor send --to bob@example.org --yes --json | grep -c bob@example.org\n1\n"
    )
    assert len(planned.handler.messages) == 2


@contextmanager
def waiting(workspace: Workspace, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`send --wait`, once it says that it waits."""
    command = [*workspace.program(), "send", "--wait", "--yes", *arguments]
    with subprocess.Popen(
        command, cwd=workspace.folder, env=workspace.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.startswith("waiting until 2"):
                    assert line.endswith("Z: 1 message deferred\n")
                    break
            yield process
        finally:
            process.kill()


@pytest.fixture
def later(planned: Workspace) -> Workspace:
    """A third message, which the server defers for ten minutes."""
    planned.run_script("+ pfx later later@example.org\n$ distributor plan certificates/later.pfx >/dev/null 2>&1\n")
    return planned


async def _accept(_server: object, _session: object, envelope: object, address: str, _options: object) -> str:
    envelope.rcpt_tos.append(address)  # type: ignore[attr-defined]
    return "250 2.1.5 fine"


def test_what_was_deferred_is_sent_when_it_is_due(later: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting(later, "--json") as process:
        monkeypatch.setattr(later.handler, "handle_RCPT", _accept)
        with closing(sqlite3.connect(later.folder / "distributor.db")) as connection:  # ten minutes pass
            connection.execute("UPDATE delivery SET not_before = '2026-01-01T00:00:00.000000Z' WHERE state = 'deferred'")
            connection.commit()
        out, _ = process.communicate(timeout=60)
    answer = json.loads(out)
    assert process.returncode == 0
    assert (answer["accepted"], answer["deferred"], answer["remaining"]) == (3, 0, 0)
    assert sorted((row["address"], row["state"]) for row in answer["deliveries"]) == [
        ("alice@example.org", "accepted"),
        ("bob@example.org", "accepted"),
        ("later@example.org", "accepted"),
    ]


def test_it_ends_when_another_process_has_sent_what_was_deferred(later: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting(later) as process:
        monkeypatch.setattr(later.handler, "handle_RCPT", _accept)
        assert later.run("distributor send --now --yes").returncode == 0
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == "2 messages accepted\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_wait_and_nothing_is_lost(later: Workspace, number: signal.Signals) -> None:
    with waiting(later) as process:
        started = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - started < 4
    assert out == "2 messages accepted, 1 deferred; 1 remaining\n"
    assert err.endswith("interrupted; nothing is lost\nhint: run `distributor send` again to continue\n")


def test_waiting_for_a_dry_run_is_a_usage_error(planned: Workspace) -> None:
    planned.run_script("$ distributor send --wait --dry-run look\nerror: --wait and --dry-run exclude each other\nhint: ...\n? 2\n")
