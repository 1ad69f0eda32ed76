"""Configurations: frozen dataclasses whose float fields are pytree leaves.

A float can be traced: annealed, vmapped, swept in one compiled program. Anything else (a count, a
layer size, a name, a switch) sets the shape of the program and is static.

A field says itself what it may hold, and a config is checked when it is made:

    class Config(BaseConfig):
        clip_eps: Annotated[float, Positive] = 0.2
        objective: Literal["clip", "kl"] = "clip"

Numbers without a range are at least 0.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, dataclass_transform

import jax
import numpy as np

__all__ = [
    "FROM_PYTHON",
    "OBJECTS",
    "Activation",
    "BaseConfig",
    "Fraction",
    "Positive",
    "PytreeDataclass",
    "Range",
    "agent_of",
    "check_choice",
    "defined_configs",
    "from_dict",
    "nearest",
    "path_of",
    "to_dict",
]

T = TypeVar("T")
# Marks a field that holds an object of the program, which no command line can name.
FROM_PYTHON = {"from_python": True}
OBJECTS = ("env", "network", "optimizer")
Activation = Literal["tanh", "relu", "swish", "gelu"]
_LARGEST = float(np.finfo(np.float32).max)


class Range(NamedTuple):
    """The numbers that a field may hold, as in `Annotated[float, Range(0.0, 1.0)]`.

    Attributes:
        low: the smallest number.
        high: the largest number.
        open_low: the smallest number itself is not allowed.
        open_high: the largest number itself is not allowed.
    """

    low: float = 0.0
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, values: np.ndarray) -> bool:
        """Say whether all of the values are in the range, and small enough for a float32."""
        above = values > self.low if self.open_low else values >= self.low
        below = values < self.high if self.open_high else values <= self.high
        return bool(np.all(above & below & (np.abs(values) <= _LARGEST)))

    def describe(self, whole: bool) -> str:
        """Say in words what may be given, such as `a whole number >= 1`."""
        kind, low, above = "a number", self.low, self.open_low
        if whole:
            kind, low, above = "a whole number", low + above, False
        if low == -math.inf and self.high == math.inf:
            return kind
        if not above and not self.open_high and self.high < math.inf:
            return f"{kind} from {low:g} to {self.high:g}"
        lower = f"{'>' if above else '>='} {low:g}"
        upper = f" and {'<' if self.open_high else '<='} {self.high:g}"
        return f"{kind} {lower}{upper if self.high < math.inf else ''}"


Positive = Range(open_low=True)
Fraction = Range(0.0, 1.0)
_ANY_NUMBER = Range(-math.inf)
_DEFINED: dict[str, type[BaseConfig]] = {}


class _Kind(NamedTuple):
    """What the annotation of a field says.

    Attributes:
        base: the type, or a `Literal`.
        optional: None is allowed.
        range: of a number.
    """

    base: Any
    optional: bool
    range: Range


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,)
)
class PytreeDataclass:
    """A base whose subclasses are frozen, keyword-only dataclasses, checked, and JAX pytrees.

    Fields annotated `float`, `float | None` or `dict[str, float]` are leaves; all others are static
    and must be hashable. Values are checked when an object is made by hand, not when JAX rebuilds
    one around tracers.

    Raises (from the constructor):
        ValueError: for an unknown field (the nearest is named), a value outside its range, or
            whatever the class's own `check` refuses.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make a dataclass and a pytree of the subclass."""
        super().__init_subclass__(**kwargs)
        data: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        init = data.__init__

        @functools.wraps(init)
        def checked_init(self: Any, **values: Any) -> None:
            names = [field.name for field in dataclasses.fields(self)]
            for name in values:
                if name not in names:
                    raise ValueError(f"unknown field {name!r}: {nearest(name, names)}")
            init(self, **values)

        data.__init__ = checked_init
        jax.tree_util.register_pytree_with_keys(
            cls,
            lambda data: _flatten(data),
            lambda static, leaves: _unflatten(cls, static, leaves),
        )

    def __post_init__(self) -> None:
        """Turn values into their field's type where nothing is lost by it, and check them."""
        cls: Any = type(self)
        for name, kind in _kinds(cls).items():
            object.__setattr__(self, name, _checked(name, kind, getattr(self, name)))
        self.check()

    def check(self) -> None:
        """Refuse combinations of fields that cannot run, by a ValueError; overridden by agents."""

    def replace(self, **changes: Any) -> Self:
        """Return a copy in which some fields have other values, checked like a new object."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


class BaseConfig(PytreeDataclass):
    """The fields that every agent's config has; an agent may give a field another default."""

    agent: ClassVar[Any] = None
    """the `types.Agent` that the class configures; a subclass has the same"""

    env: Any = "CartPole-v1"
    """gymnax id, or an object with gymnax 1.0's interface"""
    env_params: dict[str, float] = dataclasses.field(default_factory=dict)
    """values that replace the environment's default parameters"""
    total_timesteps: Annotated[int, Positive] = 1_000_000
    """environment steps of the whole run, rounded up to whole iterations"""
    num_envs: Annotated[int, Positive] = 64
    """environments stepped side by side"""
    num_steps: Annotated[int, Positive] = 32
    """steps of each environment per iteration"""
    gamma: Annotated[float, Fraction] = 0.99
    """discount"""
    network: Any = dataclasses.field(default=None, metadata=FROM_PYTHON)
    """function from an EnvSpec to a flax module that replaces the layers below"""
    optimizer: Any = dataclasses.field(default=None, metadata=FROM_PYTHON)
    """function from a learning rate to an optax optimiser that replaces Adam"""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """widths of the hidden layers"""
    activation: Activation = "tanh"
    """activation function of the hidden layers"""
    conv_features: int = 16
    """3x3 filters in front of the layers when observations are images; 0 flattens them"""
    conv_layers: tuple[tuple[int, ...], ...] = ()
    """instead of those: features,kernel[,stride[,padding]] of each convolution"""
    layer_norm: bool = False
    """normalise the features of each hidden layer before its activation"""
    residual: bool = False
    """add a hidden layer's input to its output where both are equally wide"""
    num_devices: Annotated[int, Positive] = 1
    """devices that the environments are split over"""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Remember the class, so that a run's folder can name it."""
        super().__init_subclass__(**kwargs)
        _DEFINED[f"{cls.__module__}:{cls.__qualname__}"] = cls

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps in one iteration."""
        return self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """Iterations of the whole run."""
        return -(-self.total_timesteps // self.steps_per_iteration)


def defined_configs() -> dict[str, type[BaseConfig]]:
    """Return every config class that has been defined so far, by `module:name`."""
    return dict(_DEFINED)


def agent_of(config: object) -> Any:
    """Return the `types.Agent` that a config is made for.

    Raises:
        ValueError: if it is the config of no agent.
    """
    agent = getattr(type(config), "agent", None)
    if agent is None:
        raise ValueError(
            f"no agent has a config of type {type(config).__name__}: give an agent's config, such "
            "as jaxrl_pg.ppo.Config()"
        )
    return agent


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse a value that is not among the choices, naming the nearest that is."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r}: {nearest(value, choices)}")


def nearest(given: Any, allowed: Iterable[str]) -> str:
    """Return `did you mean 'x'? allowed: ...`, the end of an error message."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def to_dict(config: BaseConfig) -> dict[str, Any]:
    """Return a config as plain JSON values; an environment object becomes its class's name."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """Make a config of what `to_dict` gave: lists become tuples again.

    Raises:
        ValueError: for fields that the class does not have, or bad values.
    """
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@functools.cache
def _kinds(cls: Any) -> dict[str, _Kind]:
    """What the annotations of a dataclass's fields say, by name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: _kind(hints[field.name]) for field in dataclasses.fields(cls)}


def _kind(hint: Any) -> _Kind:
    if typing.get_origin(hint) is Annotated:
        kind = _kind(typing.get_args(hint)[0])
        ranges = [extra for extra in hint.__metadata__ if isinstance(extra, Range)]
        return kind._replace(range=ranges[0] if ranges else kind.range)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (inner,) = [other for other in typing.get_args(hint) if other is not types.NoneType]
        return _kind(inner)._replace(optional=True)
    return _Kind(hint, False, Range())


def _checked(name: str, kind: _Kind, value: Any) -> Any:
    """The value in the field's type, where nothing is lost by it; refused if it does not fit."""
    base = kind.base
    if value is None and kind.optional:
        return None
    if base is int or base is float:
        return _number(name, value, kind.range, whole=base is int)
    if base is bool and not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}: give True or False")
    if typing.get_origin(base) is Literal:
        check_choice(name, value, typing.get_args(base))
    if base == tuple[int, ...]:
        value = tuple(value) if isinstance(value, list) else value
        if not isinstance(value, tuple) or any(type(x) is not int or x < 1 for x in value):
            raise ValueError(f"{name}={value!r}: give a tuple of whole numbers >= 1")
    if base == tuple[tuple[int, ...], ...]:
        listed = isinstance(value, list | tuple) and all(isinstance(x, list | tuple) for x in value)
        if not listed or not all(map(_is_convolution, value)):
            raise ValueError(
                f"{name}={value!r}: give tuples of features, kernel, stride >= 1 and padding >= 0"
            )
        return tuple(map(tuple, value))
    if base == dict[str, float]:
        if not isinstance(value, dict):
            raise ValueError(f"{name}={value!r}: give a dict of numbers by name")
        # Floats throughout, so that 500 and 500.0 make one compiled program.
        return {k: _number(f"{name}[{k!r}]", x, _ANY_NUMBER, whole=False) for k, x in value.items()}
    if base is Any and type(value).__hash__ is None:
        raise ValueError(f"{name}={value!r}: give a name or a hashable object")
    return value


def _is_convolution(layer: Any) -> bool:
    """Features and kernel, and maybe stride and padding."""
    whole = 2 <= len(layer) <= 4 and all(type(x) is int for x in layer)
    return whole and min(layer[:3]) >= 1 and min(layer) >= 0


def _number(name: str, value: Any, allowed: Range, whole: bool) -> Any:
    """An int or a float; an array stays one, and a tracer is not looked into."""
    if isinstance(value, jax.core.Tracer):
        return value
    arrays: tuple[Any, ...] = () if whole else (float, np.floating, np.ndarray, jax.Array)
    if isinstance(value, (int, np.integer, *arrays)) and not isinstance(value, bool):
        numbers = np.asarray(value)
        if numbers.dtype.kind in "iuf" and allowed.holds(numbers):
            if isinstance(value, np.ndarray | jax.Array):
                return value
            return int(numbers) if whole else float(numbers)
    raise ValueError(f"{name}={value!r:.80}: give {allowed.describe(whole)}")


@functools.cache
def _layout(cls: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the fields that are leaves, and of those that are static."""
    kinds = _kinds(cls)
    leaves = tuple(n for n, kind in kinds.items() if kind.base in (float, dict[str, float]))
    return leaves, tuple(n for n in kinds if n not in leaves)


def _flatten(data: Any) -> Any:
    cls: Any = type(data)
    leaves, static = _layout(cls)
    children = [(jax.tree_util.GetAttrKey(n), getattr(data, n)) for n in leaves]
    return children, tuple(getattr(data, n) for n in static)


def _unflatten(cls: Any, static: Any, children: Any) -> Any:
    data: Any = object.__new__(cls)
    names = _layout(cls)
    for name, value in (*zip(names[0], children, strict=True), *zip(names[1], static, strict=True)):
        object.__setattr__(data, name, value)
    return data


def path_of(value: Any) -> str:
    """Return `module:name` of a class or function, or of an object's class."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return np.asarray(value).tolist()
    return path_of(value)
