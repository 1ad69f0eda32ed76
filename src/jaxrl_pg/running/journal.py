"""What a run keeps and shows: rows, progress, loggers, checkpoints, the curve.

A journal belongs to one process. For a run over several, see `jaxrl_pg.running.together`.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple, Self

from jaxrl_pg import checkpoint
from jaxrl_pg import config as configs
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.running import history
from jaxrl_pg.running.curve import save_curve
from jaxrl_pg.running.divergence import (
    DivergedError,
    Search,
    diverged,
    first_fault,
    unsound_evaluation,
)
from jaxrl_pg.running.hooks import Callback, Hooks, Loggers
from jaxrl_pg.running.loggers import TensorBoard
from jaxrl_pg.running.options import Options
from jaxrl_pg.running.progress import Progress
from jaxrl_pg.running.rows import Row, first_not_finite
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.types import TrainState

__all__ = ["Decision", "DivergedError", "Journal", "title"]


class Decision(NamedTuple):
    """What is to be done after a chunk.

    Attributes:
        save: whether a save is due by the clock.
        signal: the signal that ends the run, 0 if none.
        stop: whether the user's function ends the run.
    """

    save: bool
    signal: int
    stop: bool


def title(config: BaseConfig) -> str:
    """Return what a run is called, such as `ppo on CartPole-v1`."""
    env = config.env if isinstance(config.env, str) else type(config.env).__name__
    return f"{agent_of(config).name} on {env}"


class Journal(AbstractContextManager["Journal"]):
    """Writes down what the loop reports; for the process that holds the folder's lock."""

    def __init__(
        self,
        config: BaseConfig,
        folder: RunFolder,
        options: Options,
        iteration: int,
        hooks: Hooks,
    ) -> None:
        """Describe the run to go on with; nothing is written before `with`.

        Args:
            config: the agent's config.
            folder: the run's folder.
            options: how to watch and save the run.
            iteration: where the run goes on; newer checkpoints are deleted.
            hooks: what the user wants to be called.
        """
        steps = config.steps_per_iteration
        start, total = iteration * steps, config.num_iterations * steps
        self._config, self._folder, self._options = config, folder, options
        self._iteration = iteration
        self._progress = Progress(total, start=start, quiet=options.quiet)
        self._start, self._total = start, total
        board = [TensorBoard()] if options.tensorboard else []
        self._loggers = Loggers([*board, *hooks.loggers], self._progress.warn)
        self._callback = Callback(hooks.on_rows)
        self._stack = ExitStack()
        self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        """Open what is written to."""
        with ExitStack() as stack:
            saves = checkpoint.Checkpoints(
                self._folder.checkpoints_dir,
                keep_last=self._options.keep_last,
                run=self._folder.run_id,
            )
            self._saves = stack.enter_context(saves)
            self._saves.rewind(self._iteration)
            stack.enter_context(self._progress)
            stack.callback(self._loggers.close)
            history.record(self._folder.path, self._iteration, self._config.env)
            self._progress.message(self._described())
            self._loggers.start(self._folder.config, self._folder.path, self._start)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the save in progress, and close."""
        self._stack.close()

    def _described(self) -> str:
        """Say in a line what is trained, how far, on what, and where it is kept."""
        steps = f"{self._total:,} steps"
        if self._start:
            steps = f"from step {self._start:,} to {self._total:,}"
        first, number = self._folder.seeds
        seeds = f", seeds {first} to {first + number - 1}" if number > 1 else ""
        return (
            f"{title(self._config)}{seeds}: {steps} on {history.device()}, in {self._folder.path}"
        )

    def require_finite(
        self, rows: list[Row], state: TrainState[Any] | None = None, search: Search | None = None
    ) -> None:
        """Go on only while every loss and every gradient norm is finite.

        Args:
            rows: of a chunk.
            state: after it; if something is wrong, the cause is looked for there.
            search: looks for the cause in the environments, see `divergence.diverged`.

        Raises:
            DivergedError: naming the first that is not; the rows up to it are kept.
        """
        bad = first_not_finite(rows)
        if bad is not None:
            self._folder.append(rows[: bad[0] + 1])
            raise diverged(rows, *bad, self._last_good(), state, search)

    def compiles(self) -> None:
        """Show that a program is being compiled; `waited` ends it."""
        self._progress.compiles()

    def waited(self, seconds: float) -> None:
        """Leave time that went into compiling out of the speed that is shown."""
        self._progress.leave_out(seconds)

    def report(self, rows: list[Row]) -> None:
        """Keep and show the rows of a chunk, and call what the user handed in.

        An evaluation that is not finite is said in one line, and ends nothing: training is sound.
        """
        self._folder.append(rows)
        self._loggers.write(rows)
        timesteps = rows[-1]["timesteps"]
        self._progress.update(timesteps, {**rows[0], **rows[-1]})
        for said in filter(None, map(unsound_evaluation, rows)):
            self._progress.warn(said)
        self._callback(rows)
        if self._callback.stop and self._callback.error is None:
            reason = f": {self._callback.reason}" if self._callback.reason else ""
            self._progress.message(f"on_rows ends the run after {timesteps:,} timesteps{reason}")

    def agree(self, signal: int) -> Decision:
        """Decide whether to save and whether to stop.

        Args:
            signal: the signal that this process was sent, 0 if none.
        """
        late = time.monotonic() - self._saved_at > self._options.checkpoint_seconds
        return Decision(late, signal, self._callback.stop)

    def save(self, state: TrainState, seconds: float, score: float | None = None) -> None:
        """Save a checkpoint in the background, after the rows that belong to it.

        Args:
            state: what to save.
            seconds: wall-clock time of the run so far.
            score: ranks the checkpoint, higher is better; None if the state was not evaluated.

        Raises:
            DivergedError: if the state is not finite throughout, see `divergence.first_fault`.
        """
        fault = first_fault(state)
        if fault is not None:
            raise DivergedError(
                f"{fault} after iteration {int(state.iteration)}, whose state is therefore not "
                f"saved; {self._last_good()}"
            )
        self._folder.sync()
        host = {"seconds": seconds, "config": configs.to_dict(self._config)}
        self._saves.save(int(state.iteration), state, host, score)
        self._saved_at = time.monotonic()

    def _last_good(self) -> str:
        """Say which checkpoint to go back to, once the save in progress is done."""
        self._saves.wait()
        good = self._saves.steps()
        return f"the last good checkpoint is {good[-1]}" if good else "none was saved yet"

    def finish(self) -> list[Row]:
        """Wait for the last save, draw the curve, and return every row of the run so far.

        Raises:
            Exception: what the user's function raised.
        """
        self._stack.close()
        rows = self._folder.rows()
        agent = configs.agent_of(self._config).name
        save_curve(rows, self._folder.curve_path, title(self._config), agent)
        if self._callback.error is not None:
            raise self._callback.error
        return rows
