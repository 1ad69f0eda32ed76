"""How long training will take, guessed from its arithmetic before anything of it is compiled.

The operations of one iteration are read off the traced program: those of matrix products, an
element of any other array as `_ELEMENT` of them, and `_KERNEL` for each array that is made. These
weights were fitted to the measured speed of three agents on three environments (docs/decisions.md);
what this machine does in a second is measured on products.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg import agents
from jaxrl_pg.running import memory_estimate

__all__ = ["operations", "speed"]

_ELEMENT = 8.0  # operations of a product that take as long as an element of something else
_KERNEL = 400.0  # as long as starting what makes an array
_ROWS, _WIDTH, _PRODUCTS = 2048, 64, 200  # what is timed: products of a network's layer


def operations(config: Any) -> float:
    """What one iteration costs, in operations of matrix products."""
    agent = agents.find(config)
    state = jax.eval_shape(partial(agent.init, config), jax.random.key(0))
    jaxpr = jax.make_jaxpr(partial(agent.iterate, config))(state).jaxpr
    return _cost(jaxpr, getattr(config, "num_updates", 1))


def speed() -> float:
    """Operations a second in products of a small layer, all of this process's devices at work."""
    everywhere = [jax.device_put(jnp.ones((_ROWS, _WIDTH)), d) for d in jax.local_devices()]
    jax.block_until_ready([_products(x) for x in everywhere])
    began = time.perf_counter()
    jax.block_until_ready([_products(x) for x in everywhere])
    seconds = time.perf_counter() - began
    return len(everywhere) * _PRODUCTS * 2 * _ROWS * _WIDTH**2 / seconds


@jax.jit
def _products(x: jax.Array) -> jax.Array:
    weights = jnp.eye(_WIDTH) * 0.5
    return jax.lax.scan(lambda y, _: (y @ weights, None), x, length=_PRODUCTS)[0]


def _cost(jaxpr: Any, num_updates: int) -> float:
    """Operations of a program; of a loop without a length, those of an agent's gradient steps."""
    total = 0.0
    for eqn in jaxpr.eqns:
        inner = memory_estimate.inner_jaxprs(eqn)
        if not inner:
            total += _own_cost(eqn)
            continue
        once = sum(_cost(each, num_updates) for each in inner)
        if eqn.primitive.name == "while" and any(map(_has_products, inner)):
            once *= num_updates
        total += once * eqn.params.get("length", 1)
    return total


def _own_cost(eqn: Any) -> float:
    made = sum(v.aval.size for v in eqn.outvars)
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return _KERNEL + 2.0 * made * math.prod(shape[i] for i in contracted)
    if eqn.primitive.name == "conv_general_dilated":
        features = eqn.params["dimension_numbers"].rhs_spec[0]
        kernel = eqn.invars[1].aval
        return _KERNEL + 2.0 * made * kernel.size / kernel.shape[features]
    return _KERNEL + _ELEMENT * made


def _has_products(jaxpr: Any) -> bool:
    return any(
        eqn.primitive.name in ("dot_general", "conv_general_dilated")
        or any(map(_has_products, memory_estimate.inner_jaxprs(eqn)))
        for eqn in jaxpr.eqns
    )
