"""jumanji: puzzles, routing and packing in JAX (Bonnet et al. 2023, arXiv 2306.09884).

    ppo.Config(env="jumanji:Game2048-v1")
    ppo.Config(env="jumanji:Snake-v1?num_rows=6&num_cols=6&action_mask=false")

An observation is a dict, with jumanji's names, numbers and codes; its `action_mask` says which
actions are legal, unless the environment's name says `action_mask=false`. Left out is `step_count`:
it grows as long as an episode may last, and nothing ends because of it, since an episode that is
cut off by the limit is bootstrapped. Where several are moved at once (Cleaner, MMST,
RobotWarehouse), one action moves them all, and is legal if each one's move is.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import NO_LIMIT, Counted, Views

__all__ = ["make", "names", "options"]

_MOST = 2**16  # joint actions, each of which is an output of a network


def names() -> list[str]:
    """Return the environments' names."""
    return sorted(_jumanji().registered_environments())


def options(task: str) -> dict[str, Any]:
    """Return `action_mask`, and the arguments of an environment's class that a name can give."""
    registration = _jumanji().registration
    built = registration.load(registration._REGISTRY[task].entry_point)
    arguments = inspect.signature(built.__init__).parameters.values()
    plain = {x.name: x.default for x in arguments if isinstance(x.default, int | float | str)}
    return {key: x for key, x in plain.items() if key != "time_limit"} | {"action_mask": True}


def make(name: str, task: str, action_mask: bool = True, **given: Any) -> Counted:
    """Make an environment.

    Args:
        name: what error messages call it.
        task: jumanji's name, such as `Snake-v1`.
        action_mask: whether observations say which actions are legal.
        **given: arguments of its class, such as `num_rows`.

    Raises:
        ValueError: if its actions are no choices, or too many when joined, or if it has a reward
            for each of several players.
    """
    env = _jumanji().make(task, **given)
    limit = getattr(env, "time_limit", NO_LIMIT)
    # Its own limit would end episodes; ours does. As an argument it would size MMST's memory, too.
    env.time_limit = 2**30
    if env.reward_spec.shape:
        raise ValueError(f"it has {env.reward_spec.shape[0]} players, each with a reward")
    actions, counts = _actions(env.action_spec)
    parts = _parts(env.observation_spec)
    if not action_mask:
        parts.pop("action_mask", None)

    def observed(timestep: Any) -> Any:
        obs = _as_dict(parts, timestep.observation)
        if "action_mask" in parts:
            obs["action_mask"] = _joint(obs["action_mask"], counts)
        return obs

    def start(key: jax.Array) -> tuple[Any, Any]:
        state, timestep = env.reset(key)
        return observed(timestep), state

    def advance(
        key: jax.Array, state: Any, action: jax.Array, limit: Any
    ) -> tuple[Any, Any, Any, Any]:
        del key, limit  # its randomness is in the state
        state, timestep = env.step(state, action)
        terminated = timestep.last() & (timestep.discount == 0)
        return observed(timestep), state, timestep.reward, terminated

    spaces = {key: _space(spec) for key, spec in parts.items()}
    if "action_mask" in parts:
        spaces["action_mask"] = gymnax.box(0.0, 1.0, counts)
    space = gymnax.dict_space(spaces)
    return Counted(name, start, advance, space, actions, limit, Views(_picture_of(env)))


def _picture_of(env: Any) -> Callable[[Any], Any] | None:
    """Return how jumanji draws a state, into an array and not on a screen; None if it does not."""
    viewer: Any = getattr(getattr(env, "unwrapped", env), "_viewer", None)
    if not hasattr(viewer, "_display_rgb_array"):
        return None

    def picture(state: Any) -> np.ndarray:
        viewer._display = viewer._display_rgb_array
        return np.asarray(viewer.render(state))[..., :3]

    return picture


def _actions(spec: Any) -> tuple[Any, tuple[int, ...]]:
    """Return the space of actions, and the number of choices in each part of an action."""
    specs = _jumanji().specs
    if isinstance(spec, specs.DiscreteArray):
        return gymnax.discrete(spec.num_values), (spec.num_values,)
    if not isinstance(spec, specs.MultiDiscreteArray):
        raise ValueError(f"its actions are {spec.dtype}{list(spec.shape)}, not numbered choices")
    counts = tuple(int(n) for n in spec.num_values)
    if math.prod(counts) > _MOST:
        raise ValueError(f"it has {math.prod(counts)} joint actions, more than {_MOST}")
    return gymnax.multi_discrete(counts), counts


def _joint(mask: jax.Array, counts: tuple[int, ...]) -> jax.Array:
    """Return the mask of joint actions `[*counts]`, where jumanji may give each part's alone."""
    if mask.shape == counts:
        return mask
    return functools.reduce(jnp.logical_and.outer, [mask[i, :n] for i, n in enumerate(counts)])


def _parts(spec: Any) -> dict[str, Any]:
    """Return what a struct is made of, without the count of steps; of an array, nothing."""
    kind = _jumanji().specs.Spec
    return {key: x for key, x in vars(spec).items() if isinstance(x, kind) and key != "step_count"}


def _as_dict(parts: dict[str, Any], struct: Any) -> dict[str, Any]:
    """Return some parts of a struct by name, those of structs within likewise."""
    values = {key: getattr(struct, key) for key in parts}
    inner = {key: _parts(spec) for key, spec in parts.items()}
    return {key: _as_dict(inner[key], x) if inner[key] else x for key, x in values.items()}


def _space(spec: Any) -> Any:
    """Return the space of the arrays, or structs of arrays, that fit a specification."""
    specs, parts = _jumanji().specs, _parts(spec)
    if parts:
        return gymnax.dict_space({key: _space(part) for key, part in parts.items()})
    if isinstance(spec, specs.DiscreteArray):
        return gymnax.discrete(spec.num_values)
    if isinstance(spec, specs.BoundedArray):
        return gymnax.box(float(spec.minimum.min()), float(spec.maximum.max()), spec.shape)
    return gymnax.box(-math.inf, math.inf, spec.shape)


def _jumanji() -> ModuleType:
    import jumanji

    return jumanji
