"""Geometric mixtures of two policies: between them, as seen by KL divergences.

    pi_mix = pi^(1-b) prior^b / Z      minimises  (1-b) KL(p || pi) + b KL(p || prior)  over p

It stays in the family: logits are averaged; of normals the precisions are, and the means by
precision.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.ops.distributions import Normal

__all__ = ["geometric"]

Scalar = jax.Array | float


def geometric(policy: Any, prior: Any, share: Scalar) -> Any:
    """Return the parameters of `pi^(1-b) prior^b / Z`.

        logits:   (1-b) log pi + b log prior
        normals:  1/s^2 = w_pi + w_prior,   m = s^2 (w_pi m_pi + w_prior m_prior),
                  w_pi = (1-b) / s_pi^2,   w_prior = b / s_prior^2

    Source: Heskes 1998 ("Selecting weighting factors in logarithmic opinion pools").

    Args:
        policy: logits `[..., A]`, or a `Normal` of two `[..., A]`.
        prior: of the same kind and shape.
        share: b in [0, 1], the prior's share.

    Returns:
        Normalised logits, or a `Normal`. An action that one of them never takes (a logit of -1e9)
        is not taken, unless that one has no share.
    """
    if isinstance(policy, Normal):
        ours = (1.0 - share) * jnp.exp(-2.0 * policy.log_std)
        theirs = share * jnp.exp(-2.0 * prior.log_std)
        mean = (ours * policy.mean + theirs * prior.mean) / (ours + theirs)
        return Normal(mean, -0.5 * jnp.log(ours + theirs))
    log_policy, log_prior = (jax.nn.log_softmax(x) for x in (policy, prior))
    return jax.nn.log_softmax((1.0 - share) * log_policy + share * log_prior)
