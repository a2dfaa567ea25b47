"""The main loop of a worker process: reads a call, then groups of jobs, and answers each, until its input closes with its parent.

Jobs and answers are pickles in length-prefixed frames on standard input and output. Secrets pass through these pipes and no other pickle.
"""

from __future__ import annotations

import dataclasses
import gc
import io
import math
import os
import pickle
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable
from typing import IO, Any

from distributor.errors import Error
from distributor.model.issues import WorkerFailure
from distributor.model.secret import Secret

_HEAD = struct.Struct(">I")
_GRACE = 2  # seconds
SLICE = 0.2  # seconds after which no further job of a group is begun: the parent spreads the rest over all children


class _Pickler(pickle.Pickler):
    """Pickles secrets too, since the pickles stay in a pipe between two of our processes; and dataclasses compactly."""

    def reducer_override(self, value: object) -> Any:  # noqa: ANN401  pickle's protocol
        if isinstance(value, Secret):
            return Secret, (value.reveal(),)
        kind = type(value)
        names = _KNOWN[kind] if kind in _KNOWN else _KNOWN.setdefault(kind, _fields(kind))
        return (kind, tuple([getattr(value, name) for name in names])) if names else NotImplemented


_KNOWN: dict[type, tuple[str, ...]] = {}


def _fields(kind: type) -> tuple[str, ...]:
    """The fields of a plain dataclass, which its constructor takes in this order."""
    if not dataclasses.is_dataclass(kind) or "__reduce__" in vars(kind):
        return ()
    fields = dataclasses.fields(kind)
    return tuple(field.name for field in fields) if all(field.init and not field.kw_only for field in fields) else ()


def pack(value: object) -> bytes:
    """A value as a frame."""
    buffer = io.BytesIO()
    buffer.write(b"\0" * _HEAD.size)
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    frame = buffer.getbuffer()
    _HEAD.pack_into(frame, 0, len(frame) - _HEAD.size)
    return bytes(frame)


def read_frame(received: bytearray) -> bytes | None:
    """The first whole frame, taken out."""
    if len(received) < _HEAD.size:
        return None
    end = _HEAD.size + _HEAD.unpack_from(received)[0]
    if len(received) < end:
        return None
    frame = bytes(received[_HEAD.size : end])
    del received[:end]
    return frame


def main() -> None:
    """Read the call, then jobs, until the input closes."""
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of a library must not mix with the answers
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    first = _read(source)
    if first is None:
        return
    gc.disable()  # imports make many objects and leave no garbage
    try:
        call, seconds, memory = pickle.loads(first)  # noqa: S301  our own parent's call
    except Error as error:  # what it needs is not there
        _tell(answers, pack(error))
        return
    gc.freeze()
    gc.enable()
    _bound(memory)
    _tell(answers, pack("ready"))
    while (frame := _read(source)) is not None:
        _alarm(math.ceil(seconds) + _GRACE)
        answer = _answer(call, frame)
        _alarm(0)
        _tell(answers, answer)


def _answer(call: Callable[[Any], object], frame: bytes) -> bytes:
    try:
        return pack(_results(call, pickle.loads(frame)))  # noqa: S301  our own parent's jobs
    except Error as error:
        return pack(error)
    except MemoryError:
        return pack(WorkerFailure("memory"))
    except Exception:  # noqa: BLE001  a job may fail in any way; the parent tries the others of its group again
        return pack(WorkerFailure("crash"))


def _results(call: Callable[[Any], object], jobs: list[Any]) -> list[Any]:
    """A result for each job, or for the first ones of a group that takes long."""
    if (many := getattr(call, "many", None)) is not None:
        return list(many(jobs))
    done: list[Any] = []
    began = time.monotonic()
    for job in jobs:
        if done and time.monotonic() - began > SLICE:
            break
        done.append(call(job))
    return done


def _tell(answers: IO[bytes], frame: bytes) -> None:
    answers.write(frame)
    answers.flush()


def _read(source: IO[bytes]) -> bytes | None:
    head = source.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    return source.read(_HEAD.unpack(head)[0])


def _alarm(seconds: int) -> None:
    """End this process after so many seconds: the parent ends it sooner, unless it was killed."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def _bound(memory: int) -> None:
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


if __name__ == "__main__":
    main()
