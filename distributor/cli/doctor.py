"""`distributor doctor`: whether everything is in place."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.cli.options import Config, Json
from distributor.errors import Error, Several, Unusable

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.core.findings import Remark

EXAMPLE = "\b\nexample:\n  distributor doctor --json | jq '.checks[] | select(.level != \"ok\")'"
BUILT = datetime(2026, 11, 1, tzinfo=UTC)  # an earlier clock is wrong
INDENT = 24  # columns; below the message
TOLERANCE = timedelta(minutes=5)


def doctor(chosen: Config = None, as_json: Json = False) -> int:
    """Examine configuration, ledger, vault, server and templates.

    Connects to the server and signs in; sends nothing.
    """
    from distributor.cli.show import answer

    found: list[Remark] = []
    for remark in _examine(chosen):
        found.append(remark)
        if not as_json:
            _show(remark)
    if as_json:
        answer("doctor", {"checks": [{"area": r.area, "level": r.level, "message": r.message, "hint": r.hint} for r in found]})
    bad = [remark for remark in found if remark.level == "error"]
    if any(remark.area == "configuration" for remark in bad):
        return Unusable.exit_code
    return 1 if bad else 0


def _show(remark: Remark) -> None:
    from distributor.cli.show import GREEN, RED, YELLOW, coloured, foreign, tell, wrapped

    level = coloured(f"{remark.level:<7}", {"ok": GREEN, "warning": YELLOW}.get(remark.level, RED))
    tell(wrapped(f"{level}  {remark.area:<13}  {foreign(remark.message)}", INDENT))
    if remark.hint and remark.level != "ok":
        tell(wrapped(f"{'':{INDENT}}{foreign(remark.hint)}", INDENT))


def _examine(chosen: Path | None) -> Iterator[Remark]:
    from distributor import wiring

    try:
        settings = wiring.settings(chosen)
    except Error as error:
        yield from _told("configuration", error)
    else:
        yield _remark("configuration", "ok", str(settings.file))
        for area, look in _AREAS.items():
            yield from _guarded(area, look, settings)
    yield _clock()
    yield from _versions()


def _guarded(area: str, look: Callable[[Settings], Iterator[Remark]], settings: Settings) -> Iterator[Remark]:
    try:
        yield from look(settings)
    except Error as error:
        yield from _told(area, error)


def _told(area: str, error: Error) -> Iterator[Remark]:
    for fault in error.faults if isinstance(error, Several) else (error,):
        yield _remark(area, "error", str(fault), fault.hint)


def _remark(area: str, level: str, message: str, hint: str | None = None) -> Remark:
    from distributor.core.findings import Remark

    return Remark(area, level, message, hint)


def _ledger(settings: Settings) -> Iterator[Remark]:
    from distributor import wiring
    from distributor.core.deliveries import Scope
    from distributor.core.findings import Issue

    with wiring.reading(settings) as ledger:
        faults = ledger.verify()
        for wrong in faults:
            yield _remark(
                "ledger",
                "error",
                wrong.message if isinstance(wrong, Issue) else str(wrong),
                "keep the file as it is; restore the last good copy",
            )
        counts = ledger.counts(Scope())
        newest = max((delivery.updated_at for delivery in ledger.deliveries(Scope())), default=None)
    told = ", ".join(f"{number} {state}" for state, number in counts.items()) or "no deliveries yet"
    if not faults:
        yield _remark("ledger", "ok", f"the chain is whole; {told}")
    file = wiring.ledger_file(settings)
    if file is not None and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        yield _remark("ledger", "warning", f"{file} can be read here but not written", "give this user the file and its folder")
    if newest is not None and newest > wiring.now() + TOLERANCE:
        yield _remark("clock", "warning", f"the ledger's newest event lies in the future ({newest:%Y-%m-%d %H:%M} UTC)", "set the clock")


def _vault(settings: Settings) -> Iterator[Remark]:
    from distributor import wiring

    keys = len(settings.vault.recipients)
    if settings.vault.identity is None:
        yield _remark("vault", "ok", f"passwords are sealed to {keys} public key(s); none can be revealed here")
        return
    wiring.vault(settings)
    yield _remark("vault", "ok", f"{settings.vault.identity} opens what is sealed")


def _files(settings: Settings) -> Iterator[Remark]:
    from distributor import wiring
    from distributor.config.secrets import exposed

    found = [exposed(path) for path in wiring.private_files(settings)]
    for told in filter(None, found):
        yield _remark("files", "warning", told, "chmod 600, and give it to the user that runs distributor")
    if not any(found):
        yield _remark("files", "ok", f"{len(found)} private file(s) can be read by their owner only")


def _templates(settings: Settings) -> Iterator[Remark]:
    from distributor import outgoing

    yield from outgoing.stationery(settings).check()


def _transport(settings: Settings) -> Iterator[Remark]:
    import asyncio

    from distributor import outgoing
    from distributor.cli.show import say

    yield from asyncio.run(outgoing.transport(settings, tell=say).check())


def _trust(settings: Settings) -> Iterator[Remark]:
    from distributor import trusting

    if settings.trust is not None:
        found = trusting.collection(settings.trust.collection)
        yield _remark("trust", "ok", f"{len(found)} certificate(s) in {settings.trust.collection}; distributor trust check looks at each")


_AREAS: dict[str, Callable[[Settings], Iterator[Remark]]] = {
    "ledger": _ledger,
    "vault": _vault,
    "files": _files,
    "templates": _templates,
    "trust": _trust,
    "transport": _transport,
}


def _clock() -> Remark:
    from distributor import wiring

    moment = wiring.now()
    if moment < BUILT:
        return _remark("clock", "error", f"the clock says {moment:%Y-%m-%d %H:%M} UTC, before this program was made", "set the clock")
    return _remark("clock", "ok", f"{moment:%Y-%m-%d %H:%M} UTC")


def _versions() -> Iterator[Remark]:

    from importlib.metadata import version

    from cryptography.hazmat.backends.openssl import backend

    from distributor import __version__
    from distributor.ledger.driver import sqlite3
    from distributor.ledger.sqlite import keeps_wal

    journal = (
        "with the write-ahead log" if keeps_wal() else "without the write-ahead log, since this release can damage it; slower, but safe"
    )
    yield _remark("versions", "ok", f"distributor {__version__}, Python {platform.python_version()} on {sys.platform}")
    yield _remark("versions", "ok", f"cryptography {version('cryptography')} with {backend.openssl_version_text()}")
    yield _remark("versions", "ok", f"SQLite {sqlite3.sqlite_version}, {journal}")
    yield _remark("versions", "ok", f"aiosmtplib {version('aiosmtplib')}")
