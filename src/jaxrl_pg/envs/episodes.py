"""The beginnings of episodes: of all environments, or of those whose last episode is over.

gymnax computes a full reset in every step of every environment and selects. Most steps end no
episode, so on a CPU a reset is computed only when one is due, and only for about as many
environments as need it. On a GPU each round of a loop waits for the host, which takes
longer than most resets do for all environments: there all are drawn and no loop is run. Both ways
begin the same episodes, each from an independent draw.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs import observations, traced
from jaxrl_pg.envs.making import Env
from jaxrl_pg.types import Obs

__all__ = ["begin_again", "start", "start_where"]

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
        key: consumed.
        current: states and observations, `[B, ...]`.

    Returns:
        The states and observations to go on from.
    """
    num = done.shape[0]  # not asked of a state, which may hold arrays without elements
    rounds = next(n for n in range(_MAX_ROUNDS, 0, -1) if num % n == 0)
    way = _without_loop if jax.default_backend() == "gpu" and _is_cheap(env) else _in_rounds
    return way(env, done.reshape(rounds, num // rounds), key, current)


def begin_again(done: jax.Array, first: tuple[Any, Obs], current: tuple[Any, Obs]) -> Any:
    """Return states and observations: those of `first` where `done`, else the current ones."""
    return jax.tree.map(
        lambda new, old: jnp.where(jnp.expand_dims(done, tuple(range(1, old.ndim))), new, old),
        first,
        current,
    )


def _is_cheap(env: Env) -> bool:
    """Whether to reset every environment costs at most about as much as to step it."""

    def step(key: jax.Array) -> Any:
        state = env.core.reset_env(key, env.params)[1]
        action = env.core.action_space(env.params).sample(key)
        return env.core.step_env(key, state, action, env.params)

    key = jax.random.key(0)
    begin = traced.numbers_made(lambda key: env.core.reset_env(key, env.params), key)
    return begin <= _CHEAP or begin <= traced.numbers_made(step, key) - begin


def _without_loop(env: Env, done: jax.Array, key: jax.Array, current: tuple[Any, Obs]) -> Any:
    """Draw the episodes of all rounds, and give each environment the one that it would wait for."""
    rounds, columns = done.shape
    keys = []
    for _ in range(rounds):
        drawn = jax.random.split(key, columns + 1)
        key = drawn[0]
        keys.append(drawn[1:])
    fresh = start(env, jnp.concatenate(keys))
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
