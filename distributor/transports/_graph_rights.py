"""An app's permissions -> which nothing here needs, and how those for every mailbox are narrowed to some (RBAC for Applications). Pure.

Grants of Entra and of Exchange add up, so the wide ones have to be taken back as well (facts: sending.md 1.7).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

NAME = "distributor"  # of the scope in Exchange
_OURS = frozenset({"Mail.Send", "Mail.ReadWrite", "User.Read.All", "GroupMember.Read.All", "ExchangeMessageTrace.Read.All"})
_PERSONS = frozenset({"openid", "profile", "email", "offline_access", "User.Read", "Mail.Send.Shared", "Mail.ReadWrite.Shared"})
_PHONES = "DeviceManagement"  # what Intune needs begins so
_ROLES = {  # their ids at Microsoft Graph, the same in every tenant
    "Mail.Send": "b633e1c5-b582-4048-a93e-9f11b44c7e96",
    "Mail.ReadWrite": "e2a3a72e-5f79-4c64-b1b1-878b674786c9",
    "Mail.Read": "810c84a8-4a9e-49e6-bf7d-12d183f40d01",
    "Mail.ReadBasic.All": "693c5e45-0940-467d-9b8a-1022fb9d42ef",
}


def needless(granted: Collection[str]) -> list[str]:
    """Permissions that no part of this program uses."""
    return sorted(one for one in granted if one not in _OURS | _PERSONS and not one.startswith(_PHONES))


def narrowing(client_id: str, mailboxes: Sequence[str], wide: Collection[str]) -> str:
    """The PowerShell that lets the app into these mailboxes only, in one line."""
    return "; ".join((*_signed_in(client_id), *_let_in(mailboxes), *_taken_back(wide)))


def _signed_in(client_id: str) -> Iterator[str]:
    yield "Connect-MgGraph -Scopes Application.Read.All,AppRoleAssignment.ReadWrite.All"
    yield f"$app = Get-MgServicePrincipal -Filter \"appId eq '{client_id or 'APPLICATION_ID'}'\""
    yield "Connect-ExchangeOnline"


def _let_in(mailboxes: Sequence[str]) -> Iterator[str]:
    scope = " -or ".join(_is(mailbox) for mailbox in mailboxes)
    yield "New-ServicePrincipal -AppId $app.AppId -ObjectId $app.Id -DisplayName $app.DisplayName"
    yield f'New-ManagementScope -Name {NAME} -RecipientRestrictionFilter "{scope}"'
    for role in ("Mail.Send", "Mail.ReadWrite"):
        yield f'New-ManagementRoleAssignment -App $app.Id -Role "Application {role}" -CustomResourceScope {NAME}'
    for mailbox in mailboxes:
        yield f"Test-ServicePrincipalAuthorization -Identity $app.Id -Resource {_quoted(mailbox)}"


def _taken_back(wide: Collection[str]) -> Iterator[str]:
    ids = ",".join(_quoted(_ROLES[role]) for role in sorted(wide) if role in _ROLES)
    if ids:
        found = "Get-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $app.Id"
        gone = "Remove-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $app.Id -AppRoleAssignmentId $_.Id"
        yield f"{found} | Where-Object {{ $_.AppRoleId -in {ids} }} | ForEach-Object {{ {gone} }}"


def _is(mailbox: str) -> str:
    return f"{'UserPrincipalName' if '@' in mailbox else 'ExternalDirectoryObjectId'} -eq {_quoted(mailbox)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
