"""Two `distributor send` at once through one mailbox of Exchange Online: together they keep to what the mailbox may do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distributor.model.delivery import DeliveryFilter
from distributor.model.states import State
from tests.authority import Authority
from tests.doubles.graphd import Cloud, graphd
from tests.real.matrix import make_people
from tests.workflows.outbox import new_ledger

SENDER = "certificates@example.org"
PATIENCE = 600.0  # seconds, on a busy machine

pytestmark = pytest.mark.slow(reason="several whole commands work side by side against a service with real seconds")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with graphd(tmp_path / "cloud") as running:
        running.mailbox(SENDER)
        yield running
        assert (running.violations(), running.refusals()) == ([], [])


@dataclass
class SharedWorkspace:
    """A workspace, and the processes that work in it."""

    folder: Path
    environment: dict[str, str]

    def start(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "distributor", *words, "--config", str(self.folder / "distributor.toml")]
        return subprocess.Popen(
            argv, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def counts(self) -> dict[State, int]:
        with closing(new_ledger(self.folder / "distributor.db")) as ledger:
            return ledger.counts(DeliveryFilter())

    def senders(self) -> Counter[int]:
        """How many messages each process claimed, by its id."""
        with closing(new_ledger(self.folder / "distributor.db")) as ledger:
            return Counter(record.event.evidence["pid"] for record in ledger.records() if record.event.event == "claimed")


def shared(tmp_path: Path, authority: Authority, cloud: Cloud, count: int, limits: str) -> SharedWorkspace:
    """`count` messages are frozen."""
    made = SharedWorkspace(tmp_path / "work", {**os.environ, **cloud.environment, "APP_SECRET": "s3cret"})
    subprocess.run([sys.executable, "-m", "distributor", "init", str(made.folder)], check=True, capture_output=True)
    client = cloud.app(secrets={"s3cret": None}, roles=["Mail.Send", "Mail.ReadWrite"])
    table = (
        f'[transport]\nkind = "graph"\ntenant = "{cloud.tenant}"\nclient_id = "{client}"\nsecret = "env:APP_SECRET"\n'
        f'login = "{cloud.login}"\ngraph = "{cloud.graph}"\n{limits}\n\n'
    )
    config = made.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    begin, end = text.index("[transport]"), text.index("[package]")
    config.write_text(text[:begin] + table + text[end:], encoding="utf-8")
    make_people(tmp_path / "people", authority, count, "side")
    for words in (("plan", str(tmp_path / "people")), ("send", "--dry-run", str(tmp_path / "dry"))):
        with made.start(*words) as process:
            stderr = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, stderr
    return made


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def end(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Exit code, report, and what a person saw."""
    with process:
        answer, stderr = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in stderr, stderr
    return process.returncode, json.loads(answer), stderr


def test_two_senders_stay_below_four_requests_and_the_day_s_messages(tmp_path: Path, authority: Authority, cloud: Cloud) -> None:
    work = shared(tmp_path, authority, cloud, 16, 'rate = "6000/min"\ndaily = 10')
    with cloud.during(latency=0.2):
        both = [work.start("send", "--yes", "--json") for _ in range(2)]
        ended = [end(process) for process in both]
    assert sum(report["accepted"] for _, report, _ in ended) == 10
    assert [sorted(code for code, _, _ in ended)] == [[4, 4]]
    assert len(cloud.stored()) == 10
    counts = cloud.counts()["mailboxes"][SENDER]
    assert (counts["max_in_flight"] <= 4, counts["refused"]) == (True, {})


def test_a_sender_that_was_killed_is_followed_by_the_one_that_waits_and_the_pace_goes_on(
    tmp_path: Path, authority: Authority, cloud: Cloud
) -> None:
    work = shared(tmp_path, authority, cloud, 10, 'rate = "60/min"')
    both = [work.start("send", "--yes", "--json") for _ in range(2)]
    until(lambda: work.counts().get(State.ACCEPTED, 0) >= 4)
    assert len(work.senders()) == 1
    driving = next(process for process in both if process.pid in work.senders())
    os.killpg(driving.pid, signal.SIGKILL)
    driving.communicate()
    waiting = next(process for process in both if process is not driving)
    code, report, stderr = end(waiting)
    assert (code, report["remaining"], report["accepted"] > 0) == (0, 0, True)
    assert "another `distributor send` is using this mailbox" in stderr
    sent = Counter(record["to"] for record in cloud.stored())
    assert (len(sent), set(sent.values())) == (10, {1})
    times = [request["at"] for request in cloud.requests("message.send")]
    five = [late - early for early, late in zip(times, times[5:], strict=False)]
    assert min(five) > 4.0, times  # seconds, less what a line may vary
