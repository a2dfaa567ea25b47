"""The process entry point: sets umask and core-dump limit and repairs the standard streams, then runs the command line."""

from __future__ import annotations

import gc
import io
import os
import sys
import warnings
from typing import TextIO

INTERRUPTED = 130
GC_THRESHOLDS = (100_000, 20, 20)


def main() -> None:
    """Run the command line and leave with its exit code."""
    os.umask(0o077)
    _no_core_dumps()
    _streams()
    gc.set_threshold(*GC_THRESHOLDS)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # a library's warning is no answer to a user's question
    try:
        from distributor.cli.app import run  # noqa: PLC0415  after the umask, so that nothing is created before it

        gc.freeze()  # modules stay: no collection needs to look through them
        sys.exit(run())
    except KeyboardInterrupt:  # before or after a command; `run` handles it while one runs
        sys.exit(INTERRUPTED)
    finally:
        gc.freeze()  # the interpreter would look through everything once more before it ends


def _no_core_dumps() -> None:
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _streams() -> None:
    """Open closed standard streams on /dev/null, or the next file or socket would get their number; escape what cannot be encoded."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  as long as the program runs
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _named(1, sys.stdout), _named(2, sys.stderr)


def _named(number: int, stream: TextIO) -> TextIO:
    from distributor.cli.render import StandardStream  # noqa: PLC0415  after the umask

    lines = stream.isatty() or number == 2  # noqa: PLR2004  standard error
    return io.TextIOWrapper(
        io.BufferedWriter(StandardStream(number)), encoding=stream.encoding, errors="backslashreplace", line_buffering=lines
    )


if __name__ == "__main__":
    main()
