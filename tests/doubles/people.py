"""Throw-away people with certificates in a folder, made once for many ledgers."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from distributor.core.credentials import Facts, Locator
from tests.authority import Authority
from tests.identities import credential

CAME_WITH = "in-comes-a-file"


@dataclass(frozen=True)
class Found:
    facts: Facts
    leaf: bytes
    chain: tuple[bytes, ...]
    locator: Locator


def make(folder: Path, authority: Authority, count: int) -> None:
    """A PFX a person, and what a plan would know of it."""
    people = []
    for number in range(1, count + 1):
        identity = authority.issue(f"p{number}@example.org", key=ec.generate_private_key(ec.SECP256R1()))
        path = folder / f"p{number}.pfx"
        path.write_bytes(identity.pfx(CAME_WITH, rounds=1))
        known = credential(identity)
        locator = Locator("pkcs12", ((str(path), None, hashlib.sha256(path.read_bytes()).hexdigest()),))
        people.append(Found(known.facts, known.leaf, known.chain, locator))
    (folder / "people.pickle").write_bytes(pickle.dumps(people))


def load(folder: Path) -> list[Found]:
    """What `make` left there."""
    found: list[Found] = pickle.loads((folder / "people.pickle").read_bytes())  # noqa: S301  our own file
    return found
