"""A sealed password that was copied into another person's row: nothing is shown, nothing is used up."""

from __future__ import annotations

from contextlib import closing

from distributor.ledger.driver import sqlite3
from tests.workspace import Workspace

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
    assert hint.startswith("hint: the ledger was changed from outside: nothing was handed over; `distributor resend`")
    assert '"revealed"' not in sent.run("distributor history alice@example.org --json").stdout
    assert sent.run("distributor resend alice@example.org --reason 'was edited' --yes && distributor send --yes").returncode == 0
    assert sent.run("distributor password reveal alice@example.org --reason 'again' --stdout").returncode == 0
