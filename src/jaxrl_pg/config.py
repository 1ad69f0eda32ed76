"""Configurations: frozen dataclasses whose float fields are pytree leaves.

What is a float can be traced: annealed, vmapped, swept in one compiled program. What is not
(a count, a layer size, a name, a switch) sets the shape of the program and is static.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import typing
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

__all__ = [
    "BaseConfig",
    "agent_config",
    "check_choice",
    "check_fields",
    "from_dict",
    "nearest",
    "to_dict",
]

T = TypeVar("T")

_INF = math.inf
_LARGEST = float(np.finfo(np.float32).max)
# Inclusive ranges by field name, the same for every agent; any other number is >= 0.
_RANGES: dict[str, tuple[float, float]] = {
    "gamma": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "learning_rate": (1e-12, _INF),
    "max_grad_norm": (1e-12, _INF),
    "clip_eps": (1e-12, _INF),
    "clip_eps_vf": (1e-12, _INF),
    "target_kl": (1e-12, _INF),
    "kl_target": (1e-12, _INF),
    "max_kl": (1e-12, _INF),
    "c_start": (1e-12, _INF),
    "c_end": (1e-12, _INF),
    "eps_decay": (0.0, 1.0),
    "backtrack_coef": (1e-12, 0.999),
    "cg_iterations": (1, _INF),
    "critic_epochs": (1, _INF),
    "fisher_stride": (1, _INF),
    "line_search_steps": (1, _INF),
    "tau": (1e-12, 1.0),
    "alpha": (1e-12, _INF),
    "target_entropy": (-_INF, _INF),
    "target_entropy_ratio": (0.0, 1.0),
    "noise_correlation": (0.0, 1.0),
    "log_std_init": (-20.0, 10.0),
    "num_envs": (1, _INF),
    "num_steps": (1, _INF),
    "num_epochs": (1, _INF),
    "num_minibatches": (1, _INF),
    "num_devices": (1, _INF),
    "bootstrap_steps": (1, _INF),
    "num_updates": (1, _INF),
    "num_critics": (1, _INF),
    "policy_delay": (1, _INF),
    "policy_period": (1, _INF),
    "num_actions_sampled": (2, _INF),
    "batch_size": (1, _INF),
    "buffer_size": (1, _INF),
    "total_timesteps": (1, _INF),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """What every agent's config has; an agent may give a field another default."""

    env: Any = "CartPole-v1"
    """gymnax id, or an object with gymnax 1.0's interface"""
    env_params: dict[str, float] = dataclasses.field(default_factory=dict)
    """values that replace the environment's default parameters"""
    total_timesteps: int = 1_000_000
    """environment steps of the whole run, rounded up to whole iterations"""
    num_envs: int = 64
    """environments stepped side by side"""
    num_steps: int = 32
    """steps of each environment per iteration"""
    gamma: float = 0.99
    """discount"""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """widths of the hidden layers"""
    activation: str = "tanh"
    """tanh, relu, swish or gelu"""
    conv_features: int = 16
    """3x3 filters in front of the layers when observations are images; 0 flattens them"""
    num_devices: int = 1
    """devices that the environments are split over"""

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps in one iteration."""
        return self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """Iterations of the whole run."""
        return -(-self.total_timesteps // self.steps_per_iteration)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def agent_config(cls: type[T]) -> type[T]:
    """Make a configuration class: frozen, keyword-only, validated, and a JAX pytree.

    Fields annotated `float`, `float | None` or `dict[str, float]` become leaves; all others
    are static and must be hashable. Values are checked when a config is made by hand, not when
    JAX rebuilds one around tracers. The class gains `replace(**changes)`.

    Raises (from the constructor):
        ValueError: for an unknown field (the nearest is named), a value outside its range,
            or whatever the class's own `check` method refuses.
    """
    cls.__post_init__ = _post_init  # type: ignore[attr-defined]
    cls.replace = _replace  # type: ignore[attr-defined]
    data = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    data.__init__ = _refuse_unknown(data.__init__)  # type: ignore[method-assign]
    names = [f.name for f in dataclasses.fields(data)]  # type: ignore[arg-type]
    hints = typing.get_type_hints(data)
    leaves = tuple(n for n in names if hints[n] in (float, float | None, dict[str, float]))
    static = tuple(n for n in names if n not in leaves)
    jax.tree_util.register_pytree_with_keys(
        data,
        functools.partial(_flatten, leaves, static),
        functools.partial(_unflatten, data, leaves, static),
    )
    return data


def check_fields(config: Any) -> None:
    """Refuse numbers that are not finite, out of range or of the wrong kind.

    Raises:
        ValueError: one line naming the field, the value and what is allowed.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name, value, hint = field.name, getattr(config, field.name), hints[field.name]
        if hint is bool and not isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: give True or False")
        if hint is int or hint is float or (hint == float | None and value is not None):
            _check_number(name, value, whole=hint is int)
        if hint == tuple[int, ...] and not _natural_numbers(value):
            raise ValueError(f"{name}={value!r}: give a tuple of whole numbers >= 1")
        if hint == dict[str, float]:
            if not isinstance(value, dict):
                raise ValueError(f"{name}={value!r}: give a dict of numbers by name")
            for key, item in value.items():
                _check_number(f"{name}[{key!r}]", item, whole=False, low=-_INF)
        if hint is Any and type(value).__hash__ is None:
            raise ValueError(f"{name}={value!r}: give a name or a hashable object")


def check_choice(name: str, value: Any, choices: typing.Iterable[str]) -> None:
    """Refuse a value that is not among the choices, naming the nearest that is."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r}: {nearest(value, choices)}")


def nearest(given: Any, allowed: typing.Iterable[str]) -> str:
    """`did you mean 'x'? allowed: ...`, for the end of an error message."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values; an environment object becomes its class's name."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """The inverse of `to_dict`: lists become tuples again.

    Raises:
        ValueError: for fields that the class does not have, or bad values.
    """
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _post_init(self: Any) -> None:
    for name, hint in typing.get_type_hints(type(self)).items():
        value = getattr(self, name)
        if isinstance(value, int | float | np.number) and not isinstance(value, bool):
            if hint in (float, float | None):
                object.__setattr__(self, name, _float(name, value))
            elif hint is int and isinstance(value, np.integer):
                object.__setattr__(self, name, int(value))
        elif hint == tuple[int, ...] and isinstance(value, list):
            object.__setattr__(self, name, tuple(value))
        elif hint == dict[str, float] and isinstance(value, dict):
            object.__setattr__(self, name, {k: _float_if_whole(k, x) for k, x in value.items()})
    check_fields(self)
    self.check()


def _float(name: str, value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large: give a number that a float can hold") from None


def _float_if_whole(name: str, value: Any) -> Any:
    """So that 500 and 500.0 make one compiled program."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return _float(name, value) if whole else value


def _replace(self: Any, **changes: Any) -> Any:
    return dataclasses.replace(self, **changes)


def _refuse_unknown(init: Any) -> Any:
    @functools.wraps(init)
    def checked_init(self: Any, **values: Any) -> None:
        names = [f.name for f in dataclasses.fields(self)]
        for name in values:
            if name not in names:
                raise ValueError(f"unknown field {name!r}: {nearest(name, names)}")
        init(self, **values)

    return checked_init


def _flatten(leaves: tuple[str, ...], static: tuple[str, ...], config: Any) -> Any:
    children = [(jax.tree_util.GetAttrKey(n), getattr(config, n)) for n in leaves]
    return children, tuple(getattr(config, n) for n in static)


def _unflatten(
    cls: type, leaves: tuple[str, ...], static: tuple[str, ...], aux: Any, children: Any
) -> Any:
    config: Any = object.__new__(cls)
    for name, value in (*zip(leaves, children, strict=True), *zip(static, aux, strict=True)):
        object.__setattr__(config, name, value)
    return config


def _natural_numbers(value: Any) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(x, int) and not isinstance(x, bool) and x >= 1 for x in value
    )


def _check_number(name: str, value: Any, whole: bool, low: float | None = None) -> None:
    if isinstance(value, jax.core.Tracer):
        return
    low, high = (low, _INF) if low is not None else _RANGES.get(name, (0.0, _INF))
    kind = "a whole number" if whole else "a number"
    allowed = f"{kind} from {low:g} to {high:g}" if high < _INF else f"{kind} >= {low:g}"
    allowed = kind if low == -_INF else allowed
    single = (int, np.integer) if whole else (int, float, np.number, np.ndarray, jax.Array)
    good = isinstance(value, single) and not isinstance(value, bool)
    if good:
        numbers = np.asarray(value)
        good = numbers.dtype.kind in "iuf" and bool(
            np.all((np.abs(numbers) <= _LARGEST) & (numbers >= low) & (numbers <= high))
        )
    if not good:
        raise ValueError(f"{name}={value!r}: give {allowed}")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return np.asarray(value).tolist()
    return f"{type(value).__module__}:{type(value).__qualname__}"
