"""A pool of reused child processes with limits of time and memory: a hostile file fails only its own job.

Jobs may cross in groups; a group that is lost is done again job by job.

The children run `distributor.workers.child`. Data that a child's pipe does not take at once is buffered here, so that time-outs go on.
"""

from __future__ import annotations

import os
import pickle
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import IO, Any, Generic, Self, TypeVar

from distributor.errors import Error, InvalidInput
from distributor.model.issues import WorkerFailure
from distributor.workers.child import pack, read_frame

Job = TypeVar("Job")
Result = TypeVar("Result")
IN_FLIGHT = 2  # groups of jobs for each child: the next one is sent while it works on one
READ_AHEAD = 8  # groups for each child that are done but wait for an earlier one, since results keep their order
_GRACE = 2.0  # seconds for a child to end by itself
_STARTING = 60.0  # seconds for a child to import what the call needs
_PASSED_ON = frozenset(
    {"HOME", "LANG", "LD_LIBRARY_PATH", "OPENSSL_CONF", "OPENSSL_MODULES", "PATH", "SYSTEMROOT", "TMPDIR", "TZ"}
)  # no secrets


@dataclass(frozen=True, slots=True)
class CallFactory:
    """The call is made in each child by `make(*arguments)`, so that its imports are not loaded in the parent."""

    make: Callable[..., Callable[[Any], object]]
    arguments: tuple[object, ...]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.make, self.arguments


class Workers(Generic[Job, Result]):
    """`count` children that run `call(job)` within `seconds` and `memory` (bytes of address space). Not thread-safe.

    They are started when there are jobs, `early` of them at once. Jobs cross `group` at a time, within `seconds` together, and those
    that a child did not begin soon are done one by one; a call with a method `many` gets them as a list and returns the list of results.
    """

    def __init__(  # noqa: PLR0913  limits and sizes
        self,
        call: Callable[[Job], Result] | CallFactory,
        count: int,
        seconds: float,
        memory: int,
        *,
        early: int = 0,
        group: int = 1,
    ) -> None:
        self._first = pack((call, seconds, memory))
        self._count = count
        self._early = min(early, count)
        self._seconds = seconds
        self._group = group
        self._again: deque[_Task] = deque()  # jobs of a group that was lost or takes long, each by itself now
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        for _ in range(self._early):
            self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in self._children:
            child.end(gently=kind is None and child.warm)
        self._children.clear()
        self._selector.close()

    def map(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result | WorkerFailure]]:
        """Each job with its result, in the order of the jobs. An `Error` that the call raised is raised here."""
        waiting: deque[_Task] = deque()
        coming = iter(jobs)
        groups = iter(lambda: list(islice(coming, self._group)), [])
        more = True
        try:
            while waiting or more:
                while self._again and (child := self._free(0)) is not None:
                    child.submit(self._again.popleft())
                while more and (child := self._free(len(waiting))) is not None:
                    task = next(map(_Task, groups), None)
                    more = task is not None
                    if task is not None:
                        waiting.append(task)
                        child.submit(task)
                while waiting and waiting[0].done:
                    task = waiting.popleft()
                    waiting.extendleft(reversed(task.singles))
                    yield from task.answers()
                if waiting and not waiting[0].done:
                    self._listen()
        finally:
            self._forget(waiting)

    def _free(self, waiting: int) -> _Child | None:
        """The child with the fewest jobs, started when needed; None when all are busy or enough results are waiting."""
        if waiting >= self._count * READ_AHEAD:
            return None
        child = min(self._children, key=lambda c: len(c.tasks), default=None)
        if (child is None or child.tasks) and len(self._children) < self._count:
            child = self._start()
        return child if child is not None and len(child.tasks) < IN_FLIGHT else None

    def _start(self) -> _Child:
        child = _Child(self._first)
        self._children.append(child)
        self._selector.register(child.output, selectors.EVENT_READ, child)
        return child

    def _listen(self) -> None:
        """Wait for an answer, or for the first time-out."""
        busy = [child for child in self._children if child.tasks]
        wait = min(self._deadline(child) for child in busy) - time.monotonic()
        with self._writing(busy):
            for key, event in self._selector.select(max(0.0, wait)):
                if event == selectors.EVENT_READ:
                    self._again.extend(key.data.read())
                else:
                    key.data.send()
        now = time.monotonic()
        for child in busy:
            if child.gone or (child.tasks and now >= self._deadline(child)):
                self._replace(child, "crash" if child.gone else "time")

    @contextmanager
    def _writing(self, busy: Iterable[_Child]) -> Iterator[None]:
        """Also select the children that have more of a large job to receive; one that does not read must not block the others."""
        full = [child for child in busy if child.has_more]
        for child in full:
            self._selector.register(child.input, selectors.EVENT_WRITE, child)
        yield
        for child in full:
            self._selector.unregister(child.input)

    def _deadline(self, child: _Child) -> float:
        return child.since + (self._seconds if child.warm else _STARTING)

    def _replace(self, child: _Child, reason: str) -> None:
        """Replace a child that ended or timed out: its first group was lost, the next goes to another child."""
        code = self._remove(child)
        if not child.warm:
            raise InvalidInput(
                f"a worker process did not start ({reason}, exit status {code})", hint="check the limits on memory and processes"
            )
        if child.tasks:
            self._again.extend(child.tasks.popleft().finish(WorkerFailure(reason)))
        for task in child.tasks:
            (self._free(0) or self._start()).submit(task)

    def _remove(self, child: _Child) -> int:
        self._selector.unregister(child.output)
        self._children.remove(child)
        return child.end(gently=False)

    def _forget(self, waiting: deque[_Task]) -> None:
        """End the children that still have jobs whose results are not needed any more."""
        self._again.clear()
        if any(not task.done for task in waiting):
            for child in [child for child in self._children if child.tasks]:
                self._remove(child)


class _Task:
    """A group of jobs and their results."""

    def __init__(self, jobs: list[Any]) -> None:
        self.jobs = jobs
        self.singles: list[_Task] = []  # its jobs that have no result, each by itself
        self._results: list[Any] = []

    @property
    def done(self) -> bool:
        return bool(self._results or self.singles)

    def finish(self, answer: object) -> list[_Task]:
        """Take the results, perhaps of the first jobs only, or the failure of the group; returns what is still to be done."""
        if isinstance(answer, list):
            self._results = answer
        elif len(self.jobs) == 1:
            self._results = [answer]
        self.singles = [_Task([job]) for job in self.jobs[len(self._results) :]]
        return self.singles

    def answers(self) -> Iterator[tuple[Any, Any]]:
        """Each job that has a result with it. An `Error` is raised."""
        for job, result in zip(self.jobs, self._results, strict=not self.singles):
            if isinstance(result, Error):
                raise result
            yield job, result


class _Child:
    """A running worker process and the groups of jobs it has."""

    def __init__(self, first: bytes) -> None:
        self.tasks: deque[_Task] = deque()
        self.warm = False  # whether it has said that it is ready
        self.gone = False
        self.since = time.monotonic()
        self._received = bytearray()
        self._unsent = bytearray()
        flags = [f"-W{option}" for option in sys.warnoptions]
        self._process = subprocess.Popen(  # noqa: S603  our own module in our own interpreter
            [sys.executable, "-P", *flags, "-m", "distributor.workers.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a library's messages about a hostile file must not reach the terminal
            bufsize=0,
            start_new_session=True,
            env=_environment(),
        )
        self.input, self.output = _pipes(self._process)
        os.set_blocking(self.input.fileno(), False)
        _widen(self.output)
        self._unsent += first
        self.send()

    @property
    def has_more(self) -> bool:
        """Whether a part of a job is still to be sent."""
        return bool(self._unsent) and not self.gone

    def submit(self, task: _Task) -> None:
        if self.warm and not self.tasks:
            self.since = time.monotonic()
        self.tasks.append(task)
        self._unsent += pack(task.jobs)
        self.send()

    def send(self) -> None:
        """Write as much as the pipe takes now."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self.input.fileno(), self._unsent)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._unsent.clear()  # it ended; `read` notices its closed output

    def read(self) -> list[_Task]:
        """Read its answers, the first of which says that it is ready; returns the jobs to do again."""
        again: list[_Task] = []
        chunk = os.read(self.output.fileno(), 1 << 20)
        self.gone = not chunk
        self._received += chunk
        while (frame := read_frame(self._received)) is not None:
            self.since = time.monotonic()
            answer = pickle.loads(frame)  # noqa: S301  our own child's answer
            if self.warm:
                again += self.tasks.popleft().finish(answer)
            elif isinstance(answer, Error):  # it cannot make the call
                raise answer
            self.warm = True
        return again

    def end(self, *, gently: bool) -> int:
        """Close its input and wait, or kill it; returns the exit status."""
        self._close(self.input)
        try:
            if not gently:
                self._process.kill()
            return self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._close(self.output)

    @staticmethod
    def _close(pipe: IO[bytes]) -> None:
        with suppress(OSError):
            pipe.close()


def _environment() -> dict[str, str]:
    """The environment of a child: paths and locale, without variables that may hold secrets."""
    kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def _widen(pipe: IO[bytes]) -> None:
    """Enlarge the pipe's buffer, so that a child goes on while its parent is busy (Linux only)."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl  # noqa: PLC0415  not on Windows

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 2**19)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise InvalidInput("a worker process has no pipes")
    return process.stdin, process.stdout
