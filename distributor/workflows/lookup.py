"""Finds the deliveries that a person names: by address, or by the beginning of an id or of a certificate's serial number or SHA-256."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from distributor.errors import Error, RequestDenied, UsageError
from distributor.model.delivery import Delivery, DeliveryFilter
from distributor.model.people import BadAddress, key_of, parse_address
from distributor.model.states import ID_PREFIX, State

if TYPE_CHECKING:
    from distributor.model.ports import Ledger

MOST_NAMED = 5  # candidates in a hint
SHORTEST = 6  # characters of an id or number that is not typed in full; fewer may be a typing error
SHORT = 8  # hex digits of a serial number, as the message shows it
_HEX = frozenset("0123456789abcdef")
_LISTED = "`distributor status` lists all deliveries"


def find(ledger: Ledger, name: str, certificate: str | None = None) -> list[Delivery]:
    """The deliveries that a person named, oldest first: all of an address, all of a certificate, or one by its id.

    `certificate` chooses among those of an address. Raises RequestDenied with candidates where nothing or several things are meant,
    UsageError for a text that can be none of them.
    """
    name = name.strip()
    address, prefix = _parse(ledger, name)
    wanted = None if certificate is None else _hex(certificate)
    if certificate is not None and wanted is None:
        raise UsageError(
            f'"{certificate}" is not a serial number or SHA-256', where="--certificate", hint="write hex digits, such as 4f2a90c1"
        )
    found = _of_prefix(ledger.find(address, prefix), prefix)
    if not found:
        raise _unknown(ledger, name, address or prefix or "")
    if wanted is not None:
        chosen = _of_prefix([delivery for delivery in found if _begins(delivery, wanted)], wanted)
        if not chosen:
            raise RequestDenied(f'no certificate begins with "{certificate}"', where=name, hint=f"choose from: {certificates(found)}")
        found = chosen
    if wanted is not None or address is None:
        _refuse_several(name if wanted is None else f"--certificate {certificate}", found)
    return found


def one(ledger: Ledger, name: str, wanted: Collection[State]) -> Delivery:
    """The one delivery that a person named: the only one, or the only one in a wanted state. Where none is, the newest."""
    found = find(ledger, name)
    if len(found) == 1:
        return found[0]
    fitting = [delivery for delivery in found if delivery.state in wanted]
    if len(fitting) > 1:
        choices = _listed(f"{d.id} ({d.state}, generation {d.generation}, certificate {_short(d)})" for d in fitting)
        raise RequestDenied(f"{len(fitting)} deliveries match", where=name, hint=f"name one by its id: {choices}")
    return fitting[0] if fitting else found[-1]


def scope(ledger: Ledger, name: str) -> DeliveryFilter:
    """The filter for a name; an address may be unknown."""
    address, _ = _parse(ledger, name)
    if address is not None:
        return DeliveryFilter(addresses=frozenset({address}))
    return DeliveryFilter(ids=frozenset(delivery.id for delivery in find(ledger, name)))


def names_address(name: str) -> bool:
    """Whether a name is meant as an address, all of whose deliveries are in question."""
    return "@" in name


def certificates(deliveries: Iterable[Delivery]) -> str:
    """Certificates for a hint, each by the beginning of its serial number where that tells them apart, else of its SHA-256."""
    by_hash = {delivery.certificate_sha256: delivery for delivery in deliveries}
    serials = [_short(delivery) for delivery in by_hash.values()]
    names = [serial if serials.count(serial) == 1 else sha256[: 2 * SHORT] for serial, sha256 in zip(serials, by_hash, strict=True)]
    return _listed(
        f"{name} ({d.address}, valid until {d.certificate_not_after:%Y-%m-%d})" for name, d in zip(names, by_hash.values(), strict=True)
    )


def _parse(ledger: Ledger, name: str) -> tuple[str | None, str | None]:
    """An Address.key, or the beginning of an id or certificate."""
    text = name.strip()
    if not names_address(text):
        if text[:2].lower() == ID_PREFIX:
            return None, ID_PREFIX + text[2:].upper()
        if digits := _hex(text):
            return None, digits
    match parse_address(text):
        case BadAddress(reason=reason, hint=hint):
            near = [address for address in ledger.neighbours(text.lower()) if text and address.lower().startswith(text.lower())]
            raise UsageError(reason, hint=f"did you mean {_listed(near)}?" if near else hint)
        case address:
            return address.key, None


def _hex(text: str) -> str | None:
    """Hex digits as the ledger has them, whether they were typed with colons, spaces, 0x or capitals; None for anything else."""
    digits = "".join(text.split()).replace(":", "").lower().removeprefix("0x")
    return digits if digits and _HEX.issuperset(digits) else None


def _begins(delivery: Delivery, digits: str) -> bool:
    return delivery.certificate_sha256.startswith(digits) or delivery.certificate_serial.startswith(digits.lstrip("0") or digits)


def _of_prefix(found: list[Delivery], prefix: str | None) -> list[Delivery]:
    """Those that it names in full, if any; a short serial number may begin a longer one."""
    if prefix is None:
        return found
    whole = [d for d in found if prefix in {d.id, d.certificate_sha256} or prefix.lstrip("0") == d.certificate_serial]
    if found and not whole and len(prefix.removeprefix(ID_PREFIX)) < SHORTEST:
        hint = f"write at least {SHORTEST} characters of the id, serial number or SHA-256: {certificates(found)}"
        raise UsageError(f'"{prefix}" is too short', hint=hint)
    return whole or found


def _refuse_several(where: str, found: Sequence[Delivery]) -> None:
    if where.lower().startswith(ID_PREFIX):
        if len(found) > 1:
            listed = _listed(f"{delivery.id} ({delivery.address})" for delivery in found)
            raise RequestDenied("several deliveries begin so", where=where, hint=f"write more of it: {listed}")
    elif len({(delivery.certificate_sha256, key_of(delivery.address)) for delivery in found}) > 1:
        raise RequestDenied("several certificates begin so", where=where, hint=f"write more of it: {certificates(found)}")


def _unknown(ledger: Ledger, name: str, text: str) -> Error:
    if text.startswith(ID_PREFIX) or names_address(name):
        what = f'"{name}" is not in the ledger' if names_address(name) else "no such delivery"
        near = difflib.get_close_matches(text, ledger.neighbours(text), MOST_NAMED, cutoff=0.9)
        return RequestDenied(what, where=None if names_address(name) else name, hint=f"did you mean {_listed(near)}?" if near else _LISTED)
    hint = "compare it with the certificate's serial number or SHA-256, or name the person by address"
    return RequestDenied("no certificate in the ledger begins so", where=name, hint=hint)


def _short(delivery: Delivery) -> str:
    return delivery.certificate_serial[:SHORT]


def _listed(choices: Iterable[str]) -> str:
    listed = list(choices)
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return ", ".join(listed[:MOST_NAMED]) + more
