"""A SourceMaterial -> the identities in it. Never raises: whatever a hostile file makes the parsers raise becomes a ParseProblem."""

from __future__ import annotations

from distributor.model.certificates import Limits, ParsedIdentities, ParseProblem, SourceMaterial
from distributor.model.issues import CheckId
from distributor.pki.asn1 import Unreadable


def parse_material(material: SourceMaterial, limits: Limits, *, expected_sha256: str | None = None) -> ParsedIdentities:
    """Every identity in it. `expected_sha256`: the SHA-256 of the one leaf to return, if these bytes were opened and its pair verified."""
    try:
        return _open(material, limits, expected_sha256)
    except Unreadable as reason:
        return _unreadable(str(reason), _CONVERT if material.form == "pkcs12" else _AGAIN)
    except RecursionError:
        return _unreadable("the file is nested too deeply", _AGAIN)
    except MemoryError:
        return ParsedIdentities(problems=(ParseProblem(CheckId.TOO_COSTLY, "opening it takes more memory than allowed", _AGAIN),))
    except Exception:  # noqa: BLE001  a parser's message about hostile bytes helps nobody, and may quote them
        return _unreadable(_what(material), _AGAIN)


def _open(material: SourceMaterial, limits: Limits, expected_sha256: str | None) -> ParsedIdentities:
    if material.form == "pkcs12":
        from distributor.pki.pkcs12 import open_pkcs12  # noqa: PLC0415

        return open_pkcs12(material.parts[0].data, material.passwords, limits, expected_sha256)
    from distributor.pki.pem import open_pem  # noqa: PLC0415

    return open_pem(tuple(part.data for part in material.parts), material.passwords, limits, expected_sha256)


_CONVERT = (
    "convert it: `openssl pkcs12 -legacy -in FILE -out all.pem`, `openssl pkcs12 -export -in all.pem -out NEW.pfx`; then remove all.pem"
)
_AGAIN = "export the file again"


def _what(material: SourceMaterial) -> str:
    """What is wrong with a file that cannot be parsed, by its first bytes."""
    data = material.parts[0].data
    if not data:
        return "the file is empty"
    if material.form == "pkcs12" and b"-----BEGIN " in data[:4096]:
        return "the file is PEM, not PKCS#12"
    return "the file is damaged or not a PKCS#12 file" if material.form == "pkcs12" else "the file is damaged or not PEM"


def _unreadable(message: str, hint: str) -> ParsedIdentities:
    return ParsedIdentities(problems=(ParseProblem(CheckId.UNREADABLE, message, hint),))
