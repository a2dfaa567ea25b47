"""Asks the server of preloaded.py to run a command, and ends as the command ends. It loads next to nothing, since it starts for each.

`python -I -S preloaded_client.py SOCKET ARGUMENT...`
"""

import _socket
import marshal
import os
import resource
import signal
import struct
import sys

LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


def main() -> int:
    """The exit code, unless a signal ended the command or a new interpreter took over."""
    try:
        for number in (0, 1, 2):
            os.fstat(number)
        alone = any(map(os.isatty, (0, 1, 2)))
    except OSError:  # one of them is closed
        alone = True
    if alone:
        run_alone()
    umask = os.umask(0)
    caller = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    caller.connect(sys.argv[1])
    limits = [(kind, resource.getrlimit(kind)) for kind in LIMITS]
    asked = marshal.dumps(("distributor", list(map(os.fsencode, sys.argv[2:])), dict(os.environb), umask, limits))
    files = struct.pack("4i", 0, 1, 2, os.open(".", os.O_RDONLY))
    caller.sendmsg([struct.pack("=Q", len(asked))], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    caller.sendall(asked)
    child = number_from(caller)
    if child == 0:
        os.umask(umask)
        run_alone()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    status = os.waitstatus_to_exitcode(number_from(caller))
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def number_from(caller: "_socket.socket") -> int:
    """The server's next word."""
    word = b""
    while len(word) < 8:
        more = caller.recv(8 - len(word))
        if not more:
            sys.exit("the server of preloaded commands is gone")
        word += more
    return int(struct.unpack("=Q", word)[0])


def run_alone() -> None:
    """A new interpreter in our place."""
    os.execv(sys.executable, [sys.executable, "-m", "distributor", *sys.argv[2:]])  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    sys.exit(main())
