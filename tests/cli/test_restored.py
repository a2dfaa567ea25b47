"""A ledger that is older than what this host remembers, or came from elsewhere: nothing is sent from it until a person adopts it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections import Counter
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path

import pytest

from distributor.ledger.sqlite import sqlite3
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

ALICE, BOB = "alice@example.org", "bob@example.org"
QUIET = " >/dev/null 2>&1"


def backup(workspace: Workspace, name: str = "backup.db") -> Path:
    """A whole copy of the ledger, as `sqlite3 .backup` makes it."""
    target = workspace.folder / name
    target.unlink(missing_ok=True)
    source, copy = sqlite3.connect(workspace.folder / "distributor.db"), sqlite3.connect(target)
    source.backup(copy)
    source.close()
    copy.close()
    return target


def restore(workspace: Workspace, name: str = "backup.db") -> None:
    for old in workspace.folder.glob("distributor.db*"):
        old.unlink()
    shutil.copy(workspace.folder / name, workspace.folder / "distributor.db")


def received(workspace: Workspace) -> Counter[str]:
    return Counter(str(message_from_bytes(message)["To"]).rpartition("<")[2].rstrip(">") for message in workspace.handler.messages)


def states(workspace: Workspace) -> dict[str, str]:
    rows = json.loads(workspace.run("distributor status --json 2>/dev/null").stdout)["deliveries"]
    return {row["address"]: row["state"] for row in rows}


def refused(workspace: Workspace, command: str) -> str:
    done = workspace.run(command)
    assert done.returncode == 3, done.stdout
    assert "`distributor ledger adopt --reason TEXT` (see docs/restore.md#restore-step-by-step)" in done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def forget_sending_process(workspace: Workspace, **evidence: str) -> None:
    """As if another machine had sent: what its events say of themselves."""
    with sqlite3.connect(workspace.folder / "distributor.db") as connection:
        connection.execute("DROP TRIGGER event_is_kept")
        for name, value in evidence.items():
            connection.execute(f"UPDATE event SET evidence = json_set(evidence, '$.{name}', ?) WHERE event = 'claimed'", (value,))  # noqa: S608  a name of ours
    connection.close()


def test_a_restored_backup_sends_nothing_until_a_person_adopts_it(planned: Workspace) -> None:
    backup(planned)
    planned.run_script(f"$ distributor send --yes{QUIET}\n")
    assert received(planned) == {ALICE: 1, BOB: 1}
    restore(planned)
    result = refused(planned, "distributor send --yes")
    assert "distributor.db: nothing was sent: this ledger is older than the one last used on this machine: it ends with event" in result
    for command in (
        "distributor send --yes --dry-run look",
        f'distributor resend {ALICE} --reason "new phone" --yes',
        f"distributor password reveal {ALICE} --reason called --stdout",
    ):
        refused(planned, command)
    assert received(planned) == {ALICE: 1, BOB: 1}


def test_reading_and_planning_go_on_and_warn(planned: Workspace) -> None:
    backup(planned)
    planned.run_script(f"$ distributor send --yes{QUIET}\n")
    restore(planned)
    result = planned.run("distributor status")
    assert (result.returncode, "warning: this ledger is older" in result.stdout) == (0, True)
    result = planned.run("distributor plan certificates --roster people.csv")
    assert (result.returncode, "warning: this ledger is older" in result.stdout) == (0, True)
    planned.run_script(f"+ pfx cleo cleo@example.org\n$ distributor plan certificates{QUIET}\n$ distributor audit verify{QUIET}\n? 1\n")
    checks = json.loads(planned.run("distributor doctor --json 2>/dev/null").stdout)["checks"]
    assert [check["level"] for check in checks if "nothing is sent: this ledger" in check["message"]] == ["warning"]


def test_a_plan_made_in_a_restored_ledger_does_not_hide_that_it_was_restored(planned: Workspace) -> None:
    backup(planned)
    planned.run_script(f"$ distributor send --yes --limit 1{QUIET}\n")
    restore(planned)
    for number in range(12):  # it is longer than what is remembered now
        planned.add_pfx(f"p{number}", f"p{number}@example.org")
    planned.run_script(f"$ distributor plan certificates{QUIET}\n")
    assert "this ledger is not the one last used on this machine" in refused(planned, "distributor send --yes")


def test_what_may_have_been_sent_is_settled_by_a_person_one_by_one(planned: Workspace) -> None:
    backup(planned)
    planned.run_script(f"$ distributor send --yes --limit 1{QUIET}\n")
    restore(planned)
    done = planned.run('distributor ledger adopt --reason "the disk failed"')
    assert (done.returncode, "2 deliveries ambiguous (before: 2 planned)" in done.stdout) == (1, True), done.stdout
    assert states(planned) == {ALICE: "ambiguous", BOB: "ambiguous"}
    planned.run_script(f"$ distributor send --yes{QUIET}\n$ distributor audit verify{QUIET}\n")
    (got,) = received(planned)
    ids = {row["address"]: row["id"] for row in json.loads(planned.run("distributor resolve --json 2>/dev/null").stdout)["ambiguous"]}
    (missed,) = set(ids) - {got}
    done = planned.run(f'distributor resolve {ids[got]} --accepted --reason "she has it"')
    assert "its password is not in this ledger; `distributor resend`" in done.stdout
    waited = planned.run(f'distributor resolve {ids[missed]} --again --reason "not in the log"')
    assert (waited.returncode, "may still be waiting for a response" in waited.stdout) == (1, True), waited.stdout
    planned.run_script(f"$ distributor resend {got} --reason 'no password' --yes{QUIET}\n$ distributor audit verify{QUIET}\n")
    assert received(planned) == {got: 2}
    assert states(planned)[missed] == "ambiguous"


def test_where_nothing_was_sent_since_the_ledger_goes_on_as_it_is(planned: Workspace) -> None:
    backup(planned)
    planned.run_script(f'$ distributor withdraw --reason "left" $(distributor status --json | grep -o "d-[0-9A-Z]*" | head -1){QUIET}\n')
    restore(planned)
    refused(planned, "distributor send --yes")
    planned.run_script(f'$ distributor ledger adopt --nothing-sent --reason "it was on paper"{QUIET}\n$ distributor send --yes{QUIET}\n')
    assert received(planned) == {ALICE: 1, BOB: 1}
    planned.run_script(f"$ distributor audit verify{QUIET}\n")


def test_a_ledger_that_is_the_one_last_used_here_is_not_adopted_by_mistake(sent: Workspace) -> None:
    done = sent.run("distributor ledger adopt --reason why")
    assert (done.returncode, "add --anyway" in done.stdout) == (1, True)
    assert states(sent) == {ALICE: "accepted", BOB: "accepted"}
    assert sent.run("distributor ledger adopt --anyway --reason 'the whole machine was restored'").returncode == 0


def test_a_second_copy_on_this_host_cannot_send_as_well(planned: Workspace) -> None:
    shutil.copytree(planned.folder, planned.folder.parent / f"{planned.folder.name}-copy")
    planned.run_script(f"$ distributor send --yes{QUIET}\n")
    refused(planned, f"cd ../{planned.folder.name}-copy && distributor send --yes")
    assert received(planned) == {ALICE: 1, BOB: 1}


@pytest.mark.parametrize("evidence", [{"machine": "another", "host": "%/x/-"}, {"host": "another/x/-"}], ids=["its id", "its name"])
def test_a_ledger_from_another_machine_waits_for_a_person(sent: Workspace, state_folder: Path, evidence: dict[str, str]) -> None:
    name = os.uname().nodename
    forget_sending_process(sent, **{key: value.replace("%", name) for key, value in evidence.items()})
    shutil.rmtree(state_folder)
    assert "this ledger was last used to send on another machine" in refused(sent, f"distributor resend {ALICE} --reason why --yes")


def test_a_ledger_that_was_used_here_goes_on_where_nothing_is_remembered(planned: Workspace, state_folder: Path) -> None:
    planned.run_script(f"$ distributor send --yes --limit 1{QUIET}\n")
    shutil.rmtree(state_folder)
    planned.run_script(f"$ distributor send --yes{QUIET}\n")
    assert received(planned) == {ALICE: 1, BOB: 1}
    assert [(path.suffix, stat.S_IMODE(path.stat().st_mode)) for path in state_folder.iterdir()] == [(".mark", 0o600)]
    assert stat.S_IMODE(state_folder.stat().st_mode) == 0o700


def _cut(mark: Path) -> None:
    os.truncate(mark, 100)


def _emptied(mark: Path) -> None:
    os.truncate(mark, 0)


def _scribbled(mark: Path) -> None:
    mark.write_bytes(b"x" * mark.stat().st_size)


def _linked(mark: Path) -> None:
    mark.rename(mark.with_suffix(".real"))
    mark.symlink_to(mark.with_suffix(".real"))


@pytest.mark.parametrize("damage", [_cut, _emptied, _scribbled, _linked])
def test_what_is_remembered_and_cannot_be_read_stops_sending(
    planned: Workspace, state_folder: Path, damage: Callable[[Path], None]
) -> None:
    planned.run_script(f"$ distributor send --yes --limit 1{QUIET}\n")
    (mark,) = state_folder.glob("*.mark")
    damage(mark)
    assert "cannot read this machine's record of this ledger" in refused(planned, "distributor send --yes")
    assert planned.run("distributor status").returncode == 0
    if damage is not _linked:
        adopt = 'distributor ledger adopt --nothing-sent --reason "it is the ledger"'
        planned.run_script(f"$ {adopt}{QUIET}\n$ distributor send --yes{QUIET}\n")
        assert received(planned) == {ALICE: 1, BOB: 1}


def test_a_folder_that_cannot_be_written_stops_sending_before_the_first_message(planned: Workspace, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    done = planned.run("distributor send --yes", XDG_STATE_HOME=str(blocked))
    assert done.returncode == 3, done.stdout
    assert "hint: set STATE_DIRECTORY or XDG_STATE_HOME to a writable folder" in done.stdout
    assert received(planned) == {}


def test_a_service_manager_says_where_it_is_remembered(planned: Workspace, tmp_path: Path, state_folder: Path) -> None:
    done = planned.run("distributor send --yes", STATE_DIRECTORY=f"{tmp_path / 'service'}:/elsewhere")
    assert done.returncode == 0, done.stdout
    assert len(list((tmp_path / "service").glob("*.mark"))) == 1
    assert len(list(state_folder.glob("*.mark"))) == 1  # of the plan


# --- a copy that lies on another machine ----------------------------------------------------------------------------


def elsewhere(workspace: Workspace, command: str, state: str, code: int) -> str:
    """What a command says on another host, with a state folder of its own."""
    done = workspace.run(
        f"{sys.executable} -m tests.doubles.elsewhere 0 there/boot-2/ns {command}", XDG_STATE_HOME=state, PYTHONPATH=str(Path.cwd())
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def test_a_copy_made_after_plan_and_before_send_does_not_send_on_another_machine(planned: Workspace, tmp_path: Path) -> None:
    state = str(tmp_path / "there")
    result = elsewhere(planned, "send --yes", state, 3)
    assert "nothing was sent: this ledger was last used to plan on another machine" in result
    planned.add_pfx("cleo", "cleo@example.org")
    elsewhere(planned, "plan certificates", state, 0)
    assert "distributor ledger adopt --reason TEXT" in elsewhere(planned, "send --yes", state, 3)
    assert received(planned) == {}
    elsewhere(planned, "ledger adopt --nothing-sent --reason moved", state, 0)
    elsewhere(planned, "send --yes", state, 0)
    assert received(planned) == {ALICE: 1, BOB: 1, "cleo@example.org": 1}


def test_a_plan_goes_on_where_nothing_is_remembered_on_the_same_machine(planned: Workspace, state_folder: Path) -> None:
    shutil.rmtree(state_folder)
    planned.run_script(f"$ distributor send --yes{QUIET}\n")
    assert received(planned) == {ALICE: 1, BOB: 1}


def later(workspace: Workspace, command: str) -> str:
    """What a command says when no sender can be waiting any more."""
    done = workspace.run(f"{sys.executable} -m tests.doubles.elsewhere 3600 - {command}", PYTHONPATH=str(Path.cwd()))
    assert done.returncode == 1, done.stdout
    return done.stdout


@pytest.mark.parametrize("word", ["again", "accepted"])
def test_what_one_word_for_all_may_not_settle_is_listed_and_the_rest_is_settled(planned: Workspace, word: str) -> None:
    backup(planned)
    planned.run_script(f"$ distributor send --yes --limit 1{QUIET}\n")
    restore(planned)
    assert planned.run("distributor ledger adopt --reason broken").returncode == 1
    ids = {row["address"]: row["id"] for row in json.loads(planned.run("distributor resolve --json 2>/dev/null").stdout)["ambiguous"]}
    planned.run_script(f"$ distributor resend {ALICE} --reason lost --yes{QUIET}\n")
    result = later(planned, f"resolve --restored --{word} --reason log")
    assert f"unchanged: {ids[ALICE]}: {ALICE}: " in result
    assert "replaced" in result
    assert "1 delivery " in result
    now = {row["id"]: row["state"] for row in json.loads(planned.run("distributor status --json 2>/dev/null").stdout)["deliveries"]}
    assert (now[ids[ALICE]], now[ids[BOB]]) == ("ambiguous", "planned" if word == "again" else "accepted")
    planned.run_script(f"$ distributor withdraw {ids[ALICE]} --reason replaced{QUIET}\n$ distributor audit verify{QUIET}\n")


def test_a_ledger_that_is_lost_is_not_made_anew(planned: Workspace, state_folder: Path) -> None:
    for old in planned.folder.glob("distributor.db*"):
        old.unlink()
    (mark,) = state_folder.glob("*.mark")
    for command in ("distributor init", "distributor status"):
        done = planned.run(command)
        assert (done.returncode, "no ledger found, but there was one here up to event" in done.stdout) == (3, True), done.stdout
        assert f"(see docs/restore.md#an-empty-or-missing-ledger); to give it up for good, move {mark} away" in done.stdout
    mark.rename(planned.folder / "given-up")
    assert planned.run("distributor init").returncode == 0


def test_the_restore_page_can_be_followed_to_the_message(planned: Workspace) -> None:
    page = (Path(__file__).parents[2] / "docs/restore.md").read_text(encoding="utf-8")
    keep, look = (next(line.strip() for line in page.splitlines() if word in line) for word in ("mkdir kept", "verify --config kept"))
    assert planned.run(keep).returncode == 0
    assert planned.run(look).returncode == 0
    assert planned.run("mv kept/distributor.db* . && distributor send --yes").returncode == 0
    assert received(planned) == {ALICE: 1, BOB: 1}


def test_whoever_was_first_planned_after_the_backup_is_warned_of(planned: Workspace) -> None:
    backup(planned)
    planned.add_pfx("cleo", "cleo@example.org")
    planned.run_script(f"$ distributor plan certificates{QUIET}\n$ distributor send --yes{QUIET}\n")
    restore(planned)
    done = planned.run("distributor ledger adopt --reason broken")
    words = ": anyone first planned after 20"
    assert (done.returncode, words in done.stdout, "may lack events" in done.stdout) == (1, True, False), done.stdout
    done = planned.run("distributor plan certificates --json 2>&1 >/dev/null")
    assert words in done.stdout
    assert "look for messages after that time in Sent Items or the mail log" in done.stdout
    assert words not in planned.run("distributor plan certificates").stdout
