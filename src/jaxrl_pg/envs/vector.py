"""Vectorised environments: make, reset, step with automatic reset.

gymnax computes a full reset in every step of every environment and selects. Most steps end no
episode, so here a reset is computed only when one is due, and only for about as many
environments as need it; each new episode still starts from an independent draw.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.config import nearest
from jaxrl_pg.envs import games
from jaxrl_pg.types import EnvSpec, TimeStep

__all__ = ["Env", "make", "reset", "step", "time_limit", "to_env_action"]

_ROWS = 8
_INTERFACE = (
    *("default_params", "reset_env", "step_env", "is_truncated"),
    *("observation_space", "action_space"),
)


class Env(NamedTuple):
    """An environment ready for use.

    Attributes:
        core: the gymnax object; static.
        params: its parameters, overrides applied; may be traced.
        spec: what networks must know; static.
    """

    core: Any
    params: Any
    spec: EnvSpec


def make(env: Any, env_params: dict[str, Any] | None = None) -> Env:
    """An environment by gymnax id, or from an object with gymnax 1.0's interface.

    Args:
        env: such as `"CartPole-v1"`, a name in `games.GAMES`, or an object.
        env_params: values that replace the environment's default parameters.

    Raises:
        ValueError: for an unknown id or parameter (the nearest is named), or an observation
            or action space that no policy here can serve.
    """
    core = _core(env) if isinstance(env, str) else _require_interface(env)
    params = core.default_params
    overrides = dict(env_params or {})
    names = list(vars(params))
    for name in overrides:
        if name not in names:
            raise ValueError(f"env_params[{name!r}] of {env!r}: {nearest(name, names)}")
    spec = _spec(core)
    return Env(core, params.replace(**overrides) if overrides else params, spec)


def reset(env: Env, key: jax.Array, num_envs: int) -> tuple[Any, jax.Array]:
    """Start `num_envs` independent episodes.

    Returns:
        The environments' states and the first observations `[B, ...]`.
    """
    return _reset_many(env, jax.random.split(key, num_envs))


def step(
    env: Env, step_key: jax.Array, reset_key: jax.Array, state: Any, action: jax.Array
) -> tuple[Any, TimeStep]:
    """Step every environment; where an episode ended, start the next.

    Args:
        env: from `make`.
        step_key: consumed, for the environments' own randomness.
        reset_key: consumed, for the new episodes.
        state: the environments' states, `[B, ...]` leaves.
        action: the policy's raw actions, `[B, ...]`.

    Returns:
        The new states and a `TimeStep`.
    """
    keys = jax.random.split(step_key, action.shape[0])
    next_state, final_obs, reward, terminated, truncated = jax.vmap(
        functools.partial(_step_one, env)
    )(keys, state, to_env_action(env, action))
    next_state = _like(next_state, state)
    done = terminated | truncated
    next_state, obs = _reset_where(env, done, reset_key, next_state, final_obs)
    return next_state, TimeStep(obs, reward, terminated, truncated, final_obs)


def to_env_action(env: Env, action: jax.Array) -> jax.Array:
    """The policy's raw action as the environment takes it.

    Discrete actions pass through. Box actions are clipped to [-1, 1] and stretched onto the
    environment's own bounds; a dimension without finite bounds is passed on as it is.
    """
    if env.spec.discrete:
        return action
    space = env.core.action_space(env.params)
    low = jnp.broadcast_to(jnp.asarray(space.low, jnp.float32), env.spec.action_shape)
    high = jnp.broadcast_to(jnp.asarray(space.high, jnp.float32), env.spec.action_shape)
    low, high, action = jnp.broadcast_arrays(low[None], high[None], action)
    finite = (low > -1e30) & (high < 1e30)
    stretched = low + 0.5 * (jnp.clip(action, -1.0, 1.0) + 1.0) * (high - low)
    return jnp.where(finite, stretched, action)


def time_limit(env: Env) -> jax.Array:
    """Steps after which an episode is over for certain; 100,000 if the environment has no limit."""
    return jnp.asarray(vars(env.params).get("max_steps_in_episode", 100_000), jnp.int32)


def _step_one(env: Env, key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, ...]:
    obs, next_state, reward, terminated, _ = env.core.step_env(key, state, action, env.params)
    truncated = env.core.is_truncated(next_state, env.params)
    reward = jnp.asarray(reward, jnp.float32).reshape(())
    flags = (jnp.asarray(f, bool).reshape(()) for f in (terminated, truncated))
    return next_state, _observation(env, obs), reward, *flags


def _reset_many(env: Env, keys: jax.Array) -> tuple[Any, jax.Array]:
    obs, state = jax.vmap(env.core.reset_env, (0, None))(keys, env.params)
    # A reset often returns weakly typed constants; made strong, so that a scan traces once.
    state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
    return state, jax.vmap(functools.partial(_observation, env))(obs)


def _reset_where(
    env: Env, done: jax.Array, key: jax.Array, state: Any, obs: jax.Array
) -> tuple[Any, jax.Array]:
    """Fresh episodes where `done`, about an eighth of the environments at a time.

    The environments are laid out in columns; a round draws one episode a column and gives it to
    the column's first environment that still needs one. A loop rather than a branch: when
    nothing is done no round is run, and that stays so under `vmap`, where a branch would be
    taken both ways.
    """
    rows = next(n for n in range(_ROWS, 0, -1) if done.shape[0] % n == 0)
    current = jax.tree.map(lambda x: x.reshape(rows, -1, *x.shape[1:]), (done, (state, obs)))
    carry = (current[0], key, current[1])
    current = jax.lax.while_loop(_any_left, functools.partial(_reset_some, env), carry)[2]
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), current)


def _any_left(carry: tuple[jax.Array, jax.Array, Any]) -> jax.Array:
    return jnp.any(carry[0])


def _reset_some(
    env: Env, carry: tuple[jax.Array, jax.Array, Any]
) -> tuple[jax.Array, jax.Array, Any]:
    done, key, current = carry
    rows, columns = done.shape
    keys = jax.random.split(key, columns + 1)
    fresh = _reset_many(env, keys[1:])
    first = done & (jnp.argmax(done, axis=0)[None] == jnp.arange(rows)[:, None])
    current = jax.tree.map(functools.partial(_give, first), fresh, current)
    return done & ~first, keys[0], current


def _give(first: jax.Array, fresh: jax.Array, current: jax.Array) -> jax.Array:
    return jnp.where(jnp.expand_dims(first, tuple(range(2, current.ndim))), fresh[None], current)


def _like(tree: Any, reference: Any) -> Any:
    return jax.tree.map(lambda x, ref: x.astype(ref.dtype), tree, reference)


def _observation(env: Env, obs: jax.Array) -> jax.Array:
    """One observation in the spec's shape: bool, uint8 or float32; a discrete one is one-hot."""
    space = env.core.observation_space(env.params)
    if isinstance(space, _gymnax_spaces().Discrete):
        return jax.nn.one_hot(obs, space.n)
    obs = jnp.asarray(obs).reshape(env.spec.obs_shape)
    return obs if obs.dtype in (jnp.bool_, jnp.uint8) else obs.astype(jnp.float32)


def _require_interface(env: Any) -> Any:
    missing = [name for name in _INTERFACE if not hasattr(env, name)]
    if missing or isinstance(env, type):
        raise ValueError(
            f"env={env!r} is no environment (missing: {', '.join(missing) or 'an instance'}): give "
            "a gymnax id, or an object with gymnax 1.0's interface"
        )
    return env


@functools.cache
def _core(env_id: str) -> Any:
    if env_id in games.GAMES:
        return games.make(env_id)
    gymnax = _gymnax()
    if env_id not in gymnax.registered_envs:
        known = [*gymnax.registered_envs, *games.GAMES]
        raise ValueError(f"unknown environment {env_id!r}: {nearest(env_id, known)}")
    try:
        with jax.ensure_compile_time_eval():  # it may make arrays, which must not be tracers
            return gymnax.make(env_id)[0]
    except OSError as error:
        raise ValueError(f"{env_id} needs data that cannot be had here: {error}") from error


@functools.cache
def _spec(core: Any) -> EnvSpec:
    spaces, params = _gymnax_spaces(), core.default_params
    obs_space, action_space = core.observation_space(params), core.action_space(params)
    if isinstance(obs_space, spaces.Discrete):
        obs_shape: tuple[int, ...] = (int(obs_space.n),)
    elif isinstance(obs_space, spaces.Box):
        obs_shape = tuple(int(n) for n in obs_space.shape) or (1,)
    else:
        raise ValueError(f"{core.name}: observations must be a Box or Discrete, not {obs_space}")
    if isinstance(action_space, spaces.Discrete):
        return EnvSpec(obs_shape, True, int(action_space.n), ())
    if isinstance(action_space, spaces.Box):
        shape = tuple(int(n) for n in action_space.shape)
        if len(shape) != 1:
            raise ValueError(f"{core.name}: Box actions must be vectors, not of shape {shape}")
        return EnvSpec(obs_shape, False, shape[0], shape)
    raise ValueError(f"{core.name}: actions must be a Box or Discrete, not {action_space}")


def _gymnax() -> Any:
    # Costs seconds, so only when an environment is wanted; that may be inside a trace, where the
    # arrays that its modules make would become tracers for good.
    with jax.ensure_compile_time_eval():
        import gymnax

    return gymnax


def _gymnax_spaces() -> Any:
    return _gymnax().environments.spaces
