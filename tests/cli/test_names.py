"""A delivery is named by what the person at the phone can read out, and the shell completes it."""

from __future__ import annotations

import json

from tests.workspace import Workspace


def rows(workspace: Workspace, name: str = "") -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(workspace.run(f"distributor status {name} --json").stdout)["deliveries"]
    return found


def test_a_password_is_revealed_by_address_and_serial_number_and_its_history_found_by_either(sent: Workspace) -> None:
    (alice,) = rows(sent, "alice@example.org")
    serial = str(alice["certificate"]["serial"])[:8]  # type: ignore[index]  # as the message shows it
    assert [alice] == rows(sent, serial) == rows(sent, str(alice["id"]))
    sent.run_script(
        f"$ distributor password reveal alice@example.org --certificate {serial} --reason called --stdout\n...-...-...\n"
        f"$ distributor history {serial} | grep -c revealed\n1\n"
        f"$ distributor history {alice['id']} | grep -c revealed\n1\n"
        f"$ distributor password reveal {serial} --reason called --stdout\n"
        "error: alice@example.org: the password was already revealed; it is shown only once\nhint: ...\n? 1\n"
        f"$ distributor resend {serial} --reason 'forgotten' --yes\n"
        "alice@example.org: generation 2 planned; the password of generation 1 is destroyed\n...\n"
        f"$ distributor password reveal {alice['id']} --reason called --stdout\n"
        "error: alice@example.org: the password was already revealed; it is shown only once\nhint: ...\n? 1\n"
        f"$ distributor history {alice['id']} | grep -c '^d-'\n1\n"
        f"$ distributor history {serial} | grep -c '^d-'\n2\n"
    )


def test_an_address_is_enough_to_withdraw_what_is_planned(planned: Workspace) -> None:
    planned.run_script(
        "$ distributor withdraw alice@example.org --reason 'left the company'\nd-...  alice@example.org  withdrawn\n"
        "$ distributor withdraw alise@example.org --reason 'a slip'\n"
        'error: "alise@example.org" is not in the ledger\nhint: did you mean alice@example.org?\n? 1\n'
    )


def completed(workspace: Workspace, *words: str, **environment: str) -> list[str]:
    asked = {"_DISTRIBUTOR_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(("distributor", *words)), "COMP_CWORD": str(len(words))}
    done = workspace.run("distributor", **asked, **environment)
    assert done.returncode == 0
    return done.stdout.split()


def test_the_shell_completes_addresses_and_ids(sent: Workspace) -> None:
    sent.preloaded = False  # the variable is read when the program starts
    assert completed(sent, "history", "al") == ["alice@example.org"]
    assert completed(sent, "send", "--to", "b") == ["bob@example.org"]
    assert sorted(completed(sent, "withdraw", "d-")) == sorted(str(row["id"]) for row in rows(sent))
    assert completed(sent, "resolve", "zz") == []


def test_completion_is_silent_where_there_is_no_ledger(sent: Workspace) -> None:
    sent.preloaded = False
    assert completed(sent, "history", "al", DISTRIBUTOR_CONFIG="nowhere.toml") == []
    (sent.folder / "distributor.db").write_bytes(b"not a database")
    assert completed(sent, "history", "al") == []
