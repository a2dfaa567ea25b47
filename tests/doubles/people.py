"""Throw-away people with certificates in a folder."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from tests.authority import Authority

CAME_WITH = "in-comes-a-file"


def make(folder: Path, authority: Authority, count: int, tag: str) -> None:
    """A PFX a person, `p1.TAG@example.org` and so on, with its password beside it."""
    folder.mkdir()
    for number in range(1, count + 1):
        identity = authority.issue(f"p{number}.{tag}@example.org", name=f"Person {number}", key=ec.generate_private_key(ec.SECP256R1()))
        (folder / f"p{number}.pfx").write_bytes(identity.pfx(CAME_WITH, rounds=1))
        (folder / f"p{number}.txt").write_text(CAME_WITH)
