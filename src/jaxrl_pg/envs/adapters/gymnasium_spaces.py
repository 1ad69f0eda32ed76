"""gymnasium's spaces as ours, and what is given to its environments and comes from them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.kept import HostError

__all__ = ["Actions", "Observations", "actions", "observations"]


class Actions(NamedTuple):
    """A space of actions, and from a batch of them to what each environment is given."""

    space: Any
    convert: Callable[[np.ndarray], Any]


class Observations(NamedTuple):
    """A space of observations, and what the environments give made a batch of it.

    Attributes:
        space: a gymnax space.
        like: `ShapeDtypeStruct`s of one observation.
        stack: from the observations of all environments, one by one.
        cast: from a batch of them.
    """

    space: Any
    like: Any
    stack: Callable[[list[Any]], Any]
    cast: Callable[[Any], Any]


def actions(name: str, suite: ModuleType, space: Any) -> Actions:
    """Return how actions are given to the environments.

    Raises:
        ValueError: for a space that no policy here can serve.
    """
    kinds, kind, shape = suite.spaces, space.dtype, space.shape
    start = getattr(space, "start", 0)
    if isinstance(space, kinds.Discrete):
        ours: Any = gymnax.discrete(int(space.n))
    elif isinstance(space, kinds.MultiDiscrete | kinds.MultiBinary):
        nvec = getattr(space, "nvec", np.full(shape, 2)).reshape(-1)
        ours = gymnax.multi_discrete(tuple(nvec.tolist()))
    elif isinstance(space, kinds.Box) and np.issubdtype(kind, np.integer):
        ends = zip(space.low.reshape(-1).tolist(), space.high.reshape(-1).tolist(), strict=True)
        ours, start = gymnax.multi_discrete(tuple(high - low + 1 for low, high in ends)), space.low
    elif isinstance(space, kinds.Box) and np.issubdtype(kind, np.floating):
        ours = _box(space.low.reshape(-1), space.high.reshape(-1), (space.low.size,))
    else:
        raise ValueError(
            f"{name!r}: actions are {space!r:.80}, and must be Discrete, MultiDiscrete, or a Box"
        )
    return Actions(ours, lambda action: (action.reshape(-1, *shape) + start).astype(kind))


def observations(name: str, suite: ModuleType, space: Any, part: str = "") -> Observations:
    """Return what observations become: bool and uint8 as they are, an index int32, else float32.

    Raises:
        ValueError: for a space that no network here can read.
    """
    kind: Any = np.float32
    kinds, start = suite.spaces, 0
    if isinstance(space, kinds.Dict | kinds.Tuple):
        return _structured(name, suite, space)
    if isinstance(space, kinds.Discrete):
        kind, start, ours = np.int32, int(space.start), gymnax.discrete(int(space.n))
    elif isinstance(space, kinds.Box):
        kind = space.dtype if space.dtype in (np.bool_, np.uint8) else kind
        ours = _box(space.low, space.high, space.shape)
    elif isinstance(space, kinds.MultiBinary | kinds.MultiDiscrete):
        ours = _box(0, getattr(space, "nvec", 2) - 1, space.shape)
    else:
        raise ValueError(
            f"{name!r}: observations are {space!r:.80}, and must be a Box, Discrete, or a Dict or "
            "Tuple of these"
        )
    shape, said = tuple(space.shape), f"an observation {part!r}" if part else "an observation"

    def require_shape(given: tuple[int, ...]) -> None:
        if given != shape:
            raise HostError(f"{name}: {said} has shape {given}, and observation_space says {shape}")

    def stack(given: list[Any]) -> np.ndarray:
        batch = np.empty((len(given), *shape), kind)
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite, which is seen
            for i, one in enumerate(given):
                require_shape(np.shape(one))
                batch[i] = one
        return batch - start if start else batch

    def cast(given: np.ndarray) -> np.ndarray:
        require_shape(given.shape[1:])
        with np.errstate(over="ignore"):
            batch = given.astype(kind)
        return batch - start if start else batch

    return Observations(ours, jax.ShapeDtypeStruct(shape, kind), stack, cast)


def _structured(name: str, suite: ModuleType, space: Any) -> Observations:
    """Return what a Dict becomes, or a Tuple, whose parts are called by their numbers."""
    is_dict = isinstance(space, suite.spaces.Dict)
    keys = list(space.spaces) if is_dict else range(len(space.spaces))
    parts = {str(key): observations(name, suite, space[key], str(key)) for key in keys}

    def stack(given: list[Any]) -> dict[str, Any]:
        try:
            each = {str(key): [one[key] for one in given] for key in keys}
        except (IndexError, KeyError, TypeError) as error:
            raise HostError(f"{name}: an observation has no part {error}") from error
        return {key: part.stack(each[key]) for key, part in parts.items()}

    def cast(given: Any) -> dict[str, Any]:
        return {str(key): parts[str(key)].cast(given[key]) for key in keys}

    return Observations(
        gymnax.dict_space({key: part.space for key, part in parts.items()}),
        {key: part.like for key, part in parts.items()},
        stack,
        cast,
    )


def _box(low: Any, high: Any, shape: tuple[int, ...]) -> Any:
    """Return a space of real numbers, with bounds in the type of ours."""
    with np.errstate(over="ignore"):
        bounds: list[Any] = [np.asarray(bound, np.float32) for bound in (low, high)]
    return gymnax.box(bounds[0], bounds[1], tuple(shape))
