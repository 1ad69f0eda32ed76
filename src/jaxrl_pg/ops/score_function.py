"""What the score-function (REINFORCE) estimator of a policy gradient needs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["leave_one_out_ratio"]


def leave_one_out_ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """`sum_{j != i} numerator_j / sum_{j != i} denominator_j` for every `i`.

    A constant baseline that is estimated from the very returns it is subtracted from biases the
    gradient; one that is estimated from all other samples does not (Kool et al. 2019, "Buy 4
    REINFORCE samples, get a baseline for free").

    Args:
        numerator: `[N]`, N at least 2.
        denominator: `[N]`, not negative; where the others' sum is 0, so is the ratio.
    """
    # Summing the others, instead of subtracting from the sum, keeps small ones exact.
    others = 1.0 - jnp.eye(numerator.shape[0])
    above, below = others @ numerator, others @ denominator
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1.0), 0.0)
