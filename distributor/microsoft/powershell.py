"""An app of Entra's and what is to change -> lines of PowerShell. Each is complete: it signs in, finds the rest, and may run twice. Pure.

A line is for Graph's module or for Exchange's, never for both: their sign-in libraries clash in one session (msgraph-sdk-powershell
issue 3394), so that each is pasted into a new window. What a tenant's administrator has to know is in docs/exchange-online.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

NAME = "distributor"  # of the scope in Exchange
WINDOW = "in a new PowerShell window"
GRAPH, EXCHANGE = "00000003-0000-0000-c000-000000000000", "00000002-0000-0ff1-ce00-000000000000"  # app ids, the same in every tenant
TRACE = "8bd644d1-64a1-4d4b-ae52-2e0cbf64e373"  # the message trace's own service (facts: sending.md 1.5)
_CLOUDS = {  # host of a service -> what Connect-MgGraph and Connect-ExchangeOnline call its cloud
    **dict.fromkeys(("graph.microsoft.us", "outlook.office365.us"), ("USGov", "O365USGovGCCHigh")),
    **dict.fromkeys(("dod-graph.microsoft.us", "outlook-dod.office365.us"), ("USGovDoD", "O365USGovDoD")),
    **dict.fromkeys(("microsoftgraph.chinacloudapi.cn", "partner.outlook.cn"), ("China", "O365China")),
}
_MARK = "  "  # before a line of a hint that can be typed


@dataclass(frozen=True, slots=True)
class App:
    """A registration. `object_id` is that of its enterprise application, where a token told it; `service` the root a token is for."""

    tenant: str = ""
    client_id: str = ""
    object_id: str = ""
    service: str = ""


def steps(*parts: str | tuple[str, ...]) -> str:
    """A hint in lines: prose as a text, what can be typed in a tuple."""
    return "\n".join(line for part in parts for line in ([part] if isinstance(part, str) else [_MARK + typed for typed in part]))


def command(line: str) -> str | None:
    """The command that a line of a hint is; None for prose."""
    return line.removeprefix(_MARK) if line.startswith(_MARK) else None


def quoted(text: str) -> str:
    """A text that nothing ends before its end; PowerShell takes curved quotes for straight ones."""
    return "'" + re.sub("['\u2018\u2019\u201a\u201b]", r"\g<0>\g<0>", text) + "'"


# --- windows ---------------------------------------------------------------------------------------------------------


def _cloud(app: App) -> tuple[str, str] | None:
    return _CLOUDS.get((urlsplit(app.service).hostname or "").lower())


def graph(app: App, *scopes: str) -> str:
    """A window for Entra."""
    tenant = f" -TenantId {quoted(app.tenant)}" if app.tenant else ""
    cloud = f" -Environment {found[0]}" if (found := _cloud(app)) else ""
    return f"Connect-MgGraph{tenant}{cloud} -Scopes {','.join(scopes)} -NoWelcome"


def exchange(app: App) -> str:
    """A window for Exchange."""
    cloud = f" -ExchangeEnvironmentName {found[1]}" if (found := _cloud(app)) else ""
    return f"Connect-ExchangeOnline -ShowBanner:$false{cloud}"


def _id(text: str) -> str:
    """An id, whatever was written in its place: it stands inside quotes of two kinds."""
    return re.sub(r"[^A-Za-z0-9-]", "", text)


def _principal(app: App) -> str:
    """The enterprise application."""
    if app.client_id:
        return f"$sp = Get-MgServicePrincipal -Filter \"appId eq '{_id(app.client_id)}'\""
    return f"$sp = Get-MgServicePrincipal -ServicePrincipalId '{_id(app.object_id) or 'OBJECT_ID'}'"


def _registration(app: App) -> str:
    return f"$app = Get-MgApplication -Filter \"appId eq '{_id(app.client_id)}'\""


def _known(app: App) -> str:
    """The enterprise application's object id; a person is asked where nothing told it."""
    if app.object_id:
        return f"$id = '{_id(app.object_id)}'"
    return "$id = Read-Host 'object ID, Entra: Enterprise applications'"


# --- permissions in Entra --------------------------------------------------------------------------------------------

_GRANTS = ("Application.Read.All", "AppRoleAssignment.ReadWrite.All")
_THERE = "Get-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $sp.Id -All"


def consent(app: App, permissions: Collection[str], service: str = GRAPH) -> str:
    """Grants an app permissions, with an administrator's consent."""
    names = ",".join(quoted(one) for one in sorted(permissions))
    ours = "-ServicePrincipalId $sp.Id -PrincipalId $sp.Id -ResourceId $to.Id -AppRoleId $_.Id"
    roles = (
        f"$to.AppRoles | Where-Object {{ $_.Value -in {names} -and $_.AllowedMemberTypes -contains 'Application' -and $_.Id -notin $has }}"
    )
    return "; ".join(
        (
            graph(app, *_GRANTS),
            _principal(app),
            f"$to = Get-MgServicePrincipal -Filter \"appId eq '{service}'\"",
            f"$has = ({_THERE}).AppRoleId",
            f"{roles} | ForEach-Object {{ New-MgServicePrincipalAppRoleAssignment {ours} }}",
        )
    )


def taken_back(app: App, permissions: Collection[str], service: str = GRAPH) -> str:
    """Takes permissions of the whole tenant from an app."""
    names = ",".join(quoted(one) for one in sorted(permissions))
    gone = "Remove-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $sp.Id -AppRoleAssignmentId $_.Id"
    return "; ".join(
        (
            graph(app, *_GRANTS),
            _principal(app),
            f"$to = Get-MgServicePrincipal -Filter \"appId eq '{service}'\"",
            f"$ids = ($to.AppRoles | Where-Object {{ $_.Value -in {names} }}).Id",
            f"{_THERE} | Where-Object {{ $_.ResourceId -eq $to.Id -and $_.AppRoleId -in $ids }} | ForEach-Object {{ {gone} }}",
        )
    )


def trace_service(app: App) -> str:
    """Lets the message trace's own service into the tenant, once."""
    there = f"Get-MgServicePrincipal -Filter \"appId eq '{TRACE}'\""
    return f"{graph(app, 'Application.ReadWrite.All')}; if (-not ({there})) {{ New-MgServicePrincipal -AppId {TRACE} }}"


# --- permissions in Exchange (RBAC for Applications) -----------------------------------------------------------------


def _introduced(app: App) -> str:
    """Exchange knows the app."""
    new = f"New-ServicePrincipal -AppId '{_id(app.client_id) or 'APPLICATION_ID'}' -ObjectId $id -DisplayName {NAME}"
    return f"if (-not (Get-ServicePrincipal -Identity $id -ErrorAction SilentlyContinue)) {{ {new} }}"


def scope_mailboxes(app: App, mailboxes: Sequence[str], roles: Collection[str], scope: str = NAME) -> str:
    """Roles such as Mail.Send for these mailboxes and no others. The scope is set anew, so that all of an app's belong into one call.

    A mailbox is found by whatever name it has here, and the scope holds its Guid, which no renaming changes.
    """
    names = ",".join(quoted(mailbox) for mailbox in mailboxes)
    wanted = ",".join(quoted(f"Application {role}") for role in sorted(roles))
    has = f"$_.RoleName -eq $role -and $_.AllowedResourceScope -eq '{scope}'"
    given = f"New-ManagementRoleAssignment -App $id -Role $role -CustomResourceScope {scope}"
    held = "Test-ServicePrincipalAuthorization -Identity $id"
    tested = "$names | ForEach-Object { Test-ServicePrincipalAuthorization -Identity $id -Resource $_ }"
    return "; ".join(
        (
            exchange(app),
            _known(app),
            f"$names = {names}",
            "$filter = ($names | ForEach-Object { \"Guid -eq '$((Get-Mailbox -Identity $_ -ErrorAction Stop).Guid)'\" }) -join ' -or '",
            _introduced(app),
            _scoped(scope),
            f"foreach ($role in {wanted}) {{ if (-not ({held} | Where-Object {{ {has} }})) {{ {given} }} }}",
            f"{tested} | Format-Table RoleName, InScope",
        )
    )


def _scoped(scope: str) -> str:
    there = f"Get-ManagementScope -Identity {scope} -ErrorAction SilentlyContinue"
    old = f"Set-ManagementScope -Identity {scope} -RecipientRestrictionFilter $filter"
    new = f"New-ManagementScope -Name {scope} -RecipientRestrictionFilter $filter"
    return f"if ({there}) {{ {old} }} else {{ {new} }}"


def opened(app: App) -> str:
    """Shows what Exchange opens to an app, and with which scope."""
    shown = "Format-Table RoleName, AllowedResourceScope, ScopeType"
    return f"{exchange(app)}; Test-ServicePrincipalAuthorization -Identity '{_id(app.object_id or app.client_id)}' | {shown}"


def full_access(app: App, mailbox: str) -> str:
    """Lets an app send as a mailbox over SMTP, where there are no roles."""
    given = f"Add-MailboxPermission -Identity {quoted(mailbox)} -User $id -AccessRights FullAccess"
    return f"{exchange(app)}; {_known(app)}; {_introduced(app)}; {given}"


# --- mailboxes -------------------------------------------------------------------------------------------------------


def smtp_sign_in(app: App, mailbox: str) -> str:
    """Switches SMTP on for a mailbox."""
    return f"{exchange(app)}; Set-CASMailbox -Identity {quoted(mailbox)} -SmtpClientAuthenticationDisabled $false"


def shared_mailbox(app: App, address: str) -> str:
    """Makes a mailbox that needs no licence."""
    return f"{exchange(app)}; New-Mailbox -Shared -Name {quoted(address)} -PrimarySmtpAddress {quoted(address)}"


def licence(app: App, mailbox: str) -> str:
    """Gives an account a licence that is free and has a mailbox in it."""
    has = "$_.ServicePlans.ServicePlanName -match '^EXCHANGE_S_(STANDARD|ENTERPRISE)' -and $_.PrepaidUnits.Enabled -gt $_.ConsumedUnits"
    sku = f"$sku = Get-MgSubscribedSku -All | Where-Object {{ {has} }} | Select-Object -First 1"
    given = f"Set-MgUserLicense -UserId {quoted(mailbox)} -AddLicenses @(@{{ SkuId = $sku.SkuId }}) -RemoveLicenses @()"
    return f"{graph(app, 'LicenseAssignment.ReadWrite.All', 'Organization.Read.All')}; {sku}; {given}"


def sent_items_retention(app: App, mailboxes: Sequence[str]) -> str:
    """Empties Sent Items after a day."""
    tag, policy = "'Sent for a day'", f"'{NAME}'"
    quiet = "-ErrorAction SilentlyContinue"
    new = f"New-RetentionPolicyTag {tag} -Type SentItems -RetentionEnabled $true -AgeLimitForRetention 1 -RetentionAction PermanentlyDelete"
    boxes = ",".join(quoted(one) for one in mailboxes)
    return "; ".join(
        (
            exchange(app),
            f"if (-not (Get-RetentionPolicyTag {tag} {quiet})) {{ {new} }}",
            f"if (-not (Get-RetentionPolicy {policy} {quiet})) {{ New-RetentionPolicy {policy} -RetentionPolicyTagLinks {tag} }}",
            f"{boxes} | ForEach-Object {{ Set-Mailbox -Identity $_ -RetentionPolicy {policy} }}",
        )
    )


# --- the sign-in -----------------------------------------------------------------------------------------------------


def new_secret(app: App) -> str:
    """Makes a secret for a year, and shows it once."""
    lasts = "@{ DisplayName = 'distributor'; EndDateTime = (Get-Date).AddYears(1) }"
    made = f"(Add-MgApplicationPassword -ApplicationId $app.Id -PasswordCredential {lasts}).SecretText"
    return f"{graph(app, 'Application.ReadWrite.All')}; {_registration(app)}; {made}"


def certificate(app: App) -> str:
    """Registers the certificate in app.crt, in place of those that were."""
    public = '$public = [Security.Cryptography.X509Certificates.X509Certificate2]::new("$PWD/app.crt")'
    key = "@(@{ Type = 'AsymmetricX509Cert'; Usage = 'Verify'; Key = $public.RawData })"
    update = f"Update-MgApplication -ApplicationId $app.Id -KeyCredentials {key}"
    return f"{graph(app, 'Application.ReadWrite.All')}; {_registration(app)}; {public}; {update}"


def enterprise_application(app: App) -> str:
    """Makes the app's half in the tenant, or switches it on again."""
    found = _principal(app)
    on = "Update-MgServicePrincipal -ServicePrincipalId $sp.Id -AccountEnabled:$true"
    new = f"New-MgServicePrincipal -AppId '{_id(app.client_id)}'"
    return f"{graph(app, 'Application.ReadWrite.All')}; {found}; if ($sp) {{ {on} }} else {{ {new} }}"
