"""Log lines of commands that run until they are stopped: one line an event on stderr, as text or JSON; and systemd's notifications.

A line never has a secret, and of a person only the address.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from distributor.cli.render import STDERR, escape, stop_writing

if TYPE_CHECKING:
    from threading import Event

SIGN_OF_LIFE = 15.0  # seconds between two signs of life to systemd, at most
LONGEST_WORK = 1800.0  # seconds


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Log:
    """Writes log lines."""

    form: LogFormat
    now: Callable[[], datetime]

    def __call__(self, event: str, message: str = "", **fields: object) -> None:
        """One event. `fields` without a value are left out."""
        import json

        from distributor.model.audit_log import format_timestamp

        at, given = format_timestamp(self.now()), {name: value for name, value in fields.items() if value not in (None, "")}
        if self.form is LogFormat.JSON:
            shown: dict[str, object] = {"at": at, "event": event, **given}
            line = json.dumps(shown | ({"message": message} if message else {}), ensure_ascii=False, default=str)
        else:
            parts = [*(f"{name}={escape(str(value))}" for name, value in given.items())]
            line = " ".join([at, event, *parts]) + (f": {escape(message)}" if message else "")
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except OSError as error:  # a log that cannot be written is no reason to stop; the ledger has what happens
            if error.filename != STDERR:
                raise
            if isinstance(error, BrokenPipeError):
                stop_writing(sys.stderr)


@dataclass(frozen=True, slots=True)
class Notifier:
    """Tells systemd about the service (sd_notify(3)); does nothing where NOTIFY_SOCKET is not set."""

    address: str = ""
    every: float = SIGN_OF_LIFE  # seconds between two signs of life, a third of what systemd waits for one

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Notifier:
        """The notifier of this process."""
        patience = environment.get("WATCHDOG_USEC", "")  # microseconds
        every = int(patience) / 3_000_000 if patience.isascii() and patience.isdigit() else SIGN_OF_LIFE
        return cls(environment.get("NOTIFY_SOCKET", ""), min(every, SIGN_OF_LIFE))

    def __call__(self, state: str) -> None:
        """Send lines such as `READY=1`. A service manager that is gone is no reason to stop."""
        if not self.address:
            return
        import socket

        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.connect(address)
                channel.sendall(state.encode())
        except OSError:
            return

    def meanwhile(self) -> AbstractContextManager[None]:
        """Give signs of life during work that gives none itself, for half an hour: what takes longer hangs."""

        def work(ended: Event) -> None:
            for _ in range(int(LONGEST_WORK / self.every)):
                self("WATCHDOG=1")
                if ended.wait(self.every):
                    return

        return in_background(work) if self.address else nullcontext()


@contextmanager
def in_background(work: Callable[[Event], None], patience: float | None = None) -> Iterator[None]:
    """Work in a thread while the block runs; it returns when the event is set, and is waited for so many seconds."""
    import threading

    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(patience)
