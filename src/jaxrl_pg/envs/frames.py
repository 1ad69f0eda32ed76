"""Frame stacking: observations that hold the last few of an environment's own."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.envs import observations, structure
from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.types import Obs, TimeStep

__all__ = ["Stacked", "stack"]


class StackedState(NamedTuple):
    """The state of an environment with stacked observations.

    Attributes:
        inner: the environment's own.
        obs: the observation that is stacked so far.
    """

    inner: Any
    obs: Obs


@functools.cache
def stack(core: Any, num: int) -> Stacked:
    """Return an environment whose observations are the last `num`; the same for the same ones."""
    with jax.ensure_compile_time_eval():  # its bounds must not be tracers
        return StackedBatch(core, num) if hasattr(type(core), "step_batch") else Stacked(core, num)


class Stacked:
    """An environment whose observations are the last `num` of another's, the newest last.

    They are joined along the last axis: the channels of an image, the entries of a vector, the
    one-hot vectors of an index. An episode begins with `num` copies of its first observation.
    The legal actions are those of now.
    """

    def __init__(self, inner: Any, num: int) -> None:
        """Stack the observations of an environment."""
        self.inner, self.num = inner, num
        space = inner.observation_space(inner.default_params)
        joined = {part.name: self._joined_space(part) for part in structure.parts(space)}
        self._space = joined[""] if structure.is_flat(space) else gymnax.dict_space(joined)

    def __getattr__(self, name: str) -> Any:
        """Return what the environment itself has."""
        if name == "inner":  # not there yet while an object is copied or unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)

    def observation_space(self, params: Any) -> Any:
        """Return the space of the joined observations."""
        del params
        return self._space

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Obs, StackedState]:
        """Start an episode."""
        obs, inner = self.inner.reset_env(key, params)
        stacked = self._join(params, obs, None)
        return stacked, StackedState(inner, stacked)

    def step_env(
        self, key: jax.Array, state: StackedState, action: jax.Array, params: Any
    ) -> tuple[Any, ...]:
        """Take one step; the oldest observation falls out."""
        obs, inner, *rest = self.inner.step_env(key, state.inner, action, params)
        stacked = self._join(params, obs, state.obs)
        return stacked, StackedState(inner, stacked), *rest

    def is_truncated(self, state: StackedState, params: Any) -> jax.Array:
        """Say whether the time limit is reached."""
        return self.inner.is_truncated(state.inner, params)

    def _join(self, params: Any, obs: Any, before: Any) -> Obs:
        space = self.inner.observation_space(params)

        def read(part: structure.Part, value: Any) -> jax.Array:
            if part.is_mask:
                return jnp.asarray(value)
            frame = observations.frame(part, value)
            if before is None:
                return jnp.concatenate([frame] * self.num, axis=-1)
            old = before[part.name] if part.name else before
            return jnp.concatenate([old[..., frame.shape[-1] :], frame], axis=-1)

        return structure.gather(space, obs, read)

    def _joined_space(self, part: structure.Part) -> Any:
        space = part.space
        if part.is_mask:
            return space
        if gymnax.is_discrete(space):
            return gymnax.box(0.0, 1.0, (space.n * self.num,))
        shape = tuple(space.shape) or (1,)
        low, high = (
            jnp.concatenate([jnp.broadcast_to(x, shape)] * self.num, axis=-1)
            for x in (space.low, space.high)
        )
        return type(space)(low, high, (*shape[:-1], shape[-1] * self.num))


class StackedBatch(Stacked):
    """The same of an environment that is asked for whole batches: see `vector`."""

    def reset_batch(self, key: jax.Array, params: Any, num: int) -> tuple[Obs, StackedState]:
        """Start `num` episodes."""
        obs, inner = self.inner.reset_batch(key, params, num)
        stacked = self._join_each(params, obs, None)
        return stacked, StackedState(inner, stacked)

    def step_batch(
        self, state: StackedState, action: jax.Array, params: Any
    ) -> tuple[StackedState, TimeStep]:
        """Step every environment; where an episode ended, begin with copies of a new one's."""
        inner, timestep = self.inner.step_batch(state.inner, action, params)
        final = self._join_each(params, timestep.final_obs, state.obs)
        fresh = self._join_each(params, timestep.obs, None)
        done = timestep.terminated | timestep.truncated
        each = jax.vmap(lambda done, *pair: jax.tree.map(lambda *x: jnp.where(done, *x), *pair))
        obs = each(done, fresh, final)
        return StackedState(inner, obs), timestep._replace(obs=obs, final_obs=final)

    def release_batch(self, state: StackedState) -> None:
        """Let go of the environments."""
        self.inner.release_batch(state.inner)

    def _join_each(self, params: Any, obs: Any, before: Any) -> Obs:
        axis = None if before is None else 0
        return jax.vmap(lambda *x: self._join(params, *x), (0, axis))(obs, before)
