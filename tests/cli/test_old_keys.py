"""Old keys for old mail: expired certificates are planned as a series, sent with words that say why, and decrypt what was sent to them."""

from __future__ import annotations

import email
import email.policy
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority, own_key
from tests.workspace import PASSWORD, Workspace, answer

SIGN, ENCRYPT = ("digital_signature",), ("key_encipherment",)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """Alice with three old certificates, of which one only signs, and a current one that renews them."""
    (tmp_path / "workspace").mkdir()
    authority = Authority("Old")
    made = Workspace(tmp_path / "workspace", authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n+ server\n")
    folder = made.folder / "certificates"
    folder.mkdir()
    for name, key, starts, days, usage in (
        ("2021", 501, -1500, 365, (*SIGN, *ENCRYPT)),
        ("2022", 502, -1100, 365, ENCRYPT),
        ("2022s", 503, -1100, 365, SIGN),
        ("now", 504, -30, 365, (*SIGN, *ENCRYPT)),
    ):
        issued = authority.issue(
            "alice@example.org", name=f"Alice {name}", key=own_key(key), starts=timedelta(days=starts), days=days, usage=usage
        )
        (folder / f"{name}.pfx").write_bytes(issued.pfx(PASSWORD))
        (folder / f"{name}.txt").write_text(PASSWORD)
        (made.folder / f"{name}.crt").write_bytes(issued.pem)
    yield made
    made.close()


PLAN = "distributor plan certificates --passwords certificates"


def test_an_expired_certificate_is_an_error_that_names_the_way_to_deliver_it(workspace: Workspace) -> None:
    found = answer(workspace.run(f"{PLAN} --json 2>/dev/null"), 1)
    hints = [issue["hint"] for issue in found["issues"] if issue["check"] == "expired"]
    assert sum("--history" in hint for hint in hints) == 2
    assert found["ready"] == 1


def test_old_keys_are_a_numbered_series_and_read_old_mail(workspace: Workspace, tmp_path: Path) -> None:
    found = answer(workspace.run(f"{PLAN} --history --json 2>/dev/null"))
    series = {row["certificate"]["subject"]: row["series"] for row in found["deliveries"]}
    assert series == {"CN=Alice now": None, "CN=Alice 2021": "1/2", "CN=Alice 2022": "2/2"}
    assert [issue["message"] for issue in found["issues"] if issue["check"] == "expired"] == [
        "this expired certificate is for signing only: its key is not delivered"
    ]
    sent = answer(workspace.run("distributor send --yes --json 2>/dev/null"))
    assert sent["accepted"] == 3
    rows = answer(workspace.run("distributor status --json"))
    assert rows["attention"] == []
    passwords = {}
    for row in rows["deliveries"]:
        told = workspace.run(f"distributor password reveal {row['id']} --reason test --stdout 2>/dev/null")
        passwords[row["series"]] = told.stdout.split()[-1]
    messages = {str(message["Subject"]): message for message in map(read, workspace.handler.messages)}
    old = {subject: message for subject, message in messages.items() if "old certificate" in subject}
    assert sorted(subject.partition("old certificate ")[2][:6] for subject in old) == ["1 of 2", "2 of 2"]
    for number, name in ((1, "2021"), (2, "2022")):
        message = next(message for subject, message in old.items() if f"{number} of 2" in subject)
        words = " ".join(message.get_body(("plain",)).get_content().split())
        assert f"number {number} of 2. It expired on" in words
        assert "Then confirm that it works" not in words
        (attachment,) = message.iter_attachments()
        assert f"old {number}" in attachment.get_filename()
        (tmp_path / "key.pfx").write_bytes(attachment.get_content())
        run(tmp_path, f"pkcs12 -legacy -in key.pfx -nodes -passin pass:{passwords[f'{number}/2']} -out key.pem")
        (tmp_path / "mail.txt").write_text("an old secret")
        run(tmp_path, f"cms -encrypt -in mail.txt -out mail.p7m -outform DER {workspace.folder / name}.crt")
        assert run(tmp_path, "cms -decrypt -inform DER -in mail.p7m -inkey key.pem") == "an old secret"
    assert workspace.run("distributor audit verify").returncode == 0


def test_a_later_plan_counts_on_and_changes_no_number(workspace: Workspace) -> None:
    answer(workspace.run(f"{PLAN} --history --json 2>/dev/null"))
    issued = workspace.authority.issue("alice@example.org", name="Alice 2019", key=own_key(505), starts=timedelta(days=-2200))
    (workspace.folder / "certificates" / "2019.pfx").write_bytes(issued.pfx(PASSWORD))
    (workspace.folder / "certificates" / "2019.txt").write_text(PASSWORD)
    again = answer(workspace.run(f"{PLAN} --history --json 2>/dev/null"))
    assert [row["series"] for row in again["deliveries"]] == ["3/3"]
    assert again["known"] == {"planned": 3}


def test_a_new_certificate_is_the_successor_of_the_old_one(workspace: Workspace) -> None:
    answer(workspace.run(f"{PLAN} --json 2>/dev/null"), 1)
    answer(workspace.run("distributor send --yes --json 2>/dev/null"))
    issued = workspace.authority.issue("alice@example.org", name="Alice new", key=own_key(506), days=700)
    (workspace.folder / "next").mkdir()
    (workspace.folder / "next" / "alice.pfx").write_bytes(issued.pfx(PASSWORD))
    (workspace.folder / "next" / "alice.txt").write_text(PASSWORD)
    planned = workspace.run("distributor plan next --passwords next")
    assert "1 renewal" in planned.stdout
    before = workspace.run("distributor status")
    assert "renewed certificates: 1 (0 received; 1 still on the old certificate" in before.stdout
    rows = answer(workspace.run("distributor status --renewals --json"))["deliveries"]
    assert [row["state"] for row in rows] == ["planned"]
    answer(workspace.run("distributor send --yes --json 2>/dev/null"))
    words = " ".join(read(workspace.handler.messages[-1]).get_body(("plain",)).get_content().split())
    assert "This certificate replaces your previous one (valid until" in words
    after = workspace.run("distributor status")
    assert "renewed certificates: 1 (1 received)" in after.stdout


def read(data: bytes) -> Any:  # noqa: ANN401  a message
    return email.message_from_bytes(data, policy=email.policy.default)


def run(folder: Path, command: str) -> str:
    return subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
