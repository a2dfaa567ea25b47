"""`[password] channel = "mail"`: a password leaves for another mailbox than its package, after it, once, and is never lost silently."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from distributor import bootstrap
from distributor.workflows.password_mail import settle_interrupted
from tests.authority import Authority
from tests.cli.test_follow import following
from tests.workspace import Workspace

PASSWORD = re.compile(r"\b[a-z]{5}(?:-[a-z]{5}){4}\b")
ROSTER = "email,name,language,alternate_email,manager\n"
PEOPLE = (
    "alice@example.org,Alice Example,en,alice@home.example,boss@example.org\n"
    "bob@example.org,Bob Example,de,bob@home.example,boss@example.org\n"
)


def change(workspace: Workspace, old: str, new: str) -> None:
    config = workspace.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    assert old in text
    config.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def mailing(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    """Alice and Bob with their other mailboxes; nothing is planned."""
    workspace = Workspace(tmp_path, authority)
    workspace.run("distributor init")
    workspace.add_server()
    workspace.add_people()
    (workspace.folder / "people.csv").write_text(ROSTER + PEOPLE, encoding="utf-8")
    change(workspace, 'channel = "reveal"', 'channel = "mail"')
    yield workspace
    workspace.close()


def plan(workspace: Workspace, people: str = PEOPLE) -> dict[str, object]:
    (workspace.folder / "people.csv").write_text(ROSTER + people, encoding="utf-8")
    return dict(json.loads(workspace.run("distributor plan certificates --roster people.csv --json 2>/dev/null").stdout))


def received(workspace: Workspace) -> dict[str, EmailMessage]:
    """Messages by recipient."""
    parsed = [message_from_bytes(raw, policy=policy.default) for raw in workspace.handler.messages]
    return {str(message["To"]).rpartition("<")[2].rstrip(">"): message for message in parsed if isinstance(message, EmailMessage)}


def words(message: EmailMessage, kind: str = "plain") -> str:
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def events(workspace: Workspace, address: str) -> list[dict[str, dict[str, object]]]:
    return list(json.loads(workspace.run(f"distributor history {address} --json").stdout)["events"])


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_send_mails_the_passwords_of_accepted_packages_at_its_end(mailing: Workspace) -> None:
    plan(mailing)
    done = mailing.run("distributor send --yes")
    assert (done.returncode, "2 passwords sent" in done.stdout) == (0, True), done.stdout
    boxes = received(mailing)
    assert set(boxes) == {"alice@example.org", "bob@example.org", "alice@home.example", "bob@home.example"}
    package, password = boxes["alice@example.org"], boxes["alice@home.example"]
    assert PASSWORD.search(words(package)) is None or "xxxxx" in words(package)
    (secret,) = set(PASSWORD.findall(words(password)))
    assert set(PASSWORD.findall(re.sub(r"<[^>]*>", " ", words(password, "html")))) == {secret}
    (number,) = re.findall(r"the\s+number\s+(\d{4})", words(package))
    assert str(password["Subject"]) == f"Example: password number {number}" or number in str(password["Subject"])
    assert password["From"] == package["From"]
    assert not list(password.iter_attachments())
    whole = mailing.handler.messages[-1].decode()
    assert "x-pkcs12" not in whole
    assert not re.search(r"alice@example\.org|\.pfx|https?:", words(password) + words(password, "html"))
    assert "Passwort" in words(boxes["bob@home.example"])
    assert mailing.run("distributor status").stdout.count("handed-over") == 2
    names = [event["event"] for event in events(mailing, "alice@example.org")]
    assert names[-3:] == ["accepted", "revealed", "password-mailed"]
    assert mailing.run("distributor audit verify").returncode == 0
    again = mailing.run("distributor password mail --yes")
    assert (again.returncode, len(mailing.handler.messages)) == (0, 4)


def test_a_manager_gets_the_password_to_hand_it_over(mailing: Workspace) -> None:
    change(mailing, 'channel = "mail"', 'channel = "mail"\nto = "manager"')
    plan(mailing, PEOPLE.splitlines(keepends=True)[0])
    assert mailing.run("distributor send --yes").returncode == 0
    boxes = received(mailing)
    assert set(boxes) == {"alice@example.org", "boss@example.org"}
    assert "Give it to Alice Example personally" in " ".join(words(boxes["boss@example.org"]).split())
    assert "Your manager receives it" in " ".join(words(boxes["alice@example.org"]).split())


def test_a_sending_host_without_the_identity_says_what_to_run_where(mailing: Workspace) -> None:
    plan(mailing)
    config = mailing.folder / "distributor.toml"
    whole = config.read_text(encoding="utf-8")
    config.write_text(re.sub(r"(?m)^identity = .*", "", whole), encoding="utf-8")
    done = mailing.run("distributor send --yes")
    assert "2 passwords are ready; next: distributor password mail on the host that has the vault's identity" in done.stdout
    assert len(mailing.handler.messages) == 2
    assert mailing.run("distributor password mail --yes").returncode == 3
    config.write_text(whole, encoding="utf-8")
    found = json.loads(mailing.run("distributor password mail --yes --json").stdout)
    assert (found["schema"], found["sent"], found["ready"], found["ambiguous"]) == ("distributor/password-mail/1", 2, 0, 0)
    assert len(mailing.handler.messages) == 4


# --- never the same mailbox -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["email", "address", "alice@example.org", ""])
def test_the_same_mailbox_is_refused_in_the_configuration(mailing: Workspace, to: str) -> None:
    change(mailing, 'channel = "mail"', f'channel = "mail"\nto = "{to}"')
    done = mailing.run("distributor plan certificates --roster people.csv")
    assert done.returncode == 3
    assert "password.to: passwords are not sent to" in done.stdout
    assert "alternate_email, manager" in done.stdout


@pytest.mark.parametrize(
    ("alternate", "check"),
    [
        ("", "bad-row"),
        ("not an address", "bad-address"),
        ("alice@example.org", "bad-address"),
        ("ALICE@EXAMPLE.ORG", "bad-address"),
        ("alice+private@example.org", "bad-address"),
    ],
)
def test_a_row_whose_password_would_meet_its_package_is_not_planned(mailing: Workspace, alternate: str, check: str) -> None:
    found = plan(mailing, PEOPLE.replace("alice@home.example", alternate))
    deliveries, issues = found["deliveries"], found["issues"]
    assert isinstance(deliveries, list)
    assert isinstance(issues, list)
    assert [one["address"] for one in deliveries] == ["bob@example.org"]
    (issue,) = issues
    assert (issue["severity"], issue["check"], issue["source"], issue["line"], issue["address"]) == (
        "error",
        check,
        "people.csv",
        2,
        "alice@example.org",
    )
    assert "alternate_email" in issue["message"]
    assert issue["hint"]


def test_an_address_that_is_also_in_the_certificate_is_the_same_mailbox(mailing: Workspace) -> None:
    mailing.add_pfx("carol", "carol@example.org", "c.smith@example.org")
    found = plan(mailing, "carol@example.org,Carol,en,c.smith@example.org,\n")
    assert found["deliveries"] == []
    assert isinstance(found["issues"], list)
    assert any("leads to the mailbox" in issue["message"] for issue in found["issues"])


def test_it_is_checked_again_before_the_message_leaves(mailing: Workspace) -> None:
    change(mailing, 'channel = "mail"', 'channel = "mail"\nto = "manager"')
    plan(mailing, PEOPLE.replace("alice@home.example", "alice@example.org"))
    change(mailing, 'to = "manager"', 'to = "alternate_email"')
    done = mailing.run("distributor send --yes")
    assert done.returncode == 1
    assert "alice@example.org: not sent: alternate_email leads to the mailbox" in done.stdout
    assert set(received(mailing)) == {"alice@example.org", "bob@example.org", "bob@home.example"}
    assert len(mailing.handler.messages) == 3
    assert "ready" in mailing.run("distributor status alice@example.org").stdout


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_refused_recipient_leaves_the_password_ready_and_hidden(mailing: Workspace) -> None:
    plan(mailing, PEOPLE.replace("alice@home.example", "refused@home.example"))
    done = mailing.run("distributor send --yes")
    assert done.returncode == 1
    assert "alice@example.org: not sent: 550" in done.stdout
    assert not PASSWORD.search(done.stdout)
    assert "ready" in mailing.run("distributor status alice@example.org").stdout
    assert "revealed" not in [event["event"] for event in events(mailing, "alice@example.org")]
    assert mailing.run("distributor audit verify").returncode == 0


def sent_without_identity(workspace: Workspace) -> None:
    """The packages are accepted; their passwords are ready."""
    plan(workspace)
    config = workspace.folder / "distributor.toml"
    whole = config.read_text(encoding="utf-8")
    config.write_text(re.sub(r"(?m)^identity = .*", "", whole), encoding="utf-8")
    assert workspace.run("distributor send --yes").returncode == 0
    config.write_text(whole, encoding="utf-8")


def test_a_message_refused_after_its_data_makes_the_password_ready_again(mailing: Workspace) -> None:
    sent_without_identity(mailing)
    mailing.add_faulty_server("DOT:reply:1:554 5.7.1 not this one")
    done = mailing.run("distributor password mail --yes")
    assert (done.returncode, "1 password sent, 1 not sent" in done.stdout) == (1, True), done.stdout
    assert [event["event"] for event in events(mailing, "alice@example.org")][-2:] == ["revealed", "password-ready"]
    assert mailing.run("distributor status").stdout.count("handed-over") == 1
    assert mailing.run("distributor audit verify").returncode == 0
    assert mailing.run("distributor password mail --yes").returncode == 0
    assert mailing.run("distributor status").stdout.count("handed-over") == 2


def test_a_cut_after_the_data_leaves_the_password_handed_over_and_says_so(mailing: Workspace) -> None:
    sent_without_identity(mailing)
    mailing.add_faulty_server("DOT:stored-drop:1")
    done = mailing.run("distributor password mail --yes")
    assert (done.returncode, "1 ambiguous" in done.stdout, "distributor resend" in done.stdout) == (1, True, True), done.stdout
    assert mailing.run("distributor status").stdout.count("handed-over") == 2
    *_, last = events(mailing, "alice@example.org")
    assert (last["event"], last["evidence"]["outcome"]) == ("password-mailed", "ambiguous")
    assert mailing.run("distributor password mail --yes").returncode == 0


def test_a_server_that_is_not_there_changes_nothing(mailing: Workspace) -> None:
    sent_without_identity(mailing)
    mailing.add_closed_port()
    done = mailing.run("distributor password mail --yes")
    assert done.returncode == 4
    assert mailing.run("distributor status").stdout.count("ready") == 2


def test_own_templates_that_leave_the_password_out_are_refused(mailing: Workspace) -> None:
    own = mailing.folder / "templates/password/en"
    own.mkdir(parents=True)
    (own / "body.txt").write_text("The password is elsewhere.\n", encoding="utf-8")
    plan(mailing, PEOPLE.splitlines(keepends=True)[0])
    done = mailing.run("distributor send --yes")
    assert (done.returncode, "the templates do not show the password" in done.stdout) == (1, True), done.stdout
    assert set(received(mailing)) == {"alice@example.org"}


KILLED = """
import os, sys
from distributor.cli import app
from distributor.workflows import password_mail

password_mail._Run._settle = lambda *_: os._exit(9)
sys.exit(app.run(["password", "mail", "--yes"]))
"""


def test_killed_before_the_answer_is_recorded_it_is_ambiguous_and_not_sent_twice(mailing: Workspace) -> None:
    sent_without_identity(mailing)
    (mailing.folder / "kill.py").write_text(KILLED, encoding="utf-8")
    died = subprocess.run([sys.executable, "kill.py"], cwd=mailing.folder, env=mailing.environment(), check=False, timeout=120)
    assert (died.returncode, len(mailing.handler.messages)) == (9, 3)
    (mailing.folder / "kill.py").unlink()
    with bootstrap.open_for_writing(bootstrap.settings(mailing.folder / "distributor.toml")) as ledger:
        assert settle_interrupted(ledger, timedelta(minutes=5)) == []  # its process may still be waiting for the answer
        (found,) = settle_interrupted(ledger, timedelta(seconds=-1))
    assert (found.outcome, "distributor resend" in found.hint) == ("ambiguous", True)
    done = mailing.run("distributor password mail --yes")
    assert (done.returncode, len(mailing.handler.messages)) == (0, 4), done.stdout
    assert len(set(received(mailing))) == 4
    assert mailing.run("distributor audit verify").returncode == 0


# --- a service -------------------------------------------------------------------------------------------------------


def test_send_follow_mails_what_becomes_ready_once(mailing: Workspace) -> None:
    with following(mailing) as follower:
        follower.until("ready")
        plan(mailing, PEOPLE.replace("bob@home.example", "alice@other.example"))
        follower.until("password-sent", address="alice@example.org")
        follower.until("password-sent", address="bob@example.org")
        assert follower.stop() == 0
    assert set(received(mailing)) == {"alice@example.org", "bob@example.org", "alice@home.example", "alice@other.example"}
    shown = PASSWORD.search(words(received(mailing)["alice@home.example"]))
    assert shown is not None
    assert shown[0] not in json.dumps(follower.lines)
    assert mailing.run("distributor password mail --yes").returncode == 0
    assert len(mailing.handler.messages) == 4


def test_send_follow_does_not_try_a_password_again_each_second(mailing: Workspace) -> None:
    plan(mailing)
    template = mailing.folder / "templates" / "password" / "de" / "body.txt"
    template.parent.mkdir(parents=True)
    template.write_text("no password here\n", encoding="utf-8")
    with following(mailing) as follower:
        follower.until("password-not-sent", address="bob@example.org")
        mailing.run_script("+ pfx carol carol@example.org\n")
        plan(mailing, PEOPLE + "carol@example.org,Carol Example,en,carol@home.example,boss@example.org\n")
        follower.until("password-sent", address="carol@example.org")
        assert follower.stop() == 0
    assert sum(line["event"] == "password-not-sent" and line["address"] == "bob@example.org" for line in follower.lines) in {
        1,
        2,
    }  # 2: with Carol
