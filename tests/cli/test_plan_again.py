"""`plan`, `send` and `resend` when files change, move or cannot be read: the real program over a real folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.needs import require
from tests.workspace import PASSWORD, Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

OTHERS_FILES = "-dac_override,-dac_read_search"  # what lets root read what nobody may


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    """Alice's and Bob's files in a workspace, and a server."""
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n+ server\n+ people\n")
    yield made
    made.close()


def test_a_file_that_changed_or_moved_is_named_and_sent_once_it_is_planned_again(workspace: Workspace, authority: Authority) -> None:
    folder = workspace.folder / "certificates"
    one = authority.issue("carol@example.org", name="Carol")
    (folder / "carol.pfx").write_bytes(one.pfx(PASSWORD))
    (folder / "carol.txt").write_text(PASSWORD)
    workspace.run("distributor plan certificates")
    (folder / "carol.pfx").write_bytes(one.pfx("another"))
    (folder / "carol.txt").write_text("another")
    for end in ("pfx", "txt"):
        (folder / f"bob.{end}").rename(folder / f"robert.{end}")
    workspace.run_script(
        f"""\
$ distributor send --yes
bob@example.org: not packed: bob.pfx: the file no longer exists (put it back into "{folder}", or run `distributor plan` on its new place)
carol@example.org: not packed: carol.pfx: the file changed since it was planned (run `distributor plan` on the file again)
1 message accepted; 2 remaining
next: fix the errors above, then distributor send
? 1
$ distributor plan certificates
plan ...: 0 new, 2 already planned, 1 already accepted
next: distributor send
$ distributor plan certificates --verbose
plan ...: 0 new, 2 already planned, 1 already accepted
...
note     already-sent  carol.pfx  carol@example.org
         this certificate is planned for this person since ..., and not sent yet
         `distributor send` sends it
...
note     already-sent  robert.pfx  bob@example.org
...
next: distributor send
$ distributor send --yes
2 messages accepted
...
$ mv certificates/robert.pfx certificates/b.pfx; mv certificates/robert.txt certificates/b.txt
$ distributor resend bob@example.org --reason "new phone" --yes
bob@example.org: generation 2 planned; the password of generation 1 is destroyed
1 message accepted
...
"""
    )


def test_a_readme_among_certificates_is_told_and_fails_nothing(workspace: Workspace) -> None:
    (workspace.folder / "certificates" / "readme.md").write_text("hello")
    result = workspace.run("distributor plan certificates --json")
    assert result.returncode == 0, result.stdout
    answer = json.loads(result.stdout)
    assert (answer["issues"], [one["source"] for one in answer["left_alone"]]) == ([], ["readme.md"])
    result = workspace.run("distributor plan certificates")
    assert "skipped: readme.md: the file is neither PKCS#12 nor PEM\n" in result.stdout
    result = workspace.run("distributor plan certificates/readme.md")
    assert (result.returncode, "error    unreadable  readme.md\n" in result.stdout) == (1, True), result.stdout


def test_many_files_that_are_left_alone_are_counted(workspace: Workspace) -> None:
    for number in range(7):
        (workspace.folder / "certificates" / f"{number}.md").write_text("hello")
    result = workspace.run("distributor plan certificates").stdout
    assert result.count("skipped: ") == 6
    assert "skipped: 2 more; --verbose lists them\n" in result


def test_a_roster_with_a_header_only_is_said_to_name_nobody(workspace: Workspace) -> None:
    workspace.run_script("+ roster\n")
    result = workspace.run("distributor plan certificates --roster people.csv")
    assert result.returncode == 1
    assert result.stdout.startswith("plan (not recorded): 0 ready\n")
    assert result.stdout.endswith("the roster is empty: there is no row below its header\n")


def test_a_password_that_may_not_be_read_is_named_with_the_reason(workspace: Workspace) -> None:
    (workspace.folder / "certificates" / "alice.txt").chmod(0)
    command = f"{sys.executable} -m distributor plan certificates"
    if os.geteuid() == 0:
        command = f"{require('setpriv')} --bounding-set {OTHERS_FILES} --inh-caps {OTHERS_FILES} {command}"
    result = workspace.run(command)
    assert result.returncode == 1
    assert 'alice.pfx\n         its password file "alice.txt" cannot be read: permission denied\n' in result.stdout
    assert ": 1 ready\n" in result.stdout
