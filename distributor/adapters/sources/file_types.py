"""A file's extension and first bytes -> what it seems to hold."""

from __future__ import annotations

PKCS12 = frozenset({".pfx", ".p12"})
PEM = frozenset({".pem", ".crt", ".cer", ".der", ".cert", ".key", ".p8", ".pk8"})
CANDIDATES = PKCS12 | PEM
_PFX_VERSION = b"\x02\x01\x03"
_BEGIN = b"-----BEGIN "


def is_candidate(extension: str) -> bool:
    """Whether such a name promises a certificate or a key."""
    return extension in CANDIDATES


def form(extension: str, data: bytes) -> str:
    """As in Material: what the name says, else what the bytes say."""
    if extension in PKCS12:
        return "pkcs12"
    return "pkcs12" if extension not in PEM and _is_pfx(data) else "pem"


def looks_like(data: bytes) -> bool:
    """Whether the bytes may be a PFX or PEM, whatever the name says."""
    return _is_pfx(data) or _BEGIN in data or _BEGIN.decode().encode("utf-16-le") in data


def _is_pfx(data: bytes) -> bool:
    if data[:1] != b"\x30" or len(data) < 8:  # noqa: PLR2004  the shortest head of a PFX
        return False
    size = data[1] & 0x7F if data[1] & 0x80 else 0
    return data[2 + size : 5 + size] == _PFX_VERSION
