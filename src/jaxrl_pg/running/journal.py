"""What a run keeps and shows: rows, progress, TensorBoard, checkpoints, the curve.

A run over several processes has one journal, which its first process writes. What goes wrong in
writing is raised at the next `agree`, on all, so that nobody is left waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple, Self

import numpy as np

from jaxrl_pg import checkpoint
from jaxrl_pg import config as configs
from jaxrl_pg.running import hosts, run_folder
from jaxrl_pg.running.options import Options
from jaxrl_pg.types import TrainState

__all__ = ["DivergedError", "Journal", "Row", "columns"]

Row = dict[str, Any]


class DivergedError(FloatingPointError):
    """The loss or the gradient is no longer a finite number."""


class _Writers(NamedTuple):
    saves: checkpoint.Checkpoints
    progress: run_folder.Progress
    board: run_folder.TensorBoard | None


class Journal(AbstractContextManager["Journal"]):
    """What the loop reports to; use `with`."""

    def __init__(
        self,
        config: Any,
        folder: run_folder.RunFolder,
        options: Options,
        iteration: int,
        seconds: float,
    ) -> None:
        """Describe a run to go on with; nothing is written before `with`.

        Args:
            config: of the run.
            folder: of the run; the first process holds its lock.
            options: how to watch and keep the run.
            iteration: to go on from; checkpoints past it are deleted.
            seconds: of earlier sessions.
        """
        self._config, self._folder, self._options = config, folder, options
        self._iteration = iteration
        self._started = time.monotonic() - seconds
        self._saved_at = time.monotonic()
        self._stack = ExitStack()
        self._writers: _Writers | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        """Open what is written to, on the first process."""
        hosts.from_first(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the save in progress, and close."""
        self._stack.close()

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run so far."""
        return time.monotonic() - self._started

    def require_finite(self, rows: list[Row]) -> None:
        """Go on only while every loss and gradient is finite.

        Raises:
            DivergedError: naming the first that is not; the rows up to it are kept.
        """
        for number, row in enumerate(rows, start=1):
            watched = [k for k in row if k.startswith("loss/") or k == "grad_norm"]
            bad = [name for name in watched if not np.isfinite(row[name])]
            if bad:
                self._write(self._keep, rows[:number])
                self._diverged(bad[0], row)

    def report(self, rows: list[Row]) -> None:
        """Keep and show the rows of a chunk."""
        self._write(self._keep, rows)
        self._write(self._show, rows)

    def agree(self, wanted: int | None) -> tuple[bool, int]:
        """Where to go from here, the same on all processes.

        Args:
            wanted: the signal that this process was sent, if any.

        Returns:
            Whether a save is due by the clock; the signal that some process was sent, or 0.

        Raises:
            Exception: what went wrong in writing.
        """
        late = time.monotonic() - self._saved_at > 60 * self._options.checkpoint_minutes
        due, signal, failed = hosts.highest(late, wanted or 0, self._failure is not None)
        if failed:
            raise self._failure or RuntimeError("process 0 could not write: see what it says")
        return bool(due), signal

    def save(self, state: TrainState, score: float | None = None) -> None:
        """Save a checkpoint in the background, its rows first; all processes take part."""
        kept = state if self._options.save_replay else state._replace(memory=())
        self._write(self._save, int(state.iteration), hosts.gather(kept), score)
        self._saved_at = time.monotonic()

    def finish(self, title: str) -> list[Row]:
        """Wait for the last save, draw the curve, and give every row of the run so far."""
        self._stack.close()
        if self._failure is not None:
            raise self._failure
        rows = self._folder.rows()
        run_folder.save_curve(rows, self._folder.path / "curve.png", title)
        return rows

    def _open(self) -> None:
        config, options = self._config, self._options
        done = self._iteration * config.steps_per_iteration
        total = config.num_iterations * config.steps_per_iteration
        with ExitStack() as stack:
            saves = stack.enter_context(
                checkpoint.Checkpoints(self._folder.checkpoints_dir, keep_last=options.keep_last)
            )
            saves.rewind(self._iteration)
            shown = run_folder.Progress(total, start=done, quiet=options.quiet)
            progress = stack.enter_context(shown)
            board = None
            if options.tensorboard:
                path = self._folder.path / "tensorboard"
                board = stack.enter_context(run_folder.TensorBoard(path, resumed_at=done or None))
            self._stack = stack.pop_all()
        self._writers = _Writers(saves, progress, board)

    def _write(self, action: Callable[..., None], *args: Any) -> None:
        if self._writers is None or self._failure is not None:
            return
        try:
            action(self._writers, *args)
        except Exception as error:
            if hosts.alone():
                raise
            self._failure = error

    def _keep(self, writers: _Writers, rows: list[Row]) -> None:
        del writers
        self._folder.append(rows)

    def _show(self, writers: _Writers, rows: list[Row]) -> None:
        if writers.board is not None:
            writers.board.write(rows)
        writers.progress.update(rows[-1]["timesteps"], {**rows[0], **rows[-1]})

    def _save(self, writers: _Writers, step: int, state: Any, score: float | None) -> None:
        self._folder.sync()
        host = {"seconds": self.seconds, "config": configs.to_dict(self._config)}
        writers.saves.save(step, state, host, score)

    def _diverged(self, name: str, row: Row) -> None:
        last = "see process 0 for the last good checkpoint"
        if self._writers is not None:
            self._writers.saves.wait()
            good = self._writers.saves.steps()
            last = f"the last good checkpoint is {good[-1]}" if good else "none was saved yet"
        raise DivergedError(
            f"{name} is {row[name]} in iteration {row['iteration']}; {last}. Likely "
            "causes: learning_rate too high, max_grad_norm too high, rewards too large "
            "(try normalize_reward) or observations too large (try normalize_obs)"
        )


def columns(rows: list[Row]) -> dict[str, np.ndarray]:
    """Rows to arrays by key, null to NaN: training rows and evaluation rows apart."""
    training = [row for row in rows if "eval/return_mean" not in row]
    evaluations = [row for row in rows if "eval/return_mean" in row]
    values = {name: [row.get(name) for row in training] for name in (training or [{}])[0]}
    for name in (evaluations or [{}])[0]:
        if name.startswith("eval/"):
            values[name] = [row[name] for row in evaluations]
    if evaluations:
        values["eval/timesteps"] = [row["timesteps"] for row in evaluations]
    return {
        name: np.array([np.nan if x is None else x for x in column])
        for name, column in values.items()
    }
