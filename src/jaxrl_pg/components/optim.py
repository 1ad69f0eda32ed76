"""The optimiser: Adam behind a global-norm clip, with a learning rate that is an argument.

It works on one long vector of all parameters: that compiles, and on small networks runs, faster
than the same operations once for every leaf.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

__all__ = ["apply_gradients", "init", "linear_anneal"]

_ADAM = optax.scale_by_adam(eps=1e-5)


def init(params: Any) -> optax.OptState:
    """Return the optimiser's state for a pytree of parameters: moments of their one vector."""
    return _ADAM.init(ravel_pytree(params)[0])


def apply_gradients(
    params: Any,
    opt_state: optax.OptState,
    grads: Any,
    learning_rate: jax.Array | float,
    max_grad_norm: jax.Array | float,
) -> tuple[Any, optax.OptState, jax.Array]:
    """Take one Adam step on `grads`, scaled down to a global norm of at most `max_grad_norm`.

    Adam is Kingma and Ba 2015 (arXiv 1412.6980) with `eps = 1e-5`, as PPO's authors use it; the
    clip is of the norm over all leaves together (Pascanu et al. 2013), not of single elements.

    Returns:
        New parameters, new optimiser state, and the norm before clipping.
    """
    flat, unravel = ravel_pytree(grads)
    norm = jnp.sqrt(jnp.sum(jnp.square(flat)))
    scale = jnp.minimum(1.0, max_grad_norm / jnp.maximum(norm, 1e-12))
    updates, opt_state = _ADAM.update(flat * scale, opt_state)
    params = jax.tree.map(jnp.subtract, params, unravel(learning_rate * updates))
    return params, opt_state, norm


def linear_anneal(
    initial: jax.Array | float, iteration: jax.Array, num_iterations: int
) -> jax.Array:
    """Return `initial` at iteration 0, falling in a straight line to 0 at `num_iterations`."""
    return initial * jnp.maximum(0.0, 1.0 - iteration / num_iterations)
