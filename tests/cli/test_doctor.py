"""`distributor doctor` on everything that signs in: the transport, rosters, trackers and directories, each finding with what mends it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.doubles.graphd import Cloud, graphd
from tests.doubles.slapd import BASE, WRITER, WRITES, slapd
from tests.workflows.outbox import SENDER
from tests.workspace import Workspace

OTHER = "reports@example.org"
SENDING = ["Mail.Send", "Mail.ReadWrite"]
TRACE, COPIES = '[[trackers]]\nkind = "trace"\n', f'[[trackers]]\nkind = "graph"\nmailbox = "{OTHER}"\nmark = false\n'
PEOPLE = '[[rosters]]\nkind = "graph"\n'
Check = dict[str, Any]
Doctor = Callable[..., list[Check]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with graphd(tmp_path_factory.mktemp("graphd")) as cloud:
        cloud.mailbox(SENDER)
        cloud.mailbox(OTHER)
        yield cloud


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    yield running
    assert (running.violations(), running.refusals(), running.faults()) == ([], [], [])


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n")
    yield made
    made.close()


@pytest.fixture
def run(workspace: Workspace, cloud: Cloud) -> Run:
    """With an app of these roles, and more tables."""

    def go(roles: list[str], more: str = "", command: str = "distributor doctor", **environment: str) -> subprocess.CompletedProcess[str]:
        app = cloud.app(secrets={"s3cret": None}, roles=roles)
        config = workspace.folder / "distributor.toml"
        text = config.read_text(encoding="utf-8")
        begin, end = text.index("[transport]"), text.index("[package]")
        table = (
            f'[transport]\nkind = "graph"\ntenant = "{cloud.tenant}"\nclient_id = "{app}"\nsecret = "env:APP_SECRET"\n'
            f'login = "{cloud.login}"\ngraph = "{cloud.graph}"\n\n'
        )
        config.write_text(f"{text[:begin]}{table}{text[end:]}\n{more}", encoding="utf-8")
        return workspace.run(command, **{**cloud.environment, "APP_SECRET": "s3cret", **environment})

    return go


@pytest.fixture
def doctor(run: Run) -> Doctor:
    def go(roles: list[str], more: str = "", **environment: str) -> list[Check]:
        result = run(roles, more, "distributor doctor --json", **environment)
        checks: list[Check] = json.loads(result.stdout)["checks"]
        assert result.returncode == int(any(check["level"] == "error" for check in checks))
        return checks

    return go


def of(checks: list[Check], area: str, *levels: str) -> list[Check]:
    return [check for check in checks if check["area"] == area and check["level"] in (levels or ("warning", "error"))]


# --- rosters and trackers --------------------------------------------------------------------------------------------


def test_everything_that_works_is_named(doctor: Doctor) -> None:
    roles = [*SENDING, "User.Read.All", "ExchangeMessageTrace.Read.All"]
    checks = doctor(roles, PEOPLE + TRACE + COPIES)
    assert [check["message"].partition(":")[0] for check in of(checks, "roster", "ok")] == ["rosters[0] (graph)"]
    assert [check["message"].partition(":")[0] for check in of(checks, "tracker", "ok")] == ["trackers[0] (trace)", "trackers[1] (graph)"]
    assert [check["level"] for check in checks if check["level"] != "ok"] == ["warning"]  # the breadth of Mail.*


@pytest.mark.parametrize(
    ("table", "area", "permission"),
    [
        (PEOPLE, "roster", "User.Read.All"),
        (f'{PEOPLE}group = "9f2c"\n', "roster", "GroupMember.Read.All"),
        (TRACE, "tracker", "ExchangeMessageTrace.Read.All"),
    ],
)
def test_a_permission_that_is_not_granted_comes_with_the_line_that_grants_it(
    doctor: Doctor, table: str, area: str, permission: str
) -> None:
    (lacking,) = of(doctor(SENDING, table), area)
    assert (lacking["level"], permission in lacking["message"]) == ("error", True)
    (command,) = lacking["commands"]
    assert f"'{permission}'" in command
    assert "New-MgServicePrincipalAppRoleAssignment" in command


def test_a_group_that_is_not_there_is_an_error_and_one_without_people_a_warning(doctor: Doctor, cloud: Cloud) -> None:
    roles, empty = [*SENDING, "User.Read.All", "GroupMember.Read.All"], cloud.group("nobody")
    found = of(doctor(roles, f'{PEOPLE}group = "9f2c"\n{PEOPLE}group = "{empty}"\n'), "roster")
    assert [(check["level"], check["message"].partition(" ")[0]) for check in found] == [("error", "rosters[0]"), ("warning", "rosters[1]")]


def test_a_trace_whose_own_service_is_not_let_in_gets_the_line_that_lets_it_in(doctor: Doctor, cloud: Cloud) -> None:
    cloud.fault("messageTrace.list", "status", status=403, code="Forbidden")
    (shut,) = of(doctor([*SENDING, "ExchangeMessageTrace.Read.All"], TRACE), "tracker")
    assert "New-MgServicePrincipal -AppId 8bd644d1-64a1-4d4b-ae52-2e0cbf64e373" in shut["commands"][0]


def test_a_mailbox_that_cannot_be_read_is_opened_together_with_those_that_messages_leave_by(doctor: Doctor, cloud: Cloud) -> None:
    cloud.fault("user.listMessages", "status", status=403, code="ErrorAccessDenied")
    (shut,) = of(doctor(SENDING, COPIES), "tracker")
    assert f"$names = '{SENDER}','{OTHER}'" in shut["commands"][0]


@pytest.mark.parametrize("kind", ["trace", "graph"])
@pytest.mark.parametrize("command", ["track", "doctor"])
def test_a_key_that_fails_when_its_secret_is_opened_is_named_by_its_own_table(run: Run, kind: str, command: str) -> None:
    own = f'tenant = "example.org"\nclient_id = "another"\nmailbox = "{OTHER}"\ncertificate = "env:TRACKER_CERTIFICATE"\n'
    table = f'[[trackers]]\nkind = "{kind}"\n{own}'.replace("" if kind == "graph" else f'mailbox = "{OTHER}"\n', "")
    result = run(SENDING, table, f"distributor {command}", TRACKER_CERTIFICATE="no PEM block")
    assert "trackers[0].certificate: no private key found" in result.stdout
    assert "transport.certificate" not in result.stdout
    assert command == "doctor" or re.search(r"distributor\.toml line \d+: trackers\[0\]\.certificate: ", result.stdout)


def test_a_transport_whose_certificate_does_not_fit_is_named_with_its_line(run: Run, workspace: Workspace) -> None:
    run(SENDING, command="true")
    config = workspace.folder / "distributor.toml"
    config.write_text(
        config.read_text(encoding="utf-8").replace('secret = "env:APP_SECRET"', 'certificate = "env:APP_SECRET"'), encoding="utf-8"
    )
    workspace.run_script("+ people\n$ distributor plan certificates --roster people.csv >/dev/null 2>&1\n")
    result = workspace.run("distributor send --yes", APP_SECRET="no PEM block")
    assert (
        result.returncode,
        bool(re.search(r"distributor\.toml line \d+: transport\.certificate: no private key found", result.stdout)),
    ) == (3, True)


# --- one registration, several tables --------------------------------------------------------------------------------


def test_reading_mail_is_needed_where_a_tracker_reads_and_too_much_where_none_does(doctor: Doctor) -> None:
    needless = [
        check["message"] for check in of(doctor([*SENDING, "Mail.Read"]), "transport") if "permissions not needed" in check["message"]
    ]
    assert needless == ["permissions not needed: Mail.Read"]


def test_reading_mail_is_not_called_needless_beside_a_tracker_that_reads(doctor: Doctor) -> None:
    checks = doctor([*SENDING, "Mail.Read"], COPIES)
    assert not [check for check in checks if "permissions not needed" in check["message"]]
    (wide,) = [check for check in checks if "every mailbox of the tenant" in check["message"]]
    first, second = wide["commands"]
    assert f"$names = '{SENDER}','{OTHER}'" in first
    assert "'Mail.Read','Mail.ReadWrite','Mail.Send'" in second


def test_what_the_token_grants_is_told(doctor: Doctor) -> None:
    (result,) = [check for check in doctor(SENDING) if check["message"].startswith("permissions in the token for ")]
    assert (result["level"], result["message"].rpartition(": ")[2]) == ("ok", "Mail.ReadWrite, Mail.Send")


def test_a_sign_in_that_fails_is_told_once_for_all_tables_that_share_it(doctor: Doctor) -> None:
    checks = doctor(SENDING, PEOPLE + TRACE, APP_SECRET="wrong")
    (refused,) = [check for check in checks if "AADSTS7000215" in check["message"]]
    assert refused["area"] == "transport"
    assert "Add-MgApplicationPassword" in refused["commands"][0]
    assert [check["level"] for check in of(checks, "roster") + of(checks, "tracker")] == ["warning", "warning"]


def test_a_tracker_with_an_app_of_its_own_is_judged_by_itself(doctor: Doctor, cloud: Cloud) -> None:
    own = cloud.app(secrets={"s3cret": None}, roles=["Mail.Read"])
    sign_in = (
        f'tenant = "{cloud.tenant}"\nclient_id = "{own}"\nsecret = "env:APP_SECRET"\nlogin = "{cloud.login}"\ngraph = "{cloud.graph}"\n'
    )
    (wide,) = of(doctor(SENDING, COPIES + sign_in), "tracker")
    first, second = wide["commands"]
    assert f"$names = '{OTHER}'" in first
    assert "New-ManagementScope -Name distributor-1 " in first
    assert own in second


def test_an_app_whose_exchange_roles_do_not_keep_drafts_is_told_so_and_its_reader_is_read(
    workspace: Workspace, cloud: Cloud, run: Run
) -> None:
    run([])
    app = next(line for line in (workspace.folder / "distributor.toml").read_text().splitlines() if line.startswith("client_id"))
    cloud.app(app.split('"')[1], exchange_roles={SENDER: ["Mail.Send", "Mail.Read"], OTHER: ["Mail.Read"]})
    with (workspace.folder / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write(COPIES)
    result = workspace.run("distributor doctor --json", **cloud.environment, APP_SECRET="s3cret")
    checks = json.loads(result.stdout)["checks"]
    (drafts,) = of(checks, "transport")
    assert (drafts["level"], "without Mail.ReadWrite" in drafts["message"]) == ("warning", True)
    assert f"$names = '{SENDER}','{OTHER}'" in drafts["commands"][0]
    assert of(checks, "tracker") == []
    assert [check for check in checks if "not visible in a token" in check["message"]]
    assert (cloud.messages(SENDER, "drafts"), cloud.messages(SENDER, "sentitems")) == ([], [])


# --- directories -----------------------------------------------------------------------------------------------------


def test_directories_are_reached_and_signed_in_to(doctor: Doctor) -> None:
    with slapd() as server:
        table = f'url = "{server.url}"\nbase = "{BASE}"\nbind = "{WRITER}"\npassword = "env:LDAP_PASSWORD"\n'
        more = f'[[directories]]\nkind = "ldap"\n{table}[[rosters]]\nkind = "ldap"\n{table}'
        trust = {"SSL_CERT_FILE": server.environment["SSL_CERT_FILE"]}
        good = doctor(SENDING, more, LDAP_PASSWORD=WRITES, **trust)
        bad = doctor(SENDING, "", LDAP_PASSWORD="wrong", **trust)
    for area in ("directory", "roster"):
        assert [check["message"].rpartition(", ")[2] for check in of(good, area, "ok")] == [f"signed in as {WRITER}".rpartition(", ")[2]]
        (refused,) = of(bad, area)
        assert (refused["level"], "ldapsearch" in refused["commands"][0]) == ("error", True)
        assert "wrong" not in json.dumps(refused)


# --- how it looks ----------------------------------------------------------------------------------------------------


def test_what_is_typed_stands_on_a_line_of_its_own(run: Run) -> None:
    lines = run(SENDING).stdout.splitlines()
    place = next(number for number, line in enumerate(lines) if "every mailbox of the tenant" in line)
    assert [lines[place + step].split()[0] for step in (2, 4)] == ["Connect-ExchangeOnline", "Connect-MgGraph"]
    assert all(lines[place + step].startswith("  Connect-") for step in (2, 4))
