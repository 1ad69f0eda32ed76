"""The state that a run starts from: a fresh one, or the newest checkpoint of its folder."""

from __future__ import annotations

from typing import Any

import jax

from jaxrl_pg import checkpoint
from jaxrl_pg import config as configs
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.running import hosts
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.training import devices
from jaxrl_pg.types import TrainState

__all__ = ["fresh", "restored"]


def fresh(config: BaseConfig, seed: int) -> TrainState[Any]:
    """Return the state that a run of this seed starts from, laid out over its devices."""
    shardings = devices.state_shardings(config.num_devices)
    return jax.jit(agent_of(config).init, out_shardings=shardings)(config, jax.random.key(seed))


def restored(config: BaseConfig, folder: RunFolder, seed: int) -> checkpoint.Restored:
    """Restore the newest good checkpoint, or start afresh where no save was finished yet.

    A checkpoint that was saved without the replay buffer gets a new, empty one.

    Raises:
        ValueError: if the config is not the one that was saved, or no checkpoint is good.
    """
    shapes = devices.state_shapes(config, config.num_devices)
    found = hosts.from_first(lambda: _find(config, folder, shapes))
    if found is None:
        line = f"no checkpoint in {folder.checkpoints_dir} yet: starting from the beginning"
        return checkpoint.Restored(0, fresh(config, seed), {"seconds": 0.0}, (line,))
    if jax.tree.leaves(shapes.memory) and not any(k.startswith("memory/") for k in found.leaves):
        replay = fresh(config, seed).memory
        state = checkpoint.place(found, shapes._replace(memory=()))._replace(memory=replay)
        line = f"checkpoint {found.step} was saved without the replay: filling a new one first"
        return checkpoint.Restored(found.step, state, found.host, (*found.skipped, line))
    state = checkpoint.place(found, shapes)
    return checkpoint.Restored(found.step, state, found.host, found.skipped)


def _find(
    config: BaseConfig, folder: RunFolder, shapes: TrainState[Any]
) -> checkpoint.Found | None:
    """Read the newest good checkpoint, if the run's config is still the one it was saved with."""
    if not checkpoint.steps(folder.checkpoints_dir):
        return None
    saved = checkpoint.newest_host(folder.checkpoints_dir).get("config", {})
    now = configs.to_dict(config)
    differ = [k for k in saved if k in now and saved[k] != now[k]]
    differ = [k for k in differ if k not in ("total_timesteps", "env")]
    if saved and differ:
        lines = "; ".join(f"{k}: checkpoint {saved.get(k)!r}, config {now[k]!r}" for k in differ)
        raise ValueError(f"{folder.path}/config.json does not fit its checkpoint: {lines}")
    return checkpoint.find(folder.checkpoints_dir, shapes, optional="memory")
