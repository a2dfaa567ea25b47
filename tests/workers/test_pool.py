"""Jobs in child processes: in order, bounded, and none costs another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from distributor.errors import RequestDenied
from distributor.model.issues import WorkerFailure
from distributor.model.secret import Secret
from distributor.workers.child import SLICE
from distributor.workers.pool import IN_FLIGHT, READ_AHEAD, Workers

MEMORY = 512 * 2**20


@dataclass(frozen=True)
class Call:
    """What the children do in these tests; sent to them whole."""

    greeting: Secret = Secret("hello")  # noqa: RUF009  immutable

    def __call__(self, job: object) -> object:  # noqa: C901, PLR0911  one line a deed
        match job:
            case "hang":
                while True:
                    pass
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "eat":
                return len(bytearray(2**32))
            case "print":
                os.write(1, b"noise")
                print("more noise")  # noqa: T201  what a library might do
                return "quiet"
            case "raise":
                raise ZeroDivisionError
            case "refuse":
                raise RequestDenied("no", where="there", hint="ask again")
            case "pid":
                return os.getpid()
            case "slow":
                time.sleep(1.5 * SLICE)
                return os.getpid()
            case Secret():
                return Secret(f"{self.greeting.reveal()} {job.reveal()}")
            case bytes():
                return job
        return ("did", job)


def workers(count: int = 2, seconds: float = 20) -> Workers[object, object]:
    return Workers(Call(), count, seconds, MEMORY)


def results(jobs: list[object], **options: float) -> list[object]:
    with workers(**options) as pool:  # type: ignore[arg-type]  # count and seconds
        return [result for _, result in pool.map(jobs)]


def test_results_come_in_the_order_of_the_jobs() -> None:
    with workers() as pool:
        assert list(pool.map(range(200))) == [(number, ("did", number)) for number in range(200)]


def test_nothing_is_started_for_nothing() -> None:
    assert results([]) == []


def test_a_pool_can_be_used_again_and_keeps_its_children() -> None:
    with workers(count=1) as pool:
        first, second = list(pool.map(["pid"])), list(pool.map(["pid"]))
    assert first == second


@pytest.mark.parametrize(("job", "reason"), [("die", "crash"), ("eat", "memory"), ("raise", "crash")])
def test_a_job_that_fails_costs_no_other(job: str, reason: str) -> None:
    assert results([1, job, 2, 3]) == [("did", 1), WorkerFailure(reason), ("did", 2), ("did", 3)]


def test_a_job_that_hangs_is_ended_in_time_and_the_one_behind_it_is_done() -> None:
    began = time.monotonic()
    assert results(["hang", 1, "hang", 2], seconds=0.5) == [WorkerFailure("time"), ("did", 1), WorkerFailure("time"), ("did", 2)]
    assert time.monotonic() - began < 60


def test_large_jobs_and_answers_do_not_block_each_other() -> None:
    large = [bytes([n]) * 2**20 for n in range(8)]
    assert results(list(large)) == large


def test_a_large_job_behind_one_that_hangs_does_not_stop_the_clock() -> None:
    large = b"x" * 2**20
    assert results(["hang", large], count=1, seconds=0.5) == [WorkerFailure("time"), large]


def test_secrets_pass_and_stay_secrets() -> None:
    assert results([Secret("world")]) == [Secret("hello world")]


def test_what_a_library_prints_does_not_get_between_the_answers() -> None:
    assert results(["print", 1]) == ["quiet", ("did", 1)]


def test_an_error_of_ours_is_raised_where_its_turn_is() -> None:
    with workers() as pool:
        answers = pool.map([1, "refuse", 2])
        assert next(answers) == (1, ("did", 1))
        with pytest.raises(RequestDenied, match="there: no"):
            next(answers)


def test_it_reads_ahead_a_few_jobs_only() -> None:
    taken = []

    def jobs() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with workers(count=2) as pool:
        answers = pool.map(jobs())
        next(answers)
        assert len(taken) <= 2 * (READ_AHEAD + IN_FLIGHT)


@pytest.mark.parametrize(("job", "reason"), [("die", "crash"), ("eat", "memory"), ("raise", "crash"), ("hang", "time")])
def test_a_job_that_fails_costs_no_other_of_its_group(job: str, reason: str) -> None:
    jobs: list[object] = [*range(10), job, *range(10, 40)]
    with Workers(Call(), 2, 2, MEMORY, group=8) as pool:
        assert [(one, WorkerFailure(reason) if one == job else ("did", one)) for one in jobs] == list(pool.map(jobs))


def test_a_group_whose_every_job_fails_gives_a_result_for_each() -> None:
    with Workers(Call(), 1, 20, MEMORY, group=4) as pool:
        assert list(pool.map(["die"] * 4 + [1])) == [("die", WorkerFailure("crash"))] * 4 + [(1, ("did", 1))]


def test_an_error_of_ours_in_a_group_is_raised_where_its_turn_is() -> None:
    with Workers(Call(), 1, 20, MEMORY, group=4) as pool:
        answers = pool.map([1, "refuse", 2])
        assert next(answers) == (1, ("did", 1))
        with pytest.raises(RequestDenied, match="there: no"):
            next(answers)
        assert list(pool.map([3])) == [(3, ("did", 3))]


def test_a_pool_left_in_the_middle_of_a_lost_group_can_be_used_again() -> None:
    with Workers(Call(), 1, 20, MEMORY, group=4) as pool:
        assert next(iter(pool.map([1, "raise", "hang", "hang"]))) == (1, ("did", 1))
        assert list(pool.map([2, 3])) == [(2, ("did", 2)), (3, ("did", 3))]


def test_a_group_that_takes_long_is_spread_over_the_children() -> None:
    with Workers(Call(), 2, 20, MEMORY, group=8) as pool:
        pids = [result for _, result in pool.map(["slow"] * 8)]
    assert len(set(pids)) == 2
    assert len(pids) == 8


def test_the_rest_of_a_group_that_takes_long_keeps_its_place() -> None:
    jobs = [1, "slow", 2, 3, "slow", 4, 5, 6, 7]
    with Workers(Call(), 2, 20, MEMORY, group=4) as pool:
        assert [(job, isinstance(result, int)) for job, result in pool.map(jobs)] == [(job, job == "slow") for job in jobs]


@dataclass(frozen=True)
class Together:
    """Says how many jobs came with each."""

    def __call__(self, job: int) -> tuple[int, int]:
        raise NotImplementedError

    def many(self, jobs: list[int]) -> list[tuple[int, int]]:
        return [(job, len(jobs)) for job in jobs]


def test_a_call_gets_a_group_at_once() -> None:
    with Workers(Together(), 1, 20, MEMORY, group=16) as pool:
        assert [result for _, result in pool.map(range(20))] == [(n, 16 if n < 16 else 4) for n in range(20)]


def test_a_pool_left_in_the_middle_leaves_no_child_behind() -> None:
    with workers(count=1) as pool:
        child = next(iter(pool.map(["pid", "hang", "hang"])))[1]
    assert isinstance(child, int)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_children_of_a_killed_parent_end_by_themselves(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, operator\n"
        "from distributor.workers.pool import Workers\n"
        "with Workers(operator.methodcaller('bit_length'), 1, 20, 2**29) as pool:\n"
        "    next(pool.map([5]))\n"
        "    print(pool._children[0]._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL
    assert _ended(int(done.stdout))


def test_a_child_that_hangs_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, time\n"
        "from distributor.workers.pool import Workers\n"
        "with Workers(time.sleep, 1, 1, 2**29) as pool:\n"
        "    next(pool.map([0]))\n"
        "    child = pool._children[0]\n"
        "    from distributor.workers.pool import _Task\n"
        "    child.submit(_Task([600]))\n"
        "    print(child._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, check=False, timeout=300)
    assert _ended(int(done.stdout))


def _ended(pid: int) -> bool:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
