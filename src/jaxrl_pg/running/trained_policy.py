"""A trained policy out of a run folder."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg import agents, checkpoint, envs
from jaxrl_pg import config as configs
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.training import devices
from jaxrl_pg.types import TrainState

__all__ = ["Policy", "config_of", "load", "state_shapes"]


class Policy:
    """A trained policy: `action = policy(obs, key)`.

    Attributes:
        config: of the run.
        state: the train state it was restored from, without what agents replay.
        step: the iteration of that checkpoint.
    """

    def __init__(self, config: Any, state: TrainState, step: int) -> None:
        """Wrap a train state; `load` makes one from a run folder."""
        self.config, self.state, self.step = config, state, step

    def __call__(self, obs: Any, key: jax.Array | None = None) -> jax.Array:
        """Actions in the environment's own units.

        Args:
            obs: one observation, or a batch `[N, ...]`, as the environment gives it.
            key: to sample with; None takes the most probable action.
        """
        obs = jnp.asarray(obs)
        spec = envs.make(self.config.env, self.config.env_params).spec
        if obs.shape[-len(spec.obs_shape) :] != spec.obs_shape:
            raise ValueError(f"obs has shape {obs.shape}: give {spec.obs_shape} or a batch of them")
        batch = obs.reshape(-1, *spec.obs_shape)
        some_key = jax.random.key(0) if key is None else key
        action = _act(self.config, self.state.learner, batch, some_key, key is None)
        return action.reshape(*obs.shape[: obs.ndim - len(spec.obs_shape)], *spec.action_shape)


def load(run_dir: str | os.PathLike[str], *, step: int | None = None, env: Any = None) -> Policy:
    """The policy of a run, normaliser included.

    Args:
        run_dir: a run folder.
        step: iteration of the checkpoint wanted; None takes the newest good one.
        env: the environment object, for a run that was given one.

    Raises:
        ValueError: if there is no such run or checkpoint.
    """
    run = RunFolder.open(run_dir)
    config = config_of(run.path, run.config, env)
    shapes = state_shapes(config)._replace(memory=())  # a policy replays nothing
    restored = checkpoint.restore(run.checkpoints_dir, shapes, step, optional="memory")
    return Policy(config, restored.state, restored.step)


def config_of(run: Path, saved: dict[str, Any], env: Any = None) -> Any:
    """The config of a run.

    Args:
        run: its folder, to be named.
        saved: what its config.json holds.
        env: the environment object, for a run that was given one.

    Raises:
        ValueError: if it is of an unknown agent, or its environment was an object and none is
            given.
    """
    for part, kind in (("agent", str), ("config", dict), ("options", dict), ("seed", int)):
        if not isinstance(saved.get(part), kind):
            raise ValueError(f"{run}/config.json has no good {part!r}: restore the file")
    name, values = saved["agent"], dict(saved["config"])
    if name not in agents.AGENTS:
        raise ValueError(f"{run} is a run of {name!r}: {configs.nearest(name, agents.AGENTS)}")
    if env is not None:
        values["env"] = env
    elif ":" in values.get("env", ""):
        raise ValueError(f"{run} was given an object of {values['env']}: pass env=...")
    return configs.from_dict(agents.AGENTS[name].Config, values)


def state_shapes(config: Any, num_devices: int = 1) -> TrainState:
    """The `ShapeDtypeStruct`s of a config's train state, laid out over `num_devices`."""
    shapes = jax.eval_shape(partial(agents.find(config).init, config), jax.random.key(0))
    return devices.place_shapes(shapes, num_devices)


@partial(jax.jit, static_argnums=4)
def _act(
    config: Any, learner: Any, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    env = envs.make(config.env, config.env_params)
    raw = agents.find(config).act(config, learner, obs, key, deterministic)
    return envs.to_env_action(env, raw)
