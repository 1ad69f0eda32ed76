"""The numbers that a function makes, counted in its trace."""

import math

import jax
import jax.numpy as jnp
import pytest

from jaxrl_pg.envs import traced


def scanned(x):
    return jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, length=5)[0]


def branched(x):
    return jax.lax.cond(True, jnp.sin, lambda x: jnp.sin(jnp.cos(x)), x)


def looped(x):
    return jax.lax.while_loop(lambda x: jnp.all(x < 9), lambda x: x + 1, x)


@pytest.mark.parametrize(
    ("fn", "numbers"),
    [
        (jnp.sin, 3),
        (lambda x: jnp.sum(jnp.sin(x)), 4),  # three sines and their sum
        (jax.jit(jnp.sin), 3),
        (scanned, 15),  # five times three
        (jax.vmap(jax.jit(scanned)), 15),
        (branched, 6),  # the longer branch
        (looped, math.inf),
    ],
)
def test_numbers_are_counted_inside_of_functions_too(fn, numbers):
    assert traced.numbers_made(fn, jnp.zeros(3)) == numbers
