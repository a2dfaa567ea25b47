"""Saved output of `Get-SmimeConfig` (base64, Format-List, ConvertTo-Json, numbers, raw bytes) -> the tenant's collection.

Each PowerShell command prints a byte array in another format; output that it truncated is refused with the command's name.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re

from distributor.pki import pem, sst
from distributor.pki.asn1 import Unreadable

FIELD = "SMIMECertificateIssuingCA"
COMMAND = f"[Convert]::ToBase64String((Get-SmimeConfig).{FIELD}) > tenant.txt"
_LISTED = re.compile(rf"^[ \t]*{FIELD}[ \t]*:(.*(?:\n[ \t]+\S.*)*)", re.MULTILINE)
_ANOTHER = re.compile(r"^[ \t]*\w+[ \t]+:", re.MULTILINE)
_NUMBERS = re.compile(r"[0-9]{1,3}(?:[\s,]+[0-9]{1,3})*,?")
_OCTETS = 256


def parse_smime_config(data: bytes) -> bytes:
    """The collection's bytes; none where the tenant has no collection. Raises Unreadable.

    A file with nothing at all in it is what a failed command leaves behind `>`; the runbook writes an empty line.
    """
    if data.startswith(sst.MAGIC):
        return data
    text = _text(data).lstrip("\ufeff")
    if not text:
        raise Unreadable("the file is empty: the command that saved it failed, or the tenant has no collection")
    text = text.strip()
    if text[:1] in {"{", "["} and (found := _json(text)) is not None:
        return found
    listed = _LISTED.search(text)
    if listed is None and (FIELD in text or _ANOTHER.search(text)):
        raise Unreadable(f"the value of {FIELD} is not in it")
    return _value(listed[1] if listed else text)


def _text(data: bytes) -> str:
    """UTF-8, or UTF-16 as Windows PowerShell's `>` writes it."""
    if data[1:2] == b"\0" and not data.startswith(codecs.BOM_UTF16_LE):
        data = codecs.BOM_UTF16_LE + data
    return pem.plain(data).decode("utf-8", "replace").replace("\r\n", "\n")


def _json(text: str) -> bytes | None:
    """None where it is not JSON: Format-List's braces look alike."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match document:
        case [dict() as first, *_]:
            document = first
    match document:
        case {"SMIMECertificateIssuingCA": value}:
            return _of_json(value)
        case dict():
            raise Unreadable(f"the value of {FIELD} is not in it")
    return _of_json(document)


def _of_json(value: object) -> bytes:
    match value:
        case None:
            return b""
        case str():
            return _value(value)
        case {"value": inner}:  # as Windows PowerShell 5.1 wraps an array
            return _of_json(inner)
        case list() if all(type(number) is int and 0 <= number < _OCTETS for number in value):
            return bytes(value)
    raise Unreadable(f"the value of {FIELD} is neither base64 nor bytes")


def _value(text: str) -> bytes:
    text = text.strip().strip("{}").strip()
    if text.endswith(("...", "\u2026")):
        raise Unreadable("PowerShell cut the value short")
    if _NUMBERS.fullmatch(text):
        numbers = [int(number) for number in re.findall(r"[0-9]+", text)]
        if max(numbers) < _OCTETS:
            return bytes(numbers)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("neither base64 nor the output of Get-SmimeConfig") from None
