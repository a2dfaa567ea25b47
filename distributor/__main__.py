"""Where the program begins: files for their owner only, no core dumps, then the command line."""

from __future__ import annotations

import os
import sys
import warnings


def main() -> None:
    """Run the command line and leave with its exit code."""
    os.umask(0o077)
    _no_core_dumps()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # a library's warning is no answer to a user's question
    from distributor.cli.app import run  # noqa: PLC0415  after the umask, so that nothing is created before it

    sys.exit(run())


def _no_core_dumps() -> None:
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
