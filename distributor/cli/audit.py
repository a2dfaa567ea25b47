"""`distributor audit`: evidence, exported and verified."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distributor.cli.options import Config, Json
from distributor.errors import Unusable

STDOUT = Path("-")
app = typer.Typer(help="Evidence of everything that happened.", no_args_is_help=True)


class Format(StrEnum):
    """How an export is written."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command(epilog="\b\nexample:\n  distributor audit export --format csv --output evidence.csv")
def export(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to, whole or not at all; - for stdout.")],
    form: Annotated[Format, typer.Option("--format", help="Both can be verified later; CSV opens in a spreadsheet.")] = Format.JSONL,
    chosen: Config = None,
) -> None:
    """Write every event, oldest first, personal fields opened."""
    from distributor import wiring
    from distributor.cli.show import counted, say
    from distributor.flow import audit as flow

    with wiring.reading(wiring.settings(chosen)) as ledger, _whole(output) as write:
        number = flow.export(ledger.records(), str(form), write)
    if output == STDOUT:
        say(counted(number, "event"))
    else:
        say(f"{counted(number, 'event')} in {output}; next: distributor audit verify {output}")


@contextmanager
def _whole(path: Path) -> Iterator[Callable[[str], object]]:
    """A file for its owner only that appears when it is complete; an old one stays until then. `-` is standard output."""
    if path == STDOUT:
        yield sys.stdout.write
        return
    partial = path.with_name(f".{path.name}.part")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise Unusable((error.strerror or "cannot be written").lower(), where=str(path), hint="make room, or name another file") from None
    finally:
        partial.unlink(missing_ok=True)


@app.command(epilog="\b\nexample:\n  distributor audit verify evidence.jsonl")
def verify(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="An export, JSON Lines or CSV; default: the ledger itself.")] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Check the chain of events, and every state against its events."""
    from distributor.cli.show import answer, counted, foreign, say, tell

    findings = _in_ledger(chosen) if file is None else _in_file(file)
    what = "the ledger" if file is None else str(file)
    if as_json:
        answer("audit", {"verified": what, "ok": not findings, "findings": findings})
        return 1 if findings else 0
    for finding in findings:
        tell(foreign(finding))
    if findings:
        say(f"{what}: {counted(len(findings), 'finding')}; keep it as it is and compare it with a copy")
        return 1
    tell(f"{what}: the chain is whole" if file else f"{what}: the chain is whole, and every state follows from its events")
    return 0


def _in_ledger(chosen: Path | None) -> list[str]:
    from distributor import wiring
    from distributor.core.findings import Issue

    with wiring.reading(wiring.settings(chosen)) as ledger:
        return [found.message if isinstance(found, Issue) else found for found in ledger.verify()]


def _in_file(file: Path) -> list[str]:
    from distributor.flow import audit as flow

    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return flow.verify_export(lines)
    except UnicodeDecodeError:
        raise Unusable("not UTF-8, so no export", where=str(file), hint="name a file that `distributor audit export` wrote") from None
    except OSError as error:
        raise Unusable((error.strerror or "cannot be read").lower(), where=str(file), hint="name a file that you may read") from None
