"""Log lines of commands that run until they are stopped: one line an event on stderr, as text or JSON; and systemd's notifications.

A line never has a secret, and of a person only the address.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from distributor.cli.render import STDERR, escape, stop_writing


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

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Notifier:
        """The notifier of this process. The variable is removed, so that no child speaks for it."""
        return cls(environment.get("NOTIFY_SOCKET", ""))

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
