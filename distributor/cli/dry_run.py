"""`distributor send --dry-run`: writes the messages that the next `send` would send as files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.cli.options import make_folder
from distributor.cli.progress import Bar
from distributor.cli.render import Written, counted, encoded, escape, print_json, stderr_line, stdout_line
from distributor.cli.send_run import ProgressReporter
from distributor.errors import InvalidInput
from distributor.files import atomic
from distributor.files.spool import FileSpool

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.certificates import ParseProblem
    from distributor.model.delivery import DeliveryFilter, OutboundMessage, PackedMessage, PackingJob
    from distributor.model.ports import Ledger, WorkerPool
    from distributor.model.states import State
    from distributor.workflows.sending.report import DeliveryResult


def write_messages(
    settings: Settings,
    ledger: Ledger,
    pool: WorkerPool[PackingJob, PackedMessage | ParseProblem],
    scope: DeliveryFilter,
    folder: Path,
    *,
    limit: int | None,
    as_json: bool,
    unclear: Sequence[DeliveryResult] = (),
) -> int:
    """Pack planned deliveries, then write queued and deferred messages; nothing is sent. `unclear`: ambiguous ones of an earlier run."""
    from distributor.bootstrap import delivery
    from distributor.model.states import State
    from distributor.workers import process
    from distributor.workflows.sending.report import DeliveryResult, held_back_by_clock

    packing = delivery.packing_workflow(settings, ledger, pool, process.current_process(), scope, limit)
    with Bar("packing", None) as bar:
        reporter = ProgressReporter(bar, keep=False)
        for result in itertools.chain(unclear, packing(lambda: False)):
            reporter(result)
        taken_back = ledger.taken_back()
        for each in taken_back:
            reporter(DeliveryResult(each.delivery, each.address, each.after, each.said))
    withdrawn = sum(each.after is State.WITHDRAWN for each in taken_back)
    held = len(taken_back) - withdrawn
    make_folder(folder)
    written = _written(itertools.islice(ledger.messages(scope), limit), folder)
    counts = ledger.counts(scope)
    if as_json:
        rows = FileSpool[str]()
        for row in written:
            rows.append(encoded(row))
        zeros = dict.fromkeys(("accepted", "deferred", "rejected"), 0)
        others = {"ambiguous": len(unclear), "remaining": _remaining(counts), "withdrawn": withdrawn}
        print_json("send", {**zeros, **others, "would_send": len(rows), "deliveries": map(Written, rows)})
    else:
        stderr_line(f"{counted(_list(written), 'message')} in {folder}; nothing was sent")
        stderr_line("next: " + ("correct what is named above" if reporter.unpacked else "look at them") + ", then distributor send")
    if held:
        raise held_back_by_clock(held)
    return 1 if reporter.unpacked or unclear or withdrawn else 0


def _list(written: Iterator[dict[str, str]]) -> int:
    number = 0
    for row in written:
        stdout_line(f"would send to {row['address']}: {escape(row['file'])}")
        number += 1
    return number


def _remaining(counts: Mapping[State, int]) -> int:
    from distributor.model.states import REMAINING

    return sum(counts.get(state, 0) for state in REMAINING)


def _written(messages: Iterator[OutboundMessage], folder: Path) -> Iterator[dict[str, str]]:
    for message in messages:
        path = folder / f"{message.delivery}.eml"
        _write(path, message.message)
        yield {"id": message.delivery, "address": message.address, "state": "queued", "said": "would send", "file": str(path)}


def _write(path: Path, message: bytes) -> None:
    """Whole or not at all."""
    try:
        atomic.replace_file(path, message)
    except OSError as error:
        raise InvalidInput(
            (error.strerror or "cannot be written").lower(), where=str(path), hint="make room, or name another folder"
        ) from None
