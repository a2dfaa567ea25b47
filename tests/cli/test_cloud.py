"""The command line through Microsoft Graph: send, look for evidence, follow, examine; each against the double."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from distributor.adapters.transports import graph as graph_transport
from distributor.clients.app_registration import AppRegistration
from distributor.model.attempts import Accepted, AttemptResult, Claim, RecordIntent
from distributor.model.delivery import DeliveryFilter
from distributor.model.secret import Secret
from distributor.model.states import State
from tests.authority import Authority
from tests.contracts.oauth_server import SECRET, started
from tests.doubles.graphd import Cloud
from tests.workflows import outbox
from tests.workspace import Workspace

SENDER, SECOND = outbox.SENDER, "certificates2@example.org"
HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    """One double for all tests of a module, with empty mailboxes for each."""
    running.mailbox(SENDER)
    running.mailbox(SECOND)
    yield running
    assert (running.violations(), running.refusals(), running.faults()) == ([], [], [])


@pytest.fixture
def client(cloud: Cloud) -> str:
    return cloud.app(secrets={"s3cret": None}, roles=["Mail.Send", "Mail.ReadWrite", "ExchangeMessageTrace.Read.All"])


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority, cloud: Cloud, client: str) -> Iterator[Workspace]:
    (tmp_path / "workspace").mkdir()
    made = Workspace(tmp_path / "workspace", authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n+ people\n")
    config = made.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    begin, end = text.index("[transport]"), text.index("[package]")
    table = (
        f'[transport]\nkind = "graph"\ntenant = "{cloud.tenant}"\nclient_id = "{client}"\nsecret = "env:APP_SECRET"\n'
        f'login = "{cloud.login}"\ngraph = "{cloud.graph}"\nrate = "6000/min"\n\n'
    )
    config.write_text(text[:begin] + table + text[end:], encoding="utf-8")
    yield made
    made.close()


@pytest.fixture
def run(workspace: Workspace, cloud: Cloud) -> Run:
    return lambda command: workspace.run(command, **cloud.environment, APP_SECRET="s3cret")


def add(workspace: Workspace, text: str) -> None:
    with (workspace.folder / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write(text)


def answer(result: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert result.returncode == code, result.stdout
    return json.loads(result.stdout)


def unclear(workspace: Workspace, count: int) -> list[Claim]:
    """Messages of an hour ago, of which nobody knows whether they left."""
    ledger = outbox.new_ledger(workspace.folder / "distributor.db", lambda: HOUR_AGO)
    outbox.queue(ledger, count)
    owner = outbox.me()
    claims = ledger.claim(owner, count, timedelta(minutes=1), DeliveryFilter())
    ledger.write([RecordIntent(claim, timedelta(minutes=1)) for claim in claims], owner)
    ledger.write([AttemptResult(claim, State.AMBIGUOUS, "504 Gateway Timeout") for claim in claims], owner)
    ledger.close()
    return claims


def left(cloud: Cloud, client: str, claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message did leave."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    named = AppRegistration(tenant=cloud.tenant, client_id=client, secret=Secret("s3cret"), login=cloud.login)
    transport = graph_transport.open(graph_transport.Settings(**vars(named), mailbox=SENDER, graph=cloud.graph))

    async def go() -> object:
        outcome = await transport.connection().deliver(claim.message, arm)
        await transport.finish()
        return outcome

    async def arm(_handle: object = None) -> bool:
        return True

    assert isinstance(asyncio.run(go()), Accepted)


def test_messages_leave_by_graph_and_the_ledger_knows_them_by_the_names_they_bear_there(
    workspace: Workspace, run: Run, cloud: Cloud
) -> None:
    before = len(cloud.stored())
    assert run("distributor plan certificates --roster people.csv").returncode == 0
    sent = answer(run("distributor send --yes --json 2>/dev/null"))
    assert (sent["accepted"], sent["remaining"]) == (2, 0)
    rows = answer(run("distributor status --json"))["deliveries"]
    stored = cloud.stored()[before:]
    assert {row["message_id"] for row in rows} == {record["message_id"] for record in stored}
    assert {record["to"] for record in stored} == {row["address"] for row in rows}
    assert {row["password"]["state"] for row in rows} == {"ready"}
    kept = b"".join(path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file())
    assert b"s3cret" not in kept
    assert not re.search(rb"eyJ[\w-]+\.[\w-]+\.", kept)  # a token; what is random may begin alike


def test_two_mailboxes_share_the_work_and_the_question_says_how_long_it_takes(workspace: Workspace, run: Run, cloud: Cloud) -> None:
    before, tokens = len(cloud.stored()), len(cloud.requests("token"))
    add(workspace, f'[[senders]]\naddress = "{SECOND}"\n')
    ledger = outbox.new_ledger(workspace.folder / "distributor.db")
    outbox.queue(ledger, 6, senders=(SENDER, SECOND))
    ledger.close()
    assert answer(run("distributor send --yes --json 2>/dev/null"))["accepted"] == 6
    assert Counter(record["mailbox"] for record in cloud.stored()[before:]) == {SENDER: 3, SECOND: 3}
    assert len(cloud.requests("token")) == tokens + 1


def test_a_mailbox_that_is_refused_is_named_and_the_others_messages_go(workspace: Workspace, run: Run) -> None:
    add(workspace, '[[senders]]\naddress = "nobody@example.org"\n')
    ledger = outbox.new_ledger(workspace.folder / "distributor.db")
    outbox.queue(ledger, 4, senders=(SENDER, "nobody@example.org"))
    ledger.close()
    result = run("distributor send --yes")
    assert result.returncode == 4
    assert "2 messages accepted; 2 remaining" in result.stdout
    assert "error: nobody@example.org: " in result.stdout
    assert "hint: " in result.stdout


def test_resolve_settles_what_sent_items_hold_and_lists_the_rest(
    workspace: Workspace, run: Run, cloud: Cloud, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = unclear(workspace, 2)
    left(cloud, client, first, monkeypatch)
    result = answer(run("distributor resolve --json 2>/dev/null"), 1)
    assert [(row["id"], row["to"]) for row in result["settled"]] == [(first.id, "accepted")]
    assert [row["id"] for row in result["ambiguous"]] == [second.id]
    history = answer(run("distributor history p1@example.org --json"))["events"][-1]
    assert (history["event"], history["evidence"]["kind"]) == ("accepted", "sent-items")
    assert run("distributor audit verify").returncode == 0


def test_track_moves_messages_by_the_message_trace(workspace: Workspace, run: Run, cloud: Cloud) -> None:
    add(workspace, '[[trackers]]\nkind = "trace"\n')
    for claim, status in zip(unclear(workspace, 3), ("delivered", "failed", None), strict=True):
        if status:
            cloud.trace(claim.message.message_id, SENDER, claim.message.address, status=status, at=HOUR_AGO.timestamp())
    result = answer(run("distributor track --json"), 1)
    assert next(iter(result)) == "schema"
    assert [(row["address"], row["from"], row["to"]) for row in result["moved"]] == [
        ("p1@example.org", "ambiguous", "delivered"),
        ("p2@example.org", "ambiguous", "bounced"),
    ]
    assert (result["read"], result["unmatched"]) == (2, 0)
    assert run("distributor track").stdout.startswith("nothing found, no status changed")


def test_track_says_what_is_missing_where_nobody_could_know(tmp_path: Path, authority: Authority) -> None:
    workspace = Workspace(tmp_path, authority)
    workspace.run_script(
        "$ distributor init >/dev/null 2>&1\n"
        "$ distributor track\nerror: no tracker is configured\n"
        'hint: add [[trackers]] to distributor.toml, such as kind = "trace" or "imap" (see docs/tracking.md#trackers)\n? 1\n'
        "$ distributor track --follow --json\nerror: --follow and --json exclude each other\nhint: ...\n? 2\n"
    )


def test_doctor_names_what_the_app_may_more_than_it_needs(run: Run) -> None:
    result = answer(run("distributor doctor --json"))
    diagnostics = [check for check in result["checks"] if check["area"] == "transport"]
    assert [diagnostic["level"] for diagnostic in diagnostics][:2] == ["ok", "warning"]
    assert "New-ManagementRoleAssignment" in diagnostics[1]["hint"]


def test_a_sign_in_that_is_refused_is_told_in_our_words_without_the_secret(workspace: Workspace, cloud: Cloud) -> None:
    result = workspace.run("distributor doctor", **cloud.environment, APP_SECRET="not-the-secret")
    assert result.returncode == 1
    assert "wrong secret (AADSTS7000215)" in result.stdout
    assert "not-the-secret" not in result.stdout


@pytest.mark.slow(reason="a whole demo with a service")
def test_the_demo_sends_through_graph(tmp_path: Path, authority: Authority) -> None:
    workspace = Workspace(tmp_path, authority)
    result = answer(workspace.run("distributor demo --graph --keep play --json 2>/dev/null"))
    assert [person["state"] for person in result["people"]].count("accepted") == 4
    assert result["opened"] is True
    workspace.run_script(
        "$ cd play && distributor doctor >/dev/null\n"
        "$ cd play && distributor history alice@example.org | grep -c handle=\n1\n"
        '$ cd play && distributor password reveal emil@example.org --reason "he called" --stdout\n...-...\n'
    )


def test_smtp_signs_in_by_oauth_for_each_mailbox_with_one_token(tmp_path: Path, workspace: Workspace, cloud: Cloud) -> None:
    with started(tmp_path / "smtp", cloud) as post:
        post.let_in(SENDER, SECOND)
        config = workspace.folder / "distributor.toml"
        text = config.read_text(encoding="utf-8")
        begin, end = text.index("[transport]"), text.index("[package]")
        oauth = f'{{tenant = "{cloud.tenant}", client_id = "{post.sign_in.client_id}", secret = "env:APP_SECRET", login = "{cloud.login}"}}'
        table = f'[transport]\nkind = "smtp"\nhost = "localhost"\nport = {post.sink.port}\ntls = "starttls"\noauth = {oauth}\n\n'
        config.write_text(f'{text[:begin]}{table}[[senders]]\naddress = "{SECOND}"\n\n{text[end:]}', encoding="utf-8")
        ledger = outbox.new_ledger(workspace.folder / "distributor.db")
        outbox.queue(ledger, 4, senders=(SENDER, SECOND))
        ledger.close()
        environment, tokens = {**cloud.environment, "APP_SECRET": SECRET}, post.tokens
        assert answer(workspace.run("distributor send --yes --json 2>/dev/null", **environment))["accepted"] == 4
        assert {(record["from"], record["user"]) for record in post.sink.stored()} == {(SENDER, SENDER), (SECOND, SECOND)}
        assert post.tokens == tokens + 1
        post.let_in(SENDER)
        result = workspace.run("distributor doctor", **environment).stdout
        assert f"signed in as {SENDER} by OAuth" in result
        assert "535 5.7.3" in result
        assert SECRET not in result


def test_a_mail_server_that_could_tell_nothing_is_not_signed_in_to_for_a_list_of_unclear_messages(workspace: Workspace) -> None:
    config = workspace.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    begin, end = text.index("[transport]"), text.index("[package]")
    table = '[transport]\nkind = "smtp"\nhost = "mail.example.org"\npassword = "env:NOT_SET"\n\n'
    config.write_text(text[:begin] + table + text[end:], encoding="utf-8")
    (claim,) = unclear(workspace, 1)
    result = answer(workspace.run("distributor resolve --json 2>/dev/null"), 1)
    assert [row["id"] for row in result["ambiguous"]] == [claim.id]


def test_one_person_s_own_certificate_leaves_by_graph_and_no_copy_stays(workspace: Workspace, cloud: Cloud, run: Run) -> None:
    config = workspace.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8").replace('rate = "6000/min"', 'rate = "6000/min"\nsave_copy = false')
    config.write_text(text.partition("[vault]")[0], encoding="utf-8")
    (workspace.folder / "distributor.db").unlink()
    before = len(cloud.stored())
    words = "distributor self certificates/alice.pfx --password-file certificates/alice.txt --yes --json --stdout 2>said"
    (delivery,) = answer(run(words))["deliveries"]
    assert (delivery["address"], delivery["state"]) == ("alice@example.org", "accepted")
    assert len(delivery["password"].split("-")) == 5
    assert [record["to"] for record in cloud.stored()[before:]] == ["alice@example.org"]
    assert cloud.messages(SENDER, "sentitems") == []
