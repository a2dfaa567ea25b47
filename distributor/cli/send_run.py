"""Runs the sending workflow for `send` and `resend`, shows its progress and prints its report."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from time import sleep
from types import MappingProxyType
from typing import TYPE_CHECKING

from distributor.cli.ledger import print_under_way
from distributor.cli.log import Notifier
from distributor.cli.progress import Bar
from distributor.cli.render import YELLOW, Written, coloured, counted, encoded, escape, print_json, stderr_line, stdout_line, time
from distributor.errors import Interrupted
from distributor.files.spool import FileSpool
from distributor.model.issues import Diagnostic
from distributor.model.states import State

if TYPE_CHECKING:
    from datetime import datetime
    from types import FrameType

    from distributor.config import Settings
    from distributor.model.attempts import PackedMessage, PackingJob
    from distributor.model.certificates import ParseProblem
    from distributor.model.delivery import DeliveryFilter, UnderWay
    from distributor.model.ports import Ledger, WorkerPool
    from distributor.workflows.sending.report import DeliveryResult, SendReport
    from distributor.workflows.sending.shutdown import ShutdownRequest


@dataclass(frozen=True, slots=True)
class RunWords:
    """The words for a run: what it does, what is accepted, and the commands that come before, again and afterwards."""

    doing: str
    thing: str  # in the singular
    accepted: str
    command: str
    before: str
    after: str
    schema: str


SENDING = RunWords(
    doing="sending",
    thing="message",
    accepted="accepted",
    command="distributor send",
    before="distributor plan",
    after="distributor status, then distributor password reveal ADDRESS --reason TEXT",
    schema="send",
)
IMPORTING = RunWords(
    doing="importing",
    thing="certificate",
    accepted="imported",
    command="distributor intune import",
    before="distributor intune import SOURCE",
    after="distributor status",
    schema="intune-import",
)


@dataclass(slots=True)
class ProgressReporter:
    """Shows a run's progress as a bar and lines, and keeps the results where JSON is asked for."""

    bar: Bar
    keep: bool
    results: FileSpool[str] = field(default_factory=FileSpool)  # as JSON
    deferred: dict[str, str] = field(default_factory=dict)  # likewise, by delivery; a later run may send them
    unpacked: int = 0  # deliveries whose message could not be made
    channel: str = "reveal"  # of passwords

    def __call__(self, event: object) -> None:
        """Show one result, wait, batch or diagnostic."""
        from distributor.model.revocation import HELD_BACK_PREFIX
        from distributor.workflows.packing import Batch
        from distributor.workflows.sending.report import DeliveryResult, WaitNotice

        match event:
            case DeliveryResult(id=delivery, address=address, state=state, response=response, final=True):
                self.bar.step()
                if self.keep:
                    self._keep(delivery, state, encoded({"id": delivery, "address": address, "state": str(state), "said": response}))
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

    def _keep(self, delivery: str, state: str, row: str) -> None:
        self.deferred.pop(delivery, None)
        if state == "deferred":
            self.deferred[delivery] = row
        else:
            self.results.append(row)


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
    reporter: ProgressReporter | None = None,
    words: RunWords | None = None,
) -> tuple[SendReport, ProgressReporter]:
    """Pack and send what is due; the first Ctrl-C lets messages in progress finish. `reporter`: of an earlier run, to go on with."""
    with Bar((words or SENDING).doing, total) as bar:
        reporter = reporter or ProgressReporter(bar, keep, channel=settings.password.channel)
        reporter.bar = bar
        found = send_due(settings, ledger, pool, scope, tell=reporter, line=bar.line, limit=limit, early=early, unclear=unclear)
        return found, reporter


def send_due(
    settings: Settings,
    ledger: Ledger,
    pool: WorkerPool[PackingJob, PackedMessage | ParseProblem],
    scope: DeliveryFilter,
    *,
    tell: Callable[[object], None],
    line: Callable[[str], None],
    limit: int | None = None,
    early: bool = False,
    unclear: Sequence[DeliveryResult] = (),
    stopped: Callable[[], bool] = lambda: False,
    on_signal: Callable[[], None] = lambda: None,
    notify: Notifier | None = None,
) -> SendReport:
    """The run itself; `tell` gets its events, `line` what the transport and a signal have to say; `notify` hears signs of life.

    `stopped`: asked once, at its start. `on_signal`: called for each Ctrl-C and SIGTERM, also for one that comes too late for the run.
    """
    from distributor.bootstrap import delivery, intune
    from distributor.model.states import Way
    from distributor.workers import process
    from distributor.workflows.sending.report import SendContext, SendOptions
    from distributor.workflows.sending.run import send

    owner, imports = process.current_process(), scope.way is Way.INTUNE
    transport = intune.transport(settings, tell=line) if imports else delivery.transport(settings, tell=line)
    options = SendOptions(
        scope=scope,
        limit=limit,
        early=early,
        lease=settings.ledger.lease,
        packing=delivery.packing_workflow(settings, ledger, pool, owner, scope, limit),
        unclear=unclear,
        senders=() if imports else delivery.senders(settings),
    )
    context = SendContext(alive=process.is_alive, tell=tell)

    async def work() -> SendReport:
        with _stopper(line, on_signal) as shutdown:
            if stopped():
                shutdown.request()
            beat = asyncio.ensure_future(_beat(notify or Notifier()))
            try:
                return await send(ledger, transport, owner=owner, context=context, options=options, shutdown=shutdown)
            finally:
                beat.cancel()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work())


async def _beat(notify: Notifier) -> None:
    """Signs of life for as long as the event loop turns."""
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(notify.every)


def idle(*, keep: bool) -> tuple[SendReport, ProgressReporter]:
    """The report of a run that has nothing to do: no transport is opened, no mailbox locked."""
    from distributor.workflows.sending.report import SendReport

    with Bar("sending", 0) as bar:
        return SendReport(0, 0, 0, 0, 0), ProgressReporter(bar, keep)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where it is installed, for twice as many messages a second; else None, for asyncio's own loop."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None
    return new_event_loop


@contextmanager
def _stopper(line: Callable[[str], None], on_signal: Callable[[], None]) -> Iterator[ShutdownRequest]:
    """A shutdown request that Ctrl-C and SIGTERM set; the handlers of before are there again afterwards."""
    from distributor.workflows.sending.shutdown import ShutdownRequest

    shutdown, loop, numbers = ShutdownRequest(), asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def request() -> None:
        if not shutdown.requests:
            line("finishing messages in progress; Ctrl-C again aborts them")
        shutdown.request()

    def caught(_number: int, _frame: FrameType | None) -> None:
        on_signal()
        loop.call_soon_threadsafe(request)  # the loop's own handlers would lose a signal that comes when it is about to end

    for number in numbers:
        signal.signal(number, caught)
    try:
        yield shutdown
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # in between, the default handler would end the process
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def wait(settings: Settings, scope: DeliveryFilter, found: SendReport, reporter: ProgressReporter, *, limit: int | None) -> SendReport:
    """Send what was deferred as it becomes due, until nothing is; the counts of all runs together.

    Every run opens the ledger anew: one that is open keeps its mailboxes locked, also against a `send` for other people.
    """
    from distributor import bootstrap
    from distributor.bootstrap import delivery

    while not (found.error or found.interrupted):
        left = None if limit is None else limit - found.accepted - found.rejected - found.ambiguous
        if left == 0:
            break
        try:
            number = _sleep_until_due(settings, scope)
        except KeyboardInterrupt:
            return replace(found, interrupted=True)
        if not number:  # another process has sent them
            reporter.deferred.clear()
            return replace(found, deferred=0, remaining=found.remaining - found.deferred)
        with delivery.packing_pool(settings, early=False) as pool, bootstrap.open_for_writing(settings, sends=True) as ledger:
            more, _ = run(settings, ledger, pool, scope, total=number, limit=left, keep=reporter.keep, reporter=reporter)
        found = found.followed_by(more)
    return found


POLL = 5.0  # seconds; another process may send a deferred message sooner, or a clock may be set


def _sleep_until_due(settings: Settings, scope: DeliveryFilter) -> int:
    """Wait until a deferred message is due; how many there are, 0 where none is left. Raises KeyboardInterrupt after SIGTERM too."""
    from distributor import bootstrap

    told, before = None, signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with bootstrap.open_for_reading(settings) as ledger:
            while (due := ledger.next_due(scope)) is not None:
                number = ledger.counts(scope).get(State.DEFERRED, 0)
                seconds = (due - ledger.now()).total_seconds()
                if seconds <= 0:
                    return number
                if due != told:
                    stderr_line(f"waiting until {time(due)}: {counted(number, 'message')} deferred")
                    told = due
                sleep(min(seconds, POLL))
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def report(
    found: SendReport,
    reporter: ProgressReporter,
    *,
    as_json: bool,
    held: Sequence[UnderWay] = (),
    until: datetime | None = None,
    words: RunWords = SENDING,
    more: Mapping[str, object] = MappingProxyType({}),
) -> int:
    """Print a run's counts and what other senders have claimed; returns the exit code. Raises the error that ended the run.

    `until`: when the first deferred message is due; `more`: further keys of the JSON.
    """
    if as_json:
        counts = {name: getattr(found, name) for name in ("accepted", "deferred", "rejected", "ambiguous", "remaining", "withdrawn")}
        under_way = sum(each.number for each in held)
        rows = map(Written, chain(reporter.results, reporter.deferred.values()))
        print_json(words.schema, {**more, **counts, "under_way": under_way, "deliveries": rows})
    else:
        _words(found, reporter, words, under_way=bool(held), until=until)
    print_under_way(held)
    if found.error is not None:
        raise found.error
    if found.interrupted:
        raise Interrupted("interrupted; nothing is lost", hint=f"run `{words.command}` again to continue")
    return 1 if found.rejected or found.ambiguous or found.withdrawn or reporter.unpacked else 0


def _advice(hint: str | None) -> str:
    return f" ({escape(hint)})" if hint else ""


def _words(found: SendReport, reporter: ProgressReporter, words: RunWords, *, under_way: bool, until: datetime | None) -> None:
    if not any((found.accepted, found.deferred, found.rejected, found.ambiguous, found.withdrawn, found.remaining, found.error)):
        stderr_line("nothing else is due now" if under_way else f"nothing is due; next: {words.before}")
        return
    parts = [f"{counted(found.accepted, words.thing)} {words.accepted}"]
    parts += [f"{number} {name}" for name in ("deferred", "rejected", "ambiguous", "withdrawn") if (number := getattr(found, name))]
    stdout_line(", ".join(parts) + (f"; {found.remaining} remaining" if found.remaining else ""))
    if found.ambiguous:
        stderr_line(coloured("next: distributor resolve", YELLOW))
    elif found.rejected:
        stderr_line("next: distributor status --state rejected")
    elif found.withdrawn:
        stderr_line(f"next: have new certificates issued, then {words.before}")
    elif found.deferred and not found.error:
        wait = ", or distributor send --wait now" if words is SENDING else ""
        when = f" after {time(until)}{wait}" if until else ""
        stderr_line(f"next: {words.command}{when}")
    elif reporter.unpacked:
        stderr_line(f"next: fix the errors above, then {words.command}")
    elif found.remaining and not found.error and not found.interrupted:
        when = f" until {time(until)}" if until else ""
        stderr_line(f"next: {words.command}" if found.accepted else f"nothing is due{when}; `distributor status` shows what is waiting")
    elif found.accepted and (reporter.channel == "reveal" or words is not SENDING):  # for the others, `password_mail.after_send` says it
        stderr_line(f"next: {words.after}")
