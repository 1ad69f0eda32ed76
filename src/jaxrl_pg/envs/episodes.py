"""The beginnings of episodes: of all environments, or of those whose last episode is over.

gymnax computes a full reset in every step of every environment and selects. Most steps end no
episode, so on a CPU a reset is computed only when one is due, and only for about as many
environments as need it. On a GPU each round of a loop waits for the host, which takes longer than
to reset all environments, unless that is much work: there all are drawn, without a loop. Both ways
begin the same episodes, each from an independent draw.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs import observations, traced
from jaxrl_pg.envs.making import Env
from jaxrl_pg.types import Obs

__all__ = ["begin_again", "keys_of_rounds", "loops_wait", "start", "start_where"]

_MAX_ROUNDS = 8
_CHEAP = 4096


def start(env: Env, keys: jax.Array) -> tuple[Any, Obs]:
    """Start an episode with each key `[B]`: the states and first observations, `[B, ...]`."""
    obs, state = jax.vmap(env.core.reset_env, (0, None))(keys, env.params)
    # A reset often returns weakly typed constants; made strong, so that a scan traces once.
    state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
    return state, jax.vmap(lambda obs: observations.readable(env, obs))(obs)


def start_where(env: Env, done: jax.Array, key: jax.Array, current: tuple[Any, Obs]) -> Any:
    """Start fresh episodes where `done`.

    The environments are laid out in columns of up to eight. A round draws one episode for each
    column, and gives it to the column's first environment that still needs one.

    Args:
        env: from `make`.
        done: `[B]` bool.
        key: consumed; or those of all rounds, from `keys_of_rounds`.
        current: states and observations, `[B, ...]`.

    Returns:
        The states and observations to go on from.
    """
    num = done.shape[0]  # not asked of a state, which may hold arrays without elements
    done = done.reshape(_num_rounds(num), -1)
    if loops_wait() and _is_cheap(env):
        keys = key if key.ndim else keys_of_rounds(key[None], num)[0]
        return _without_loop(env, done, keys, current)
    return _in_rounds(env, done, key[0] if key.ndim else key, current)


def keys_of_rounds(keys: jax.Array, num_envs: int) -> jax.Array:
    """Return what `start_where` takes as its key in each of many steps.

    A round's key follows from that of the round before. Where loops wait all are made here, for all
    steps together: in every step that would be some small kernels more.

    Args:
        keys: `[T]`, consumed.
        num_envs: B.

    Returns:
        `[T]`, or `[T, rounds]`.
    """
    if not loops_wait():
        return keys
    rounds = _num_rounds(num_envs)
    chain = [keys]
    while len(chain) < rounds:
        split = jax.vmap(lambda key: jax.random.split(key, num_envs // rounds + 1))(chain[-1])
        chain.append(split[:, 0])
    return jnp.stack(chain, axis=1)


def loops_wait() -> bool:
    """Whether each round of a loop waits for the host, as on a GPU; a CPU is the host."""
    return jax.default_backend() == "gpu"


def begin_again(done: jax.Array, first: tuple[Any, Obs], current: tuple[Any, Obs]) -> Any:
    """Return states and observations: those of `first` where `done`, else the current ones."""
    return jax.tree.map(
        lambda new, old: jnp.where(jnp.expand_dims(done, tuple(range(1, old.ndim))), new, old),
        first,
        current,
    )


def _num_rounds(num_envs: int) -> int:
    return next(n for n in range(_MAX_ROUNDS, 0, -1) if num_envs % n == 0)


def _is_cheap(env: Env) -> bool:
    """Whether to reset every environment costs at most about as much as to step it."""

    def step(key: jax.Array) -> Any:
        state = jax.tree.map(jnp.asarray, env.core.reset_env(key, env.params)[1])
        shape = (len(env.spec.factors),) if env.spec.factors else env.spec.action_shape
        action = jnp.zeros(shape, jnp.int32 if env.spec.discrete else jnp.float32)
        return env.core.step_env(key, state, action, env.params)

    key = jax.random.key(0)
    begin = traced.numbers_made(lambda key: env.core.reset_env(key, env.params), key)
    return begin <= _CHEAP or begin <= traced.numbers_made(step, key) - begin


def _without_loop(env: Env, done: jax.Array, keys: jax.Array, current: tuple[Any, Obs]) -> Any:
    """Draw the episodes of all rounds, and give each environment the one that it would wait for."""
    columns = done.shape[1]
    drawn = jax.vmap(lambda key: jax.random.split(key, columns + 1))(keys)
    fresh = start(env, drawn[:, 1:].reshape(-1))
    turn = jnp.cumsum(done, axis=0) - done  # those before it in its column
    place = (turn * columns + jnp.arange(columns)[None]).reshape(-1)
    fresh = jax.tree.map(lambda x: x[place], fresh)
    return begin_again(done.reshape(-1), fresh, current)


def _in_rounds(env: Env, done: jax.Array, key: jax.Array, current: tuple[Any, Obs]) -> Any:
    """Draw the episodes of a round after the other, until none is missing.

    A loop rather than a branch: when nothing is done no round is run, and that stays so under
    `vmap`, where a branch would be taken both ways.
    """

    def one_round(carry: tuple[jax.Array, jax.Array, Any]) -> tuple[jax.Array, jax.Array, Any]:
        done, key, current = carry
        keys = jax.random.split(key, done.shape[1] + 1)
        fresh = start(env, keys[1:])
        first = done & (jnp.argmax(done, axis=0)[None] == jnp.arange(done.shape[0])[:, None])
        current = jax.tree.map(
            lambda new, old: jnp.where(
                jnp.expand_dims(first, tuple(range(2, old.ndim))), new[None], old
            ),
            fresh,
            current,
        )
        return done & ~first, keys[0], current

    shape = done.shape
    current = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), current)
    carry = jax.lax.while_loop(lambda carry: jnp.any(carry[0]), one_round, (done, key, current))
    return jax.tree.map(lambda x: x.reshape(done.size, *x.shape[2:]), carry[2])
