"""What it costs to check 10 000 certificates of one authority with a collection and their CRL, beside a full validation of each."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from distributor.clients.downloads import DownloadCache
from distributor.pki.validation import ChainValidator
from distributor.pki.validation.path import build_trust_store
from distributor.pki.validation.validator import RevocationMode, validate_path
from tests.authority import rsa_key
from tests.bench.ground import KEYS, line
from tests.doubles.pki import root, server

COUNT = 10_000
REVOKED = 20_000  # on the list
FULLY = 20


def run(_: Path) -> None:
    """Measure and print."""
    now = datetime.now(UTC)
    with server() as site:
        top = root("Bench Root", rsa_key(9001))
        sub = top.sub("Bench CA", rsa_key(9002), crl=f"{site.url}/top.crl")
        site.put("/top.crl", top.crl())
        site.put("/sub.crl", sub.crl(*range(1, REVOKED + 1)))
        people = [sub.person(f"p{n}@example.org", rsa_key(n % KEYS), crl=f"{site.url}/sub.crl").der for n in range(COUNT)]
        chain = [sub.der, top.der]
        with DownloadCache(private=True) as web:
            chains = ChainValidator(build_trust_store([top.der], now), web, now)
            began = time.perf_counter()
            wrong = sum(bool(chains.validate(person, chain).issues) for person in people)
            taken = time.perf_counter() - began
            lists = [page for page in site.pages.values() if isinstance(page, bytes)]
        full = time.perf_counter()
        for person in people[:FULLY]:
            validate_path(person, [top.der], [sub.der], lists, now, RevocationMode.CRLS)
        full = (time.perf_counter() - full) / FULLY
    assert wrong == 0
    line(f"{COUNT} certificates of one CA, {REVOKED} on its CRL: each", f"{taken / COUNT * 1e3:.2f} ms", "wanted: under 5 ms")
    line("downloads", f"{sum(site.asked.values())}", "wanted: 2, the CA's list and its root's")
    line("a full validation by pyhanko-certvalidator, CRLs given", f"{full * 1e3:.1f} ms")
