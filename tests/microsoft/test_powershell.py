"""Lines of PowerShell that `doctor` prints and the documentation shows: complete, for one module each, and safe to paste twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distributor.microsoft import powershell
from distributor.microsoft.permissions import remedy
from distributor.microsoft.powershell import App, command, steps

APP = App("tenant-1", "app-1", "object-1", "https://graph.microsoft.com")
MAILBOX = "certificates@example.org"
DOCS = Path(__file__).parents[2] / "docs" / "exchange-online.md"
LINES: dict[str, Callable[[App], str]] = {
    "consent": lambda app: powershell.consent(app, ["Mail.Send"]),
    "taken_back": lambda app: powershell.taken_back(app, ["Mail.Send"]),
    "trace_service": powershell.trace_service,
    "let_in": lambda app: powershell.scope_mailboxes(app, [MAILBOX], ["Mail.Send", "Mail.ReadWrite"]),
    "opened": powershell.opened,
    "full_access": lambda app: powershell.full_access(app, MAILBOX),
    "smtp_sign_in": lambda app: powershell.smtp_sign_in(app, MAILBOX),
    "shared_mailbox": lambda app: powershell.shared_mailbox(app, MAILBOX),
    "licence": lambda app: powershell.licence(app, MAILBOX),
    "short_memory": lambda app: powershell.sent_items_retention(app, [MAILBOX]),
    "new_secret": powershell.new_secret,
    "certificate": powershell.certificate,
    "enterprise_application": powershell.enterprise_application,
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_signs_in_first_and_to_one_module_only(name: str) -> None:
    line = LINES[name](APP)
    assert "\n" not in line
    assert line.startswith(("Connect-MgGraph ", "Connect-ExchangeOnline "))
    assert line.count("Connect-") == 1
    other = ("Mailbox", "-Management", "Test-ServicePrincipal", "New-ServicePrincipal ") if line.startswith("Connect-MgGraph") else ("-Mg",)
    assert not [word for word in other if word in line]


@pytest.mark.parametrize("name", LINES)
def test_brackets_and_quotes_of_a_line_are_closed(name: str) -> None:
    line = LINES[name](APP)
    assert [line.count(one) for one in "({["] == [line.count(one) for one in ")}]"]
    assert (line.count('"') % 2, line.count("'") % 2) == (0, 0)


@pytest.mark.parametrize(
    ("service", "graph", "exchange"),
    [
        ("https://graph.microsoft.com", "", ""),
        ("https://graph.microsoft.us", "-Environment USGov ", "-ExchangeEnvironmentName O365USGovGCCHigh"),
        ("https://dod-graph.microsoft.us", "-Environment USGovDoD ", "-ExchangeEnvironmentName O365USGovDoD"),
        ("https://outlook.office365.us", "-Environment USGov ", "-ExchangeEnvironmentName O365USGovGCCHigh"),
        ("https://microsoftgraph.chinacloudapi.cn", "-Environment China ", "-ExchangeEnvironmentName O365China"),
        ("https://partner.outlook.cn", "-Environment China ", "-ExchangeEnvironmentName O365China"),
    ],
)
def test_a_line_signs_in_at_the_apps_own_cloud(service: str, graph: str, exchange: str) -> None:
    app = App("tenant-1", "app-1", "object-1", service)
    assert powershell.new_secret(app).startswith(f"Connect-MgGraph -TenantId 'tenant-1' {graph}-Scopes ")
    assert powershell.opened(app).partition(";")[0] == f"Connect-ExchangeOnline -ShowBanner:$false {exchange}".rstrip()


def test_letting_an_app_in_changes_what_is_there_and_makes_what_is_not() -> None:
    line = powershell.scope_mailboxes(APP, [MAILBOX, "0f12-an-id"], ["Mail.Send", "Mail.ReadWrite"])
    assert f"$names = '{MAILBOX}','0f12-an-id'" in line
    assert "Guid -eq '$((Get-Mailbox -Identity $_ -ErrorAction Stop).Guid)'" in line
    for old, new in (("Get-ServicePrincipal", "New-ServicePrincipal"), ("Set-ManagementScope", "New-ManagementScope")):
        assert line.index(old) < line.index(new)
    assert "if (-not (Test-ServicePrincipalAuthorization -Identity $id | Where-Object" in line
    assert "Remove-" not in line


def test_without_an_object_id_a_person_is_asked_for_it() -> None:
    assert "$id = Read-Host" in powershell.scope_mailboxes(App("t", "app-1"), [MAILBOX], ["Mail.Send"])


@pytest.mark.parametrize("name", ["o'brien@example.org", "o\u2019brien@example.org", "a'; Remove-Mailbox 'b"])
def test_a_name_cannot_end_its_quotes(name: str) -> None:
    line = powershell.smtp_sign_in(APP, name)
    quote = name[1]
    assert f"-Identity '{name.replace(quote, quote * 2)}' -Smtp" in line


def test_an_id_is_an_id_whatever_was_written_in_its_place() -> None:
    assert "appId eq 'abc'\"" in powershell.new_secret(App("t", "a'\"b;`$c"))


def test_a_hint_keeps_prose_and_what_is_typed_apart() -> None:
    lines = steps("do this:", ("one", "two"), "then wait").splitlines()
    assert [command(line) for line in lines] == [None, "one", "two", None]


# --- a sign-in that fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("wrong secret (AADSTS7000215)", "Add-MgApplicationPassword"),
        ("the secret has expired (AADSTS7000222)", "Add-MgApplicationPassword"),
        ("the certificate is not registered (AADSTS700027)", "Update-MgApplication"),
        ("transport.certificate: the certificate expired on 2026-01-01", "Update-MgApplication"),
        ("the app is disabled (AADSTS7000112)", "AccountEnabled:$true"),
        ("no service principal (AADSTS7000229)", "New-MgServicePrincipal"),
        ("the app's permissions have no consent (AADSTS65001)", "New-MgServicePrincipalAppRoleAssignment"),
        ("the client assertion has expired or is not valid yet (AADSTS700024)", "timedatectl"),
    ],
)
def test_a_refused_sign_in_is_mended_by_a_line(message: str, word: str) -> None:
    hint = remedy(message, "what to do", APP, ("Mail.Send",)) or ""
    assert hint.startswith("what to do; ")
    assert word in " ".join(filter(None, map(command, hint.splitlines())))


def test_what_nothing_typed_can_mend_keeps_its_words() -> None:
    assert remedy("there is no tenant (AADSTS90002)", "check it", APP) == "check it"


# --- the documentation -----------------------------------------------------------------------------------------------


def blocks() -> list[str]:
    return [part.partition("```")[0] for part in DOCS.read_text(encoding="utf-8").split("```powershell\n")[1:]]


def test_no_block_of_the_documentation_signs_in_to_both_modules() -> None:
    assert not [block for block in blocks() if "Connect-MgGraph" in block and "Connect-ExchangeOnline" in block]


def test_documentation_and_doctor_filter_mailboxes_alike() -> None:
    text = "\n".join(blocks())
    assert "Guid -eq '$((Get-Mailbox -Identity $_ -ErrorAction Stop).Guid)'" in text
    assert "PrimarySmtpAddress -eq" not in text
    assert "UserPrincipalName -eq" not in text
