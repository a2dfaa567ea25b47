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
from tests.stage import PASSWORD, Stage

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

OTHERS_FILES = "-dac_override,-dac_read_search"  # what lets root read what nobody may


@pytest.fixture
def stage(tmp_path: Path, authority: Authority) -> Iterator[Stage]:
    """Alice's and Bob's files in a workspace, and a server."""
    made = Stage(tmp_path, authority)
    made.play("$ distributor init >/dev/null 2>&1\n+ server\n+ people\n")
    yield made
    made.close()


def test_a_file_that_changed_or_moved_is_named_and_sent_once_it_is_planned_again(stage: Stage, authority: Authority) -> None:
    folder = stage.folder / "certificates"
    one = authority.issue("carol@example.org", name="Carol")
    (folder / "carol.pfx").write_bytes(one.pfx(PASSWORD))
    (folder / "carol.txt").write_text(PASSWORD)
    stage.run("distributor plan certificates")
    (folder / "carol.pfx").write_bytes(one.pfx("another"))
    (folder / "carol.txt").write_text("another")
    for end in ("pfx", "txt"):
        (folder / f"bob.{end}").rename(folder / f"robert.{end}")
    stage.play(
        f"""\
$ distributor send --yes
bob@example.org: not packed: bob.pfx: it is no longer there (put it back into "{folder}", or run `distributor plan` where it is now)
carol@example.org: not packed: carol.pfx: the file changed since it was planned (run `distributor plan` on it again)
1 message accepted; 2 remaining
next: correct what is named above, then distributor send
? 1
$ distributor plan certificates
plan ...: 0 ready
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
bob@example.org: generation 2; the password of generation 1 is destroyed
1 message accepted
...
"""
    )


def test_a_readme_among_certificates_is_told_and_fails_nothing(stage: Stage) -> None:
    (stage.folder / "certificates" / "readme.md").write_text("hello")
    told = stage.run("distributor plan certificates --json")
    assert told.returncode == 0, told.stdout
    answer = json.loads(told.stdout)
    assert (answer["issues"], [one["source"] for one in answer["left_alone"]]) == ([], ["readme.md"])
    told = stage.run("distributor plan certificates")
    assert "left alone: readme.md: it is neither PKCS#12 nor PEM\n" in told.stdout
    told = stage.run("distributor plan certificates/readme.md")
    assert (told.returncode, "error    unreadable  readme.md\n" in told.stdout) == (1, True), told.stdout


def test_many_files_that_are_left_alone_are_counted(stage: Stage) -> None:
    for number in range(7):
        (stage.folder / "certificates" / f"{number}.md").write_text("hello")
    told = stage.run("distributor plan certificates").stdout
    assert told.count("left alone: ") == 6
    assert "left alone: 2 more; --json names them\n" in told


def test_a_roster_with_a_header_only_is_said_to_name_nobody(stage: Stage) -> None:
    stage.play("+ roster\n")
    told = stage.run("distributor plan certificates --roster people.csv")
    assert told.returncode == 1
    assert told.stdout.startswith("plan (not recorded): 0 ready\n")
    assert told.stdout.endswith("the roster names nobody: below its header there is no row\n")


def test_a_password_that_may_not_be_read_is_named_with_the_reason(stage: Stage) -> None:
    (stage.folder / "certificates" / "alice.txt").chmod(0)
    command = f"{sys.executable} -m distributor plan certificates"
    if os.geteuid() == 0:
        command = f"{require('setpriv')} --bounding-set {OTHERS_FILES} --inh-caps {OTHERS_FILES} {command}"
    told = stage.run(command)
    assert told.returncode == 1
    assert 'alice.pfx\n         its password file "alice.txt" cannot be read: permission denied\n' in told.stdout
    assert ": 1 ready\n" in told.stdout
