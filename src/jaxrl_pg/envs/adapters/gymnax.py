"""gymnax's environments and spaces, and what an object with gymnax 1.0's interface must have."""

from __future__ import annotations

import functools
from typing import Any

import jax

from jaxrl_pg import lazy
from jaxrl_pg.config import nearest

__all__ = [
    "MultiDiscrete",
    "box",
    "dict_space",
    "discrete",
    "is_binary",
    "is_box",
    "is_discrete",
    "is_multi_discrete",
    "is_shipped",
    "make",
    "multi_discrete",
    "names",
    "parts",
    "require_interface",
]

_DRAWING = ("matplotlib", "matplotlib.colors", "matplotlib.pyplot", "seaborn")
_INTERFACE = (
    "default_params",
    "reset_env",
    "step_env",
    "is_truncated",
    "observation_space",
    "action_space",
)


def names() -> list[str]:
    """Return gymnax's ids."""
    return sorted(_gymnax().registered_envs)


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
        there = nearest(env_id, known, "jaxrl-pg envs")
        raise ValueError(f"unknown environment {env_id!r}: {there}")
    try:
        with jax.ensure_compile_time_eval():  # it may make arrays, which must not be tracers
            return suite.make(env_id)[0]
    except OSError as error:
        raise ValueError(f"{env_id} needs data that cannot be had here: {error}") from error


def require_interface(env: Any) -> Any:
    """Return an object that has gymnax 1.0's interface and may be kept as a static argument.

    Raises:
        ValueError: if something is missing, or the object cannot be hashed.
    """
    missing = [name for name in _INTERFACE if not hasattr(env, name)]
    if missing or isinstance(env, type):
        raise ValueError(
            f"env={env!r:.80} is no environment (missing: {', '.join(missing) or 'an instance'}): "
            "give a gymnax id, or an object with gymnax 1.0's interface"
        )
    try:
        hash(env)
    except Exception as error:
        raise ValueError(
            f"env={type(env).__name__}(...) cannot be hashed ({error}), and compiled programs are "
            "found by it: keep arrays in its parameters, or leave __eq__ and __hash__ as every "
            "object has them (for a dataclass: eq=False)"
        ) from error
    return env


def is_shipped(env: Any) -> bool:
    """Say whether an environment's class is one of gymnax's own."""
    return type(env).__module__.startswith("gymnax.environments.")


def is_binary(env: Any) -> bool:
    """Say whether all that an environment's observations hold is 0 or 1, as a float though.

    Those of MinAtar's games say which things are where. Nothing is known of what wraps them.
    """
    return type(env).__module__.startswith("gymnax.environments.minatar.")


def is_discrete(space: Any) -> bool:
    """Say whether a space is a finite set of whole numbers."""
    return isinstance(space, _gymnax().environments.spaces.Discrete)


def is_box(space: Any) -> bool:
    """Say whether a space is one of arrays of real numbers."""
    return isinstance(space, _gymnax().environments.spaces.Box)


def is_multi_discrete(space: Any) -> bool:
    """Say whether a space is one of vectors of whole numbers, each with its own range."""
    return hasattr(space, "nvec")


def parts(space: Any) -> dict[str, Any] | None:
    """Return the spaces that a Dict or Tuple is made of, by name or number; None of any other."""
    kinds = _gymnax().environments.spaces
    if isinstance(space, kinds.Dict):
        return {str(name): part for name, part in space.spaces.items()}
    if isinstance(space, kinds.Tuple):
        return {str(i): part for i, part in enumerate(space.spaces)}
    return None


def box(low: float, high: float, shape: tuple[int, ...]) -> Any:
    """Return the space of arrays of real numbers from `low` to `high`."""
    return _gymnax().environments.spaces.Box(low, high, shape)


class MultiDiscrete:
    """The space of vectors of whole numbers, the `i`-th from 0 to `nvec[i] - 1`.

    gymnax has none; it is recognised by its `nvec`.
    """

    def __init__(self, nvec: tuple[int, ...]) -> None:
        """Remember the numbers of choices."""
        self.nvec = tuple(int(n) for n in nvec)
        self.shape = (len(self.nvec),)

    def __repr__(self) -> str:
        """Say what the space is."""
        return f"MultiDiscrete({list(self.nvec)})"


def multi_discrete(nvec: tuple[int, ...]) -> MultiDiscrete:
    """Return the space of vectors of whole numbers, the `i`-th from 0 to `nvec[i] - 1`."""
    return MultiDiscrete(nvec)


def dict_space(spaces: dict[str, Any]) -> Any:
    """Return the space of dicts (or structs) with an element of each of these spaces."""
    return _gymnax().environments.spaces.Dict(spaces)


def discrete(num: int) -> Any:
    """Return the space of the whole numbers from 0 to `num` - 1."""
    return _gymnax().environments.spaces.Discrete(num)


def _gymnax() -> Any:
    # Costs a second, so only when an environment is wanted; that may be inside a trace, where the
    # arrays that its modules make would become tracers for good. What it draws with (seaborn
    # brings pandas and scipy.stats) takes three times as long, and few runs draw.
    with jax.ensure_compile_time_eval(), lazy.deferred(*_DRAWING):
        import gymnax

    return gymnax
