"""The door of the theory: every public function checks what it is given, in one way.

`@checked()` reads the names of a function's parameters: `policy` has rows of probabilities,
`log_policy` rows of log-probabilities, `mdp` is an `MDP`, `gamma` a discount, and so on, see
`arguments.ARGUMENTS`. A function whose parameter means something else says what:
`@checked(q=rows("...A"))`.

Three things happen, and only in the function that is called first, not in those it calls itself:

- Shapes are compared, of traced arrays too.
- Values are looked at unless they are traced: inside `jax.jit` and `jax.vmap` nothing is known of
  them and nothing is asked. What is wrong is a ValueError of one line.
- Arrays get one precision, the widest among them: an MDP of float32 and a policy of float64 are
  computed with in float64.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.theory.arguments import ARGUMENTS, Argument, check_mdp, require

__all__ = ["below", "check_paths", "checked", "known"]

P = ParamSpec("P")
R = TypeVar("R")
_inside: ContextVar[bool] = ContextVar("_inside", default=False)


def checked(
    undiscounted: bool = False, **others: Argument
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for functions whose arguments are checked when called from outside.

    Args:
        undiscounted: whether a discount of 1 is allowed in their MDP.
        others: what parameters are, where it is not what `ARGUMENTS` says of their names.
    """
    table = {**ARGUMENTS, **others}
    if undiscounted:
        table["mdp"] = Argument(lambda name, mdp: check_mdp(mdp, with_one=True))

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(fn)
        arguments = {name: table[name] for name in signature.parameters if name in table}

        @wraps(fn)
        def at_the_door(*args: P.args, **kwargs: P.kwargs) -> R:
            if _inside.get():
                return fn(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            given = {k: v for k, v in bound.arguments.items() if k in arguments and v is not None}
            bound.arguments.update(_admit(arguments, given))
            token = _inside.set(True)
            try:
                return fn(*bound.args, **bound.kwargs)
            finally:
                _inside.reset(token)

        return at_the_door

    return decorate


def known(*arrays: Any) -> bool:
    """Return whether the values of arrays are known, which they are not while traced."""
    leaves = jax.tree.leaves(arrays)
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def below(name: str, index: Any, size: int) -> None:
    """Raise for an index that is none of `size` rows, where it is known; JAX would take another."""
    if not known(index):
        return
    x = np.asarray(index)
    require(x.dtype.kind in "iu", f"{name} is of {x.dtype}: give whole numbers from 0")
    outside = (x < 0) | (x >= size)
    if np.any(outside):
        entry = f"{name} has an entry {x[outside][0]}"
        raise ValueError(f"{entry}: give whole numbers from 0 to {size - 1}")


def check_paths(paths: Any, num_states: int, num_actions: int) -> None:
    """Raise for trajectories with a state or an action that there is not."""
    below("paths.state", paths.state, num_states)
    below("paths.action", paths.action, num_actions)


def _admit(arguments: Mapping[str, Argument], given: dict[str, Any]) -> dict[str, Any]:
    """Check what is given, and return it in one precision."""
    given = {k: _array(v) if arguments[k].array else v for k, v in given.items()}
    sizes: dict[str, int] = {}
    if "mdp" in given:
        _check_mdp_shapes(given["mdp"], sizes)
    for name, value in given.items():
        shape = arguments[name].shape
        if shape is not None:
            _check_shape(name, value, shape, sizes)
        if known(value):
            arguments[name].check(name, value)
    arrays = {k: v for k, v in given.items() if arguments[k].array and _typed(v)}
    if "mdp" in given:
        arrays["mdp"] = given["mdp"]
    dtype = _common_precision(arrays)
    cast = {k: jnp.asarray(v, dtype) for k, v in arrays.items() if k != "mdp"}
    if "mdp" in given:
        cast["mdp"] = jax.tree.map(lambda x: jnp.asarray(x, dtype), given["mdp"])
    return {**given, **cast}


def _common_precision(arrays: dict[str, Any]) -> Any:
    """Return the widest precision of real arrays, the usual one where none is real."""
    strong = [x for x in jax.tree.leaves(arrays) if _typed(x) and not getattr(x, "weak_type", 0)]
    dtypes = [np.dtype(x.dtype) for x in strong if jnp.issubdtype(x.dtype, jnp.floating)]
    widest = max(dtypes, key=lambda dtype: dtype.itemsize, default=np.dtype(float))
    return jax.dtypes.canonicalize_dtype(widest)


def _array(value: Any) -> Any:
    """Return lists of numbers as an array, and anything else as it is."""
    if isinstance(value, list) or type(value) is tuple:
        return np.asarray(value) if known(value) else jnp.asarray(value)
    return value


def _typed(value: Any) -> bool:
    return hasattr(value, "dtype")


def _check_mdp_shapes(mdp: Any, sizes: dict[str, int]) -> None:
    fields = ("transition", "reward", "start", "gamma")
    made = all(hasattr(mdp, field) for field in fields)
    require(made, f"mdp is a {type(mdp).__name__}: give an MDP, from mdp.make or builders")
    shape = np.shape(mdp.transition)
    fits = len(shape) == 3 and shape[0] == shape[2] and 0 not in shape
    require(fits, f"transition has shape {shape}: give [S, A, S]")
    sizes.update(S=shape[0], A=shape[1])
    for name, want in (("reward", shape[:2]), ("start", shape[:1]), ("gamma", ())):
        own = np.shape(getattr(mdp, name))
        require(own == want, f"{name} has shape {own}: give {want}, as transition is {shape}")


def _check_shape(name: str, value: Any, letters: str, sizes: dict[str, int]) -> None:
    """Raise for a shape that does not fit the letters, and remember the sizes of new ones."""
    shape, axes = np.shape(value), letters.removeprefix("...")
    own = shape[len(shape) - len(axes) :] if letters.startswith("...") else shape
    want = [int(axis) if axis.isdigit() else sizes.get(axis, axis) for axis in axes]
    fits = len(own) == len(axes) and 0 not in own
    fits = fits and all(w in (a, n) for w, a, n in zip(want, axes, own, strict=True))
    wanted = ", ".join(map(str, want))
    dots = "..., " if letters.startswith("...") else ""
    require(fits, f"{name} has shape {shape}: give [{dots}{wanted}]")
    sizes.update(zip(axes, own, strict=True))
