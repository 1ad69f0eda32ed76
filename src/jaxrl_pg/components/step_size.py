"""Choosing C, the temperature of the analytical update: how far a step to the target goes.

The config of an agent that makes the analytical update has `StepFields`, which say how C is chosen;
see `ops.closed_form` for the constants themselves. An agent whose target is known at sampled
actions alone has `TrustFields`, and holds a Gaussian back by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from jaxrl_pg.config import BaseConfig, Fraction, Positive
from jaxrl_pg.ops import closed_form, collectives, weighting
from jaxrl_pg.types import Metrics

__all__ = [
    "StepFields",
    "TrustFields",
    "constant",
    "improve",
    "move_cost",
    "predict",
    "progress",
    "running_eps",
]

Scalar = jax.Array | float


# Beside a config and not below BaseConfig: an inherited default would hide another parent's.
@dataclass(frozen=True, kw_only=True)
class StepFields:
    """Fields of every agent that makes the analytical update."""

    step_size: Literal[
        "kl", "paper", "tight", "scheduled", "fixed", "annealed", "annealed_step"
    ] = "kl"
    """what chooses C: a KL target (kl), a constant of the theory, a schedule, or temperature"""
    kl_target: Annotated[float, Positive] = 0.1
    """KL of the target from the old policy, in nats (step_size kl)"""
    c_start: Annotated[float, Positive] = 1.0
    """C at first, in units of eps (step_size scheduled)"""
    c_end: Annotated[float, Positive] = 0.1
    """C at last, in units of eps (step_size scheduled); in between by equal factors"""
    temperature: Annotated[float, Positive] = 1.0
    """C in units of reward, or at first: then C (annealed) or 1 / C (annealed_step) falls to 0"""
    eps_decay: Annotated[float, Fraction] = 0.9
    """share of the old eps, the running max |A|, that the next one keeps"""


@dataclass(frozen=True, kw_only=True)
class TrustFields:
    """Fields of every agent that fits a Gaussian to weighted samples."""

    mean_coef: float = 0.0
    """weight of KL(old || new) by the means of Gaussians"""
    std_coef: float = 1.0
    """weight of KL(old || new) by the covariances of Gaussians"""


def running_eps(eps: jax.Array, advantage: jax.Array, count: jax.Array, decay: Scalar) -> jax.Array:
    """Return the mean of the first batches' largest |A|, later an exponential one.

    Args:
        eps: `[]`, before this batch.
        advantage: of this device's share of the batch.
        count: `[]`, batches seen before.
        decay: share of the old eps that the new one keeps, once there are enough batches.
    """
    largest = collectives.mean(jnp.max(jnp.abs(advantage)))
    rate = jnp.maximum(1.0 / (count + 1.0), 1.0 - decay)
    return eps + rate * (largest - eps)


def progress(config: BaseConfig, iteration: jax.Array) -> jax.Array:
    """Return the share of the run's iterations that are done, from 0 to 1, for a schedule.

    For an annealed C or 1 / C, which would be 0 only after the last iteration, it is k / K in
    iteration k of K, and stays at that of the last where training goes on beyond it.
    """
    num = config.num_iterations
    if isinstance(config, StepFields) and config.step_size.startswith("annealed"):
        return jnp.minimum(iteration, num - 1) / num
    return iteration / max(num - 1, 1)


def improve(
    fields: StepFields,
    gamma: Scalar,
    log_policy: jax.Array,
    advantage: jax.Array,
    eps: jax.Array,
    progress: jax.Array,
    kind: weighting.Weighting = "exp",
    clip: Scalar = 20.0,
) -> tuple[jax.Array, Metrics]:
    """Return the closed-form target over all actions, and the metrics of `predict`.

    Args:
        fields: how C is chosen.
        gamma: discount.
        log_policy: `[N, A]` of the old policy, normalised.
        advantage: `[N, A]`, with mean 0 under it.
        eps: `[]`, the size of the advantages.
        progress: `[]`, from 0 to 1.
        kind: the factor of pi_old, see `ops.weighting`; C is chosen as for exp.
        clip: the largest factor (kind clipped).

    Returns:
        `log pi_target` `[N, A]`, and the metrics.
    """
    c = constant(
        fields,
        gamma,
        eps,
        progress,
        lambda kl_target, scale: closed_form.constant_for_target(
            log_policy, advantage, kl_target, scale
        ),
    )
    if kind == "exp":
        log_target = closed_form.log_target(log_policy, advantage, c)
    else:
        factors = weighting.log_factors(kind, advantage, c, clip)
        # A state in which f is 0 for every action stays as it is.
        factors -= jnp.max(factors, axis=1, keepdims=True)
        log_target = jax.nn.log_softmax(log_policy + factors)
    gain = jnp.mean(jnp.sum(jnp.exp(log_target) * advantage, axis=1))
    divergence = closed_form.target_kl(log_target, log_policy)
    return log_target, predict(gamma, c, eps, gain, divergence)


def constant(
    fields: StepFields,
    gamma: Scalar,
    eps: jax.Array,
    progress: jax.Array,
    solve: Callable[[Scalar, jax.Array], jax.Array],
) -> jax.Array:
    """Return C of one update.

    Args:
        fields: how it is chosen.
        gamma: discount.
        eps: `[]`, the size of the advantages.
        progress: `[]`, from 0 to 1, for a schedule.
        solve: `(kl_target, scale) -> C`, the C that moves the policy so far.
    """
    if fields.step_size == "kl":
        return solve(fields.kl_target, eps)
    if fields.step_size == "scheduled":
        return closed_form.scheduled_constant(fields.c_start, fields.c_end, progress, eps)
    if fields.step_size == "fixed":
        return jnp.asarray(fields.temperature)
    if fields.step_size == "annealed":
        return fields.temperature * (1.0 - progress)
    if fields.step_size == "annealed_step":
        return fields.temperature / (1.0 - progress)
    if fields.step_size == "paper":
        return closed_form.paper_constant(gamma, eps)
    return closed_form.proved_constant(gamma, eps)


def predict(
    gamma: Scalar, constant: jax.Array, eps: jax.Array, gain: jax.Array, kl: jax.Array
) -> Metrics:
    """Return metrics of the choice, and what the proved bound would promise of the update.

    Args:
        gamma: discount.
        constant: `[]` C.
        eps: `[]`.
        gain: `[]`, mean of A under the target.
        kl: `[]`, of the target from the old policy.
    """
    proved = closed_form.proved_constant(gamma, eps)
    certificate = closed_form.certificate(gain, kl, proved, gamma)
    return {
        "analytical/c": constant,
        "analytical/eps": eps,
        "analytical/c_over_eps": constant / jnp.maximum(eps, 1e-12),
        "analytical/estimated_certificate": certificate,
    }


def move_cost(
    fields: TrustFields, kl: Callable[[Any, Any], jax.Array], old: Any, new: Any
) -> jax.Array:
    """Return what Gaussians pay for moving (after MPO, Abdolmaleki et al. 2018).

        mean_coef KL(old || (mean_new, cov_old)) + std_coef KL(old || (mean_old, cov_new))

    Args:
        fields: the two weights.
        kl: of two Gaussians, `[N]`.
        old: the Gaussians before, a named tuple with `mean`.
        new: the Gaussians now.

    Returns:
        `[]`, the mean over rows.
    """
    moved = jnp.mean(kl(old, old._replace(mean=new.mean)))
    spread = jnp.mean(kl(old, new._replace(mean=old.mean)))
    return fields.mean_coef * moved + fields.std_coef * spread
