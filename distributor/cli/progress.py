"""A progress bar with rate and time left, and a text that is refreshed, on a terminal only. The only module that uses rich."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from distributor.cli.render import stderr_line, wrapped

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress, Task, TaskID


SOON = 2.0  # seconds; a pace measured over less says nothing


class Bar:
    """Counts steps towards a total. Without a terminal, or with nothing to do, it only prints the lines."""

    def __init__(self, title: str, total: int | None) -> None:
        watched = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._progress = _progress() if watched and total != 0 else None
        self._task: TaskID | None = self._progress.add_task(title, total=total) if self._progress else None

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress:
            self._progress.stop()

    def step(self, steps: int = 1) -> None:
        """Count steps as done."""
        if self._progress and self._task is not None:
            self._progress.advance(self._task, steps)

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        if self._progress:
            self._progress.console.print(wrapped(text, 2), markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            stderr_line(text)


class Refreshed:
    """A text on the terminal that is replaced as a whole, without flicker; the last one stays."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.is_terminal:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(highlight=False), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self, text: str) -> None:
        """Replace the text."""
        if self._live:
            from rich.text import Text

            self._live.update(Text(text), refresh=True)


def pace(done: float, seconds: float) -> str:
    """The rate since the beginning, a second or a minute; empty before it can be measured."""
    if not done or seconds < SOON:
        return ""
    speed = done / seconds
    return f"{speed:.0f}/s" if speed >= 2 else f"{speed * 60:.0f}/min"  # noqa: PLR2004  below two a second, minutes say more


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """The column that shows the rate."""

        def render(self, task: Task) -> Text:
            return Text(pace(task.completed, task.elapsed or 0.0))

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
