"""An export of earlier, event by event beside a chain that must begin with it -> what was rewritten, removed or cut off since.

Whoever edits a ledger and computes every hash anew makes a chain that is whole; only something outside still knows the old one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from distributor.model.audit_log import Link


class ExportComparison:
    """Follows both in step. `earlier`: the export's events, with what is wrong with the file itself as text between them."""

    def __init__(self, name: str, earlier: Iterator[Link | str]) -> None:
        self.name = name  # of the export, for people
        self.events = 0  # of the export that the chain has unchanged
        self._earlier = earlier
        self._waiting: Link | None = None
        self._forked = False

    def step(self, link: Link) -> Iterator[str]:
        """What is wrong beside the export's event of the same number."""
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
        """What the export has beyond the chain's last event, which has the number `last`."""
        if self._forked:
            return
        first = until = 0
        while (theirs := (yield from self._read())) is not None:
            first, until, self._waiting = first or theirs.seq, theirs.seq, None
        if first:
            yield f"event {last}: is the last one, but {self.name} goes on with {_numbers(first, until)}: the end was cut off"

    def _missing(self, seq: int) -> Iterator[str]:
        """Leave the export at the first event that is not before `seq`; those it had before are gone from the chain."""
        first = until = 0
        while (theirs := (yield from self._read())) is not None and theirs.seq < seq:
            first, until, self._waiting = first or theirs.seq, theirs.seq, None
        if first:
            yield f"event {seq}: stands where {self.name} has {_numbers(first, until)} before it, which were removed"

    def _read(self) -> Generator[str, None, Link | None]:
        """The export's next event; faults of the file on the way."""
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
