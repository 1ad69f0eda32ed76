"""Passes over a rollout: gradient steps on shuffled minibatches, as most on-policy agents make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxrl_pg.components import optim
from jaxrl_pg.components.on_policy import MinibatchFields
from jaxrl_pg.ops import batching, collectives
from jaxrl_pg.types import Metrics, OptState, Params

__all__ = ["Fit", "Loss", "fit", "gradient_step", "hold"]

Fit = tuple[Params, OptState]
Loss = Callable[[Any, Params], tuple[jax.Array, Metrics]]


def fit(
    config: MinibatchFields,
    loss: Loss,
    rows: Any,
    start: Fit,
    key: jax.Array,
    rate: jax.Array,
    obs: Callable[[Any], Any] | None = None,
) -> tuple[Fit, Metrics]:
    """Pass over the rows `num_epochs` times, each time in another order.

    Args:
        config: the agent's.
        loss: `(rows, params) -> (loss, metrics)`, a mean over rows.
        rows: pytree of `[N, ...]`.
        start: parameters and the optimiser's state to start from.
        key: consumed.
        rate: Adam's learning rate.
        obs: the observations among rows, `[n, ...]`, for a loss whose time is that of networks:
            where it is faster a minibatch is then taken piece by piece.

    Returns:
        Parameters and the optimiser's state; metrics of the last pass, `[num_minibatches]` each.
    """
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    indices = batching.minibatch_indices(key, num_rows, config.num_epochs, config.num_minibatches)

    def minibatch_step(carry: Fit, indices: jax.Array) -> tuple[Fit, Metrics]:
        minibatch = jax.tree.map(lambda x: x[indices], rows)
        return gradient_step(config, loss, minibatch, carry, rate, obs)

    carry, metrics = jax.lax.scan(minibatch_step, start, indices)
    return carry, jax.tree.map(lambda x: x[-config.num_minibatches :], metrics)


def gradient_step(
    config: MinibatchFields,
    loss: Loss,
    minibatch: Any,
    start: Fit,
    rate: jax.Array,
    obs: Callable[[Any], Any] | None = None,
) -> tuple[Fit, Metrics]:
    """Take one step of Adam on some of the rows; devices average their gradients.

    Where the loss has no gradient Adam's moments are 0, and so is its step; another optimiser may
    decay weights there, see `hold`.
    """
    params, opt_state = start

    def gradient(rows: Any) -> tuple[Params, Metrics]:
        return jax.grad(lambda params: loss(rows, params), has_aux=True)(params)

    max_rows = 0
    if obs is not None:
        max_rows = collectives.rows_at_once(
            lambda rows: loss(rows, params), minibatch, obs(minibatch)
        )
    grads, metrics = batching.mean_over_pieces(gradient, minibatch, max_rows)
    params, opt_state, norm = optim.apply_gradients(
        params,
        opt_state,
        collectives.mean(grads),
        rate,
        config.max_grad_norm,
        config.optimizer,
    )
    return (params, opt_state), {**metrics, "grad_norm": norm}


def hold(
    config: MinibatchFields,
    network: Any,
    method: str,
    obs: Any,
    old: Params,
    new: Params,
) -> Params:
    """Return `new`, and of `old` what a network's output does not depend on.

    For steps on a loss of one output alone, of the value or of the policy: an optimiser that decays
    weights moves the other's parameters too. Adam does not, so without `config.optimizer` it is
    `new`.

    Args:
        config: the agent's.
        network: whose parameters they are.
        method: the output that the loss is of, `policy` or `value`.
        obs: observations that it takes.
        old: parameters before the steps.
        new: after them.
    """
    if config.optimizer is None:
        return new
    leaves, structure = jax.tree.flatten(old)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (leaves, obs))
    program = jax.make_jaxpr(
        lambda leaves, obs: network.apply(jax.tree.unflatten(structure, leaves), obs, method=method)
    )(*shapes)
    needed = set(map(id, program.jaxpr.outvars))
    for equation in reversed(program.jaxpr.eqns):
        if needed & set(map(id, equation.outvars)):
            needed |= set(map(id, equation.invars))
    moves = (id(x) in needed for x in program.jaxpr.invars[: len(leaves)])
    pairs = zip(moves, leaves, jax.tree.leaves(new), strict=True)
    held = [after if moved else before for moved, before, after in pairs]
    return jax.tree.unflatten(structure, held)
