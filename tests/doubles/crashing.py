# ruff: noqa: ANN401  wrappers pass on whatever comes
"""The real plan, pack and send, in processes that kill themselves at a named step: a server that forks one for each order.

It reads orders as JSON lines from standard input and answers each with the wait statuses of its children. Everything heavy is
imported once, so that a child costs milliseconds. The program itself knows nothing of this: steps are wrapped from outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import secrets
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiosmtplib.protocol

from distributor.adapters import intune
from distributor.adapters.rosters import csv
from distributor.adapters.sources import files
from distributor.adapters.transports import graph, smtp
from distributor.adapters.transports.smtp import session as _session
from distributor.adapters.transports.smtp import transport as _transport
from distributor.clients.graph import GraphClient
from distributor.ledger import open_guarded, transaction
from distributor.ledger.high_water_marks import CopyGuard
from distributor.ledger.repository import SqlLedger
from distributor.mail.message import Mailbox
from distributor.mail.templates import TemplateRenderer
from distributor.microsoft.pfx_import import ConnectorKey, Padding
from distributor.model.attempts import AttemptUpdate, RecordIntent
from distributor.model.delivery import DeliveryFilter
from distributor.model.limits import Limits
from distributor.model.people import Address
from distributor.model.secret import Secret
from distributor.model.states import Way
from distributor.pki import parse_material
from distributor.workers import process
from distributor.workflows import packing
from distributor.workflows.message_factory import Packer
from distributor.workflows.plan import plan
from distributor.workflows.sending.report import SendContext, SendOptions
from distributor.workflows.sending.run import send
from tests.doubles import mutants
from tests.source_files import look

LONGEST = 300  # seconds a child may take on a busy machine


class Steps:
    """Counts how often each step was reached and strikes at the one that was ordered."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.wanted, self.hit, self.how = order.get("step"), order.get("hit", 1), order.get("how", "kill")
        self.seen: Counter[str] = Counter()
        self.doing: tuple[str, ...] = ()

    def reach(self, step: str) -> None:
        self.seen[step] += 1
        if step == self.wanted and self.seen[step] == self.hit:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            Path(self.how).touch()  # a mark that the stall began; it ends when the mark is taken away
            while Path(self.how).exists():
                time.sleep(0.01)

    # --- wrapping --------------------------------------------------------------------------------------------------

    def around(self, owner: type, method: str, name: str) -> None:
        real = getattr(owner, method)

        def wrapped(*args: Any, **named: Any) -> Any:
            self.reach(f"{name}:before")
            doing, self.doing = self.doing, (name,)
            result = real(*args, **named)
            self.doing = doing
            if result or name != "claim":  # a claim of nothing is no step
                self.reach(f"{name}:after")
            return result

        setattr(owner, method, wrapped)

    def around_write(self) -> None:
        real = SqlLedger.write

        def wrapped(ledger: SqlLedger, steps: list[AttemptUpdate], owner: Any) -> Any:
            names = ["arm" if isinstance(step, RecordIntent) else "settle" for step in steps]
            for name in names:
                self.reach(f"{name}:before")
            self.doing = tuple(names)
            result = real(ledger, steps, owner)
            self.doing = ()
            for name in names:
                self.reach(f"{name}:after")
            return result

        SqlLedger.write = wrapped  # type: ignore[method-assign]

    def inside_transactions(self) -> None:
        real = transaction.WriteTransaction.append

        def wrapped(book: Any, notes: Any) -> None:
            real(book, notes)
            for name in self.doing:
                self.reach(f"{name}:inside")

        transaction.WriteTransaction.append = wrapped  # type: ignore[method-assign]

    def around_verbs(self) -> None:
        say, finish, write = _session.Session.say, _session.Session.finish, aiosmtplib.protocol.SMTPProtocol.write

        async def saying(session: Any, *words: bytes, timeout: float) -> Any:  # noqa: ASYNC109
            self.reach(f"{words[0].decode().lower()}:before")
            reply = await say(session, *words, timeout=timeout)
            self.reach(f"{words[0].decode().lower()}:after")
            return reply

        async def finishing(session: Any, body: bytes, *, timeout: float) -> Any:  # noqa: ASYNC109
            reply = await finish(session, body, timeout=timeout)
            self.reach("reply:after")
            return reply

        def writing(protocol: Any, data: bytes) -> None:
            message = data.endswith(b"\r\n.\r\n")
            self.reach("dot:before") if message else None
            write(protocol, data)
            self.reach("dot:after") if message else None

        _session.Session.say, _session.Session.finish = saying, finishing  # type: ignore[method-assign]
        aiosmtplib.protocol.SMTPProtocol.write = writing  # type: ignore[method-assign]

    def around_dialling(self) -> None:
        real = _transport.connect

        async def dialling(*args: Any) -> Any:
            self.reach("connect:before")
            found = await real(*args)
            self.reach("connect:after")
            return found

        _transport.connect = dialling

    def around_calls(self) -> None:
        """What is asked of Graph: `draft`, `post` (a draft goes), `record` (of Intune, written), `look`."""
        real = GraphClient.call

        async def calling(client: Any, method: str, path: str, **more: Any) -> Any:
            ends = {"/send": "post", "/messages": "draft"}
            name = next((kind for end, kind in ends.items() if path.endswith(end)), "record" if "userPfx" in path else "other")
            name = "look" if method == "GET" else name
            self.reach(f"{name}:before")
            reply = await real(client, method, path, **more)
            self.reach(f"{name}:after")
            return reply

        GraphClient.call = calling  # type: ignore[method-assign]

    def install(self) -> None:
        for method in ("begin_plan", "plan", "recover", "claim", "counts", "release"):
            self.around(SqlLedger, method, method)
        self.around(SqlLedger, "lease", "take")
        self.around(SqlLedger, "enqueue", "store")
        self.around(CopyGuard, "after", "mark")
        self.around(files.Files, "fetch", "fetch")
        self.around(Packer, "__call__", "build")
        self.around_write()
        self.inside_transactions()
        self.around_verbs()
        self.around_dialling()
        self.around_calls()


# --- the world of a child ------------------------------------------------------------------------------------------


class Here:
    """A pool without child processes: one process to kill is enough."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._call = call

    def map(self, jobs: Any) -> Iterator[tuple[Any, Any]]:
        return ((job, self._call(job)) for job in jobs)


def now() -> datetime:
    return datetime.now(UTC)


def ledger_of(order: dict[str, Any], *, sends: bool = False) -> SqlLedger:
    ahead = timedelta(seconds=order.get("ahead", 0))
    place, here = Path(order["marks"]), process.machine()
    return open_guarded(f"sqlite:///{order['ledger']}", by="matrix", now=lambda: now() + ahead, marks=place, here=here, sends=sends)


def source_of(order: dict[str, Any]) -> files.Files:
    return files.open(files.Settings((Path(order["people"]),)), look)


def way_of(order: dict[str, Any]) -> Way:
    return Way.INTUNE if "intune" in order else Way.MAIL


def do_plan(order: dict[str, Any]) -> int:
    plan(
        ledger_of(order),
        csv.open(csv.Settings(Path(order["roster"]))) if order.get("roster") else None,
        source_of(order),
        Here(partial(parse_material, limits=Limits())),
        plan_id=secrets.token_hex(4),
        inputs={},
        languages=("en",),
        way=way_of(order),
        now=now(),
    )
    return 0


def transport_of(order: dict[str, Any]) -> Any:
    """SMTP, or Graph where the order says so."""
    connections = order.get("connections", 1)
    if settings := order.get("intune"):
        os.environ.update(order["environment"])
        return intune.open(intune.Settings(**{**settings, "secret": Secret(settings["secret"])}, connections=connections))
    if settings := order.get("graph"):
        os.environ.update(order["environment"])
        transport = graph.open(
            graph.Settings(**{**settings, "secret": Secret(settings["secret"])}, connections=connections, per_minute=None)
        )
        type(transport.tracker()).min_age = timedelta()  # a minute in the world
        return transport
    times = {"reply_timeout": 60, "data_timeout": 60, "dot_timeout": order.get("dot", 60)}
    return smtp.open(smtp.Settings("127.0.0.1", order["port"], "none", connections=connections, **times))


def do_send(order: dict[str, Any]) -> int:
    ledger = ledger_of(order, sends=True)
    owner, lease = process.current_process(), timedelta(seconds=order.get("lease", 60))
    sender = Mailbox(Address("certificates", "example.org"), "Certificate Service")
    packer = Packer(TemplateRenderer(None), lambda secret, _: b"sealed " + bytes([len(secret.reveal())]), "Example AG", (sender,))
    if "intune" in order:
        key = ConnectorKey(order["provider"], order["key_name"], Padding.SHA512)
        packer = replace(packer, connector=(order["public_key"].encode(), key))
    scope = DeliveryFilter(way=way_of(order))

    def pack(stop: Callable[[], bool]) -> Iterator[object]:
        return packing.pack(
            ledger,
            lambda _: (source_of(order), {}),
            Here(packer),
            owner=owner,
            lease=lease,
            scope=scope,
            limit=None,
            now=now,
            stop=stop,
        )

    alive = (lambda _: None) if order.get("blind") else process.is_alive
    context = SendContext(alive=alive, sleep=lambda seconds: asyncio.sleep(min(seconds, 0.02)))
    wanted = SendOptions(scope=scope, early=order.get("early", False), lease=lease, packing=None if order.get("packed") else pack)
    transport = transport_of(order)
    if order.get("wire"):  # seconds: how long an armed message may stay without a word
        transport.attempt_timeout = timedelta(seconds=order["wire"])
    report = asyncio.run(send(ledger, transport, owner=owner, context=context, options=wanted))
    return 4 if report.error else 0


def do_recover(order: dict[str, Any]) -> int:
    return 1 if ledger_of(order).recover(process.is_alive) else 0


WORK = {"plan": do_plan, "send": do_send, "recover": do_recover}


# --- the server ----------------------------------------------------------------------------------------------------


def child(order: dict[str, Any], number: int) -> None:
    signal.alarm(LONGEST)
    code = 70
    try:
        steps = Steps(order if number == 0 else {})
        if order.get("mutant"):
            getattr(mutants, order["mutant"])()
        steps.install()
        if space := order.get("space"):  # bytes that files may still grow by
            most = Path(order["ledger"]).stat().st_size + space
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        code = WORK[order["do"]](order)
    except BaseException:  # noqa: BLE001  told to the log of the server
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def fork(work: Callable[[], None]) -> int:
    if pid := os.fork():
        return pid
    work()
    os._exit(71)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        children = [fork(partial(child, order, number)) for number in range(order.get("workers", 1))]
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status) for status in statuses]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
