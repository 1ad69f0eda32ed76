"""Which environment first gave what is no finite number, found by training an iteration again.

This runs only once a loss has diverged, and for agents without a replay: what a replay holds can be
looked at directly (`running.divergence`).
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxrl_pg import envs
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.training.program import iterations
from jaxrl_pg.types import TrainState

__all__ = ["find"]


def find(config: BaseConfig, before: TrainState[Any], number: int) -> str | None:
    """Say what an environment gave in the iteration that diverged; None if all of it was finite.

    Args:
        config: the agent's config.
        before: the state that the chunk of iterations began with.
        number: iterations of the chunk that were still sound.
    """
    one_more = jax.jit(iterations, static_argnums=2)
    for _ in range(number):
        before = one_more(config, before, 1)[0]
    watched = _Watched(envs.make(config.env, config.env_params).core)
    try:
        jax.block_until_ready(
            jax.jit(iterations, static_argnums=2)(config.replace(env=watched), before, 1)
        )
    except Exception:  # an environment that cannot be watched: the error to report is another one
        return None
    return watched.found


class _Watched:
    """An environment whose observations and rewards are looked at on the host.

    Attributes:
        found: the first that was no finite number, in words.
    """

    def __init__(self, core: Any) -> None:
        self.core = core
        self.found: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        obs, state = self.core.reset_env(key, params)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), obs)
        return jax.pure_callback(self._see_reset, shapes, obs, vmap_method="broadcast_all"), state

    def step_env(self, key: jax.Array, state: Any, action: Any, params: Any) -> tuple[Any, ...]:
        obs, state, reward, *rest = self.core.step_env(key, state, action, params)
        reward = jax.numpy.asarray(reward, jax.numpy.float32).reshape(())
        shape = jax.ShapeDtypeStruct((), reward.dtype)
        reward = jax.pure_callback(self._see, shape, obs, reward, vmap_method="broadcast_all")
        return obs, state, reward, *rest

    def _see_reset(self, obs: Any) -> Any:
        obs = jax.tree.map(np.asarray, obs)
        if self.found is None and not all(np.isfinite(x).all() for x in jax.tree.leaves(obs)):
            self.found = "an observation that a reset gave is no finite number"
        return obs

    def _see(self, obs: Any, reward: Any) -> Any:
        arrays = [("observation", np.asarray(x)) for x in jax.tree.leaves(obs)]
        for what, given in (*arrays, ("reward", np.asarray(reward))):
            rows = given.reshape(np.size(reward), -1)
            bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if self.found is None and len(bad):
                value = rows[bad[0]][~np.isfinite(rows[bad[0]])][0]
                self.found = f"the {what} of environment {bad[0]} is {value}"
        return np.asarray(reward)
