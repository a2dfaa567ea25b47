"""Guesses from a file's extension and first bytes whether it is PKCS#12 or PEM."""

from __future__ import annotations

PKCS12 = frozenset({".pfx", ".p12"})
PEM = frozenset({".pem", ".crt", ".cer", ".der", ".cert", ".key", ".p8", ".pk8"})
CANDIDATES = PKCS12 | PEM
_PFX_VERSION = b"\x02\x01\x03"
_BEGIN = b"-----BEGIN "


def is_candidate(extension: str) -> bool:
    """Whether files with this extension are certificates or keys."""
    return extension in CANDIDATES


def form(extension: str, data: bytes) -> str:
    """The form of a SourceMaterial: by extension, else by the bytes."""
    if extension in PKCS12:
        return "pkcs12"
    return "pkcs12" if extension not in PEM and _is_pfx(data) else "pem"


def looks_like(data: bytes) -> bool:
    """Whether the bytes may be a PFX or PEM, whatever the name says."""
    return _is_pfx(data) or _BEGIN in data or _BEGIN.decode().encode("utf-16-le") in data


def _is_pfx(data: bytes) -> bool:
    if data[:1] != b"\x30" or len(data) < 8:  # noqa: PLR2004  the shortest header of a PFX
        return False
    size = data[1] & 0x7F if data[1] & 0x80 else 0
    return data[2 + size : 5 + size] == _PFX_VERSION
