"""A Material -> what it holds. Never raises: whatever a hostile file does to the parsers becomes a Problem."""

from __future__ import annotations

from distributor.model.certificates import Limits, ParsedIdentities, ParseProblem, SourceMaterial
from distributor.model.issues import CheckId


def parse_material(material: SourceMaterial, limits: Limits, *, proven: str | None = None) -> ParsedIdentities:
    """Every identity in it. `proven`: the SHA-256 of the leaf wanted, when these very bytes were opened before; it comes with its key."""
    from distributor.pki.pbe import Unsupported  # noqa: PLC0415  heavy, wanted in a worker only

    try:
        return _open(material, limits, proven)
    except Unsupported as reason:
        from distributor.pki.pkcs12 import CONVERT  # noqa: PLC0415

        return _unreadable(str(reason), CONVERT)
    except RecursionError:
        return _unreadable("it is nested too deep", _AGAIN)
    except MemoryError:
        return ParsedIdentities(problems=(ParseProblem(CheckId.TOO_COSTLY, "opening it takes more memory than allowed", _AGAIN),))
    except Exception:  # noqa: BLE001  a parser's word about hostile bytes tells a person nothing, and may quote them
        return _unreadable(_what(material), _AGAIN)


def _open(material: SourceMaterial, limits: Limits, proven: str | None) -> ParsedIdentities:
    if material.form == "pkcs12":
        from distributor.pki.pkcs12 import open_pkcs12  # noqa: PLC0415

        return open_pkcs12(material.parts[0].data, material.passwords, limits, proven)
    from distributor.pki.pem import open_pem  # noqa: PLC0415

    return open_pem(tuple(part.data for part in material.parts), material.passwords, limits, proven)


_AGAIN = "export it again from where it was made"


def _what(material: SourceMaterial) -> str:
    """What a file seems to be that is not what it should be."""
    data = material.parts[0].data
    if not data:
        return "the file is empty"
    if material.form == "pkcs12" and b"-----BEGIN " in data[:4096]:
        return "the file is PEM, not PKCS#12"
    return "the file is damaged or not a PKCS#12 file" if material.form == "pkcs12" else "the file is damaged or not PEM"


def _unreadable(message: str, hint: str) -> ParsedIdentities:
    return ParsedIdentities(problems=(ParseProblem(CheckId.UNREADABLE, message, hint),))
