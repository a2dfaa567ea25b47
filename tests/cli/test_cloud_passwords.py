"""Passwords through Microsoft Graph: no copy of them stays in the mailbox that keeps those of the packages."""

from __future__ import annotations

from tests.cli import test_cloud as plain
from tests.cli.test_cloud import SENDER, Run
from tests.doubles.graphd import Cloud
from tests.workspace import Workspace

client, cloud, run, workspace = plain.client, plain.cloud, plain.run, plain.workspace


def test_copies_of_passwords_are_removed_whatever_save_copy_says(workspace: Workspace, run: Run, cloud: Cloud) -> None:
    config = workspace.folder / "distributor.toml"
    config.write_text(config.read_text(encoding="utf-8").replace('channel = "reveal"', 'channel = "mail"'), encoding="utf-8")
    roster = "email,name,alternate_email\nalice@example.org,Alice,alice@home.example\nbob@example.org,Bob,bob@home.example\n"
    (workspace.folder / "people.csv").write_text(roster, encoding="utf-8")
    assert run("distributor plan certificates --roster people.csv").returncode == 0
    done = run("distributor send --yes")
    assert (done.returncode, "2 passwords sent" in done.stdout) == (0, True), done.stdout
    subjects = [str(message["subject"]) for message in cloud.messages(SENDER, "sentitems")]
    assert len(subjects) == 2
    assert not any("password" in subject for subject in subjects)
    assert cloud.messages(SENDER, "drafts") == []
    assert run("distributor status").stdout.count("handed-over") == 2
