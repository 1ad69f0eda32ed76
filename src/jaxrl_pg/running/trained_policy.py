"""A trained policy, restored from a run folder."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg import checkpoint, envs
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.running.run_folder import RunFolder, config_of
from jaxrl_pg.training import devices
from jaxrl_pg.types import TrainState

__all__ = ["Policy", "load"]


class Policy:
    """A trained policy: `action = policy(obs, key)`.

    Attributes:
        config: the agent's config.
        state: the train state it was restored from, without the replay buffer.
        step: the iteration of that checkpoint.
    """

    def __init__(self, config: BaseConfig, state: TrainState[Any], step: int) -> None:
        """Wrap a train state; `load` makes one from a run folder."""
        self.config, self.state, self.step = config, state, step

    def __call__(self, obs: Any, key: jax.Array | None = None) -> jax.Array:
        """Return actions in the environment's own units.

        Args:
            obs: one observation, or a batch `[N, ...]`, as the environment gives it.
            key: random key to sample with; None takes the most probable action.

        Raises:
            ValueError: if `obs` has another shape.
        """
        obs = jnp.asarray(obs)
        spec = envs.make(self.config.env, self.config.env_params).spec
        if obs.shape[-len(spec.obs_shape) :] != spec.obs_shape:
            raise ValueError(f"obs has shape {obs.shape}: give {spec.obs_shape} or a batch of them")
        batch = obs.reshape(-1, *spec.obs_shape)
        some_key = jax.random.key(0) if key is None else key
        action = _act(self.config, self.state.learner, batch, some_key, key is None)
        return action.reshape(*obs.shape[: obs.ndim - len(spec.obs_shape)], *spec.action_shape)


def load(
    run_dir: str | os.PathLike[str],
    *,
    step: int | None = None,
    env: Any = None,
    network: Any = None,
    optimizer: Any = None,
) -> Policy:
    """Restore the policy of a run, normaliser included.

    Args:
        run_dir: the run's folder.
        step: iteration of the checkpoint to restore; None takes the newest good one.
        env: the environment object, for a run that was given one.
        network: likewise, the function that makes the network.
        optimizer: likewise, the function that makes the optimiser.

    Raises:
        ValueError: if there is no such run or checkpoint.
    """
    run = RunFolder.open(run_dir)
    config = config_of(run.path, run.config, env=env, network=network, optimizer=optimizer)
    shapes = devices.state_shapes(config)._replace(memory=())  # a policy replays nothing
    restored = checkpoint.restore(run.checkpoints_dir, shapes, step, optional="memory")
    return Policy(config, restored.state, restored.step)


@partial(jax.jit, static_argnums=4)
def _act(
    config: BaseConfig, learner: Any, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Act on a batch of observations."""
    env = envs.make(config.env, config.env_params)
    raw = agent_of(config).act(config, learner, obs, key, deterministic)
    return envs.to_env_action(env, raw)
