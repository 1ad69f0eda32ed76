"""What a run shows: a progress line, a learning curve, TensorBoard scalars.

All three read the metric rows of `jaxrl_pg.record`. rich, matplotlib and tensorboardX are each
imported by the one function that needs them.
"""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live

__all__ = ["Progress", "TensorBoard", "known_return", "require_tensorboard", "save_curve"]

Row = dict[str, Any]


def known_return(row: Row, kind: str) -> float | None:
    """Give the mean return in a row, or None when no episode stands behind it.

    Args:
        row: Metrics; read are ``<kind>/return_mean`` and ``<kind>/num_episodes``.
        kind: "train" or "eval".

    Returns:
        The mean; None when it is absent, null, not finite, or over no episodes.
    """
    value = row.get(f"{kind}/return_mean")
    if value is None or not math.isfinite(value) or row.get(f"{kind}/num_episodes") == 0:
        return None
    return float(value)


class Progress:
    """How training goes, on stderr: one live line on a terminal, plain lines elsewhere."""

    def __init__(
        self, total: int, *, start: int = 0, quiet: bool = False, interval: float = 5.0
    ) -> None:
        """Describe the run; nothing is shown before ``with``.

        Args:
            total: Timesteps when training is done.
            start: Timesteps a resumed run has behind it; they do not count as speed.
            quiet: Show nothing at all.
            interval: Least seconds between plain lines; evaluations are shown at once.
        """
        self.total, self.done, self.quiet, self.interval = total, start, quiet, interval
        self.returns: dict[str, float | None] = {"train": None, "eval": None}
        self._live: Live | None = None
        self._shown: tuple[float, int] | None = None  # when and at what step the last plain line
        self._began = time.monotonic()
        self._marks = deque([(self._began, start)], maxlen=32)  # (time, timesteps): the speed

    def __enter__(self) -> Self:
        """Start the clock and, on a terminal, the live line."""
        self._began = time.monotonic()
        self._marks[0] = (self._began, self.done)
        if not self.quiet and sys.stderr.isatty():
            self._live = _live(self)
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state as the last line."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._shown is not None and self._shown[1] != self.done:
            self._print_plain()

    def update(self, timesteps: int, row: Row) -> None:
        """Take in the newest row.

        Args:
            timesteps: Environment steps done, those before a resume included.
            row: Metrics. A return not known in it (see `known_return`) stays what it was, and is
                shown as "-" while it never was known.
        """
        if timesteps > self.done:
            if len(self._marks) == 2 and self._marks[0][0] == self._began:
                self._marks.popleft()  # the first steps waited for the compiler
            self.done = timesteps
            self._marks.append((time.monotonic(), timesteps))
        for kind, before in self.returns.items():
            now = known_return(row, kind)
            self.returns[kind] = before if now is None else now
        due = self._shown is None or time.monotonic() - self._shown[0] >= self.interval
        if self._live is None and (due or "eval/return_mean" in row):
            self._print_plain()

    def message(self, text: str) -> None:
        """Print one line, above the live line where there is one."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def _status(self, count: Callable[[float], str]) -> str:
        """Say it in one line, with `count` to write numbers of timesteps."""
        (time_0, steps_0), (time_1, steps_1) = self._marks[0], self._marks[-1]
        speed = (steps_1 - steps_0) / (time_1 - time_0) if time_1 > time_0 else None
        eta = "-" if not speed else _clock(max(self.total - self.done, 0) / speed)
        train, evaluated = (_number(value) for value in self.returns.values())
        return (
            f"{self.done / max(self.total, 1):4.0%}  {count(self.done)}/{count(self.total)}  "
            f"{count(speed) if speed else '-'} steps/s  "
            f"{_clock(time.monotonic() - self._began)}  eta {eta}  "
            f"train {train}  eval {evaluated}"
        )

    def _print_plain(self) -> None:
        if not self.quiet:
            self._shown = (time.monotonic(), self.done)
            print(self._status("{:,.0f}".format).lstrip(), file=sys.stderr, flush=True)

    def __rich_console__(
        self, console: "Console", options: "ConsoleOptions"
    ) -> Iterator["RenderableType"]:
        """Draw the live line: the words, and a bar in what room they leave."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        words = Text(self._status(_short), no_wrap=True, overflow="ellipsis")
        room = min(options.max_width - words.cell_len - 2, 30)
        line = Table.grid(padding=(0, 1))
        if room < 6:
            line.add_row(words)
        else:
            line.add_row(ProgressBar(max(self.total, 1), self.done, width=room), words)
        yield line


def _live(progress: Progress) -> "Live | None":
    """Make the live display, or None on a terminal that cannot move its cursor."""
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
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _short(count: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def save_curve(rows: Sequence[Row], path: str | os.PathLike[str], title: str) -> None:
    """Draw train and eval returns against timesteps, as a PNG replaced in one step.

    Args:
        rows: Metric rows; ``eval/return_std``, where present, becomes a band of one standard
            deviation. Without any finished episode the picture says so.
        path: The PNG file.
        title: Written above, taken as it is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _draw_train(axes, rows)
    _draw_eval(axes, rows)
    if axes.lines:
        axes.legend(frameon=False, loc="best")
        axes.grid(color="0.9", linewidth=0.8)
    else:
        axes.text(0.5, 0.5, "no finished episode yet", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("episode return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, 1.02 * max([1, *(row["timesteps"] for row in rows)]))
    axes.spines[["top", "right"]].set_visible(False)
    target = Path(path)
    new = target.with_name(target.name + ".tmp")
    FigureCanvasAgg(figure).print_png(new)
    os.replace(new, target)


def _draw_train(axes: Any, rows: Sequence[Row]) -> None:
    """Draw the noisy curve, thin and pale; a single point as a dot."""
    known = [(row["timesteps"], known_return(row, "train")) for row in rows]
    points = [(step, value) for step, value in known if value is not None]
    if points:
        marker = "o" if len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), color="#8fa6bf", lw=1.1, marker=marker, label="train")


def _draw_eval(axes: Any, rows: Sequence[Row]) -> None:
    """Draw the curve that counts, bold, with its band where the rows give one."""
    known = [row for row in rows if known_return(row, "eval") is not None]
    if not known:
        return
    steps = [row["timesteps"] for row in known]
    means = np.array([known_return(row, "eval") for row in known], dtype=float)
    stds = np.array([row.get("eval/return_std") for row in known], dtype=float)  # None is NaN
    marker = "o" if len(known) <= 50 else ""
    color, banded = "#c8501e", bool(np.isfinite(stds[1:]).any())
    label = "eval, mean \N{PLUS-MINUS SIGN} std" if banded else "eval"
    axes.plot(steps, means, color=color, lw=2, marker=marker, ms=4, label=label, zorder=3)
    if banded:
        axes.fill_between(steps, means - stds, means + stds, color=color, alpha=0.18, lw=0)


def require_tensorboard() -> None:
    """Raise ValueError when tensorboardX is missing; call before a run folder is made."""
    if find_spec("tensorboardX") is None:
        raise ValueError('tensorboard=True needs the extra: pip install "jaxrl-pg[tensorboard]"')


class TensorBoard:
    """The rows as TensorBoard scalars, one a key, at global_step = timesteps."""

    def __init__(self, path: str | os.PathLike[str], resumed_at: int | None = None) -> None:
        """Open an event file.

        Args:
            path: The log folder, made if absent.
            resumed_at: Timesteps of the checkpoint a resumed run goes on from; TensorBoard hides
                what an earlier session wrote past it.

        Raises:
            ValueError: tensorboardX is not installed.
        """
        require_tensorboard()
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
            os.fspath(path),
            purge_step=None if resumed_at is None else resumed_at + 1,
            flush_secs=30,
            filename_suffix=f".{time.time_ns()}",  # two sessions within a second: two files
        )

    def __enter__(self) -> Self:
        """Give the writer, open since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write out what is queued and close the file."""
        self._writer.close()

    def write(self, rows: Iterable[Row]) -> None:
        """Queue the finite numbers in rows; the rest has no place in TensorBoard."""
        for row in rows:
            for key in row.keys() - {"iteration", "timesteps"}:
                value = np.asarray(row[key])
                if value.size == 1 and value.dtype.kind in "biuf" and np.isfinite(value):
                    self._writer.add_scalar(key, value.item(), int(row["timesteps"]))
