"""The events of a person's deliveries -> what their row must be, and in what it differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from distributor.ledger.projection import Difference, Row, address_key, fingerprint, shown
from distributor.ledger.tables import person
from distributor.model.audit_log import ERASED, Link
from distributor.model.people import key_of

PERSON_FIELDS = ("address", "name", "language", "phone", "manager", "alternate_email", "columns")
ERASED_DOMAIN = "erased.invalid"  # RFC 2606: nobody's
PERSON_CHANGED = "person-changed"  # a later roster says something else of them
LONGEST_RECORDED = 200  # characters of a value; of a longer one, and of a roster's further columns, the SHA-256 is recorded


def personal_evidence(row: Row) -> dict[str, str]:
    """What an event records of a person, under its commitment: what is there, by column."""
    hashed = {name: name == "columns" or len(row[name]) > LONGEST_RECORDED for name in PERSON_FIELDS if row[name]}
    return {name: f"sha256:{fingerprint(row[name])}" if long else row[name] for name, long in hashed.items()}


def person_faults(row: Row, links: Iterable[Link]) -> Iterator[Difference]:
    """Where a person is not what the last of these events that tells of them says; nothing where its personal fields were erased."""
    wanted: Mapping[str, str] | None = None
    for link in links:
        if link.event == ERASED:
            wanted = {"address": erased_address(row["id"])}
        elif link.event in {"planned", PERSON_CHANGED}:
            told = json.loads(link.personal).get("person") if link.personal else None
            if not isinstance(told, dict):
                wanted = None
            elif address_key(told.get("address", "")) == row["key"]:  # else the delivery was given to somebody else, which is found there
                wanted = told
    if wanted is None:
        return
    found = personal_evidence(row)
    for name in PERSON_FIELDS:
        if found.get(name, "") != wanted.get(name, ""):
            words = f"{name} is {shown(found.get(name) or None)}, but the audit log says {shown(wanted.get(name) or None)}"
            yield Difference(f"person's {name}", words)


NOT_ERASED = person.c.key.not_like(f"%@{ERASED_DOMAIN}")


def erased_address(person_id: str) -> str:
    """The address, and its key, of a person who was erased."""
    return key_of(f"{person_id}@{ERASED_DOMAIN}")


def erased_row(person_id: str) -> dict[str, str]:
    """What is left of a person who was erased."""
    address = erased_address(person_id)
    return {**dict.fromkeys(PERSON_FIELDS, ""), "key": address, "address": address}


def is_erased(key: str) -> bool:
    """Whether an Address.key is that of a person who was erased. No roster can have it: the domain is reserved."""
    return key.endswith(f"@{ERASED_DOMAIN}")
