"""How far a step to a closed-form target goes, for every agent that makes one.

The config of an agent that makes the analytical update has `StepFields` and says by `kl_target` and
the like how C is chosen; see `ops.closed_form` for the constants themselves. One whose target is
known at sampled actions alone has `TrustFields` and holds a Gaussian back by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.ops import closed_form, collectives
from jaxrl_pg.types import Metrics

__all__ = [
    "STEPS",
    "StepFields",
    "TrustFields",
    "aim",
    "constant",
    "move_cost",
    "predict",
    "running_eps",
]

STEPS = ("kl", "paper", "tight", "scheduled")


@dataclass(frozen=True, kw_only=True)
class StepFields:
    """Fields of every agent that makes the analytical update."""

    step: str = "kl"
    """what chooses C: kl, paper, tight or scheduled"""
    kl_target: float = 0.1
    """KL of the target from the old policy, in nats (step kl)"""
    c_start: float = 1.0
    """C at first, in units of eps (step scheduled)"""
    c_end: float = 0.1
    """C at last, in units of eps (step scheduled); in between by equal factors"""
    eps_decay: float = 0.9
    """share of the old eps, the running max |A|, that the next one keeps"""


@dataclass(frozen=True, kw_only=True)
class TrustFields:
    """Fields of every agent that fits a Gaussian to weighted samples."""

    mean_coef: float = 0.0
    """weight of KL(old || new) by the means of Gaussians"""
    std_coef: float = 1.0
    """weight of KL(old || new) by the covariances of Gaussians"""


def running_eps(config: Any, eps: jax.Array, advantage: jax.Array, count: jax.Array) -> jax.Array:
    """The mean of the first batches' largest |A|, later an exponential one.

    Args:
        config: with `eps_decay`.
        eps: `[]`, before.
        advantage: of this device's share of the batch.
        count: `[]`, batches seen before.
    """
    largest = collectives.mean(jnp.max(jnp.abs(advantage)), config.num_devices)
    rate = jnp.maximum(1.0 / (count + 1.0), 1.0 - config.eps_decay)
    return eps + rate * (largest - eps)


def aim(
    config: Any, log_policy: jax.Array, advantage: jax.Array, eps: jax.Array, iteration: jax.Array
) -> tuple[jax.Array, Metrics]:
    """The closed form over all actions, and the metrics of `predict`.

    Args:
        config: with `StepFields`.
        log_policy: `[N, A]` of the old policy, normalised.
        advantage: `[N, A]`, with mean 0 under it.
        eps: `[]`, the size of the advantages.
        iteration: `[]`, iterations done.

    Returns:
        `log pi_target` `[N, A]`, and the metrics.
    """
    solve = partial(closed_form.constant_for_target, log_policy, advantage)
    c = constant(config, eps, iteration, solve)
    log_target = closed_form.log_target(log_policy, advantage, c)
    gain = jnp.mean(jnp.sum(jnp.exp(log_target) * advantage, axis=1))
    divergence = closed_form.target_kl(log_target, log_policy)
    return log_target, predict(config, c, eps, gain, divergence)


def constant(
    config: Any, eps: jax.Array, iteration: jax.Array, solve: Callable[..., jax.Array]
) -> jax.Array:
    """C of one update.

    Args:
        config: with `StepFields`.
        eps: `[]`, the size of the advantages.
        iteration: `[]`, iterations done, for a schedule.
        solve: `(kl_target, scale, mean) -> C`, the C that moves the policy so far.
    """
    if config.step == "kl":
        return solve(
            config.kl_target, eps, partial(collectives.mean, num_devices=config.num_devices)
        )
    if config.step == "scheduled":
        progress = iteration / max(config.num_iterations - 1, 1)
        return closed_form.scheduled_constant(config.c_start, config.c_end, progress, eps)
    by = closed_form.paper_constant if config.step == "paper" else closed_form.proved_constant
    return by(config.gamma, eps)


def predict(
    config: Any, constant: jax.Array, eps: jax.Array, gain: jax.Array, kl: jax.Array
) -> Metrics:
    """Metrics of the choice, and what the bound that is proved would promise of the update.

    Args:
        config: with `gamma`.
        constant: `[]` C.
        eps: `[]`.
        gain: `[]`, mean of A under the target.
        kl: `[]`, of the target from the old policy.
    """
    proved = closed_form.proved_constant(config.gamma, eps)
    certificate = closed_form.certificate(gain, kl, proved, config.gamma)
    return {
        "analytical/c": constant,
        "analytical/eps": eps,
        "analytical/c_over_eps": constant / jnp.maximum(eps, 1e-12),
        "analytical/estimated_certificate": certificate,
    }


def move_cost(config: Any, kl: Callable[[Any, Any], jax.Array], old: Any, new: Any) -> jax.Array:
    """What Gaussians pay for moving (after MPO, Abdolmaleki et al. 2018).

        mean_coef KL(old || (mean_new, cov_old)) + std_coef KL(old || (mean_old, cov_new))

    Args:
        config: with `TrustFields`.
        kl: of two Gaussians, `[N]`.
        old: the Gaussians before, a named tuple with `mean`.
        new: the Gaussians now.

    Returns:
        `[]`, the mean over rows.
    """
    moved = jnp.mean(kl(old, old._replace(mean=new.mean)))
    spread = jnp.mean(kl(old, new._replace(mean=old.mean)))
    return config.mean_coef * moved + config.std_coef * spread
