"""Expired certificates of a person -> a numbered series, oldest first: their keys are delivered to read old mail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, islice

from distributor.model.ports import Ledger, Spool
from distributor.workflows.matching import Candidate

PEOPLE = 200  # whose known series are asked for at once


def in_series(old: Spool[Candidate], ledger: Ledger) -> Iterator[Candidate]:
    """The candidates with their numbers, such as "2/3", by person and age.

    A number stays as it is: certificates that were planned before keep theirs, and later ones count on.
    """
    order = sorted((one.draft.person.address.key, one.draft.facts.not_before, number) for number, one in enumerate(old))
    people = groupby(order, key=lambda entry: entry[0])
    numbered = ((key, [number for *_, number in entries]) for key, entries in people)
    while some := list(islice(numbered, PEOPLE)):
        known = ledger.old_certificates([key for key, _ in some])
        for key, numbers in some:
            yield from _numbered([old[number] for number in numbers], known.get(key, frozenset()))


def _numbered(found: list[Candidate], known: frozenset[str]) -> Iterator[Candidate]:
    new = [one for one in found if one.draft.facts.sha256 not in known]
    total = len(known) + len(new)
    for one in found:
        if one.draft.facts.sha256 in known:
            yield replace(one, draft=replace(one.draft, series=f"1/{total}"))  # the ledger keeps the number that it has
    for number, one in enumerate(new, len(known) + 1):
        yield replace(one, draft=replace(one.draft, series=f"{number}/{total}"))
