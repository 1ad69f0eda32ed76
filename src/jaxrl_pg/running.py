"""The host's side of training: compiled chunks, and between them report, evaluate, save, stop."""

from __future__ import annotations

import dataclasses
import os
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg import agents, checkpoint, envs, memory, parallel, record
from jaxrl_pg import config as configs
from jaxrl_pg.evaluation import evaluation_metrics
from jaxrl_pg.interrupt import Interrupt
from jaxrl_pg.options import Options, with_changes
from jaxrl_pg.policy import config_of, restore_state
from jaxrl_pg.training import chunk_length, evaluation_iterations, iterations
from jaxrl_pg.types import TrainState

__all__ = ["DivergedError", "Options", "Result", "resume", "run"]

Row = dict[str, Any]


class DivergedError(FloatingPointError):
    """The loss or the gradient is no longer a finite number."""


class Result(NamedTuple):
    """What `run` and `resume` return.

    Attributes:
        state: the final train state.
        metrics: every row of the run so far by key: `[iterations]`, and `eval/...` `[evaluations]`.
        config: of the run.
        run_dir: its folder.
    """

    state: TrainState
    metrics: dict[str, np.ndarray]
    config: Any
    run_dir: Path


def run(
    config: Any,
    run_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    options: Options | None = None,
    **changes: Any,
) -> Result:
    """Train, with progress on the screen and everything kept in a run folder.

    The learned parameters are those of `train(config, jax.random.key(seed))`.

    Args:
        config: an agent's config.
        run_dir: a folder that is absent or empty; None names one under `runs/`.
        seed: of the run.
        options: how to watch and keep it.
        **changes: single options by name, such as `quiet=True`.

    Raises:
        ValueError: for anything wrong with the arguments, before anything is compiled or written.
        DivergedError: when the loss is no longer finite.
        KeyboardInterrupt: on Ctrl-C, after saving.
    """
    options = with_changes(options or Options(), changes)
    name = agents.find(config).name
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed!r}: give a whole number from 0 to 2^63 - 1")
    _check(config, options)
    if run_dir is None:
        env = config.env if isinstance(config.env, str) else type(config.env).__name__
        run_dir = Path("runs") / f"{name}-{env}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = record.RunFolder.create(run_dir, _describe(config, seed, options))
    with folder, Interrupt() as interrupt:
        return _go_on(config, folder, _fresh(config, seed), options, interrupt, seconds=0.0)


def resume(
    run_dir: str | os.PathLike[str],
    total_timesteps: int | None = None,
    env: Any = None,
    **changes: Any,
) -> Result:
    """Go on from a run's newest good checkpoint as if nothing had happened.

    Args:
        run_dir: a run folder.
        total_timesteps: train up to here instead. An annealed learning rate then follows the
            new total from where the run is.
        env: the environment object, for a run that was given one.
        **changes: single options by name, such as `quiet=True`.

    Raises:
        ValueError: if there is no such run, it is in use, its config does not fit its
            checkpoints, or it is past `total_timesteps` already.
    """
    folder = record.RunFolder.open(run_dir)
    config = config_of(folder, env)
    saved = folder.config
    if total_timesteps is not None:
        config = config.replace(total_timesteps=total_timesteps)
    options = with_changes(with_changes(Options(), saved["options"]), changes)
    _check(config, options)
    with folder, Interrupt() as interrupt:
        restored = _restore(config, folder, saved["seed"])
        if total_timesteps is not None and restored.step > config.num_iterations:
            done = restored.step * config.steps_per_iteration
            raise ValueError(
                f"total_timesteps={total_timesteps:,} but {folder.path} has done {done:,} steps: "
                "give more, or leave it out"
            )
        folder.write_config(_describe(config, saved["seed"], options))
        folder.drop_after(restored.step)
        if not options.quiet:
            for line in restored.skipped:
                print(line)
        seconds = restored.host["seconds"]
        return _go_on(config, folder, restored.state, options, interrupt, seconds)


def _go_on(
    config: Any,
    folder: record.RunFolder,
    state: TrainState,
    options: Options,
    interrupt: Interrupt,
    seconds: float,
) -> Result:
    """Train from `state` to the end of the config's timesteps."""
    done = int(state.iteration) * config.steps_per_iteration
    total = config.num_iterations * config.steps_per_iteration
    with ExitStack() as stack:
        saves = stack.enter_context(
            checkpoint.Checkpoints(folder.checkpoints_dir, keep_last=options.keep_last)
        )
        saves.rewind(int(state.iteration))
        progress = stack.enter_context(record.Progress(total, start=done, quiet=options.quiet))
        board = None
        if options.tensorboard:
            resumed_at = done or None
            board = stack.enter_context(record.TensorBoard(folder.path / "tensorboard", resumed_at))
        session = _Session(config, folder, options, saves, progress, board, seconds)
        while int(state.iteration) < config.num_iterations:
            state = session.advance(state)
            if interrupt.wanted:
                session.save(state)
                break
    record.save_curve(folder.rows(), folder.path / "curve.png", _title(config))
    interrupt.raise_if_wanted(f"saved; go on with: jaxrl-pg resume {folder.path}")
    return Result(state, _columns(folder.rows()), config, folder.path)


class _Session:
    """One process's share of a run: what the loop reports to, and when it saved last."""

    def __init__(
        self,
        config: Any,
        folder: record.RunFolder,
        options: Options,
        saves: checkpoint.Checkpoints,
        progress: record.Progress,
        board: record.TensorBoard | None,
        seconds: float,
    ) -> None:
        self.config, self.folder, self.options = config, folder, options
        self.saves, self.progress, self.board = saves, progress, board
        self.started = time.monotonic() - seconds
        self.saved_at = time.monotonic()
        self.length = chunk_length(config, options.num_evals)
        self.points = set(evaluation_iterations(config, options.num_evals))
        self.train = jax.jit(iterations, static_argnums=2, donate_argnums=1)
        self.evaluate = jax.jit(partial(evaluation_metrics, num_episodes=options.num_eval_episodes))

    def advance(self, state: TrainState) -> TrainState:
        """Train one chunk, report it, and evaluate and save when that is due."""
        before, config = int(state.iteration), self.config
        # The first chunk of a resumed run may have to catch up with the chunks' grid.
        state, metrics = self.train(config, state, self.length - before % self.length)
        metrics = jax.device_get(metrics)
        seconds = round(time.monotonic() - self.started, 3)
        rows = _rows(metrics, before, config.steps_per_iteration, seconds)
        self._require_finite(rows)
        iteration = before + len(rows)
        if iteration in self.points:
            rows.append(self._evaluation(self.evaluate(config, state), iteration))
        self._report(rows)
        score = rows[-1].get("eval/return_mean")
        late = time.monotonic() - self.saved_at > 60 * self.options.checkpoint_minutes
        if score is not None or late or iteration == config.num_iterations:
            self.save(state, score)
        return state

    def save(self, state: TrainState, score: float | None = None) -> None:
        """Save a checkpoint in the background, its rows first."""
        self.folder.sync()
        host = {
            "seconds": time.monotonic() - self.started,
            "config": configs.to_dict(self.config),
        }
        self.saves.save(int(state.iteration), state, host, score)
        self.saved_at = time.monotonic()

    def _evaluation(self, metrics: Any, iteration: int) -> Row:
        values = {name: x.item() for name, x in jax.device_get(metrics).items()}
        values["timesteps"] = iteration * self.config.steps_per_iteration
        values["eval/num_episodes"] = self.options.num_eval_episodes
        return {"iteration": iteration, **values}

    def _report(self, rows: list[Row]) -> None:
        self.folder.append(rows)
        if self.board is not None:
            self.board.write(rows)
        self.progress.update(rows[-1]["timesteps"], {**rows[0], **rows[-1]})

    def _require_finite(self, rows: list[Row]) -> None:
        for number, row in enumerate(rows, start=1):
            watched = [k for k in row if k.startswith("loss/") or k == "grad_norm"]
            bad = [name for name in watched if not np.isfinite(row[name])]
            if bad:
                self.folder.append(rows[:number])
                self.saves.wait()
                good = self.saves.steps()
                last = f"the last good checkpoint is {good[-1]}" if good else "none was saved yet"
                raise DivergedError(
                    f"{bad[0]} is {row[bad[0]]} in iteration {row['iteration']}; {last}. Likely "
                    "causes: learning_rate too high, max_grad_norm too high, rewards too large "
                    "(try normalize_reward) or observations too large (try normalize_obs)"
                )


def _rows(
    metrics: dict[str, np.ndarray], iteration: int, steps_per_iteration: int, seconds: float
) -> list[Row]:
    count = len(metrics["timesteps"])
    return [
        {
            "iteration": iteration + i + 1,
            **{name: values[i].item() for name, values in metrics.items()},
            "timesteps": (iteration + i + 1) * steps_per_iteration,
            "seconds": round(seconds, 3),
        }
        for i in range(count)
    ]


def _columns(rows: list[Row]) -> dict[str, np.ndarray]:
    """Rows to arrays by key, null to NaN: training rows and evaluation rows apart."""
    training = [row for row in rows if "eval/return_mean" not in row]
    evaluations = [row for row in rows if "eval/return_mean" in row]
    columns = {name: [row.get(name) for row in training] for name in (training or [{}])[0]}
    for name in (evaluations or [{}])[0]:
        if name.startswith("eval/"):
            columns[name] = [row[name] for row in evaluations]
    if evaluations:
        columns["eval/timesteps"] = [row["timesteps"] for row in evaluations]
    return {
        name: np.array([np.nan if x is None else x for x in values])
        for name, values in columns.items()
    }


def _fresh(config: Any, seed: int) -> TrainState:
    """The state that a run of this seed starts from, laid out over its devices."""
    shardings = parallel.state_shardings(config.num_devices)
    return jax.jit(agents.find(config).init, out_shardings=shardings)(config, jax.random.key(seed))


def _restore(config: Any, folder: record.RunFolder, seed: int) -> checkpoint.Restored:
    """The newest good checkpoint, or the run's beginning where none was finished yet."""
    if not checkpoint.steps(folder.checkpoints_dir):
        line = f"no checkpoint in {folder.checkpoints_dir} yet: starting from the beginning"
        return checkpoint.Restored(0, _fresh(config, seed), {"seconds": 0.0}, (line,))
    then = checkpoint.newest_host(folder.checkpoints_dir).get("config", {})
    now = configs.to_dict(config)
    differ = [k for k in now if then.get(k) != now[k] and k not in ("total_timesteps", "env")]
    if then and differ:
        lines = "; ".join(f"{k}: checkpoint {then.get(k)!r}, config {now[k]!r}" for k in differ)
        raise ValueError(f"{folder.path}/config.json does not fit its checkpoint: {lines}")
    return restore_state(config, folder, num_devices=config.num_devices)


def _check(config: Any, options: Options) -> None:
    """Refuse what cannot run, before anything is compiled or written."""
    batched = [p for p, x in jax.tree_util.tree_leaves_with_path(config) if np.ndim(x) > 0]
    if batched:
        raise ValueError(f"config{jax.tree_util.keystr(batched[0])} is an array: give a number")
    envs.make(config.env, config.env_params)
    parallel.require_devices(config.num_devices)
    memory.require(config)
    if options.tensorboard:
        record.require_tensorboard()


def _describe(config: Any, seed: int, options: Options) -> Row:
    values = configs.to_dict(config)
    return {
        "agent": agents.find(config).name,
        "env": values["env"],
        "seed": seed,
        "config": values,
        "options": dataclasses.asdict(options),
    }


def _title(config: Any) -> str:
    env = config.env if isinstance(config.env, str) else type(config.env).__name__
    return f"{agents.find(config).name} on {env}"
