"""The optimiser: Adam behind a global-norm clip, with a learning rate that is an argument.

Adam works on one long vector of all parameters: that compiles, and on small networks runs, faster
than the same operations once for every leaf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxrl_pg.types import OptState, Params

__all__ = ["Optimizer", "apply_gradients", "init", "linear_anneal"]

Optimizer = Callable[[Any], optax.GradientTransformation]

_ADAM = optax.scale_by_adam(eps=1e-5)


def init(params: Params, optimizer: Optimizer | None = None) -> OptState:
    """Return the optimiser's state for a pytree of parameters.

    Args:
        params: pytree of arrays.
        optimizer: as in `apply_gradients`; of Adam the state is the moments of one long vector.
    """
    if optimizer is not None:
        return optimizer(jnp.zeros(())).init(params)
    return _ADAM.init(ravel_pytree(params)[0])


def apply_gradients(
    params: Params,
    opt_state: OptState,
    grads: Params,
    learning_rate: jax.Array | float,
    max_grad_norm: jax.Array | float | None,
    optimizer: Optimizer | None = None,
) -> tuple[Params, OptState, jax.Array]:
    """Take one step on `grads`, scaled down to a global norm of at most `max_grad_norm`.

    The step is Adam's (Kingma and Ba 2015, arXiv 1412.6980) with `eps = 1e-5`, as PPO's authors use
    it, unless another optimiser is given. The clip is of the norm over all leaves together (Pascanu
    et al. 2013), not of single elements.

    Args:
        params: pytree of arrays.
        opt_state: from `init` with the same optimiser.
        grads: pytree like `params`.
        learning_rate: may be traced.
        max_grad_norm: largest norm of a gradient; may be traced. None does not clip.
        optimizer: from a learning rate to an `optax.GradientTransformation`, such as `optax.adamw`;
            its state must have a shape that the learning rate does not change.

    Returns:
        New parameters, new optimiser state, and the norm before clipping.
    """
    flat, unravel = ravel_pytree(grads)
    norm = jnp.sqrt(jnp.sum(jnp.square(flat)))
    if max_grad_norm is not None:
        flat = flat * jnp.minimum(1.0, max_grad_norm / jnp.maximum(norm, 1e-12))
    if optimizer is not None:
        steps, opt_state = optimizer(learning_rate).update(unravel(flat), opt_state, params)
        return optax.apply_updates(params, steps), opt_state, norm
    updates, opt_state = _ADAM.update(flat, opt_state)
    params = jax.tree.map(jnp.subtract, params, unravel(learning_rate * updates))
    return params, opt_state, norm


def linear_anneal(
    initial: jax.Array | float, iteration: jax.Array, num_iterations: int
) -> jax.Array:
    """Return `initial` at iteration 0, falling in a straight line to 0 at `num_iterations`."""
    return initial * jnp.maximum(0.0, 1.0 - iteration / num_iterations)
