"""Structured observations: dicts, named tuples and structs of arrays, as one flat dict.

What a Dict or Tuple space holds, however deep, gets a name of its own, such as `agent.position`.
Agents see `{name: array}`. An array called `action_mask` says which actions are legal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.types import ACTION_MASK, Obs

__all__ = ["Part", "gather", "gather_parts", "is_flat", "parts"]


class Part(NamedTuple):
    """One array of an observation.

    Attributes:
        name: by which agents know it; empty for an observation that is one array.
        path: the names and numbers that lead to it.
        space: a Box or Discrete.
        is_bytes: whether it is known to be an image of bytes, which networks divide by 255.
    """

    name: str
    path: tuple[str, ...]
    space: Any
    is_bytes: bool = False

    @property
    def is_mask(self) -> bool:
        """Whether it says which actions are legal."""
        return self.name == ACTION_MASK


def parts(space: Any, path: tuple[str, ...] = ()) -> list[Part]:
    """Return the arrays that an observation of a space is made of."""
    inner = gymnax.parts(space)
    if inner is None:
        is_mask = path[-1:] == (ACTION_MASK,)
        return [Part(ACTION_MASK if is_mask else ".".join(path), path, space)]
    return [part for name, sub in inner.items() for part in parts(sub, (*path, name))]


def is_flat(space: Any) -> bool:
    """Say whether observations of a space are one array."""
    return gymnax.parts(space) is None


def gather(space: Any, obs: Any, read: Callable[[Part, Any], Any]) -> Obs:
    """Return `read(part, array)` of an observation's array, or of each by name.

    Args:
        space: the observation's.
        obs: as the environment gives it: dicts, sequences, or objects with attributes.
        read: what becomes of an array.

    Raises:
        ValueError: naming the part that is missing.
    """
    return gather_parts(parts(space), obs, read)


def gather_parts(known: Sequence[Part], obs: Any, read: Callable[[Part, Any], Any]) -> Obs:
    """Do as `gather`, with the parts of the space, which need not be looked for every time."""
    if known[0].path == ():
        return read(known[0], obs)
    return {part.name: read(part, _follow(obs, part)) for part in known}


def _follow(obs: Any, part: Part) -> Any:
    if isinstance(obs, Mapping) and part.name in obs and part.path != (part.name,):
        return obs[part.name]  # flat already
    value = obs
    for name in part.path:
        if isinstance(value, Mapping):
            found = name in value
            value = value[name] if found else None
        elif isinstance(value, tuple | list) and name.isdigit():
            found = int(name) < len(value)
            value = value[int(name)] if found else None
        else:
            found = hasattr(value, name)
            value = getattr(value, name, None)
        if not found:
            raise ValueError(
                f"the observation has no {'.'.join(part.path)!r}, which observation_space names: "
                "give a dict, tuple or struct with all of its parts"
            )
    return value
