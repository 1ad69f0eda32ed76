"""Compile the training of one config, or of many members of it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.config import BaseConfig
from jaxrl_pg.training import population


class Rung(NamedTuple):
    """One row of a ladder: what the row says of itself, the config, and how many members."""

    labels: dict[str, Any]
    config: BaseConfig
    members: int = 1

    @property
    def steps(self) -> int:
        """Environment steps of one iteration of all members."""
        return self.members * self.config.steps_per_iteration


class Program(NamedTuple):
    """A compiled training program.

    Attributes:
        config: of every member; with one member nothing has an axis of members.
        init: `(config, keys) -> states`.
        advance: `(config, states, num_iterations) -> (states, metrics)`; the states are donated.
        seconds: `lower_s` and `compile_s`, of both together.
        bytes: what the compiler says that `advance` takes.
    """

    config: BaseConfig
    init: Any
    advance: Any
    seconds: dict[str, float]
    bytes: int

    def start(self, members: int = 1, seed: int = 0) -> Any:
        """Fresh states."""
        return self.init(self.config, _keys(members, seed))

    def run(self, states: Any, num_iterations: int) -> Any:
        """States some iterations later, and the last metrics, when they are there."""
        return jax.block_until_ready(self.advance(self.config, states, jnp.int32(num_iterations)))


class _Lowered(NamedTuple):
    config: BaseConfig
    init: Any
    advance: Any
    seconds: float


def build(config: BaseConfig, members: int = 1) -> Program:
    """Compile one config's training for JAX's default device."""
    return _compile(_lower(config, members))


def _lower(config: BaseConfig, members: int) -> _Lowered:
    agent = config.agent

    def each(fn: Callable[[Any], Any], values: Any) -> Any:
        return population.each(population.layout_here(), fn, values) if members > 1 else fn(values)

    def init(config: BaseConfig, keys: jax.Array) -> Any:
        return each(lambda key: agent.init(config, key), keys)

    def advance(config: BaseConfig, states: Any, num_iterations: jax.Array) -> Any:
        def advance_one(state: Any) -> Any:
            metrics = jax.tree.map(_zeros, jax.eval_shape(agent.iterate, config, state)[1])
            return jax.lax.fori_loop(
                0,
                num_iterations,
                lambda _, carry: agent.iterate(config, carry[0]),
                (state, metrics),
            )

        return each(advance_one, states)

    started = time.perf_counter()
    keys = _keys(members, 0)
    shapes = jax.eval_shape(init, config, keys)
    lowered_init = jax.jit(init).lower(config, keys)
    lowered = jax.jit(advance, donate_argnums=1).lower(config, shapes, jnp.int32(1))
    return _Lowered(config, lowered_init, lowered, time.perf_counter() - started)


def _compile(lowered: _Lowered) -> Program:
    started = time.perf_counter()
    init, advance = lowered.init.compile(), lowered.advance.compile()
    seconds = {"lower_s": lowered.seconds, "compile_s": time.perf_counter() - started}
    plan = advance.memory_analysis()
    size = 0
    if plan is not None:
        outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
        size = plan.argument_size_in_bytes + plan.temp_size_in_bytes + outputs
    rounded = {name: round(s, 2) for name, s in seconds.items()}
    return Program(lowered.config, init, advance, rounded, size)


def _keys(members: int, seed: int) -> jax.Array:
    key = jax.random.key(seed)
    return jax.random.split(key, members) if members > 1 else key


def _zeros(shape: Any) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype)
