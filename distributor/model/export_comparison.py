"""Compares a chain with an earlier export that it must begin with: finds events that were rewritten, removed or cut off since.

An edited ledger whose every hash was computed anew has a valid chain; only an export kept elsewhere has the old hashes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from distributor.model.audit_log import Link


class ExportComparison:
    """Compares event by event. `earlier`: the export's events, and faults of the file as text between them."""

    def __init__(self, name: str, earlier: Iterator[Link | str]) -> None:
        self.name = name  # of the export, for people
        self.events = 0  # how many events of the export the chain has unchanged
        self._earlier = earlier
        self._waiting: Link | None = None
        self._forked = False

    def step(self, link: Link) -> Iterator[str]:
        """The differences to the export's event of the same number."""
        if self._forked:
            return
        yield from self._missing(link.seq)
        theirs = self._waiting
        if theirs is None or theirs.seq != link.seq:
            return
        self._waiting = None
        if theirs.hash == link.hash:
            self.events += 1
            return
        self._forked = True
        yield f"event {link.seq}: is {_described(link)}, but {self.name} has {_described(theirs)}; both are alike before it, and not after"

    def end(self, last: int) -> Iterator[str]:
        """Events that the export has after the chain's last event, number `last`."""
        if self._forked:
            return
        first = until = 0
        while (theirs := (yield from self._read())) is not None:
            first, until, self._waiting = first or theirs.seq, theirs.seq, None
        if first:
            yield f"event {last}: is the last one, but {self.name} goes on with {_numbers(first, until)}: the end was cut off"

    def _missing(self, seq: int) -> Iterator[str]:
        """Read the export up to the first event that is not before `seq`; earlier ones are missing in the chain."""
        first = until = 0
        while (theirs := (yield from self._read())) is not None and theirs.seq < seq:
            first, until, self._waiting = first or theirs.seq, theirs.seq, None
        if first:
            yield f"event {seq}: stands where {self.name} has {_numbers(first, until)} before it, which were removed"

    def _read(self) -> Generator[str, None, Link | None]:
        """The export's next event; yields faults of the file before it."""
        while self._waiting is None:
            found = next(self._earlier, None)
            if found is None:
                return None
            if isinstance(found, str):
                yield f"{self.name}: {found}"
            else:
                self._waiting = found
        return self._waiting


def _described(link: Link) -> str:
    return f'"{link.event[:40]}" of {link.at[:40]} (hash {link.hash[:12]})'


def _numbers(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"
