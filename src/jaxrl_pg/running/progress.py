"""The line that shows how training goes."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from jaxrl_pg.running import notebook
from jaxrl_pg.running.rows import Row, known_return

if TYPE_CHECKING:  # imported only where a live line is drawn
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live

__all__ = ["Progress"]

_REMINDER_SECONDS = 60.0  # between lines that say that a program is still being compiled


class Progress:
    """Shows how training goes: a live line on a terminal or in a notebook, else lines on stderr."""

    def __init__(
        self, total: int, *, start: int = 0, quiet: bool = False, interval: float = 5.0
    ) -> None:
        """Describe the run; nothing is shown before `with`.

        Args:
            total: timesteps when training is done.
            start: timesteps that a resumed run has behind it; they do not count as speed.
            quiet: whether to show nothing at all.
            interval: minimum seconds between plain lines; evaluations are shown at once.
        """
        self.total, self.done, self.quiet, self.interval = total, start, quiet, interval
        self.returns: dict[str, float | None] = {"train": None, "eval": None}
        self._live: Live | notebook.Line | None = None
        self._shown: tuple[float, int] | None = None  # time and timesteps of the last plain line
        self._began = time.monotonic()
        self._marks = deque([(self._began, start)], maxlen=32)  # (time, timesteps): the speed
        self._compiles = False
        self._compiled = threading.Event()  # ends the lines that say that it still is
        self._waits_for_compiler = True  # until the first steps are done, or said to be left out

    def __enter__(self) -> Self:
        """Start the clock and, on a terminal, the live line."""
        self._began = time.monotonic()
        self._marks[0] = (self._began, self.done)
        if not self.quiet and sys.stderr.isatty():
            self._live = _live(self)
        elif not self.quiet and notebook.in_notebook():
            self._live = notebook.Line(
                lambda: self._status(_short), lambda: self.done / max(self.total, 1)
            )
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the final state as the last line."""
        self._compiled.set()
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._shown is not None and self._shown[1] != self.done:
            self._print_plain()

    def update(self, timesteps: int, row: Row) -> None:
        """Take in the newest row.

        Args:
            timesteps: environment steps done, those before a resume included.
            row: the metrics. A return that it does not give (see `known_return`) keeps its last
                value, and is shown as "-" until it has had one.
        """
        if timesteps > self.done:
            self.done = timesteps
            self._marks.append((time.monotonic(), timesteps))
            if self._waits_for_compiler:
                self._marks.popleft()
                self._waits_for_compiler = False
        for kind in self.returns:
            value = known_return(row, kind)
            if value is not None:
                self.returns[kind] = value
        due = self._shown is None or time.monotonic() - self._shown[0] >= self.interval
        if isinstance(self._live, notebook.Line):
            self._live.refresh()  # rich's live line does so by itself
        if self._live is None and (due or "eval/return_mean" in row):
            self._print_plain()

    def compiles(self) -> None:
        """Say that a program is being compiled, until `leave_out` says how long that took.

        The live line shows it each time, plain lines before the first steps, and after each minute
        of it.
        """
        self._compiles = True
        if self._live is not None or self.quiet:
            return
        if self._waits_for_compiler:
            self.message("compiling")
        self._compiled = threading.Event()
        began = time.monotonic()

        def say() -> None:
            self.message(f"still compiling, {_clock(time.monotonic() - began)}")

        threading.Thread(target=_remind, args=(self._compiled, say), daemon=True).start()

    def leave_out(self, seconds: float) -> None:
        """Leave time in which nothing was trained, such as compiling, out of speed and ETA."""
        self._compiled.set()
        self._waits_for_compiler = self._compiles = False
        moved = [(moment + seconds, steps) for moment, steps in self._marks]
        self._marks = deque(moved, maxlen=self._marks.maxlen)

    def message(self, text: str) -> None:
        """Print one line, above the live line where there is one."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Print one line about something that went wrong, in a quiet run too."""
        if self.quiet:
            print(text, file=sys.stderr, flush=True)
        else:
            self.message(text)

    def _status(self, count: Callable[[float], str]) -> str:
        """Return the state as one line of text; `count` formats numbers of timesteps."""
        (time_0, steps_0), (time_1, steps_1) = self._marks[0], self._marks[-1]
        speed = (steps_1 - steps_0) / (time_1 - time_0) if time_1 > time_0 else None
        left = max(self.total - self.done, 0)
        eta = _clock(left / speed) if speed else "-" if left else _clock(0)
        train, evaluated = (_number(value) for value in self.returns.values())
        clock = _clock(time.monotonic() - self._began)
        done = f"{self.done / max(self.total, 1):4.0%}  {count(self.done)}/{count(self.total)}"
        if self._compiles:
            return f"{done}  compiling  {clock}  train {train}  eval {evaluated}"
        return (
            f"{done}  {count(speed) if speed else '-'} steps/s  {clock}  eta {eta}  "
            f"train {train}  eval {evaluated}"
        )

    def _print_plain(self) -> None:
        if not self.quiet:
            self._shown = (time.monotonic(), self.done)
            print(self._status("{:,.0f}".format).lstrip(), file=sys.stderr, flush=True)

    def __rich_console__(
        self, console: "Console", options: "ConsoleOptions"
    ) -> Iterator["RenderableType"]:
        """Draw the live line: the text, and a bar in the space it leaves."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        text = Text(self._status(_short), no_wrap=True, overflow="ellipsis")
        room = min(options.max_width - text.cell_len - 2, 30)
        line = Table.grid(padding=(0, 1))
        if room < 6:
            line.add_row(text)
        else:
            line.add_row(ProgressBar(max(self.total, 1), self.done, width=room), text)
        yield line


def _remind(done: threading.Event, say: Callable[[], None]) -> None:
    """Say something once a minute until it is done."""
    while not done.wait(_REMINDER_SECONDS):
        say()


def _live(progress: Progress) -> "Live | None":
    """Return the live display, or None on a terminal that cannot move its cursor."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    return Live(
        progress,
        console=console,
        refresh_per_second=4,
        redirect_stdout=sys.stdout.isatty(),  # a stdout that is a file must get its own text
    )


def _clock(seconds: float) -> str:
    """Format a duration as minutes:seconds, with hours in front from one hour."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: float | None) -> str:
    """Format a return, "-" if there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _short(count: float) -> str:
    """Format a count to three digits and a unit, such as 98.3k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"
