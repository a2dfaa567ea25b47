"""`distributor password letters`: what is printed is handed over, what is handed over is printed, whenever the command ends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import require
from tests.workspace import Workspace

LETTERS = "distributor password letters --output letters.pdf --yes"
KILL = """
import os, sys
from distributor.cli import app
from distributor.files import part
from distributor.ledger.repository import SqlLedger

def dies(*_, **__):
    os._exit(9)

AFTER = {
    "write": (part, "held_part"),
    "hand-over": (SqlLedger, "hand_over_letters"),
    "publish": (part, "publish_new"),
    "finish": (SqlLedger, "finish_letters"),
}
place, name = AFTER[sys.argv[1]]
setattr(place, name, dies)
sys.exit(app.run(sys.argv[2:]))
"""


def by_letter(workspace: Workspace, channel: str = "letter") -> None:
    config = workspace.folder / "distributor.toml"
    config.write_text(config.read_text(encoding="utf-8").replace('channel = "reveal"', f'channel = "{channel}"'), encoding="utf-8")


@pytest.fixture
def accepted(planned: Workspace) -> Workspace:
    """Both messages are accepted; their passwords wait to be printed."""
    by_letter(planned)
    assert planned.run("distributor send --yes").returncode == 0
    return planned


def killed(workspace: Workspace, step: str, *more: str) -> None:
    """Run the command in a process that ends without a word as soon as it begins a step."""
    (workspace.folder / "kill.py").write_text(KILL, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "kill.py", step, "password", "letters", "--output", "letters.pdf", "--yes", *more],
        cwd=workspace.folder,
        env=workspace.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    (workspace.folder / "kill.py").unlink()


def text_of(pdf: Path) -> str:
    return subprocess.run([require("pdftotext"), "-layout", str(pdf), "-"], capture_output=True, text=True, check=True, timeout=60).stdout


def passwords(pdf: Path) -> list[str]:
    return re.findall(r"\b[a-z]{5}(?:-[a-z]{5}){4}\b", text_of(pdf))


def leftovers(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in workspace.folder.glob(".distributor-letters.*"))


def states(workspace: Workspace) -> int:
    return workspace.run("distributor status").stdout.count("handed-over")


def test_letters_are_printed_once_and_open_what_was_sent(accepted: Workspace) -> None:
    assert states(accepted) == 0
    done = accepted.run(LETTERS)
    assert done.returncode == 0, done.stdout
    assert "letters.pdf: 2 letters, 2 passwords handed over" in done.stdout
    pdf = accepted.folder / "letters.pdf"
    assert pdf.stat().st_mode & 0o777 == 0o600
    found = passwords(pdf)
    assert len(found) == 2
    assert states(accepted) == 2
    again = accepted.run("distributor password letters --output more.pdf --yes")
    assert (again.returncode, "no password is ready for a letter" in again.stdout) == (0, True)
    assert not (accepted.folder / "more.pdf").exists()
    for address in ("alice@example.org", "bob@example.org"):
        (revealed,) = [event for event in events(accepted, address) if event["event"] == "revealed"]
        assert revealed["evidence"]["channel"] == "letter"
    assert accepted.run("distributor audit verify").returncode == 0


def events(workspace: Workspace, address: str) -> list[dict[str, object]]:
    import json  # noqa: PLC0415

    return list(json.loads(workspace.run(f"distributor history {address} --json").stdout)["events"])


def test_nothing_in_a_letter_names_the_mailbox_or_the_certificate(accepted: Workspace) -> None:
    serial = accepted.run("distributor status --json").stdout.split('"serial": "')[1][:8]
    accepted.run(LETTERS)
    text = text_of(accepted.folder / "letters.pdf")
    information = subprocess.run(
        [require("pdfinfo"), "letters.pdf"], cwd=accepted.folder, capture_output=True, text=True, check=True
    ).stdout
    for place in (text, information):
        assert not re.search(rf"@|example\.org|{serial}|\.pfx|\.p12", place)
    assert {"Alice Example", "Bob Example"} <= {re.split(r"\s{3,}", line)[0] for line in text.splitlines()}
    assert not any(word in information for word in passwords(accepted.folder / "letters.pdf"))


def test_the_number_on_the_letter_is_that_of_the_message(accepted: Workspace) -> None:
    accepted.run(LETTERS)
    text = text_of(accepted.folder / "letters.pdf")
    numbers = re.findall(r"(?:Number|Nummer) (\d{4}):", text)
    assert len(numbers) == 2
    messages = [message.decode().replace("=\r\n", "") for message in accepted.handler.messages]
    assert sorted(numbers) == sorted(re.findall(r"(?:the|der)\s+(?:number|Nummer)\s+(\d{4})\b", "\n".join(messages)))


def test_an_existing_file_is_never_overwritten(accepted: Workspace) -> None:
    (accepted.folder / "letters.pdf").write_text("mine", encoding="utf-8")
    done = accepted.run(LETTERS)
    assert (done.returncode, "the file exists already" in done.stdout) == (3, True)
    assert (accepted.folder / "letters.pdf").read_text(encoding="utf-8") == "mine"
    assert states(accepted) == 0


def test_without_a_terminal_the_question_names_its_flag(accepted: Workspace) -> None:
    done = accepted.run("distributor password letters --output letters.pdf")
    assert (done.returncode, "--yes" in done.stdout) == (2, True)
    assert states(accepted) == 0


def test_a_host_without_the_identity_says_where_to_run_it(accepted: Workspace) -> None:
    config = accepted.folder / "distributor.toml"
    config.write_text(re.sub(r"(?m)^identity = .*", "", config.read_text(encoding="utf-8")), encoding="utf-8")
    done = accepted.run(LETTERS)
    assert (done.returncode, "run this on the machine that has the identity" in done.stdout) == (3, True)


# --- killed at every step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["write", "hand-over"])
def test_killed_before_the_hand_over_the_next_command_prints_everything(accepted: Workspace, step: str) -> None:
    killed(accepted, step)
    assert states(accepted) == 0
    left = leftovers(accepted)
    assert len(left) == (step == "hand-over")
    done = accepted.run(LETTERS)
    assert done.returncode == 0, done.stdout
    assert all(f"{name}, left by an interrupted command" in done.stdout for name in left)
    assert leftovers(accepted) == []
    assert len(passwords(accepted.folder / "letters.pdf")) == 2


@pytest.mark.parametrize("step", ["publish", "finish"])
def test_killed_after_the_hand_over_the_letters_are_there_and_printed_only_once(accepted: Workspace, step: str) -> None:
    killed(accepted, step)
    assert states(accepted) == 2
    assert len(leftovers(accepted)) == (step == "publish")
    done = accepted.run("distributor password letters --output elsewhere.pdf --yes")
    assert done.returncode == 0, done.stdout
    assert "letters.pdf: 2 letters of" in done.stdout
    assert len(passwords(accepted.folder / "letters.pdf")) == 2
    assert leftovers(accepted) == []
    assert not (accepted.folder / "elsewhere.pdf").exists()
    quiet = accepted.run("distributor password letters --output elsewhere.pdf --yes")
    assert "interrupted" not in quiet.stdout
    assert accepted.run("distributor audit verify").returncode == 0


def test_another_file_in_the_place_of_finished_letters_is_kept_and_named(accepted: Workspace) -> None:
    killed(accepted, "publish")
    (accepted.folder / "letters.pdf").write_text("mine", encoding="utf-8")
    done = accepted.run(LETTERS)
    assert (done.returncode, "another file has this name" in done.stdout, "are complete in" in done.stdout) == (3, True, True)
    (accepted.folder / "letters.pdf").unlink()
    assert accepted.run(LETTERS.replace("letters.pdf", "next.pdf")).returncode == 0
    assert len(passwords(accepted.folder / "letters.pdf")) == 2


def test_letters_that_are_gone_are_named_with_their_people_once(accepted: Workspace) -> None:
    killed(accepted, "publish")
    for name in leftovers(accepted):
        (accepted.folder / name).unlink()
    done = accepted.run(LETTERS)
    assert (done.returncode, "alice@example.org, bob@example.org" in done.stdout, "distributor resend" in done.stdout) == (1, True, True)
    assert accepted.run(LETTERS).returncode == 0


def test_a_file_that_another_command_is_writing_is_left_to_it(accepted: Workspace) -> None:
    import fcntl  # noqa: PLC0415

    path = accepted.folder / ".distributor-letters.0123456789abcdef.part"
    with path.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = accepted.run(LETTERS)
        assert (done.returncode, "is writing here" in done.stdout) == (1, True)
        assert path.exists()
    assert accepted.run(LETTERS).returncode == 0
    assert not path.exists()


# --- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shown"), [("Żółć_Łukasz", True), ("Ελένη", True), ("Иван", True), ("محمد", False), ("王伟", False)])
def test_every_name_is_printed_right_or_its_row_is_named(planned: Workspace, name: str, *, shown: bool) -> None:
    by_letter(planned)
    planned.add_pfx("carol", "carol@example.org")
    planned.add_roster("alice@example.org,Alice_Example,en", f"carol@example.org,{name},de")
    planned.run("distributor plan certificates --roster people.csv; distributor send --yes")
    done = planned.run(LETTERS)
    text = text_of(planned.folder / "letters.pdf")
    assert (name.replace("_", " ") in text) is shown
    assert "Alice Example" in text
    assert ("carol@example.org: not printed: cannot print" in done.stdout) is not shown
    assert done.returncode == (0 if shown else 1)
    assert planned.run("distributor status carol@example.org").stdout.count("ready") == (0 if shown else 1)


# --- secrets and doctor ------------------------------------------------------------------------------------------------


def test_a_printed_password_is_in_the_pdf_and_in_no_other_file_or_line(accepted: Workspace, state_folder: Path) -> None:
    done = accepted.run(LETTERS)
    found = passwords(accepted.folder / "letters.pdf")
    assert len(found) == 2
    others = [path for folder in (accepted.folder, state_folder) for path in folder.rglob("*") if path.is_file()]
    assert others
    for secret in found:
        assert secret not in done.stdout
        assert not [path for path in others if secret.encode() in path.read_bytes()]
        assert secret not in accepted.run("distributor audit export --output export.jsonl; cat export.jsonl").stdout


def test_doctor_says_what_letters_are_printed_with_and_where(accepted: Workspace) -> None:
    found = accepted.run("distributor doctor").stdout
    assert re.search(r"password\s+letters are printed with DejaVu", found), found
    assert "run `distributor password letters --output FILE.pdf` here" in " ".join(found.split())


def test_doctor_names_a_logo_that_cannot_be_printed(accepted: Workspace) -> None:
    config = accepted.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[organisation]", '[organisation]\nlogo = "logo.png"'), encoding="utf-8")
    (accepted.folder / "logo.png").write_text("not an image", encoding="utf-8")
    done = accepted.run("distributor doctor")
    assert "organisation.logo" in done.stdout
    assert accepted.run(LETTERS).returncode == 3
    assert states(accepted) == 0
