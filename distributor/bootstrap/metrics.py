"""Composes metrics: the ledger's figures, what each mailbox may still send, and the last verification on this machine."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from distributor import __version__
from distributor.errors import Error, InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from distributor import config
    from distributor.model.metrics import MailboxLimits, Verification
    from distributor.model.ports import Ledger

READABLE = 0o644  # the collector is another user; there are only numbers in it


def text(settings: config.Settings, ledger: Ledger) -> str:
    """All metrics, in the text format of Prometheus."""
    from distributor.ledger.opening import NEWEST
    from distributor.workflows.metrics import exposition

    kind = settings.ledger.url.partition(":")[0].partition("+")[0]
    versions = {"version": __version__, "schema": str(NEWEST), "ledger": kind, "python": sys.version.partition(" ")[0]}
    return exposition(ledger.figures(), _mailboxes(settings, ledger), last_verification(ledger), versions)


def write(settings: config.Settings, ledger: Ledger) -> None:
    """Write them to `metrics.file`, where it is configured. Raises InvalidInput."""
    from distributor.files import atomic

    if (path := settings.metrics.file) is None:
        return
    try:
        atomic.replace_file(path, text(settings, ledger).encode(), READABLE)
    except OSError as error:
        hint = "make its folder writable for this user, or change `metrics.file`"
        raise InvalidInput((error.strerror or "cannot be written").lower(), where=str(path), hint=hint) from None


def _mailboxes(settings: config.Settings, ledger: Ledger) -> list[MailboxLimits]:
    from distributor.bootstrap.delivery import transport
    from distributor.model.metrics import DAY, MINUTE, MailboxLimits
    from distributor.workflows.sending.run import partition_senders

    own, now = transport(settings, signed_in=False), ledger.now()
    addresses = [str(mailbox.address) for mailbox in settings.mailboxes]
    found = []
    for address, senders in zip(addresses, partition_senders(addresses), strict=True):
        sent = ledger.sent_times(now - DAY, senders)
        recent = sum(at > now - MINUTE for at in sent)
        found.append(MailboxLimits(address, recent, len(sent), own.per_minute, own.daily))
    return found


# --- the last verification -------------------------------------------------------------------------------------------
# A small file beside this machine's record of the ledger's last event: verifying changes nothing in the ledger.


def remember_verification(ledger: Ledger, events: int, *, intact: bool) -> None:
    """Remember that the audit log was verified now; a machine that cannot keep it goes without."""
    from distributor.files import atomic

    with suppress(Error, OSError):
        path = _file(ledger)
        if path is not None:
            found = {"at": ledger.now().isoformat(), "events": events, "intact": intact}
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.replace_file(path, json.dumps(found).encode())


def last_verification(ledger: Ledger) -> Verification | None:
    """The last verification; None where there was none, or what is kept of it cannot be read."""
    from distributor.model.metrics import Verification

    with suppress(Error, OSError, ValueError, KeyError, TypeError):
        path = _file(ledger)
        if path is not None:
            found = json.loads(path.read_bytes())
            return Verification(datetime.fromisoformat(found["at"]).astimezone(UTC), int(found["events"]), bool(found["intact"]))
    return None


def _file(ledger: Ledger) -> Path | None:
    from distributor.ledger import high_water_marks

    folder = high_water_marks.folder(os.environ)
    name = ledger.identity()
    return folder / f"{name}.verified" if folder is not None and name.isalnum() else None
