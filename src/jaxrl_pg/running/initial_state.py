"""The state that a run starts from: a fresh one, or the newest checkpoint of its folder."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg import checkpoint
from jaxrl_pg import config as configs
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.running import hosts
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.training import devices, members, priors, seeding
from jaxrl_pg.types import TrainState

__all__ = ["fresh", "restored"]


def fresh(
    config: BaseConfig, seed: int, source: priors.Source | None = None, num_seeds: int = 1
) -> TrainState[Any]:
    """Return the state that a run of this seed starts from, laid out over its devices.

    Args:
        config: the agent's.
        seed: the run's.
        source: an old policy that it begins with, which fits.
        num_seeds: members to train side by side, the first of this seed.
    """
    if num_seeds > 1:
        keys = jnp.stack([seeding.key_of_seed(seed + i) for i in range(num_seeds)])
        return _fresh_members(config, keys, source)
    shardings = devices.state_shardings(config.num_devices)
    key, init = seeding.key_of_seed(seed), agent_of(config).init
    if source is None:
        return jax.jit(init, out_shardings=shardings)(config, key)

    def begin(config: BaseConfig, key: jax.Array, learner: Any) -> TrainState[Any]:
        return priors.adopted(config, init(config, key), source._replace(learner=learner))

    return jax.jit(begin, out_shardings=shardings)(config, key, source.learner)


def _fresh_members(
    config: BaseConfig, keys: jax.Array, source: priors.Source | None
) -> TrainState[Any]:
    if source is None:
        return jax.jit(members.init)(config, keys)

    def begin(config: BaseConfig, keys: jax.Array, learner: Any) -> TrainState[Any]:
        return members.init(config, keys, source._replace(learner=learner))

    return jax.jit(begin)(config, keys, source.learner)


def restored(
    config: BaseConfig, folder: RunFolder, seed: int, num_seeds: int = 1
) -> checkpoint.Restored:
    """Restore the newest good checkpoint, or start afresh where no save was finished yet.

    A checkpoint that was saved without the replay buffer gets a new, empty one.

    Raises:
        ValueError: if the config is not the one that was saved, no checkpoint is good, or there is
            none of a run that was to start from an old policy.
    """
    if num_seeds > 1:
        shapes = members.placed_shapes(config, num_seeds)
    else:
        shapes = devices.state_shapes(config, config.num_devices)
    found = hosts.from_first(lambda: _find(config, folder, shapes))
    if found is None:
        line = f"no checkpoint in {folder.checkpoints_dir} yet: starting from the beginning"
        return checkpoint.Restored(
            0, fresh(config, seed, None, num_seeds), {"seconds": 0.0}, (line,)
        )
    if jax.tree.leaves(shapes.memory) and not found.has("memory"):
        replay = fresh(config, seed, None, num_seeds).memory
        state = checkpoint.place(found, shapes._replace(memory=()))._replace(memory=replay)
        line = f"checkpoint {found.step} was saved without the replay: filling a new one first"
        return checkpoint.Restored(found.step, state, found.host, (*found.skipped, line))
    state = checkpoint.place(found, shapes)
    return checkpoint.Restored(found.step, state, found.host, found.skipped)


def _find(
    config: BaseConfig, folder: RunFolder, shapes: TrainState[Any]
) -> checkpoint.Found | None:
    """Read the newest good checkpoint, if the run's config is still the one it was saved with."""
    if not checkpoint.candidates(folder.checkpoints_dir):
        _require_nothing_lost(folder)
        if "initial_policy" in folder.config:
            raise ValueError(
                f"{folder.path} was to start from an old policy and was ended before it was saved: "
                "train again with another run_dir"
            )
        return None
    run = folder.run_id
    saved = checkpoint.newest_host(folder.checkpoints_dir, run).get("config")
    saved = saved if isinstance(saved, dict) else {}
    now = configs.to_dict(config)
    differ = [k for k in saved if k in now and saved[k] != now[k]]
    differ = [k for k in differ if k not in ("total_timesteps", "env")]
    if saved and differ:
        lines = "; ".join(f"{k}: checkpoint {saved.get(k)!r}, config {now[k]!r}" for k in differ)
        raise ValueError(f"{folder.path}/config.json does not fit its checkpoint: {lines}")
    try:
        return checkpoint.find(folder.checkpoints_dir, shapes, optional="memory", run=run)
    except ValueError:
        _require_same_precision(config, folder)
        raise


def _require_nothing_lost(folder: RunFolder) -> None:
    """Refuse to begin a run again that has had checkpoints, and rows that would be lost."""
    rows = folder.rows()
    if rows and not checkpoint.never_saved(folder.checkpoints_dir):
        raise ValueError(
            f"no checkpoint in {folder.checkpoints_dir}, though the run has rows up to iteration "
            f"{rows[-1]['iteration']}: put the checkpoints back, or train again with another "
            "run_dir"
        )


def _require_same_precision(config: BaseConfig, folder: RunFolder) -> None:
    """Refuse a run whose checkpoint fits once `jax_enable_x64` is set the other way."""
    wide = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined, unused-ignore]
    found = None
    with jax.enable_x64(not wide), contextlib.suppress(ValueError):
        shapes = devices.state_shapes(config, config.num_devices)
        found = checkpoint.find(folder.checkpoints_dir, shapes, optional="memory")
    if found is not None:
        raise ValueError(
            f"{folder.path} was trained with jax_enable_x64={not wide} and it is {wide} here: set "
            f"JAX_ENABLE_X64={int(not wide)}, or train again in a new folder"
        )
