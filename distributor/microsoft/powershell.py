"""An Entra app and a change -> a line of PowerShell. Each is complete: it signs in, finds what it needs, and may run twice. Pure.

A line is for Graph's module or for Exchange's, never for both: their sign-in libraries clash in one session (msgraph-sdk-powershell
issue 3394), so that each is pasted into a new window. The same steps for administrators: docs/exchange-online.md.
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
_CLOUDS = {  # host of a service -> its cloud's name for Connect-MgGraph and Connect-ExchangeOnline
    **dict.fromkeys(("graph.microsoft.us", "outlook.office365.us"), ("USGov", "O365USGovGCCHigh")),
    **dict.fromkeys(("dod-graph.microsoft.us", "outlook-dod.office365.us"), ("USGovDoD", "O365USGovDoD")),
    **dict.fromkeys(("microsoftgraph.chinacloudapi.cn", "partner.outlook.cn"), ("China", "O365China")),
}
_MARK = "  "  # before a command in a hint


@dataclass(frozen=True, slots=True)
class App:
    """A registration. `object_id` is that of its enterprise application, if a token has it; `service`: the root URL of its tokens."""

    tenant: str = ""
    client_id: str = ""
    object_id: str = ""
    service: str = ""


def steps(*parts: str | tuple[str, ...]) -> str:
    """A hint of several lines: prose as str, commands in a tuple."""
    return "\n".join(line for part in parts for line in ([part] if isinstance(part, str) else [_MARK + typed for typed in part]))


def command(line: str) -> str | None:
    """The command in a line of a hint; None for prose."""
    return line.removeprefix(_MARK) if line.startswith(_MARK) else None


def quoted(text: str) -> str:
    """Quote a text; PowerShell takes curved quotes for straight ones, so both are doubled."""
    return "'" + re.sub("['\u2018\u2019\u201a\u201b]", r"\g<0>\g<0>", text) + "'"


# --- sessions ---------------------------------------------------------------------------------------------------------


def _cloud(app: App) -> tuple[str, str] | None:
    return _CLOUDS.get((urlsplit(app.service).hostname or "").lower())


def graph(app: App, *scopes: str) -> str:
    """A session with Microsoft Graph."""
    tenant = f" -TenantId {quoted(app.tenant)}" if app.tenant else ""
    cloud = f" -Environment {found[0]}" if (found := _cloud(app)) else ""
    return f"Connect-MgGraph{tenant}{cloud} -Scopes {','.join(scopes)} -NoWelcome"


def exchange(app: App) -> str:
    """A session with Exchange Online."""
    cloud = f" -ExchangeEnvironmentName {found[1]}" if (found := _cloud(app)) else ""
    return f"Connect-ExchangeOnline -ShowBanner:$false{cloud}"


def _id(text: str) -> str:
    """An id without any other characters, since it stands inside two kinds of quotes."""
    return re.sub(r"[^A-Za-z0-9-]", "", text)


def _principal(app: App) -> str:
    """Find the enterprise application."""
    if app.client_id:
        return f"$sp = Get-MgServicePrincipal -Filter \"appId eq '{_id(app.client_id)}'\""
    return f"$sp = Get-MgServicePrincipal -ServicePrincipalId '{_id(app.object_id) or 'OBJECT_ID'}'"


def _registration(app: App) -> str:
    return f"$app = Get-MgApplication -Filter \"appId eq '{_id(app.client_id)}'\""


def _known(app: App) -> str:
    """The enterprise application's object id; the script asks for it where it is not known."""
    if app.object_id:
        return f"$id = '{_id(app.object_id)}'"
    return "$id = Read-Host 'object ID, Entra: Enterprise applications'"


# --- permissions in Entra --------------------------------------------------------------------------------------------

_GRANTS = ("Application.Read.All", "AppRoleAssignment.ReadWrite.All")
_THERE = "Get-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $sp.Id -All"


def consent(app: App, permissions: Collection[str], service: str = GRAPH) -> str:
    """Grant an app permissions, with admin consent."""
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
    """Remove tenant-wide permissions from an app."""
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
    """Create the service principal of the message trace, once a tenant."""
    there = f"Get-MgServicePrincipal -Filter \"appId eq '{TRACE}'\""
    return f"{graph(app, 'Application.ReadWrite.All')}; if (-not ({there})) {{ New-MgServicePrincipal -AppId {TRACE} }}"


# --- permissions in Exchange (RBAC for Applications) -----------------------------------------------------------------


def _introduced(app: App) -> str:
    """Register the app in Exchange."""
    new = f"New-ServicePrincipal -AppId '{_id(app.client_id) or 'APPLICATION_ID'}' -ObjectId $id -DisplayName {NAME}"
    return f"if (-not (Get-ServicePrincipal -Identity $id -ErrorAction SilentlyContinue)) {{ {new} }}"


def scope_mailboxes(app: App, mailboxes: Sequence[str], roles: Collection[str], scope: str = NAME) -> str:
    """Assign roles such as Mail.Send for these mailboxes only. The scope is replaced, so pass all mailboxes of an app in one call.

    The scope names a mailbox by its Guid, which does not change when it is renamed.
    """
    names = ",".join(quoted(mailbox) for mailbox in mailboxes)
    wanted = ",".join(quoted(f"Application {role}") for role in sorted(roles))
    has = f"$_.RoleName -eq $role -and $_.AllowedResourceScope -eq '{scope}'"
    given = f"New-ManagementRoleAssignment -App $id -Role $role -CustomResourceScope {scope}"
    granted = "Test-ServicePrincipalAuthorization -Identity $id"
    tested = "$names | ForEach-Object { Test-ServicePrincipalAuthorization -Identity $id -Resource $_ }"
    return "; ".join(
        (
            exchange(app),
            _known(app),
            f"$names = {names}",
            "$filter = ($names | ForEach-Object { \"Guid -eq '$((Get-Mailbox -Identity $_ -ErrorAction Stop).Guid)'\" }) -join ' -or '",
            _introduced(app),
            _scoped(scope),
            f"foreach ($role in {wanted}) {{ if (-not ({granted} | Where-Object {{ {has} }})) {{ {given} }} }}",
            f"{tested} | Format-Table RoleName, InScope",
        )
    )


def _scoped(scope: str) -> str:
    there = f"Get-ManagementScope -Identity {scope} -ErrorAction SilentlyContinue"
    old = f"Set-ManagementScope -Identity {scope} -RecipientRestrictionFilter $filter"
    new = f"New-ManagementScope -Name {scope} -RecipientRestrictionFilter $filter"
    return f"if ({there}) {{ {old} }} else {{ {new} }}"


def opened(app: App) -> str:
    """Show the Exchange roles of an app, with their scopes."""
    shown = "Format-Table RoleName, AllowedResourceScope, ScopeType"
    return f"{exchange(app)}; Test-ServicePrincipalAuthorization -Identity '{_id(app.object_id or app.client_id)}' | {shown}"


def full_access(app: App, mailbox: str) -> str:
    """Allow an app to send as a mailbox over SMTP, which has no roles."""
    given = f"Add-MailboxPermission -Identity {quoted(mailbox)} -User $id -AccessRights FullAccess"
    return f"{exchange(app)}; {_known(app)}; {_introduced(app)}; {given}"


# --- mailboxes -------------------------------------------------------------------------------------------------------


def smtp_sign_in(app: App, mailbox: str) -> str:
    """Enable SMTP AUTH for a mailbox."""
    return f"{exchange(app)}; Set-CASMailbox -Identity {quoted(mailbox)} -SmtpClientAuthenticationDisabled $false"


def shared_mailbox(app: App, address: str) -> str:
    """Create a shared mailbox, which needs no licence."""
    return f"{exchange(app)}; New-Mailbox -Shared -Name {quoted(address)} -PrimarySmtpAddress {quoted(address)}"


def licence(app: App, mailbox: str) -> str:
    """Assign an account a free licence that includes a mailbox."""
    has = "$_.ServicePlans.ServicePlanName -match '^EXCHANGE_S_(STANDARD|ENTERPRISE)' -and $_.PrepaidUnits.Enabled -gt $_.ConsumedUnits"
    sku = f"$sku = Get-MgSubscribedSku -All | Where-Object {{ {has} }} | Select-Object -First 1"
    given = f"Set-MgUserLicense -UserId {quoted(mailbox)} -AddLicenses @(@{{ SkuId = $sku.SkuId }}) -RemoveLicenses @()"
    return f"{graph(app, 'LicenseAssignment.ReadWrite.All', 'Organization.Read.All')}; {sku}; {given}"


def sent_items_retention(app: App, mailboxes: Sequence[str]) -> str:
    """Delete messages from Sent Items after a day."""
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


# --- Intune ----------------------------------------------------------------------------------------------------------


def delete_imported(records: Sequence[str]) -> str:
    """Delete imported certificates by the ids of their records, so that no further device gets them."""
    names = ",".join(quoted(_id(record)) for record in records)
    gone = 'Invoke-MgGraphRequest -Method DELETE -Uri "beta/deviceManagement/userPfxCertificates/$_"'
    return f"{graph(App(), 'DeviceManagementConfiguration.ReadWrite.All')}; {names} | ForEach-Object {{ {gone} }}"


# --- credentials -----------------------------------------------------------------------------------------------------


def new_secret(app: App) -> str:
    """Create a client secret for a year, and show it once."""
    lasts = "@{ DisplayName = 'distributor'; EndDateTime = (Get-Date).AddYears(1) }"
    made = f"(Add-MgApplicationPassword -ApplicationId $app.Id -PasswordCredential {lasts}).SecretText"
    return f"{graph(app, 'Application.ReadWrite.All')}; {_registration(app)}; {made}"


def certificate(app: App) -> str:
    """Register the certificate in app.crt, replacing the previous ones."""
    public = '$public = [Security.Cryptography.X509Certificates.X509Certificate2]::new("$PWD/app.crt")'
    key = "@(@{ Type = 'AsymmetricX509Cert'; Usage = 'Verify'; Key = $public.RawData })"
    update = f"Update-MgApplication -ApplicationId $app.Id -KeyCredentials {key}"
    return f"{graph(app, 'Application.ReadWrite.All')}; {_registration(app)}; {public}; {update}"


def enterprise_application(app: App) -> str:
    """Create the enterprise application in the tenant, or enable it again."""
    found = _principal(app)
    on = "Update-MgServicePrincipal -ServicePrincipalId $sp.Id -AccountEnabled:$true"
    new = f"New-MgServicePrincipal -AppId '{_id(app.client_id)}'"
    return f"{graph(app, 'Application.ReadWrite.All')}; {found}; if ($sp) {{ {on} }} else {{ {new} }}"
