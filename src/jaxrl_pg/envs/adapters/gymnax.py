"""gymnax's environments and spaces, and what an object with gymnax 1.0's interface must have."""

from __future__ import annotations

import functools
from typing import Any

import jax

from jaxrl_pg.config import nearest
from jaxrl_pg.types import EnvSpec

__all__ = ["box", "discrete", "is_discrete", "make", "require_interface", "spec"]

_INTERFACE = (
    "default_params",
    "reset_env",
    "step_env",
    "is_truncated",
    "observation_space",
    "action_space",
)


@functools.cache
def make(env_id: str, also_known: tuple[str, ...] = ()) -> Any:
    """Make an environment by its gymnax id.

    Args:
        env_id: such as `"CartPole-v1"`.
        also_known: other names that are allowed where this is asked, for the error message.

    Raises:
        ValueError: for an unknown id, or one whose data cannot be had.
    """
    suite = _gymnax()
    if env_id not in suite.registered_envs:
        known = [*suite.registered_envs, *also_known]
        raise ValueError(f"unknown environment {env_id!r}: {nearest(env_id, known)}")
    try:
        with jax.ensure_compile_time_eval():  # it may make arrays, which must not be tracers
            return suite.make(env_id)[0]
    except OSError as error:
        raise ValueError(f"{env_id} needs data that cannot be had here: {error}") from error


def require_interface(env: Any) -> Any:
    """Return an object that has gymnax 1.0's interface.

    Raises:
        ValueError: if something is missing.
    """
    missing = [name for name in _INTERFACE if not hasattr(env, name)]
    if missing or isinstance(env, type):
        raise ValueError(
            f"env={env!r} is no environment (missing: {', '.join(missing) or 'an instance'}): give "
            "a gymnax id, or an object with gymnax 1.0's interface"
        )
    return env


@functools.cache
def spec(core: Any) -> EnvSpec:
    """Read off an environment's spaces what a network must know.

    Raises:
        ValueError: for spaces that no policy here can serve.
    """
    spaces, params = _gymnax().environments.spaces, core.default_params
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


def is_discrete(space: Any) -> bool:
    """Say whether a space is a finite set of whole numbers."""
    return isinstance(space, _gymnax().environments.spaces.Discrete)


def box(low: float, high: float, shape: tuple[int, ...]) -> Any:
    """Return the space of arrays of real numbers from `low` to `high`."""
    return _gymnax().environments.spaces.Box(low, high, shape)


def discrete(num: int) -> Any:
    """Return the space of the whole numbers from 0 to `num` - 1."""
    return _gymnax().environments.spaces.Discrete(num)


def _gymnax() -> Any:
    # Costs seconds, so only when an environment is wanted; that may be inside a trace, where the
    # arrays that its modules make would become tracers for good.
    with jax.ensure_compile_time_eval():
        import gymnax

    return gymnax
