"""What PowerShell makes of a byte array, read again."""

from __future__ import annotations

import base64
import json
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.microsoft import tenant
from distributor.microsoft.runbook import powershell
from distributor.pki import sst
from distributor.pki.asn1 import Unreadable
from tests.pki.pki import known, make

ROOT = make("Root")
DATA = sst.write([ROOT.der])
BASE64 = base64.b64encode(DATA).decode()
NUMBERS = list(DATA)


def listed(value: str) -> str:
    """As Format-List writes it, later lines indented."""
    lines = textwrap.wrap(value, 80, break_long_words=True)
    others = "\n".join(" " * 30 + line for line in lines[1:])
    before, after = "OWACheckCRLOnSend           : False", "SMIMECertificatesExpiryDate : "
    return f"\n\n{before}\nSMIMECertificateIssuingCA   : {lines[0]}\n{others}\n{after}\n\n"


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        "\n".join(textwrap.wrap(BASE64, 76)) + "\n",
        "\r\n".join(map(str, NUMBERS)) + "\r\n",
        " ".join(map(str, NUMBERS)),
        listed(BASE64),
        listed("{" + ", ".join(map(str, NUMBERS)) + "}"),
        json.dumps({"OWACheckCRLOnSend": False, "SMIMECertificateIssuingCA": BASE64}),
        json.dumps({"SMIMECertificateIssuingCA": NUMBERS}, indent=4),
        json.dumps({"SMIMECertificateIssuingCA": " ".join(map(str, NUMBERS))}),
        json.dumps([{"SMIMECertificateIssuingCA": {"value": NUMBERS, "Count": len(NUMBERS)}}]),
        json.dumps(NUMBERS),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_every_way_of_saving_it_gives_the_same_bytes(text: str, encoding: str) -> None:
    assert tenant.parse_smime_config(text.encode(encoding)) == DATA


def test_the_bytes_themselves_are_taken_as_they_are() -> None:
    assert tenant.parse_smime_config(DATA) == DATA


@pytest.mark.parametrize(
    "text",
    [
        "\r\n",
        "SMIMECertificateIssuingCA : \n",
        "SMIMECertificateIssuingCA : {}\nOWACheckCRLOnSend         : False\n",
        '{"SMIMECertificateIssuingCA": null}',
        '{"SMIMECertificateIssuingCA": []}',
    ],
)
def test_a_tenant_without_a_collection_has_none(text: str) -> None:
    assert tenant.parse_smime_config(text.encode()) == b""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SMIMECertificateIssuingCA : {0, 0, 0, 0...}", "cut the value short"),
        ("SMIMECertificateIssuingCA : {0, 0, 0, 0\u2026}", "cut the value short"),
        ("OWACheckCRLOnSend : False\nOWADisableCRLCheck : True\n", "is not in it"),
        ('{"OWACheckCRLOnSend": false}', "is not in it"),
        ('{"SMIMECertificateIssuingCA": 7}', "neither base64 nor bytes"),
        ('{"SMIMECertificateIssuingCA": [0, 256]}', "neither base64 nor bytes"),
        ("hello, world", "neither base64 nor the output"),
        ("AAAA*AAAA", "neither base64 nor the output"),
        ("0 0 256", "neither base64 nor the output"),
        ("0 0 300", "neither base64 nor the output"),
        ("", "the file is empty"),
        ("\ufeff", "the file is empty"),
    ],
)
def test_anything_else_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        tenant.parse_smime_config(text.encode())


@given(st.one_of(st.binary(max_size=100), st.text(max_size=100).map(str.encode)))
def test_whatever_the_bytes_nothing_else_is_raised(data: bytes) -> None:
    try:
        tenant.parse_smime_config(data)
    except Unreadable:
        return


# --- the runbook ---------------------------------------------------------------------------------------------------


def test_the_runbook_keeps_checks_uploads_compares_and_leaves_in_this_order() -> None:
    script = powershell("collection.sst", "ab" * 32, known(ROOT))
    steps = (
        "-LiteralPath 'collection.sst'",
        f"$Expected = '{'AB' * 32}'",
        "Get-FileHash",
        "Connect-ExchangeOnline",
        "WriteAllBytes($Backup, $Before)",
        "Set-SmimeConfig -SMIMECertificateIssuingCA $New",
        "$After = Read-Collection",
        "Format-List OWADisableCRLCheck",
        "Disconnect-ExchangeOnline",
    )
    places = [script.index(step) for step in steps]
    assert places == sorted(places)
    assert "#   2036-11-22  CN=Root\n" in script
    assert max(map(len, script.splitlines())) <= 160


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("it's.sst", "'it''s.sst'"),
        ("a\u2019; Remove-Item x; \u2018.sst", "('a' + [char]0x2019 + '; Remove-Item x; ' + [char]0x2018 + '.sst')"),
        ("\u00fcber \U0001f4dc", "('' + [char]0x00FC + 'ber ' + [char]0xD83D + [char]0xDCDC)"),
        ("$(x)`n.sst", "'$(x)`n.sst'"),
    ],
)
def test_a_files_name_cannot_become_a_command(name: str, written: str) -> None:
    assert f"-LiteralPath {written})" in powershell(name, "00", known(ROOT))


def test_a_name_that_no_line_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="unprintable characters"):
        powershell("a\nb.sst", "00", known(ROOT))


def test_a_subject_cannot_end_its_comment() -> None:
    script = powershell("c.sst", "00", known(make("Root\nRemove-Item x")))
    assert not [line for line in script.splitlines() if line.startswith("Remove-Item")]


def test_a_runbook_is_ascii_whatever_its_file_and_the_authorities_are_called() -> None:
    script = powershell("Zertifikate für Köln.sst", "ab" * 32, known(make("Behörde Köln \u2019 1")))
    assert script.isascii()
    assert "-LiteralPath ('Zertifikate f' + [char]0x00FC + 'r K' + [char]0x00F6 + 'ln.sst')" in script


def test_the_line_to_go_back_holds_the_backups_name_as_a_text_of_its_own() -> None:
    """A folder may have a quote in its name; `$File` is the whole path."""
    script = powershell("collection.sst", "ab" * 32, known(ROOT))
    assert "ReadAllBytes('$Backup')" not in script
    assert script.index("EscapeSingleQuotedStringContent($Backup)") < script.index("ReadAllBytes('$Quoted')")
