"""Every layer of a wrapped environment must be heard.

Environments are started by `reset_env` and stepped by `step_env`, since gymnax's `reset` and `step`
start new episodes by themselves. A wrapper that has only `reset` and `step` of its own hands
`reset_env` and `step_env` on to the environment inside, past itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

__all__ = ["require_heard"]

# What a layer overrides, and what it must override with it to have an effect.
_NEEDED: dict[str, tuple[str, ...]] = {"step": ("step_env",), "reset": ("reset_env",)}
# Likewise where `step_env` is handed on: the environment inside calls its own of these.
_NEEDED_OF_PROXIES = {
    "observe": ("reset_env", "step_env"),
    "get_obs": ("reset_env", "step_env"),
    "is_terminal": ("step_env",),
    "is_terminated": ("step_env",),
}


def require_heard(env: Any, called: tuple[str, ...] = ("reset_env", "step_env")) -> None:
    """Refuse a wrapper, or a subclass, whose own methods would not be called.

    Args:
        env: an environment, wrapped any number of times.
        called: the methods by which the outermost is started and stepped.

    Raises:
        ValueError: naming the layer, the method it overrides, and the one to override instead.
    """
    for layer in _layers(env, called):
        needed = {name: methods for name, methods in _NEEDED.items() if name not in called}
        if _depth(layer, "step_env") == math.inf:
            needed |= _NEEDED_OF_PROXIES
        for name, methods in needed.items():
            for method in methods:
                if method in called and _depth(layer, name) < _depth(layer, method):
                    raise ValueError(
                        f"{type(layer).__name__} overrides {name!r} and not {method!r}, so that "
                        f"it would be passed over in training, where {method!r} is called and "
                        f"episodes are started anew by the trainer: override {method!r}, or "
                        "leave the wrapper out"
                    )


def _layers(env: Any, called: tuple[str, ...]) -> Iterator[Any]:
    """An environment, and those that it holds as attributes, from the outside to the inside."""
    waiting, seen = [env], set()
    while waiting:
        layer = waiting.pop(0)
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        held = _attributes(layer).values()
        waiting += [
            x
            for x in held
            if not isinstance(x, type) and all(callable(getattr(x, name, None)) for name in called)
        ]


def _attributes(layer: Any) -> dict[str, Any]:
    """What an object itself holds, in its `__dict__` or its slots."""
    slots = [name for cls in type(layer).__mro__ for name in getattr(cls, "__slots__", ())]
    return {
        **{name: getattr(layer, name, None) for name in slots},
        **getattr(layer, "__dict__", {}),
    }


def _depth(layer: Any, name: str) -> float:
    """How far up an object's classes a method is defined: -1 in itself, infinity if it is not."""
    if name in _attributes(layer):
        return -1
    classes = enumerate(type(layer).__mro__)
    return next((depth for depth, cls in classes if name in vars(cls)), math.inf)
