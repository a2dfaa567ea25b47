"""A collection's file name, hash and certificates -> the PowerShell script that uploads it to the tenant (facts: exchange.md 1.2).

`Set-SmimeConfig` replaces the whole collection, so the present one is saved first; `ReadAllBytes` works in every version of PowerShell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from distributor.microsoft.collection import CollectionEntry
from distributor.microsoft.powershell import quoted
from distributor.model.people import escape_unsafe

_ASCII = re.compile(r"([^\x20-\x7e]+)")
# What Outlook on the web reads of the same object, with Microsoft's default and what it means here.
OTHERS = (
    ("OWADisableCRLCheck", "$false", "$true would hide that a certificate was revoked"),
    ("OWACheckCRLOnSend", "$false", "$true checks when a message is sent, too"),
    ("OWACRLConnectionTimeout", "60000", "milliseconds per revocation list (CRL)"),
    ("OWACRLRetrievalTimeout", "10000", "milliseconds for all revocation lists; slower ones count as failed"),
    ("OWAUseSecondaryProxiesWhenFindingCertificates", "$true", "Outlook on the web only; phones compare the primary address"),
    ("OWASigningAlgorithms", "8004", "8004 is SHA-1; 800C is SHA-256, 800D SHA-384, 800E SHA-512"),
    ("OWAEncryptionAlgorithms", "6610", "6610 is AES-256, 660F AES-192, 660E AES-128, 6603 3DES"),
)


def powershell(name: str, sha256: str, members: Sequence[CollectionEntry]) -> str:
    """The runbook for a file of that name in the current folder. Raises ValueError for a name with line breaks or the like.

    ASCII only: Windows PowerShell 5.1 reads a script without a byte-order mark in the machine's own code page.
    """
    if escape_unsafe(name) != name:
        raise ValueError("its name has unprintable characters")
    return _TEMPLATE.format(
        file=_ascii_quoted(name),
        sha256=sha256.upper(),
        members="\n".join(f"#   {member.facts.not_after:%Y-%m-%d}  {_ascii(member.facts.subject)}" for member in members),
        fields=",\n    ".join(name for name, _, _ in OTHERS),
        others="\n".join(f"    #   {field:45}  {default:8} {meaning}" for field, default, meaning in OTHERS),
    )


def _ascii(text: str) -> str:
    """A text as it can stand in a comment."""
    return text.encode("ascii", "backslashreplace").decode()


def _ascii_quoted(text: str) -> str:
    """A PowerShell expression in ASCII for the text: other characters by their UTF-16 numbers."""
    parts = [_numbers(part) if number % 2 else quoted(part) for number, part in enumerate(_ASCII.split(text))]
    while len(parts) > 1 and parts[-1] == "''":
        parts.pop()
    return parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"


def _numbers(text: str) -> str:
    data = text.encode("utf-16-be")
    return " + ".join(f"[char]0x{data[i : i + 2].hex().upper()}" for i in range(0, len(data), 2))


_TEMPLATE = """\
# The virtual certificate collection of Exchange Online, from this file (valid until, subject):
{members}
#
# Run the whole script in the folder with the file. It needs the module ExchangeOnlineManagement and permission to change the
# organisation's S/MIME settings.
$ErrorActionPreference = 'Stop'
$File = (Resolve-Path -LiteralPath {file}).ProviderPath
$Expected = '{sha256}'

# 1. Check that the file is unchanged.
if ((Get-FileHash -LiteralPath $File -Algorithm SHA256).Hash -ne $Expected) {{ throw "$File is not the file that distributor checked" }}
$New = [System.IO.File]::ReadAllBytes($File)

function Read-Collection {{
    $Value = (Get-SmimeConfig).SMIMECertificateIssuingCA
    if ($Value -is [string]) {{ $Value = [Convert]::FromBase64String($Value) }}
    if ($null -eq $Value) {{ $Value = @() }}
    , [byte[]]$Value
}}

# 2. Sign in.
Connect-ExchangeOnline -ShowBanner:$false
try {{
    # 3. Save the current collection: the new one replaces it completely.
    $Before = Read-Collection
    if ($Before.Length -gt 0) {{
        $Backup = "$File.$(Get-Date -Format yyyyMMdd-HHmmss).before"
        [System.IO.File]::WriteAllBytes($Backup, $Before)
        $Quoted = [System.Management.Automation.Language.CodeGeneration]::EscapeSingleQuotedStringContent($Backup)
        "saved: $Backup; to restore it: Set-SmimeConfig -SMIMECertificateIssuingCA ([System.IO.File]::ReadAllBytes('$Quoted'))"
    }} else {{
        "the tenant has no collection yet"
    }}

    # 4. Upload. Exchange Online rejects the whole collection if one certificate has expired.
    Set-SmimeConfig -SMIMECertificateIssuingCA $New

    # 5. Read it back and compare byte for byte.
    $After = Read-Collection
    [Convert]::ToBase64String($After) | Set-Content -LiteralPath 'tenant.txt' -Encoding ascii
    if ([Convert]::ToBase64String($After) -cne [Convert]::ToBase64String($New)) {{
        throw "the tenant's collection differs from the one uploaded; to compare: distributor trust check --tenant tenant.txt"
    }}
    "uploaded: $($New.Length) bytes, SHA-256 $Expected"

    # 6. Check the related settings, which Outlook on the web and new Outlook use; phones use only the collection. Microsoft's defaults:
{others}
    Get-SmimeConfig | Format-List {fields}
}} finally {{
    # 7. Sign out.
    Disconnect-ExchangeOnline -Confirm:$false
}}
"""
