"""One checked reset and step of an environment, traced but neither compiled nor computed.

What is wrong with an environment is said here, in a sentence that names it and the cause, and not
by whatever first stumbles over it in the middle of a training program.
"""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs import parameters, spaces, structure
from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.types import ACTION_MASK

__all__ = ["require_sound"]

_NOT_THEIRS = ("jax", "jaxlib", "jaxrl_pg", "numpy")
# What becomes of the commonest mistake with traced numbers.
_REMEDIES: dict[type[Exception], str] = {
    jax.errors.TracerBoolConversionError: "use jnp.where or jax.lax.cond instead of `if`",
    jax.errors.TracerArrayConversionError: "use jax.numpy instead of NumPy",
    jax.errors.TracerIntegerConversionError: "index arrays of jax.numpy instead of lists",
    jax.errors.ConcretizationTypeError: "use jax.numpy instead of int, float, bool and NumPy",
}
_RESET = ("observation", "state")
_STEP = ("observation", "state", "reward", "terminated", "info")


class _ParametersReadError(Exception):
    """A method raised while some parameters were traced."""


@functools.cache
def require_sound(core: Any, given: tuple[str, ...] = ()) -> None:
    """Refuse an environment whose reset or step is not what training needs.

    Args:
        core: the environment; it is tried once, and once for each choice of parameters.
        given: parameters that will be given, and so are traced; the others are its defaults.

    Raises:
        ValueError: in one sentence, for what is wrong first.
    """
    params, name = parameters.defaults(core), spaces.name_of(core)
    defaults = {key: x for key, x in vars(params).items() if key in given}
    values = {
        key: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for key, x in defaults.items()
    }
    key = jax.eval_shape(jax.random.key, 0)
    try:
        program = jax.make_jaxpr(functools.partial(_try_out, core, params))(key, values)
    except _ParametersReadError as error:
        require_sound(core)  # says what it is, where it is not the parameters
        raise ValueError(
            f"{name} cannot be given env_params {', '.join(map(repr, given))}: {error}. One of "
            "them shapes the program: make an environment object with other default_params"
        ) from error
    except ValueError as error:  # once more, without what JAX adds to what is raised in a trace
        raise ValueError(str(error)) from error.__cause__
    if _steps_with_resets(program.jaxpr):
        raise ValueError(
            f"{name}: step_env calls gymnax's step, which starts a new episode by itself, so that "
            "the end of the old one would not be seen: call step_env of the environment inside"
        )


def _try_out(core: Any, params: Any, key: jax.Array, values: dict[str, jax.Array]) -> None:
    """Reset and step once, and look at everything that comes back."""
    name, spec, given = spaces.name_of(core), spaces.spec(core), tuple(values)
    params = params.replace(**values)
    first = _call(core, given, "reset_env", key, params)
    obs, state = _unpacked(name, "reset_env", first, _RESET)
    kept = _kept_types(core, "reset_env", obs)
    state = _arrays(name, "reset_env", state)
    size = (len(spec.factors),) if spec.factors else spec.action_shape
    action = jnp.zeros(size, jnp.int32 if spec.discrete else jnp.float32)
    stepped = _call(core, given, "step_env", key, state, action, params)
    next_obs, next_state, reward, terminated, _ = _unpacked(name, "step_env", stepped, _STEP)
    for part, (words, kind) in kept.items():
        next_words, next_kind = _kept_types(core, "step_env", next_obs)[part]
        if kind != next_kind:
            raise ValueError(
                f"{name}: observations are {words} after reset_env and {next_words} after "
                "step_env: give one type"
            )
    _check_scalar(name, "the reward of step_env", reward)
    _check_scalar(name, "terminated of step_env", terminated)
    next_state = _arrays(name, "step_env", next_state)
    _check_states(name, state, next_state)
    next_state = jax.tree.map(lambda x, ref: x.astype(ref.dtype), next_state, state)
    truncated = _call(core, given, "is_truncated", next_state, params)
    _check_scalar(name, "what is_truncated returns", truncated)


def _steps_with_resets(jaxpr: Any) -> bool:
    """Whether gymnax's own `step`, a compiled function, is called anywhere in a program."""
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is None:
                continue
            where = getattr(inner.debug_info, "func_filename", None) or ""
            is_step = equation.params.get("name") == "step" and "gymnax/environments/" in where
            if is_step or _steps_with_resets(inner):
                return True
    return False


def _call(core: Any, given: tuple[str, ...], method: str, *args: Any) -> Any:
    function = getattr(core, method)
    if not callable(function):
        raise ValueError(f"{spaces.name_of(core)}: {method} is {function!r:.60}, and no function")
    try:
        return function(*args)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        said = f"{method} raises {type(error).__name__}: {line:.200}{_place(error)}"
        remedy = next((text for kind, text in _REMEDIES.items() if isinstance(error, kind)), "")
        said = f"{said}: {remedy}" if remedy else said
        if given:
            raise _ParametersReadError(said) from error
        raise ValueError(f"{spaces.name_of(core)}: {said}") from error


def _place(error: Exception) -> str:
    """Say where somebody's own code raised: the innermost line that is neither JAX's nor ours."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _NOT_THEIRS:
            found = f" ({os.path.basename(frame.f_code.co_filename)}:{line})"
    return found


def _unpacked(name: str, method: str, results: Any, wanted: tuple[str, ...]) -> Any:
    if isinstance(results, tuple | list) and len(results) == len(wanted):
        return results
    given = f"{len(results)} values" if isinstance(results, tuple | list) else _type(results)
    limit = "; a time limit is is_truncated's" if method == "step_env" else ""
    raise ValueError(f"{name}: {method} returns {given}: return {', '.join(wanted)}{limit}")


def _kept_types(core: Any, method: str, obs: Any) -> dict[str, tuple[str, Any]]:
    """What each array of an observation is, in words, and the type in which it is kept."""
    name, found = spaces.name_of(core), {}

    def read(part: structure.Part, value: Any) -> None:
        said = f"observation {part.name!r}" if part.name else "observation"
        _check_array(f"{name}: the {said} of {method}", part.space, value)
        found[part.name] = (_type(value), _kept_type(value))

    space = core.observation_space(core.default_params)
    try:
        structure.gather(space, obs, read)
    except ValueError as error:
        said = str(error)
        if not said.startswith(f"{name}:"):
            said = f"{name}: {method}: {said}"
        raise ValueError(said) from None
    if not structure.is_flat(space) and ACTION_MASK not in found:
        given = obs if isinstance(obs, Mapping) else {ACTION_MASK: getattr(obs, ACTION_MASK, None)}
        if given.get(ACTION_MASK) is not None:
            raise ValueError(
                f"{name}: {method}: the observation has an {ACTION_MASK!r}, which "
                "observation_space does not name, and nothing would read it: name it there, too"
            )
    return found


def _check_array(said: str, space: Any, value: Any) -> None:
    """An index of a Discrete space, or an array of the Box's shape."""
    shape, found = tuple(space.shape), _shape(value)
    if gymnax.is_discrete(space):
        if found != () or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
            raise ValueError(
                f"{said} is {_type(value)}, and the space is Discrete({space.n}): give one int32"
            )
        return
    one_number = {found, shape} <= {(), (1,)}
    if (found != shape and not one_number) or not _is_real(value):
        raise ValueError(
            f"{said} is {_type(value)}, and observation_space says "
            f"numbers of shape {shape}: make both the same"
        )


def _check_scalar(name: str, what: str, value: Any) -> None:
    if _shape(value) not in ((), (1,)) or not _is_real(value):
        raise ValueError(f"{name}: {what} is {_type(value)}: give one number without axes")


def _arrays(name: str, method: str, state: Any) -> Any:
    """A state as it is between steps: arrays throughout."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if _shape(leaf) is None:
            raise ValueError(
                f"{name}: the state of {method} holds {_type(leaf)} at "
                f"state{jax.tree_util.keystr(path)}: states are arrays in a NamedTuple, or in a "
                "class made by flax.struct.dataclass"
            )
    return jax.tree.map(jnp.asarray, state)


def _check_states(name: str, state: Any, next_state: Any) -> None:
    """The same structure, shapes and types, but for types that hold what they are given."""
    structures: list[Any] = [jax.tree.structure(x) for x in (state, next_state)]
    if structures[0] != structures[1]:
        raise ValueError(
            f"{name}: the state of reset_env is {structures[0]}, and that of step_env "
            f"{structures[1]}: give both the same parts"
        )
    flat = jax.tree_util.tree_leaves_with_path(state)
    for (path, before), after in zip(flat, jax.tree.leaves(next_state), strict=True):
        if before.shape != after.shape or not _holds(before.dtype, after.dtype):
            raise ValueError(
                f"{name}: state{jax.tree_util.keystr(path)} is {_type(before)} after reset_env and "
                f"{_type(after)} after step_env: give both the same shape and type"
            )


def _holds(kind: Any, other: Any) -> bool:
    """Whether an array of one type can take the values of another, up to their precision."""
    if kind == other:
        return True
    types = (jnp.floating, jnp.signedinteger, jnp.unsignedinteger)
    if any(jnp.issubdtype(kind, t) and jnp.issubdtype(other, t) for t in types):
        return True
    return _is_number(kind) and _is_number(other) and jnp.promote_types(kind, other) == kind


def _is_number(kind: Any) -> bool:
    return bool(jnp.issubdtype(kind, jnp.bool_) or jnp.issubdtype(kind, jnp.number))


def _is_real(value: Any) -> bool:
    kind = jnp.result_type(value) if _shape(value) is not None else None
    return kind is not None and _is_number(kind) and not jnp.issubdtype(kind, jnp.complexfloating)


def _shape(value: Any) -> tuple[int, ...] | None:
    return parameters.shape_of(value)


def _kept_type(obs: Any) -> Any:
    """The type in which an observation is kept: see `observations`."""
    kind = jnp.result_type(obs)
    return kind if kind in (jnp.bool_, jnp.uint8) else jnp.float32


def _type(value: Any) -> str:
    """What a value is, in words: the type and shape of an array, or the name of a class."""
    shape = _shape(value)
    if shape is None:
        return f"a {type(value).__name__}"
    return f"{jnp.result_type(value)}{list(shape)}"
