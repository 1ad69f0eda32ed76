"""Configurations: frozen dataclasses whose float fields are pytree leaves.

A float can be traced: annealed, vmapped, swept in one compiled program. Anything else (a count, a
layer size, a name, a switch) sets the shape of the program and is static.

A field says itself what it may hold, and a config is checked when it is made:

    class Config(BaseConfig):
        clip_eps: Annotated[float, Positive] = 0.2
        objective: Literal["clip", "kl"] = "clip"

See `jaxrl_pg.fields` for what can be said.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, dataclass_transform

import jax
import numpy as np

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.config_text import ListsFields, short_repr
from jaxrl_pg.fields import (
    Fraction,
    Positive,
    Range,
    check_choice,
    kinds,
    settle,
    shown,
)
from jaxrl_pg.precision import Dtype, MatmulPrecision
from jaxrl_pg.spelling import nearest, nearest_field

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
OBJECTS = ("env", "network", "optimizer", "core")
Activation = Literal["tanh", "relu", "swish", "gelu"]
_MAX_COUNT = 2**31 - 1  # what an int32 holds: counters and indices on the device are such
_MAX_LAYERS = 100
_DEFINED: dict[str, type[BaseConfig]] = {}


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
        about = cls.__dict__.get("__doc__") or cls.__name__
        data: Any = dataclasses.dataclass(frozen=True, kw_only=True, repr=False)(cls)
        data.__doc__ = ListsFields(about)
        data.__repr__ = cls.__dict__.get("__repr__", short_repr)  # before that of a mixin
        init = data.__init__

        @functools.wraps(init)
        def checked_init(self: Any, **values: Any) -> None:
            names = [field.name for field in dataclasses.fields(self)]
            for name in values:
                if name not in names:
                    raise ValueError(f"unknown field {name!r}: {nearest_field(name, names)}")
            init(self, **values)

        data.__init__ = checked_init
        jax.tree_util.register_pytree_with_keys(
            cls,
            lambda data: _flatten(data),
            lambda static, leaves: _unflatten(cls, static, leaves),
        )

    def __post_init__(self) -> None:
        """Turn values into their field's type where nothing is lost by it, and check them."""
        settle(self)
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
    before: ClassVar[dict[str, Any]] = {"matmul_precision": "default"}
    """what a saved config stands for that is older than these fields, where it is no default; a
    subclass states its own fields alone"""
    later: ClassVar[dict[str, Any]] = {"dtype": "float32", "matmul_precision": "highest"}
    """fields that came later, which are no part of the id of a sweep's run at these values; a
    subclass states its own fields alone"""

    env: Any = "CartPole-v1"
    """name (`jaxrl-pg envs` lists them), a class of your own as python:module:Class, or (in Python)
    an object with gymnax 1.0's interface"""
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
    frame_stack: Annotated[int, Positive] = 1
    """observations joined into one, the newest last"""
    network: Any = dataclasses.field(default=None, metadata=FROM_PYTHON)
    """function from an EnvSpec to a flax module that replaces the layers below"""
    optimizer: Any = dataclasses.field(default=None, metadata=FROM_PYTHON)
    """function from a learning rate to an optax optimiser that replaces Adam"""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """widths of the hidden layers"""
    activation: Activation = "tanh"
    """activation function of the hidden layers"""
    cnn: Literal["minatar", "nature", "impala"] = "minatar"
    """convolutions in front of the layers when observations are images"""
    conv_features: int = 16
    """3x3 filters in front of the layers when observations are images; 0 flattens them (minatar)"""
    conv_layers: tuple[tuple[int, ...], ...] = ()
    """instead of those: features,kernel[,stride[,padding]] of each convolution"""
    layer_norm: bool = False
    """normalise the features of each hidden layer before its activation"""
    residual: bool = False
    """add a hidden layer's input to its output where both are equally wide"""
    dtype: Dtype = "float32"
    """type that hidden layers compute in; parameters, heads and losses are float32 in any case"""
    matmul_precision: MatmulPrecision = "highest"
    """of float32 products on GPUs and TPUs: float32 (highest), TF32 or 3 passes of bfloat16 (high),
    or as JAX is set (default); a CPU computes in float32"""
    num_devices: Annotated[int, Positive] = 1
    """devices that the environments are split over"""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Remember the class, so that a run's folder can name it."""
        super().__init_subclass__(**kwargs)
        _DEFINED[f"{cls.__module__}:{cls.__qualname__}"] = cls

    def check(self) -> None:
        """Refuse sizes that could not be counted or compiled, and layers normalised to nothing."""
        self._require_countable()
        if self.layer_norm and 1 in self.hidden_sizes:
            raise ValueError(
                f"hidden_sizes={self.hidden_sizes} with layer_norm=True: a single feature less its "
                "own mean is always 0; give wider layers, or layer_norm=False"
            )
        if self.dtype != "float32" and self.network is not None:
            raise ValueError(
                f"dtype={self.dtype!r} and network={shown(self.network)}: give the layers of your "
                "own module that dtype, and leave the field out (what they return becomes float32)"
            )

    def _require_countable(self) -> None:
        """Refuse what a program cannot be traced with: indices and iterations are int32."""
        for name, value in ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self)):
            sizes = value if isinstance(value, tuple) else (value,)
            if len(sizes) > _MAX_LAYERS:
                raise ValueError(
                    f"{name} has {len(sizes):,} entries: give at most {_MAX_LAYERS} (each is "
                    "compiled for itself)"
                )
            for size in sizes:
                if type(size) is int and size > _MAX_COUNT and name != "total_timesteps":
                    raise ValueError(
                        f"{name}={size}: give at most {_MAX_COUNT:,} (indices are 32-bit numbers)"
                    )
        steps = self.steps_per_iteration
        if steps > _MAX_COUNT:
            raise ValueError(
                f"num_envs={self.num_envs} x num_steps={self.num_steps} are {steps:,} steps an "
                f"iteration: lower one of them to reach at most {_MAX_COUNT:,}"
            )
        if self.num_iterations > _MAX_COUNT:
            raise ValueError(
                f"total_timesteps={self.total_timesteps} are {self.num_iterations:,} iterations "
                f"of {steps:,} steps: give at most {_MAX_COUNT * steps:,}, or raise num_envs or "
                f"num_steps (at most {_MAX_COUNT:,} iterations are counted)"
            )

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps in one iteration."""
        return self.num_envs * self.num_steps

    @property
    def rows_per_iteration(self) -> int:
        """Rows that a rollout is learned from, of which minibatches are made."""
        return self.steps_per_iteration

    @property
    def num_iterations(self) -> int:
        """Iterations of the whole run."""
        return -(-self.total_timesteps // self.steps_per_iteration)


def _example(given: Any) -> str:
    """How to make a config of the agent that a name, a module or a class stands for."""
    name = given if isinstance(given, str) else getattr(given, "__name__", "").rsplit(".", 1)[-1]
    if isinstance(given, type) and issubclass(given, BaseConfig):
        return f"{given.__qualname__}()"
    return f"jaxrl_pg.{name}.Config()" if name in AGENT_NAMES else "jaxrl_pg.ppo.Config()"


def defined_configs() -> dict[str, type[BaseConfig]]:
    """Return every config class that has been defined so far, by `module:name`."""
    return dict(_DEFINED)


def agent_of(config: object) -> Any:
    """Return the `types.Agent` that a config is made for.

    Raises:
        ValueError: if it is the config of no agent.
    """
    agent = getattr(type(config), "agent", None)
    if agent is None or not isinstance(config, BaseConfig):
        raise ValueError(
            f"no agent has a config of type {type(config).__name__}: give an agent's config, such "
            f"as {_example(config)}"
        )
    return agent


def to_dict(config: BaseConfig) -> dict[str, Any]:
    """Return a config as plain JSON values; an environment object becomes its class's name."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """Make a config of what `to_dict` gave: lists become tuples again.

    Fields that it does not have yet are as its classes have them in `before`, else at their
    defaults, so that an older run goes on as it was.

    Raises:
        ValueError: for fields that the class does not have, or bad values.
    """
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    stated = (vars(base).get("before", {}) for base in reversed(cls.__mro__))
    return cls(**dict(itertools.chain.from_iterable(x.items() for x in (*stated, given))))


@functools.cache
def _layout(cls: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the fields that are leaves, and of those that are static."""
    of_fields = kinds(cls)
    leaves = tuple(name for name, kind in of_fields.items() if kind.is_leaf)
    return leaves, tuple(name for name in of_fields if name not in leaves)


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
