"""The host's side of training: compiled chunks, and between them report, evaluate, save, stop."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg import agents, checkpoint, envs
from jaxrl_pg import config as configs
from jaxrl_pg.running import hosts, journal, memory_estimate, run_folder
from jaxrl_pg.running.interrupt import Interrupt
from jaxrl_pg.running.journal import DivergedError, Row
from jaxrl_pg.running.options import Options, with_changes
from jaxrl_pg.running.trained_policy import config_of, state_shapes
from jaxrl_pg.training import devices
from jaxrl_pg.training.evaluation import evaluation_metrics
from jaxrl_pg.training.program import chunk_length, evaluation_iterations, iterations
from jaxrl_pg.types import TrainState

__all__ = ["DivergedError", "Options", "Result", "resume", "run"]


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
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed!r}: give a whole number from 0 to 2^63 - 1")
    description = _describe(config, seed, options)
    hosts.require_agreement(partial(_check, config, options), description)
    folder = run_folder.RunFolder(hosts.from_first(_create, run_dir, description))
    with _locked(folder), Interrupt() as interrupt:
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
    folder = run_folder.RunFolder(run_dir)
    saved = hosts.from_first(_saved_config, folder)
    config = config_of(folder.path, saved, env)
    if total_timesteps is not None:
        config = config.replace(total_timesteps=total_timesteps)
    options = with_changes(with_changes(Options(), saved["options"]), changes)
    description = _describe(config, saved["seed"], options)
    hosts.require_agreement(partial(_check, config, options), description)
    with _locked(folder), Interrupt() as interrupt:
        restored = _restore(config, folder, saved["seed"])
        if total_timesteps is not None and restored.step > config.num_iterations:
            done = restored.step * config.steps_per_iteration
            raise ValueError(
                f"total_timesteps={total_timesteps:,} but {folder.path} has done {done:,} steps: "
                "give more, or leave it out"
            )
        hosts.from_first(_rewind, folder, description, restored.step)
        if hosts.is_first() and not options.quiet:
            for line in restored.skipped:
                print(line)
        seconds = restored.host["seconds"]
        return _go_on(config, folder, restored.state, options, interrupt, seconds)


def _go_on(
    config: Any,
    folder: run_folder.RunFolder,
    state: TrainState,
    options: Options,
    interrupt: Interrupt,
    seconds: float,
) -> Result:
    """Train from `state` to the end of the config's timesteps."""
    iteration = int(state.iteration)
    with journal.Journal(config, folder, options, iteration, seconds) as book:
        session = _Session(config, options, book)
        while iteration < config.num_iterations:
            state, score = session.advance(state)
            iteration = int(state.iteration)
            late, wanted = book.agree(interrupt.wanted)
            finished = iteration == config.num_iterations
            if score is not None or late or wanted or finished:
                book.save(state, score)
            if wanted:
                interrupt.wanted = wanted
                break
        rows = hosts.from_first(book.finish, _title(config))
    message = f"saved; go on with: jaxrl-pg resume {folder.path}"
    interrupt.raise_if_wanted(message if hosts.is_first() else "")
    return Result(state, journal.columns(rows), config, folder.path)


class _Session:
    """One process's share of a run: its compiled programs, and when they are called."""

    def __init__(self, config: Any, options: Options, book: journal.Journal) -> None:
        self.config, self.options, self.book = config, options, book
        self.length = chunk_length(config, options.num_evals)
        self.points = set(evaluation_iterations(config, options.num_evals))
        self.train = jax.jit(iterations, static_argnums=2, donate_argnums=1)
        self.evaluate = jax.jit(
            partial(evaluation_metrics, num_episodes=options.num_eval_episodes),
            out_shardings=devices.on_every_process(config.num_devices),
        )

    def advance(self, state: TrainState) -> tuple[TrainState, float | None]:
        """Train one chunk, evaluate where that is due, report both; the score, if evaluated."""
        before, config = int(state.iteration), self.config
        # The first chunk of a resumed run may have to catch up with the chunks' grid.
        state, metrics = self.train(config, state, self.length - before % self.length)
        metrics = jax.device_get(metrics)
        rows = _rows(metrics, before, config.steps_per_iteration, self.book.seconds)
        self.book.require_finite(rows)
        iteration = before + len(rows)
        if iteration in self.points:
            rows.append(self._evaluation(self.evaluate(config, state), iteration))
        self.book.report(rows)
        return state, rows[-1].get("eval/return_mean")

    def _evaluation(self, metrics: Any, iteration: int) -> Row:
        values = {name: x.item() for name, x in jax.device_get(metrics).items()}
        values["timesteps"] = iteration * self.config.steps_per_iteration
        values["eval/num_episodes"] = self.options.num_eval_episodes
        return {"iteration": iteration, **values}


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


def _fresh(config: Any, seed: int) -> TrainState:
    """The state that a run of this seed starts from, laid out over its devices."""
    shardings = devices.state_shardings(config.num_devices)
    return jax.jit(agents.find(config).init, out_shardings=shardings)(config, jax.random.key(seed))


def _create(run_dir: str | os.PathLike[str] | None, description: Row) -> str:
    """A new run folder, named after the run and the time unless it is named already."""
    if run_dir is None:
        env = str(description["env"]).rsplit(":", 1)[-1]
        name = f"{description['agent']}-{env}-{description['seed']}"
        run_dir = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return str(run_folder.RunFolder.create(run_dir, description).path)


@contextmanager
def _locked(folder: run_folder.RunFolder) -> Iterator[None]:
    """The folder's lock, held by the first process."""
    hosts.from_first(_lock, folder)
    try:
        yield
    finally:
        folder.__exit__()


def _saved_config(folder: run_folder.RunFolder) -> Row:
    return run_folder.RunFolder.open(folder.path).config


def _lock(folder: run_folder.RunFolder) -> None:
    folder.__enter__()


def _restore(config: Any, folder: run_folder.RunFolder, seed: int) -> checkpoint.Restored:
    """The newest good checkpoint, or the run's beginning where none was finished yet."""
    found = hosts.from_first(_found, config, folder)
    if found is None:
        line = f"no checkpoint in {folder.checkpoints_dir} yet: starting from the beginning"
        return checkpoint.Restored(0, _fresh(config, seed), {"seconds": 0.0}, (line,))
    shapes = state_shapes(config, config.num_devices)
    if jax.tree.leaves(shapes.memory) and not any(k.startswith("memory/") for k in found.leaves):
        replay = _fresh(config, seed).memory
        state = checkpoint.place(found, shapes._replace(memory=()))._replace(memory=replay)
        line = f"checkpoint {found.step} was saved without the replay: filling a new one first"
        return checkpoint.Restored(found.step, state, found.host, (*found.skipped, line))
    return checkpoint.Restored(
        found.step, checkpoint.place(found, shapes), found.host, found.skipped
    )


def _found(config: Any, folder: run_folder.RunFolder) -> checkpoint.Found | None:
    """The newest good checkpoint; None where none was finished yet."""
    if not checkpoint.steps(folder.checkpoints_dir):
        return None
    then = checkpoint.newest_host(folder.checkpoints_dir).get("config", {})
    now = configs.to_dict(config)
    differ = [k for k in now if then.get(k) != now[k] and k not in ("total_timesteps", "env")]
    if then and differ:
        lines = "; ".join(f"{k}: checkpoint {then.get(k)!r}, config {now[k]!r}" for k in differ)
        raise ValueError(f"{folder.path}/config.json does not fit its checkpoint: {lines}")
    shapes = state_shapes(config, config.num_devices)
    return checkpoint.find(folder.checkpoints_dir, shapes, optional="memory")


def _rewind(folder: run_folder.RunFolder, description: Row, iteration: int) -> None:
    folder.write_config(description)
    folder.drop_after(iteration)


def _check(config: Any, options: Options) -> None:
    """Refuse what cannot run, before anything is compiled or written."""
    batched = [p for p, x in jax.tree_util.tree_leaves_with_path(config) if np.ndim(x) > 0]
    if batched:
        raise ValueError(f"config{jax.tree_util.keystr(batched[0])} is an array: give a number")
    envs.make(config.env, config.env_params)
    devices.require_devices(config.num_devices)
    hosts.require_all_devices(config.num_devices)
    memory_estimate.require(config)
    if options.tensorboard:
        run_folder.require_tensorboard()


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
