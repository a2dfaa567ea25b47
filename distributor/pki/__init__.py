"""A SourceMaterial -> the identities in it. Never raises: whatever a hostile file makes the parsers raise becomes a ParseProblem."""

from __future__ import annotations

from distributor.model.certificates import ParsedIdentities, ParseProblem, SourceMaterial
from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.pki.asn1 import Unreadable


def parse_material(material: SourceMaterial, limits: Limits, *, expected_sha256: str | None = None) -> ParsedIdentities:
    """Every identity in it. `expected_sha256`: the SHA-256 of the one leaf to return, if these bytes were opened and its pair verified."""
    try:
        opened = _open(material, limits, expected_sha256)
        if not material.issuers or not opened.identities:
            return opened
        from distributor.pki.keypairs import complete_chains  # noqa: PLC0415

        return complete_chains(opened, material.issuers)
    except Unreadable as reason:
        return _unreadable(str(reason), _convert() if material.form == "pkcs12" else _AGAIN)
    except RecursionError:
        return _unreadable("the file is nested too deeply", _AGAIN)
    except MemoryError:
        return ParsedIdentities(problems=(ParseProblem(CheckId.TOO_COSTLY, "opening it takes more memory than allowed", _AGAIN),))
    except Exception:  # noqa: BLE001  a parser's message about hostile bytes helps nobody, and may quote them
        return _garbled(material)


def _open(material: SourceMaterial, limits: Limits, expected_sha256: str | None) -> ParsedIdentities:
    if material.form == "pkcs12" or _ARMOUR in material.parts[0].data:
        from distributor.pki.pkcs12 import open_pkcs12, to_binary  # noqa: PLC0415

        return open_pkcs12(to_binary(material.parts[0].data), material.passwords, limits, expected_sha256)
    from distributor.pki.pem import open_pem  # noqa: PLC0415

    return open_pem(tuple(part.data for part in material.parts), material.passwords, limits, expected_sha256)


_ARMOUR = b"-----BEGIN PKCS12-----"  # around a PFX, as certtool and some CAs write it
_AGAIN = "export the file again"
_KEYTOOL = "convert it: `keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12`"
_OTHER_KINDS = (  # first bytes, what they are of, and what to do
    (b"\xfe\xed\xfe\xed", "a Java keystore (JKS)", _KEYTOOL),
    (b"\xce\xce\xce\xce", "a Java keystore (JCEKS)", _KEYTOOL),
    (b"<", "a web page or XML", "download the file again, and sign in first where that is needed"),
    (b"PK\x03\x04", "a zip archive", 'rename it: its name must end in ".zip"'),
)


def _convert() -> str:
    from distributor.pki.pkcs12 import CONVERT  # noqa: PLC0415

    return CONVERT


def _garbled(material: SourceMaterial) -> ParsedIdentities:
    """What is wrong with a file that cannot be parsed, by its first bytes."""
    data = material.parts[0].data
    if not data:
        return _unreadable("the file is empty", _AGAIN)
    if material.form == "pkcs12" and b"-----BEGIN " in data[:4096] and _ARMOUR not in data:
        return _unreadable("the file is PEM, not PKCS#12", 'rename it: its name must end in ".pem"')
    for begins, kind, hint in _OTHER_KINDS if material.form == "pkcs12" else ():
        if data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(begins):
            return _unreadable(f"the file is {kind}, not PKCS#12", hint)
    if material.form == "pkcs12" and (more := _after_the_end(data)):
        return _unreadable(f"{more} bytes follow the end of the PKCS#12 data in it", "export the file again, and copy it in binary mode")
    return _unreadable(
        "the file is damaged or not a PKCS#12 file" if material.form == "pkcs12" else "the file is damaged or not PEM", _AGAIN
    )


def _after_the_end(data: bytes) -> int:
    """How many bytes follow the outermost value; 0 where that is cut off or of indefinite length."""
    size = data[1] & 0x7F if len(data) > 1 and data[1] & 0x80 else 0
    if data[:1] != b"\x30" or data[1:2] == b"\x80" or len(data) < 2 + size:
        return 0
    length = int.from_bytes(data[2 : 2 + size]) if size else data[1]
    return max(0, len(data) - 2 - size - length)


def _unreadable(message: str, hint: str) -> ParsedIdentities:
    return ParsedIdentities(problems=(ParseProblem(CheckId.UNREADABLE, message, hint),))
