"""`distributor send --follow`: plans approved requests and sends what becomes due, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING

from distributor.cli.log import Log, Notifier
from distributor.errors import Error, ServiceUnavailable
from distributor.model.states import State

if TYPE_CHECKING:
    from types import FrameType

    from distributor.config import Settings
    from distributor.model.delivery import DeliveryFilter
    from distributor.model.ports import Ledger
    from distributor.workflows.password_mail import MailResult
    from distributor.workflows.sending.report import SendReport

LOOK_AT_FLAG = 0.2  # seconds
METRICS_EVERY = 60.0  # seconds
POLL = 1.0  # seconds between two looks at the ledger's last event: a request is to be on its way within ten
LOOK_AGAIN = 60.0  # seconds; leases expire and claims are given back without an event
PACK_AGAIN = 600.0  # seconds; a file that could not be packed may have been put back
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0  # seconds after a service refused us; doubles each time
LEDGER_PAUSE = 5.0  # seconds after the ledger did not respond: others wait for what this process had begun


@dataclass(slots=True)
class StopFlag:
    """Set by SIGTERM and Ctrl-C."""

    requests: int = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Catch both signals meanwhile."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.request()

    def request(self) -> None:
        """Set it."""
        self.requests += 1

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until it is set; whether it is."""
        end = monotonic() + seconds
        while not self.requests and (left := end - monotonic()) > 0:
            sleep(min(left, LOOK_AT_FLAG))  # an Event's lock must not be taken in a signal's handler
        return bool(self)

    def __bool__(self) -> bool:
        return self.requests > 0


@dataclass(slots=True)
class LogReporter:
    """Writes a run's results, waits and diagnostics to the log."""

    log: Log
    unpacked: int = 0  # deliveries whose message could not be made

    def __call__(self, event: object) -> None:
        """Log one of them."""
        from distributor.model.issues import Diagnostic
        from distributor.workflows.packing import Batch
        from distributor.workflows.sending.report import DeliveryResult, WaitNotice

        match event:
            case DeliveryResult(id=delivery, address=address, state=state, response=response, final=True):
                self.log(str(state), response, delivery=delivery, address=address)
            case WaitNotice(seconds=seconds, why=why):
                self.log("waiting", why, seconds=None if seconds is None else round(seconds))
            case Batch(issues=issues):
                for issue in issues:
                    self.unpacked += 1
                    self.log("not-packed", issue.message, address=issue.address, source=issue.source, hint=issue.hint)
            case Diagnostic(level=level, message=message, hint=hint):
                self.log(str(level), message, hint=hint)


@dataclass(slots=True)
class Follower:
    """Looks for work and does it, one run after another."""

    settings: Settings
    scope: DeliveryFilter
    log: Log
    stop: StopFlag
    notify: Notifier
    seen: int = -1  # the ledger's last event when there was nothing to do
    looked: float = 0.0  # when that was
    due: datetime | None = None  # when the next deferred message is due
    stuck: frozenset[str] = frozenset()  # planned deliveries that could not be packed
    stuck_since: float = 0.0
    unplanned: set[str] = field(default_factory=set)  # approved requests whose certificate could not be found again
    unplanned_since: float = 0.0
    unmailed: frozenset[str] = frozenset()  # deliveries whose password could not be mailed
    unmailed_since: float = 0.0
    refusal: Error | None = None  # of the service that was to send
    pause: float = 0.0  # seconds to wait, after a service refused us
    measured: float = 0.0  # when metrics were written
    ledger_pause: float = 0.0  # likewise, after the ledger did not respond

    def run(self, reading: Ledger) -> None:
        """Until it is told to stop. Raises what no waiting mends."""
        while not self.stop:
            try:
                worked = self._has_news(reading) and self._cycle()
                self.pause = self.ledger_pause = 0.0
            except ServiceUnavailable as error:
                worked = False
                self._on_failure(error)
            self.notify("WATCHDOG=1")
            self._write_metrics(reading)
            if not worked:
                self._wait(self.ledger_pause or self.pause or POLL)

    def _write_metrics(self, reading: Ledger) -> None:
        from distributor.bootstrap import metrics

        if self.settings.metrics.file is None or (self.measured and monotonic() - self.measured < METRICS_EVERY):
            return
        self.measured = monotonic()
        try:
            metrics.write(self.settings, reading)
        except Error as error:
            self.log("metrics", error.message, where=error.where, hint=error.hint)

    def _wait(self, seconds: float) -> None:
        """Wait, with signs of life."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0 and not self.stop.wait(min(left, LOOK_AGAIN / 4)):
            self.notify("WATCHDOG=1")

    def _has_news(self, reading: Ledger) -> bool:
        """Whether anything has happened since there was nothing to do; costs one short query."""
        now = monotonic()
        due = self.due is not None and reading.now() >= self.due
        return due or reading.position() != self.seen or now - self.looked >= LOOK_AGAIN

    def _cycle(self) -> bool:
        """Plan approved requests and send what is due; whether anything was sent."""
        from distributor import bootstrap
        from distributor.bootstrap.checkpoints import publish_in_child
        from distributor.workers import process
        from distributor.workflows.sending.run import recover

        report: SendReport | None = None
        with self.notify.meanwhile(), bootstrap.open_for_writing(self.settings, sends=True) as ledger:
            self._plan_requests(ledger)
            _, unclear = recover(ledger, process.is_alive)
            for each in unclear:
                self.log("ambiguous", each.response, delivery=each.id, address=each.address)
            if self._is_due(ledger):
                report = self._send(ledger)
            self._mail_passwords(ledger)
            self.seen, self.looked, self.due = ledger.position(), monotonic(), ledger.next_due(self.scope)
        publish_in_child(lambda line: self.log("checkpoint", line))
        if report is not None and report.error is not None:
            self.refusal = report.error
            raise report.error
        return report is not None and report.accepted > 0

    def _plan_requests(self, ledger: Ledger) -> None:
        """Plan the new generation of each approved request; what could not be found again is tried again some time later."""
        from distributor.bootstrap import requests
        from distributor.workflows.requests import Unfulfilled

        waiting = {request.id for request in ledger.unplanned()}
        if not waiting or (waiting <= self.unplanned and monotonic() - self.unplanned_since < PACK_AGAIN):
            return
        self.unplanned, self.unplanned_since = set(), monotonic()
        for each in requests.fulfil(self.settings, ledger, self.scope.addresses):
            fields = {"request": each.request.id, "address": each.request.address}
            if isinstance(each, Unfulfilled) and each.denied:
                self.log("denied", each.reason, **fields)
            elif isinstance(each, Unfulfilled):
                self.unplanned.add(each.request.id)
                self.log("not-planned", each.reason, **fields, hint=each.hint)
            else:
                self.log("planned", **fields, delivery=each.delivery.id)

    def _is_due(self, ledger: Ledger) -> bool:
        """Whether there is something to send, or to pack that could not be packed a short while ago."""
        from distributor.model.delivery import ALL_SENDERS

        planned = self._planned(ledger)
        retry = monotonic() - self.stuck_since >= PACK_AGAIN
        return bool(planned if retry else planned - self.stuck) or ledger.has_pending(self.scope, ALL_SENDERS)

    def _planned(self, ledger: Ledger) -> frozenset[str]:
        return frozenset(each.id for each in ledger.deliveries(replace(self.scope, states=frozenset({State.PLANNED}))))

    def _send(self, ledger: Ledger) -> SendReport:
        from distributor.bootstrap import delivery
        from distributor.cli.send_run import send_due

        reporter = LogReporter(self.log)
        with delivery.packing_pool(self.settings, early=False) as pool:
            report = send_due(
                self.settings,
                ledger,
                pool,
                self.scope,
                tell=reporter,
                line=lambda text: self.log("note", text),
                stopped=lambda: bool(self.stop),
                on_signal=self.stop.request,
                notify=self.notify,
            )
        self.stuck, self.stuck_since = self._planned(ledger), monotonic()
        return report

    def _mail_passwords(self, ledger: Ledger) -> None:
        """Mail passwords whose package was accepted, where that is their channel and this host can open them."""
        from distributor.cli.password_mail import send_ready

        if self.stop or self.settings.password.channel != "mail" or self.settings.vault.identity is None:
            return
        ready = ledger.ready_passwords("mail")
        retry = monotonic() - self.unmailed_since >= PACK_AGAIN
        if not any(retry or one.delivery not in self.unmailed for one in ready):
            return
        unmailed = {one.delivery for one in ready}

        def tell(result: MailResult) -> None:
            if result.outcome != "ready":
                unmailed.discard(result.delivery)
            event = {"sent": "password-sent", "ready": "password-not-sent", "ambiguous": "password-ambiguous"}[result.outcome]
            self.log(event, result.said, delivery=result.delivery, address=result.address, hint=result.hint)

        found = send_ready(self.settings, ledger, ready, tell, lambda text: self.log("note", text), lambda: bool(self.stop))
        for diagnostic in found.diagnostics:
            if diagnostic.level != "ok":
                self.log(diagnostic.level, diagnostic.message, hint=diagnostic.hint)
        if found.error is not None:
            self.refusal = found.error
            raise found.error
        self.unmailed, self.unmailed_since = frozenset(unmailed), monotonic()

    def _on_failure(self, error: Error) -> None:
        if error is self.refusal:
            self.pause = min(self.pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)
        self.ledger_pause = 0.0 if error is self.refusal else LEDGER_PAUSE
        self.log("refused", error.message, where=error.where, hint=error.hint, again_in=round(self.ledger_pause or self.pause))


def follow(settings: Settings, scope: DeliveryFilter, log: Log) -> int:
    """Send until SIGTERM or Ctrl-C; the exit code. Raises what no waiting mends: a configuration or a ledger that cannot be used."""
    from distributor import bootstrap

    notify, stop = Notifier.of(os.environ), StopFlag()
    with stop.installed(), bootstrap.open_for_reading(settings) as reading:
        with bootstrap.open_for_writing(settings, sends=True) as ledger:
            log("ready", position=ledger.position())
        notify("READY=1\nSTATUS=sends what becomes due")
        Follower(settings, scope, log, stop, notify).run(reading)
        notify("STOPPING=1")
        log("stopped")
    return 0
