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
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.running import hosts, initial_state, memory_estimate, resuming, sizes
from jaxrl_pg.running import initial_policy as old_policies
from jaxrl_pg.running.hooks import Hooks, OnRows, require_hooks
from jaxrl_pg.running.interrupt import Interrupt
from jaxrl_pg.running.journal import DivergedError
from jaxrl_pg.running.loggers import Logger, require_extra
from jaxrl_pg.running.options import Options, with_changes
from jaxrl_pg.running.result import Result
from jaxrl_pg.running.rows import Row, columns
from jaxrl_pg.running.run_folder import RunFolder, config_of
from jaxrl_pg.running.session import Session
from jaxrl_pg.running.together import journal_of
from jaxrl_pg.training import devices, program, seeding
from jaxrl_pg.training.arguments import require_config
from jaxrl_pg.types import TrainState

__all__ = ["DivergedError", "Options", "Result", "resume", "run"]


def run(
    config: BaseConfig,
    run_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    options: Options | None = None,
    *,
    num_seeds: int = 1,
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
        num_seeds: train so many seeds side by side, from `seed` on, each as it would be alone on
            one device; `num_devices` share out the seeds. Rows have the mean over them and the
            spread (`.../std`), and evaluations also each one's return (`eval/return_mean/seed_3`);
            `load(run_dir, seed=3)` gives the policy of one.
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
    num_seeds = _require_num_seeds(config, seed, num_seeds)
    description = _describe(config, seed, options, num_seeds)
    start = old_policies.read(config, initial_policy)
    if start is not None:
        description["initial_policy"] = start.row
    hooks = Hooks(on_rows, loggers)
    hosts.require_agreement(lambda: _check(config, options, hooks, num_seeds), description)
    folder = RunFolder(hosts.from_first(_create, run_dir, description))
    with _locked(folder), Interrupt() as interrupt:
        if start is not None and hosts.is_first() and not options.quiet:
            print(old_policies.described(start))
        source = start.source if start is not None else None
        state = initial_state.fresh(config, seed, source, num_seeds)
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
    num_seeds = saved.get("num_seeds", 1)
    description = _describe(config, saved["seed"], options, num_seeds)
    # Earlier versions wrote no id, and most runs start from no old policy.
    description |= {name: saved[name] for name in ("run", "initial_policy") if name in saved}
    hooks = Hooks(on_rows, loggers)
    resuming.require_possible(config, folder)
    hosts.require_agreement(lambda: _check(config, options, hooks, num_seeds), description)
    with _locked(folder), Interrupt() as interrupt:
        restored = initial_state.restored(config, folder, saved["seed"], num_seeds)
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
    seeds = hosts.from_first(lambda: folder.seeds)
    with journal_of(config, folder, options, iteration, hooks) as journal:
        has_replay = bool(jax.tree.leaves(state.memory))
        session = Session(config, options, journal, seconds, has_replay, seeds)
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
        rows = hosts.from_first(journal.finish)
    message = resuming.after_interrupt(config, folder)
    interrupt.raise_if_received(message if hosts.is_first() else "")
    return Result(state, columns(rows), config, folder.path)


def _kept(state: TrainState, options: Options) -> TrainState:
    """What is saved of a state."""
    return state if options.save_replay else state._replace(memory=())


def _create(run_dir: str | os.PathLike[str] | None, description: Row) -> str:
    """Make a run folder, named after the run and the time unless a name is given."""
    description = {**description, "run": secrets.token_hex(8)}
    if run_dir is not None:
        return str(RunFolder.create(run_dir, description).path)
    env = str(description["env"])
    env = env if envs.is_name(env) else env.rsplit(":", 1)[-1]  # an object's class
    number = description.get("num_seeds", 1)
    seeds = f"{number}-seeds" if number > 1 else description["seed"]
    name = f"{description['agent']}-{env}-{seeds}-{time.strftime('%Y%m%d-%H%M%S')}"
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


def _check(config: BaseConfig, options: Options, hooks: Hooks, num_seeds: int) -> None:
    """Refuse what cannot run, before anything is compiled or written."""
    envs.of(config)
    devices.require_devices(config.num_devices)
    hosts.require_all_devices(config.num_devices)
    episodes = options.num_eval_episodes if options.num_evals else 0
    length = program.chunk_length(config, options.num_evals)
    memory_estimate.require(config, episodes, num_seeds, length)
    if options.tensorboard:
        require_extra("tensorboardX", "tensorboard")
    require_hooks(hooks)


def _require_num_seeds(config: BaseConfig, seed: int, num_seeds: int) -> int:
    """Return a number of seeds that can be trained side by side.

    Raises:
        ValueError: for what is no such number, and for what only one seed can have.
    """
    if type(num_seeds) is not int or not 1 <= num_seeds <= sizes.MAX_SEEDS:
        raise ValueError(
            f"num_seeds={num_seeds!r:.80}: give a whole number from 1 to {sizes.MAX_SEEDS:,}"
        )
    if num_seeds == 1:
        return 1
    seeding.require_seed(seed + num_seeds - 1, "the last seed")
    hosts.require_alone("a run of several seeds")
    if num_seeds % config.num_devices:
        more = num_seeds + -num_seeds % config.num_devices
        raise ValueError(
            f"num_seeds={num_seeds} does not split over num_devices={config.num_devices}, each of "
            f"which trains whole seeds: give a multiple, such as num_seeds={more}"
        )
    if envs.on_host(config.env):
        raise ValueError(
            f"num_seeds={num_seeds} and {config.env} lives on the host, where one seed is trained "
            "at a time: give each a run of its own"
        )
    return num_seeds


def _describe(config: BaseConfig, seed: int, options: Options, num_seeds: int = 1) -> Row:
    """Return the content of config.json."""
    values = configs.to_dict(config)
    return {
        **agents.names_of(config),
        "env": values["env"],
        "seed": seed,
        **({"num_seeds": num_seeds} if num_seeds > 1 else {}),
        "config": values,
        "options": dataclasses.asdict(options),
    }
