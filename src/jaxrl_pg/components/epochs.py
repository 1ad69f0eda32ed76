"""Gradient steps on minibatches of a rollout, as most on-policy agents make them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from jaxrl_pg.components import optim
from jaxrl_pg.components.on_policy import OnPolicyConfig
from jaxrl_pg.ops import batching, collectives
from jaxrl_pg.types import Metrics

__all__ = ["Carry", "EpochsConfig", "Loss", "fit", "step"]

Carry = tuple[Any, Any]  # parameters, and their optimiser's state
Loss = Callable[[Any, Any], tuple[jax.Array, Metrics]]  # of rows and parameters


@dataclass(frozen=True, kw_only=True)
class EpochsConfig(OnPolicyConfig):
    """Fields of agents that pass over a rollout several times, in minibatches."""

    num_epochs: int = 4
    """passes over a rollout"""
    num_minibatches: int = 32
    """gradient steps per pass"""
    gae_lambda: float = 0.95
    """decay of the advantage estimate's trace"""

    def check(self) -> None:
        """Refuse a rollout that does not split."""
        super().check()
        if self.steps_per_iteration % (self.num_minibatches * self.num_devices):
            raise ValueError(
                f"num_envs={self.num_envs} x num_steps={self.num_steps} does not split into "
                f"num_minibatches={self.num_minibatches} on num_devices={self.num_devices}: "
                "give an even split"
            )


def fit(
    config: Any, loss: Loss, rows: Any, carry: Carry, key: jax.Array, learning_rate: jax.Array
) -> tuple[Carry, Metrics]:
    """`num_epochs` passes over the rows, each in another order.

    Args:
        config: with `num_epochs`, `num_minibatches` and the fields that `step` reads.
        loss: `(rows, params) -> (loss, metrics)`, a mean over rows.
        rows: pytree of `[N, ...]`.
        carry: where to start from.
        key: consumed.
        learning_rate: of Adam.

    Returns:
        Parameters and optimiser's state; metrics of the last pass, `[num_minibatches]` each.
    """
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    indices = batching.minibatch_indices(key, num_rows, config.num_epochs, config.num_minibatches)
    carry, metrics = jax.lax.scan(partial(step, config, learning_rate, loss, rows), carry, indices)
    return carry, jax.tree.map(lambda x: x[-config.num_minibatches :], metrics)


def step(
    config: Any, learning_rate: jax.Array, loss: Loss, rows: Any, carry: Carry, indices: jax.Array
) -> tuple[Carry, Metrics]:
    """One step of Adam on some of the rows; devices average their gradients.

    Where the loss has no gradient the moments are 0, and so is the step.
    """
    params, opt_state = carry
    few = jax.tree.map(lambda x: x[indices], rows)
    grads, metrics = jax.grad(partial(loss, few), has_aux=True)(params)
    grads = collectives.mean(grads, config.num_devices)
    params, opt_state, norm = optim.apply_gradients(
        params, opt_state, grads, learning_rate, config.max_grad_norm
    )
    return (params, opt_state), {**metrics, "grad_norm": norm}
