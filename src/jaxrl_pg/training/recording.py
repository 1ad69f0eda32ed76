"""Record whole episodes of a policy: every state, observation, action and reward, on the host.

    recordings = record(config, state, envs.of(config), key, 3, True, max_steps=1000)
    recordings[0].rewards.sum()  # the return that `evaluate(config, state, key, 3)[0]` gives

The keys are used as `rollout.whole_episodes` uses them, so that these are the episodes that
`evaluate` plays with the same key and number of episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg import envs, precision
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.training import evaluation
from jaxrl_pg.types import Obs, TrainState

__all__ = ["Recording", "record"]

_CHUNK = 64  # steps of one compiled scan; the program is compiled once, however long episodes are


class Recording(NamedTuple):
    """One episode of `T` steps, in NumPy arrays.

    Attributes:
        states: the environment's states, `[T + 1, ...]` leaves, the last one where the episode
            ended; `()` where they were not asked for.
        obs: `[T + 1, ...]` observations as networks read them.
        actions: `[T, ...]` as the environment takes them.
        rewards: `[T]` float32, the environment's own.
        terminated: whether the last step reached a state without a future.
        truncated: whether a time limit cut the episode off. If neither is true, the recording
            stops before the episode does.
    """

    states: Any
    obs: Any
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool


class _Row(NamedTuple):
    """What is kept of a step of `N` environments; `state` and `obs` are those it led to."""

    state: Any
    obs: Obs
    action: Any
    reward: Any
    terminated: Any
    truncated: Any


def record(
    config: BaseConfig,
    state: TrainState[Any],
    env: envs.Env,
    key: jax.Array,
    num_episodes: int,
    deterministic: bool,
    max_steps: int,
    with_states: bool = True,
) -> list[Recording]:
    """Play one episode in each of `num_episodes` environments, and keep all of it.

    Args:
        config: the agent's config.
        state: whose learner acts, normaliser statistics included.
        env: the config's environment, from `envs.of`, or one that differs only in what it shows.
        key: consumed; the episodes are those of `evaluate` with this key and number.
        num_episodes: as many environments are stepped side by side.
        deterministic: take the most probable action instead of a sampled one.
        max_steps: an episode that is longer is recorded up to here.
        with_states: keep the environments' states, of which those on the host have none.
    """
    reset_key, loop_key = jax.random.split(key)
    play = _player(env, loop_key, num_episodes, deterministic, with_states)
    _, hidden = evaluation.acting(config, state, num_episodes, deterministic)
    first = jax.jit(lambda: envs.reset(env, reset_key, num_episodes))()
    carry, over = (*first, hidden), np.zeros(num_episodes, bool)
    rows: list[_Row] = []
    while not over.all() and len(rows) * _CHUNK < max_steps:
        carry, chunk = play(config, state, first, carry, jnp.int32(len(rows) * _CHUNK))
        rows.append(jax.tree.map(_on_host, chunk))
        over |= (rows[-1].terminated | rows[-1].truncated).any(axis=0)
    envs.release(env, carry[0])
    whole = jax.tree.map(lambda *x: np.concatenate(x)[:max_steps], *rows)
    begun = jax.tree.map(_on_host, (first[0] if with_states else (), first[1]))
    return [_recording(begun, whole, i) for i in range(num_episodes)]


def _player(
    env: envs.Env, loop_key: jax.Array, num_episodes: int, deterministic: bool, with_states: bool
) -> Callable[..., tuple[Any, _Row]]:
    """Return the compiled program that plays some steps from a number on, and keeps them."""

    @jax.jit
    @precision.of_config
    def play(config: BaseConfig, state: TrainState[Any], first: Any, carry: Any, start: Any) -> Any:
        act, _ = evaluation.acting(config, state, num_episodes, deterministic)

        def step(carry: Any, t: jax.Array) -> tuple[Any, _Row]:
            env_state, obs, hidden = carry
            action_key, step_key, again_key = jax.random.split(jax.random.fold_in(loop_key, t), 3)
            action, hidden = act(obs, action_key, hidden)
            if with_states:
                reached, timestep = envs.vector.advance(env, step_key, env_state, action)
                done = timestep.terminated | timestep.truncated
                current = (reached, timestep.final_obs)
                env_state, obs = envs.episodes.begin_again(done, first, current)
            else:
                reached = ()
                env_state, timestep = envs.step(env, step_key, again_key, env_state, action, first)
                obs = timestep.obs
            taken = envs.to_env_action(env, action)
            flags = (timestep.terminated, timestep.truncated)
            row = _Row(reached, timestep.final_obs, taken, timestep.reward, *flags)
            return (env_state, obs, hidden), row

        return jax.lax.scan(step, carry, start + jnp.arange(_CHUNK))

    return play


def _recording(begun: tuple[Any, Obs], rows: _Row, i: int) -> Recording:
    """Cut the `i`-th environment's first episode out of rows `[T, N, ...]`."""
    done = rows.terminated[:, i] | rows.truncated[:, i]
    length = int(np.argmax(done)) + 1 if done.any() else len(done)

    def joined(first: np.ndarray, rest: np.ndarray) -> np.ndarray:
        return np.concatenate([first[None, i], rest[:length, i]])

    return Recording(
        states=jax.tree.map(joined, begun[0], rows.state),
        obs=jax.tree.map(joined, begun[1], rows.obs),
        actions=rows.action[:length, i],
        rewards=rows.reward[:length, i],
        terminated=bool(rows.terminated[length - 1, i]),
        truncated=bool(rows.truncated[length - 1, i]),
    )


def _on_host(x: jax.Array) -> np.ndarray:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)
