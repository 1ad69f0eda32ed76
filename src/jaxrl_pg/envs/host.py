"""Environments that live on the host, outside of compiled programs: their door for whole batches.

A simulator in Python or C cannot be traced. Its environments are kept here, in this process, and
the compiled program calls them, in order, once a step for the whole batch. A train state holds only
a handle: which environments, and how many steps they have taken, so that a state from another
process, or an old one whose environments have gone on without it, is refused and not mistaken.

Such an environment has the interface of all others, and beside it `reset_batch`, `step_batch` and
`release_batch`, which `envs.vector` calls instead of batching `reset_env` and `step_env` by `vmap`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from jaxrl_pg.envs import kept
from jaxrl_pg.envs.adapters.counted import NO_LIMIT, CountedParams, Described
from jaxrl_pg.types import TimeStep

__all__ = ["HostEnvironment", "HostState", "Show", "on_host", "require_possible"]

SUITES = ("envpool", "gymnasium")
Show = Callable[[list[np.ndarray]], None]


class HostState(NamedTuple):
    """The handle of environments on the host; each leaf `[B]`, or `[]` of a single environment.

    Attributes:
        vector: int32, which environments; the same for all of a batch.
        steps: int32, steps that they have taken together; likewise.
        time: int32, steps of the episode.
        cut: bool, whether the last step was truncated by the simulator's own rules.
    """

    vector: jax.Array
    steps: jax.Array
    time: jax.Array
    cut: jax.Array


class HostEnvironment(Described):
    """A simulator's environment with gymnax 1.0's interface; static, and equal only to itself."""

    def __init__(
        self,
        name: str,
        make_vector: Callable[[int], kept.HostVector],
        observation_space: Any,
        action_space: Any,
        obs_like: Any,
        limit: int = NO_LIMIT,
        make_shown: Callable[[int, Show], kept.HostVector] | None = None,
    ) -> None:
        """Describe an environment; none is made yet.

        Args:
            name: as the user calls it, such as `gymnasium:CartPole-v1`.
            make_vector: from a number to so many environments.
            observation_space: a gymnax space.
            action_space: likewise.
            obs_like: `ShapeDtypeStruct`s of one observation.
            limit: the time limit unless another is given.
            make_shown: like `make_vector`, of environments that hand a list of their pictures
                `[H, W, 3]` to a function after each reset and step, before any restart; None where
                they cannot be seen.
        """
        super().__init__(name, observation_space, action_space, limit)
        self._make_vector, self._obs_like = make_vector, obs_like
        self._make_shown = make_shown

    def shown(self, show: Show) -> HostEnvironment | None:
        """Return the same environment, which hands its pictures on; None if it has none.

        Raises:
            kept.HostError: if its renderer does not work here.
        """
        if self._make_shown is None:
            return None
        make = self._make_shown
        tried = None
        try:
            tried = make(1, lambda _: None)
            tried.reset(np.zeros(1, np.uint32))
        except kept.HostError:
            raise
        except Exception as error:
            line = (str(error).splitlines() or [""])[0]
            raise kept.HostError(
                f"{self.name}: its renderer raises {type(error).__name__}: {line:.200}"
            ) from error
        finally:
            if tried is not None:
                tried.close()
        copied = copy.copy(self)
        copied._make_vector = lambda num: make(num, show)
        return copied

    def reset_env(self, key: jax.Array, params: CountedParams) -> tuple[Any, HostState]:
        """Start an episode of one new environment."""
        return jax.tree.map(lambda x: x[0], self.reset_batch(key, params, 1))

    def step_env(
        self, key: jax.Array, state: HostState, action: jax.Array, params: CountedParams
    ) -> tuple[Any, HostState, jax.Array, jax.Array, dict[str, Any]]:
        """Take one step of one environment; the last flag is termination alone."""
        del key, params  # its randomness is on the host
        state, action = jax.tree.map(lambda x: x[None], (state, action))
        called = self._call(state, action, jnp.zeros(1, bool), restart=False)
        final_obs, _, reward, terminated, cut = jax.tree.map(lambda x: x[0], called)
        state = HostState(state.vector[0], state.steps[0] + 1, state.time[0] + 1, cut)
        return final_obs, state, reward, terminated, {}

    def is_truncated(self, state: HostState, params: CountedParams) -> jax.Array:
        """Say whether the time limit is reached, or the simulator itself cut the episode off."""
        return state.cut | (state.time >= params.max_steps_in_episode)

    def reset_batch(self, key: jax.Array, params: CountedParams, num: int) -> tuple[Any, HostState]:
        """Make `num` new environments and start an episode of each, from seeds of its own."""
        del params
        seeds = _alone(self.name, jax.random.bits(key, (num,), jnp.uint32))
        shapes = jax.ShapeDtypeStruct((), jnp.int32), self._batched(self._obs_like, num)
        vector, obs = io_callback(self._on_reset, shapes, seeds, ordered=True)
        zeros = jnp.zeros(num, jnp.int32)
        return obs, HostState(zeros + vector, zeros, zeros, jnp.zeros(num, bool))

    def step_batch(
        self, state: HostState, action: jax.Array, params: CountedParams
    ) -> tuple[HostState, TimeStep]:
        """Step every environment; where an episode ended, start the next."""
        time = state.time + 1
        late = time >= params.max_steps_in_episode
        final_obs, obs, reward, terminated, cut = self._call(state, action, late, restart=True)
        truncated = late | cut
        time = jnp.where(terminated | truncated, 0, time)
        state = HostState(state.vector, state.steps + 1, time, jnp.zeros_like(cut))
        return state, TimeStep(obs, reward, terminated, truncated, final_obs)

    def release_batch(self, state: HostState) -> None:
        """Close the environments of a state that nothing goes on from."""
        io_callback(kept.close, None, state.vector[0], ordered=True)

    def _call(self, state: HostState, action: jax.Array, late: jax.Array, restart: bool) -> Any:
        """Step on the host, as `kept.HostVector.step`."""
        num = late.shape[0]
        obs = self._batched(self._obs_like, num)
        reward, flag = (jax.ShapeDtypeStruct((num,), kind) for kind in (jnp.float32, jnp.bool_))
        # In one array, because each that is handed over takes as long as some environments.
        call = jnp.concatenate([state.vector[:1], state.steps[:1], late.astype(jnp.int32)])
        given = _alone(self.name, (call, action))
        on_step = self._on_step if restart else self._on_bare_step
        return io_callback(on_step, (obs, obs, reward, flag, flag), *given, ordered=True)

    def _batched(self, like: Any, num: int) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((num, *x.shape), x.dtype), like)

    def _on_reset(self, seeds: jax.Array) -> tuple[np.int32, Any]:
        try:
            vector = self._make_vector(len(seeds))
        except Exception as error:
            line = (str(error).splitlines() or [""])[0]
            raise kept.HostError(
                f"{self.name}: making {len(seeds)} environments raises {type(error).__name__}: "
                f"{line:.200}"
            ) from error
        return np.int32(kept.keep(vector)), vector.reset(np.asarray(seeds))

    def _on_step(self, call: Any, action: Any) -> tuple[Any, ...]:
        return self._step(np.asarray(call), np.asarray(action), True)

    def _on_bare_step(self, call: Any, action: Any) -> tuple[Any, ...]:
        return self._step(np.asarray(call), np.asarray(action), False)

    def _step(self, call: np.ndarray, action: np.ndarray, restart: bool) -> tuple[Any, ...]:
        vector = kept.take(self.name, int(call[0]), int(call[1]))
        return vector.step(action, call[2:] != 0, restart)


def on_host(env: Any) -> bool:
    """Say whether an environment, or the one of a name, lives on the host."""
    if isinstance(env, str):
        return env.partition(":")[0] in SUITES
    return isinstance(env, HostEnvironment)


def require_possible(env: Any, num_devices: int) -> None:
    """Refuse to train in environments on the host on several devices.

    Args:
        env: a config's.
        num_devices: that are to be used.

    Raises:
        ValueError: saying what to do.
    """
    if on_host(env) and num_devices > 1:
        raise ValueError(
            f"{getattr(env, 'name', env)} lives on the host, in one process, and its environments "
            f"cannot be split over {num_devices} devices: give one (num_devices=1, in a sweep "
            "--num-devices 1)"
        )


def _alone(name: str, tree: Any) -> Any:
    """Return what is given, and refuse to be vmapped, wherever in a program that happens."""

    @jax.custom_batching.custom_vmap
    def same(tree: Any) -> Any:
        return tree

    @same.def_vmap
    def _(*_: Any) -> Any:
        raise ValueError(
            f"{name} lives on the host, where one batch of environments is stepped at a time, and "
            "cannot be vmapped: train one after the other, by jax.lax.map, a loop, or a sweep with "
            "layout=map"
        )

    return same(tree)
