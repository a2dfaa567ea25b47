"""The whole sending leg into postfix's own test server, with the faults that it knows."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor.adapters.transports import smtp
from distributor.model.delivery import DeliveryFilter
from distributor.model.ports import Ledger
from distributor.workers import process as processes
from distributor.workflows.sending.report import SendContext, SendOptions, SendReport
from distributor.workflows.sending.run import send
from tests.needs import require
from tests.workflows import outbox

MESSAGES = 40


@contextlib.contextmanager
def smtp_sink(folder: Path, *options: str) -> Iterator[int]:
    """A running smtp-sink that dumps each mail into `folder`; its port."""
    program = require("smtp-sink")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with subprocess.Popen([program, *user, *options, "-d", "%M.", f"127.0.0.1:{port}", "64"], cwd=folder) as process:
        try:
            _wait(port)
            yield port
        finally:
            process.terminate()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    pytest.fail("smtp-sink did not start")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = outbox.new_ledger(tmp_path / "distributor.db")
    outbox.queue(found, MESSAGES, size=10_000)
    yield found
    assert found.verify() == []
    found.close()


def run(ledger: Ledger, port: int, **settings: object) -> SendReport:
    transport = smtp.open(smtp.Settings("127.0.0.1", port, "none", **settings))
    context = SendContext(alive=processes.is_alive, sleep=lambda _: asyncio.sleep(0))
    return asyncio.run(send(ledger, transport, owner=processes.current_process(), context=context, options=SendOptions()))


def dumped(folder: Path) -> list[str]:
    """Message-IDs of the mails that arrived whole."""
    mails = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in folder.iterdir()]
    return [str(mail["Message-ID"]) for mail in mails if mail["Message-ID"]]


@pytest.mark.parametrize("options", [(), ("-e",), ("-8", "-N", "-E"), ("-p",)])
def test_every_message_arrives_once_whatever_the_server_offers(ledger: Ledger, tmp_path: Path, options: tuple[str, ...]) -> None:
    with smtp_sink(tmp_path / "mails", *options) as port:
        assert run(ledger, port) == SendReport(MESSAGES, 0, 0, 0, 0)
        arrived = Counter(dumped(tmp_path / "mails"))
    assert arrived == Counter(str(delivery.message_id) for delivery in ledger.deliveries(DeliveryFilter()))


@pytest.mark.parametrize("verb", ["RCPT", "DATA", "."])
def test_later_at_every_verb_defers_all(ledger: Ledger, tmp_path: Path, verb: str) -> None:
    with smtp_sink(tmp_path / "mails", "-r", verb) as port:
        assert run(ledger, port) == SendReport(0, MESSAGES, 0, 0, MESSAGES)


def test_later_for_every_sender_stops_the_run_before_all_are_deferred(ledger: Ledger, tmp_path: Path) -> None:
    with smtp_sink(tmp_path / "mails", "-r", "MAIL") as port:
        report = run(ledger, port)
    assert (report.accepted, report.remaining) == (0, MESSAGES)
    assert 5 <= report.deferred < MESSAGES
    assert report.error is not None


def test_people_who_are_unknown_are_rejected_one_by_one(ledger: Ledger, tmp_path: Path) -> None:
    with smtp_sink(tmp_path / "mails", "-B", "550 5.1.1 unknown", "-f", "RCPT") as port:
        assert run(ledger, port) == SendReport(0, 0, MESSAGES, 0, 0)


def test_a_sender_who_is_refused_stops_the_run(ledger: Ledger, tmp_path: Path) -> None:
    with smtp_sink(tmp_path / "mails", "-f", "MAIL") as port:
        report = run(ledger, port)
    assert report.remaining == MESSAGES
    assert "the sender was refused" in str(report.error)


def test_messages_that_are_all_refused_alike_stop_the_run_before_all_are_burnt(ledger: Ledger, tmp_path: Path) -> None:
    with smtp_sink(tmp_path / "mails", "-f", ".") as port:
        report = run(ledger, port, connections=1)
    assert (report.rejected, report.remaining) == (3, MESSAGES - 3)
    assert report.error


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_server_that_always_hangs_up_before_the_message_costs_no_message(ledger: Ledger, tmp_path: Path, verb: str) -> None:
    with smtp_sink(tmp_path / "mails", "-q", verb) as port:
        report = run(ledger, port)
    assert report.remaining == MESSAGES
    assert report.error


def test_a_server_that_hangs_up_after_every_message_stops_the_run_before_all_are_unclear(ledger: Ledger, tmp_path: Path) -> None:
    with smtp_sink(tmp_path / "mails", "-q", ".") as port:
        report = run(ledger, port, connections=1)
    assert (report.ambiguous, report.remaining) == (5, MESSAGES - 5)
    assert "no response" in str(report.error)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "."])
def test_a_server_that_is_closing_stops_the_run_after_five(ledger: Ledger, tmp_path: Path, verb: str) -> None:
    with smtp_sink(tmp_path / "mails", "-Q", verb) as port:
        report = run(ledger, port, connections=1)
    assert (report.deferred, report.remaining) == (5, MESSAGES)
    assert report.error
