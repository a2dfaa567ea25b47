"""Runs the sending workflow for `send` and `resend`, shows its progress and prints its report."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distributor.cli.ledger import print_under_way
from distributor.cli.progress import Bar
from distributor.cli.render import YELLOW, Written, coloured, counted, encoded, escape, print_json, stderr_line, stdout_line, time
from distributor.errors import Interrupted
from distributor.files.spool import FileSpool
from distributor.model.issues import Diagnostic

if TYPE_CHECKING:
    from datetime import datetime

    from distributor.config import Settings
    from distributor.model.certificates import ParseProblem
    from distributor.model.delivery import DeliveryFilter, PackedMessage, PackingJob, UnderWay
    from distributor.model.ports import Ledger, WorkerPool
    from distributor.workflows.sending.report import DeliveryResult, SendReport
    from distributor.workflows.sending.shutdown import ShutdownRequest


@dataclass(slots=True)
class ProgressReporter:
    """Shows a run's progress as a bar and lines, and keeps the results where JSON is asked for."""

    bar: Bar
    keep: bool
    results: FileSpool[str] = field(default_factory=FileSpool)  # as JSON
    unpacked: int = 0  # deliveries whose message could not be made

    def __call__(self, event: object) -> None:
        """Show one result, wait, batch or diagnostic."""
        from distributor.model.certificates import HELD_BACK_PREFIX
        from distributor.workflows.packing import Batch
        from distributor.workflows.sending.report import DeliveryResult, WaitNotice

        match event:
            case DeliveryResult(id=delivery, address=address, state=state, response=response, final=True):
                self.bar.step()
                if self.keep:
                    self.results.append(encoded({"id": delivery, "address": address, "state": str(state), "said": response}))
                if state not in {"accepted", "queued"} or response.startswith(HELD_BACK_PREFIX):
                    self.bar.line(f"{escape(address)}: {state}: {escape(response)}")
            case WaitNotice(seconds=None, why=why):
                self.bar.line(f"waiting: {escape(why)}")
            case WaitNotice(seconds=seconds, why=why):
                self.bar.line(f"waiting {seconds:.0f} s: {escape(why)}")
            case Batch(issues=issues):
                for issue in issues:
                    self.unpacked += 1
                    self.bar.line(f"{escape(issue.address or issue.source)}: not packed: {escape(issue.message)}{_advice(issue.hint)}")
            case Diagnostic(level=level, message=message, hint=hint):
                self.bar.line(f"{level}: {escape(message)}{_advice(hint)}")


def run(
    settings: Settings,
    ledger: Ledger,
    pool: WorkerPool[PackingJob, PackedMessage | ParseProblem],
    scope: DeliveryFilter,
    *,
    total: int,
    limit: int | None = None,
    early: bool = False,
    keep: bool = False,
    unclear: Sequence[DeliveryResult] = (),
) -> tuple[SendReport, ProgressReporter]:
    """Pack and send what is due; the first Ctrl-C lets messages in flight finish."""
    from distributor.bootstrap import delivery
    from distributor.workers import process
    from distributor.workflows.sending.report import SendContext, SendOptions
    from distributor.workflows.sending.run import send

    owner = process.current_process()
    with Bar("sending", total) as bar:
        transport = delivery.transport(settings, tell=bar.line)
        reporter = ProgressReporter(bar, keep)
        options = SendOptions(
            scope=scope,
            limit=limit,
            early=early,
            lease=settings.ledger.lease,
            packing=delivery.packing_workflow(settings, ledger, pool, owner, scope, limit),
            unclear=unclear,
            senders=delivery.senders(settings),
        )
        context = SendContext(alive=process.is_alive, tell=reporter)

        async def work() -> SendReport:
            with _stopper(bar) as shutdown:
                return await send(ledger, transport, owner=owner, context=context, options=options, shutdown=shutdown)

        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work()), reporter


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where it is installed, for twice as many messages a second; else None, for asyncio's own loop."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop


@contextmanager
def _stopper(bar: Bar) -> Iterator[ShutdownRequest]:
    """A shutdown request that Ctrl-C and SIGTERM set."""
    from distributor.workflows.sending.shutdown import ShutdownRequest

    shutdown, loop = ShutdownRequest(), asyncio.get_running_loop()

    def request() -> None:
        if not shutdown.requests:
            bar.line("finishing the messages in flight; Ctrl-C again cuts them off")
        shutdown.request()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, request)
    try:
        yield shutdown
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def report(
    found: SendReport, reporter: ProgressReporter, *, as_json: bool, held: Sequence[UnderWay] = (), due: datetime | None = None
) -> int:
    """Print a run's counts and what other senders have claimed; returns the exit code. Raises the error that ended the run.

    `due`: when the first deferred message is due.
    """
    if as_json:
        counts = {name: getattr(found, name) for name in ("accepted", "deferred", "rejected", "ambiguous", "remaining", "withdrawn")}
        under_way = sum(each.number for each in held)
        print_json("send", {**counts, "under_way": under_way, "deliveries": map(Written, reporter.results)})
    else:
        _words(found, reporter.unpacked, under_way=bool(held), due=due)
    print_under_way(held)
    if found.error is not None:
        raise found.error
    if found.interrupted:
        raise Interrupted("interrupted; nothing is lost", hint="`distributor send` goes on where it stopped")
    return 1 if found.rejected or found.ambiguous or found.withdrawn or reporter.unpacked else 0


def _advice(hint: str | None) -> str:
    return f" ({escape(hint)})" if hint else ""


def _words(found: SendReport, unpacked: int, *, under_way: bool, due: datetime | None) -> None:
    later = None if due is None else f"distributor send after {time(due)}, when the first deferred message is due; --now sends it at once"
    if not any((found.accepted, found.deferred, found.rejected, found.ambiguous, found.withdrawn, found.remaining, found.error)):
        stderr_line("nothing else is due at this moment" if under_way else "nothing is due; next: distributor plan")
        return
    parts = [counted(found.accepted, "message") + " accepted"]
    parts += [f"{number} {name}" for name in ("deferred", "rejected", "ambiguous", "withdrawn") if (number := getattr(found, name))]
    stdout_line(", ".join(parts) + (f"; {found.remaining} remaining" if found.remaining else ""))
    if found.ambiguous:
        stderr_line(coloured("next: distributor resolve", YELLOW))
    elif found.rejected:
        stderr_line("next: distributor status --state rejected")
    elif found.withdrawn:
        stderr_line("next: have new certificates issued, then distributor plan")
    elif found.deferred and not found.error:
        stderr_line(f"next: {later or 'distributor send'}")
    elif unpacked:
        stderr_line("next: correct what is named above, then distributor send")
    elif found.remaining and not found.error and not found.interrupted:
        waits = f"nothing is due yet; next: {later}" if later else "nothing is due yet; next: distributor status"
        stderr_line("next: distributor send" if found.accepted else waits)
    elif found.accepted:
        stderr_line("next: distributor status, then distributor password reveal ADDRESS --reason TEXT")
