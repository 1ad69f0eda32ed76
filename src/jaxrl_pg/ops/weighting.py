"""What an action counts for, by its advantage: weights of the analytical update and of its kin.

    w(s,a) = f(A(s,a), C) / E f

    exp        f = exp(A / C)                      Li, Clavette and He 2022; REPS; MPO
    top_half   f = exp(A / C) where A >= median    V-MPO (Song et al. 2020, arXiv 1909.12238)
    clipped    f = min(exp(A / C), clip)           AWR (Peng et al. 2019, arXiv 1910.00177)
    binary     f = 1 where A > 0                   CRR (Wang et al. 2020, arXiv 2006.15134)

where the value 0 stands elsewhere. A policy is fitted to them by weighted likelihood,

    c = weighting.constant("top_half", advantage, kl_target, max_advantage)
    weight = jnp.exp(weighting.log_weights("top_half", advantage, c))
    loss = -jnp.mean(weight * log_prob)

Where the batch is split over devices, the median and E are over the whole of it; arrays are a
device's own share.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from jaxrl_pg.ops import closed_form, collectives

__all__ = ["Weighting", "constant", "log_factors", "log_weights"]

Scalar = jax.Array | float
Weighting = Literal["exp", "top_half", "clipped", "binary"]
_NEVER = -1e9  # the logarithm of a weight that is 0; -inf would make NaN of 0 log 0


def log_factors(
    kind: Weighting, advantage: jax.Array, constant: Scalar, clip: Scalar = 20.0
) -> jax.Array:
    """Return `log f`, of any shape; -1e9 stands for the logarithm of 0.

    Args:
        kind: a row of the table above.
        advantage: `[...]`, in units of reward; for top_half the whole batch of this device, since
            half of all its numbers are kept.
        constant: C > 0 `[]`, in units of reward.
        clip: the largest f (clipped).

    Raises:
        AssertionError: for another kind.
    """
    assert kind in get_args(Weighting), kind
    if kind == "top_half":
        return jnp.where(_in_top_half(advantage), advantage / constant, _NEVER)
    if kind == "clipped":
        return jnp.minimum(advantage / constant, jnp.log(clip))
    if kind == "binary":
        return jnp.where(advantage > 0, 0.0, _NEVER)
    return advantage / constant


def log_weights(
    kind: Weighting, advantage: jax.Array, constant: Scalar, clip: Scalar = 20.0
) -> jax.Array:
    """Return logarithms of weights whose mean over the batch is 1, `log f - log E f`.

    Kind exp gives `closed_form.log_weights`. Where f is 0 for the whole batch (binary, of
    advantages none of which is positive) all weights are 1.

    Args:
        kind: as in `log_factors`.
        advantage: `[N]`, in units of reward.
        constant: as in `log_factors`.
        clip: as in `log_factors`.

    Returns:
        `[N]`.
    """
    if kind == "exp":
        return closed_form.log_weights(advantage, constant)
    factors = log_factors(kind, advantage, constant, clip)
    # Of all devices at once: one of them may have none of what is kept.
    whole = collectives.gather(factors)
    return factors - (jax.nn.logsumexp(whole) - math.log(whole.size))


def constant(
    kind: Weighting, advantage: jax.Array, kl_target: Scalar, scale: jax.Array
) -> jax.Array:
    """Return the C at which the weights are `kl_target` from uniform ones over what is kept.

    It is the temperature eta that minimises the dual of V-MPO's E-step over the rows that are kept,

        g(eta) = eta kl_target + eta log E exp(A / eta),    dg / deta = kl_target - KL(w),

    found by bisection where V-MPO takes gradient steps. For kinds clipped and binary it is that of
    kind exp: C is chosen before weights are clipped.

    Args:
        kind: as in `log_factors`.
        advantage: `[N]`.
        kl_target: in nats.
        scale: `[]`, the size of the advantages, as in `closed_form.constant_for_kl`.

    Returns:
        `[]` in units of reward.
    """
    if kind != "top_half":
        return closed_form.constant_for_weights(advantage, kl_target, scale)
    log_share = jnp.log(collectives.mean(jnp.mean(_in_top_half(advantage), dtype=jnp.float32)))

    def divergence(constant: jax.Array) -> jax.Array:
        log_weight = log_weights(kind, advantage, constant)
        return collectives.mean(closed_form.weights_kl(log_weight)) + log_share

    return closed_form.constant_for_kl(divergence, kl_target, scale)


def _in_top_half(advantage: jax.Array) -> jax.Array:
    """Say which are among the larger half of the whole batch; equal ones are in or out together."""
    whole = jnp.sort(collectives.gather(advantage))
    return advantage >= whole[whole.size - max(1, whole.size // 2)]
