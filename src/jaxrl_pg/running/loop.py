"""The host's side of training: compiled chunks, and between them report, evaluate, save, stop."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from jaxrl_pg import agents, envs
from jaxrl_pg import config as configs
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.running import culprit, hosts, initial_state, memory_estimate, resuming
from jaxrl_pg.running import initial_policy as old_policies
from jaxrl_pg.running.hooks import Hooks, OnRows, require_hooks
from jaxrl_pg.running.interrupt import Interrupt
from jaxrl_pg.running.journal import DivergedError, Journal
from jaxrl_pg.running.loggers import Logger, require_extra
from jaxrl_pg.running.options import Options, with_changes
from jaxrl_pg.running.result import Result
from jaxrl_pg.running.rows import Row, columns, known
from jaxrl_pg.running.run_folder import RunFolder, config_of
from jaxrl_pg.running.together import SharedJournal, journal_of
from jaxrl_pg.training import devices, seeding
from jaxrl_pg.training.arguments import require_config
from jaxrl_pg.training.evaluation import evaluation_metrics
from jaxrl_pg.training.program import chunk_length, evaluation_iterations, iterations
from jaxrl_pg.types import TrainState

__all__ = ["DivergedError", "Options", "Result", "resume", "run"]


def run(
    config: BaseConfig,
    run_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    options: Options | None = None,
    *,
    initial_policy: Any = None,
    on_rows: OnRows | None = None,
    loggers: Sequence[Logger] = (),
    **changes: Any,
) -> Result:
    """Train, with progress on the screen and everything kept in a run folder.

    The learned parameters are those of `train(config, jax.random.key(seed))`; for seeds from 2^32
    on see `training.seeding`. It runs on the host, so nothing may be traced.

    Args:
        config: an agent's config.
        run_dir: a folder that is absent or empty; None names one under `runs/`.
        seed: of the random key that the run starts from.
        options: how to watch and save the run.
        initial_policy: an old policy to start from: the folder of a run (its newest good checkpoint
            is read) or of a saved policy, or what `jaxrl_pg.init` takes. config.json says which. A
            checkpoint is saved at once, so that resuming does not need it again.
        on_rows: is called between compiled chunks, on the first process, with the new rows: dicts
            as in metrics.jsonl, with NaN instead of null. Returning True, or a string that says
            why, ends the run cleanly: its state is saved, the result is returned, and `resume`
            can go on.
        loggers: each is given the same rows, see `jaxrl_pg.running.loggers`. One that raises is
            named on stderr and switched off; training goes on.
        **changes: single options by name, such as `quiet=True`; they go before `options`.

    Raises:
        Exception: what `on_rows` raises, after saving.
        ValueError: for anything wrong with the arguments, before anything is compiled or written.
        DivergedError: when the loss is no longer finite, or a state that is to be saved. An
            evaluation that is not finite is said in a line on stderr and ends nothing.
        KeyboardInterrupt: on Ctrl-C, after saving.
    """
    options = with_changes(options or Options(), changes)
    require_config(config)
    seed = seeding.require_seed(seed)
    description = _describe(config, seed, options)
    start = old_policies.read(config, initial_policy)
    if start is not None:
        description["initial_policy"] = start.row
    hooks = Hooks(on_rows, loggers)
    hosts.require_agreement(lambda: _check(config, options, hooks), description)
    folder = RunFolder(hosts.from_first(_create, run_dir, description))
    with _locked(folder), Interrupt() as interrupt:
        if start is not None and hosts.is_first() and not options.quiet:
            print(old_policies.described(start))
        state = initial_state.fresh(config, seed, start.source if start is not None else None)
        save_first = start is not None
        return _go_on(config, folder, state, options, hooks, interrupt, 0.0, save_first)


def resume(
    run_dir: str | os.PathLike[str],
    total_timesteps: int | None = None,
    env: Any = None,
    options: Options | None = None,
    *,
    network: Any = None,
    optimizer: Any = None,
    core: Any = None,
    on_rows: OnRows | None = None,
    loggers: Sequence[Logger] = (),
    **changes: Any,
) -> Result:
    """Go on from a run's newest good checkpoint as if nothing had happened.

    It runs on the host, so nothing may be traced.

    Args:
        run_dir: the run's folder.
        total_timesteps: train up to here instead. An annealed learning rate then follows the
            new total from where the run is.
        env: the environment object, for a run that was given one.
        options: how to watch and save the run; None keeps the options that it has.
        network: the function that makes the network, for a run that was given one.
        optimizer: likewise, the function that makes the optimiser.
        core: likewise, the function that makes the recurrent cell.
        on_rows: as in `run`. The folder keeps neither this function nor the loggers: pass them
            again.
        loggers: as in `run`; they continue where the checkpoint is.
        **changes: single options by name, such as `quiet=True`; they go before `options`.

    Raises:
        Exception: what `on_rows` raises, after saving.
        ValueError: if there is no such run, it is in use, its config does not fit its
            checkpoints, or it is past `total_timesteps` already.
    """
    folder = RunFolder(run_dir)
    saved: Row = hosts.from_first(lambda: RunFolder.open(run_dir).config)
    objects = {"env": env, "network": network, "optimizer": optimizer, "core": core}
    config = config_of(folder.path, saved, **objects)
    if total_timesteps is not None:
        config = config.replace(total_timesteps=total_timesteps)
    options = with_changes(options or resuming.saved_options_of(folder, saved), changes)
    description = _describe(config, saved["seed"], options)
    # Earlier versions wrote no id, and most runs start from no old policy.
    description |= {name: saved[name] for name in ("run", "initial_policy") if name in saved}
    hooks = Hooks(on_rows, loggers)
    resuming.require_possible(config, folder)
    hosts.require_agreement(lambda: _check(config, options, hooks), description)
    with _locked(folder), Interrupt() as interrupt:
        restored = initial_state.restored(config, folder, saved["seed"])
        if total_timesteps is not None and restored.step > config.num_iterations:
            done = restored.step * config.steps_per_iteration
            raise ValueError(
                f"total_timesteps={total_timesteps:,} but {folder.path} has done {done:,} steps: "
                "give more, or leave it out"
            )
        # Whatever can go wrong does so before anything is cut.
        seconds = resuming.seconds_of(restored, folder)
        lines = hosts.from_first(resuming.prepare, folder, restored.step)
        hosts.from_first(folder.write_config, description)
        lines += hosts.from_first(resuming.cut, folder, restored.step, restored.skipped)
        if hosts.is_first():
            resuming.show(lines, restored.skipped, options.quiet)
        return _go_on(config, folder, restored.state, options, hooks, interrupt, seconds)


def _go_on(
    config: BaseConfig,
    folder: RunFolder,
    state: TrainState,
    options: Options,
    hooks: Hooks,
    interrupt: Interrupt,
    seconds: float,
    save_first: bool = False,
) -> Result:
    """Train from `state` until the timesteps are done or the run is ended.

    `seconds` is the wall-clock time that the run has taken so far. With `save_first` the state is
    saved before anything else: it has parts that the run's folder does not have yet.
    """
    iteration = int(state.iteration)
    with journal_of(config, folder, options, iteration, hooks) as journal:
        has_replay = bool(jax.tree.leaves(state.memory))
        session = _Session(config, options, journal, seconds, has_replay)
        if save_first:
            journal.save(_kept(state, options), session.seconds)
        while iteration < config.num_iterations:
            state, score = session.advance(state)
            iteration = int(state.iteration)
            decision = journal.agree(interrupt.received or 0)
            if score is not None or any(decision) or iteration == config.num_iterations:
                journal.save(_kept(state, options), session.seconds, score)
            if decision.signal:
                interrupt.received = decision.signal
            if decision.signal or decision.stop:
                break
        rows = hosts.from_first(journal.finish, _title(config))
    message = resuming.after_interrupt(config, folder)
    interrupt.raise_if_received(message if hosts.is_first() else "")
    return Result(state, columns(rows), config, folder.path)


def _kept(state: TrainState, options: Options) -> TrainState:
    """What is saved of a state."""
    return state if options.save_replay else state._replace(memory=())


class _Session:
    """One process's share of a run: its compiled programs, and when they are called."""

    def __init__(
        self,
        config: BaseConfig,
        options: Options,
        journal: Journal | SharedJournal,
        seconds: float,
        has_replay: bool,
    ) -> None:
        self.config, self.options, self.journal = config, options, journal
        self.began = time.monotonic() - seconds
        self.length = chunk_length(config, options.num_evals)
        self.points = set(evaluation_iterations(config, options.num_evals))
        self.compiled: set[tuple[Any, int]] = set()
        # A replay is changed in its place. Without one, the small state that a chunk begins with is
        # kept, so that the iteration in which a loss diverges can be looked at again.
        # Environments on the host cannot go through it twice.
        self.searches = not (has_replay or config.num_devices > 1 or envs.on_host(config.env))
        donated = () if self.searches else (1,)
        self.train = jax.jit(iterations, static_argnums=2, donate_argnums=donated)
        self.evaluate = jax.jit(
            evaluation_metrics,
            static_argnums=2,
            out_shardings=devices.on_every_process(config.num_devices),
        )

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run so far, earlier sessions included."""
        return time.monotonic() - self.began

    def advance(self, state: TrainState) -> tuple[TrainState, float | None]:
        """Train one chunk, evaluate where that is due, report both; return the score if any."""
        before, start, steps = state, int(state.iteration), self.config.steps_per_iteration
        # The first chunk of a resumed run may have to catch up with the chunks' grid.
        length = self.length - start % self.length
        self._compile(self.train, state, length)
        state, metrics = self.train(self.config, state, length)
        metrics = jax.device_get(metrics)
        seconds = round(self.seconds, 3)
        rows = [
            {
                "iteration": start + i + 1,
                **known({name: values[i].item() for name, values in metrics.items()}),
                "timesteps": (start + i + 1) * steps,
                "seconds": seconds,
            }
            for i in range(len(metrics["timesteps"]))
        ]
        self.journal.require_finite(
            rows,
            state,
            lambda number: culprit.find(self.config, before, number) if self.searches else None,
        )
        iteration = start + len(rows)
        if iteration in self.points:
            num_episodes = self.options.num_eval_episodes
            self._compile(self.evaluate, state, num_episodes)
            evaluated = jax.device_get(self.evaluate(self.config, state, num_episodes))
            rows.append(
                {
                    "iteration": iteration,
                    **{name: value.item() for name, value in evaluated.items()},
                    "timesteps": iteration * steps,
                    "eval/num_episodes": num_episodes,
                }
            )
        self.journal.report(rows)
        return state, rows[-1].get("eval/return_mean")

    def _compile(self, program: Any, state: TrainState[Any], number: int) -> None:
        """Compile a program before it is first called; refuse what would not fit in memory."""
        if (program, number) in self.compiled:
            return
        began = time.monotonic()
        compiled = program.lower(self.config, state, number).compile()
        memory_estimate.require_compiled(compiled, self.config)
        self.compiled.add((program, number))
        self.journal.waited(time.monotonic() - began)


def _create(run_dir: str | os.PathLike[str] | None, description: Row) -> str:
    """Make a run folder, named after the run and the time unless a name is given."""
    description = {**description, "run": secrets.token_hex(8)}
    if run_dir is not None:
        return str(RunFolder.create(run_dir, description).path)
    env = str(description["env"])
    env = env if envs.is_name(env) else env.rsplit(":", 1)[-1]  # an object's class
    name = f"{description['agent']}-{env}-{description['seed']}-{time.strftime('%Y%m%d-%H%M%S')}"
    name = re.sub(r"[^\w.-]+", "-", name)
    return str(RunFolder.create_beside(Path("runs") / name, description).path)


@contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Let the first process hold the folder's lock."""
    hosts.from_first(folder.lock)
    try:
        yield
    finally:
        folder.unlock()


def _check(config: BaseConfig, options: Options, hooks: Hooks) -> None:
    """Refuse what cannot run, before anything is compiled or written."""
    envs.of(config)
    devices.require_devices(config.num_devices)
    hosts.require_all_devices(config.num_devices)
    memory_estimate.require(config, options.num_eval_episodes if options.num_evals else 0)
    if options.tensorboard:
        require_extra("tensorboardX", "tensorboard")
    require_hooks(hooks)


def _describe(config: BaseConfig, seed: int, options: Options) -> Row:
    """Return the content of config.json."""
    values = configs.to_dict(config)
    return {
        **agents.names_of(config),
        "env": values["env"],
        "seed": seed,
        "config": values,
        "options": dataclasses.asdict(options),
    }


def _title(config: BaseConfig) -> str:
    """Return the title of the learning curve."""
    env = config.env if isinstance(config.env, str) else type(config.env).__name__
    return f"{agent_of(config).name} on {env}"
