"""Holding the policy to the old one by learned multipliers, as MPO and V-MPO do.

With `trust="multipliers"` the loss of the policy gains, for each bounded divergence D,

    sg(m) D(old || new) + m (bound - sg(D)),    m = exp(l),

where sg lets no gradient through: the first term holds the policy, and the second one, descended in
l, raises m while D is beyond its bound and lowers it while it is within. A normal has two such
divergences, by its mean with the old covariance and by its covariance with the old mean; a finite
set's policy has one. Source: Abdolmaleki et al. 2018 (arXiv 1812.02256), section 4.2; Song et al.
2020 (arXiv 1909.12238), section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from jaxrl_pg.components.step_size import TrustFields
from jaxrl_pg.config import Positive
from jaxrl_pg.types import Metrics

__all__ = ["ConstraintFields", "holding_loss", "report", "start"]


@dataclass(frozen=True, kw_only=True)
class ConstraintFields(TrustFields):
    """Fields of every agent that can hold its policy by learned multipliers."""

    trust: Literal["coefficients", "multipliers"] = "coefficients"
    """what holds the policy to the old one: mean_coef and std_coef, of Gaussians (coefficients), or
    learned weights that aim at max_kl and max_kl_std (multipliers)"""
    max_kl: Annotated[float, Positive] = 0.01
    """bound on KL(old || new), of Gaussians by their means, in nats (trust multipliers)"""
    max_kl_std: Annotated[float, Positive] = 1e-4
    """bound on KL(old || new) by the covariances of Gaussians, in nats (trust multipliers)"""


def start(fields: ConstraintFields, discrete: bool) -> tuple[jax.Array, ...]:
    """Return log multipliers `[1]` or `[2]`, m = 1 at first, in a tuple; an empty one for none."""
    return (jnp.zeros(1 if discrete else 2),) if fields.trust == "multipliers" else ()


def holding_loss(
    fields: ConstraintFields,
    kl: Callable[[Any, Any], jax.Array],
    old: Any,
    new: Any,
    log_multipliers: jax.Array,
) -> jax.Array:
    """Return the loss that holds the policy and teaches its multipliers.

    Args:
        fields: the bounds.
        kl: of two distributions, `[N]`.
        old: the parameters before: logits, or a named tuple with `mean`.
        new: the parameters now.
        log_multipliers: l, `[1]` or `[2]`.

    Returns:
        `[]`, the mean over rows.
    """
    if isinstance(old, jax.Array):
        moved = jnp.mean(kl(old, new))[None]
    else:
        mean, spread = old._replace(mean=new.mean), new._replace(mean=old.mean)
        moved = jnp.stack([jnp.mean(kl(old, mean)), jnp.mean(kl(old, spread))])
    bounds = jnp.stack([jnp.asarray(fields.max_kl), jnp.asarray(fields.max_kl_std)])[: moved.size]
    multipliers, fixed = jnp.exp(log_multipliers), jax.lax.stop_gradient
    return jnp.sum(fixed(multipliers) * moved + multipliers * (bounds - fixed(moved)))


def report(log_multipliers: tuple[jax.Array, ...]) -> Metrics:
    """Return the multipliers as metrics; none for an empty tuple."""
    names = ("policy/kl_coef", "policy/kl_coef_std")
    return {name: m for x in log_multipliers for name, m in zip(names, jnp.exp(x), strict=False)}
