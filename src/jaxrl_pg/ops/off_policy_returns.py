"""Returns of one policy from the steps of another, over time-major rollouts `[T, B]`.

The policy pi is evaluated and another one, the behaviour policy mu, has acted. What an action of
mu says of pi is weighted with the importance ratio `rho = pi(a|s) / mu(a|s)`. `terminated`,
`truncated` and `next_value` are those of `ops.returns`.

    ratio = off_policy_returns.importance_ratio(log_prob, behaviour_log_prob)
    target, advantage = off_policy_returns.vtrace(
        ratio, reward, value, next_value, terminated, truncated, 0.99, 1.0, rho_clip=1.0, c_clip=1.0
    )
    loss = losses.policy_gradient_loss(log_prob, jnp.minimum(1.0, ratio) * advantage)
    loss += 0.5 * losses.value_loss(value, target)
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

__all__ = ["VTrace", "effective_share", "importance_ratio", "vtrace"]


class VTrace(NamedTuple):
    """What `vtrace` returns, both `[T, B]` in units of reward.

    Attributes:
        target: v_t, what the critic should learn.
        advantage: an estimate of `Q_pi(s_t, a_t) - V(s_t)`, not weighted with step t's own ratio.
    """

    target: jax.Array
    advantage: jax.Array


def importance_ratio(log_prob: jax.Array, behaviour_log_prob: jax.Array) -> jax.Array:
    """Return the importance ratio of each action, `rho = pi(a|s) / mu(a|s)`.

        E_{a~mu}[rho f(a)] = E_{a~pi}[f(a)]    wherever mu takes every action that pi takes

    It is per decision: of this action alone, and not of the trajectory that led to it, so that a
    policy gradient weighted with it is still over the states that mu visits. Source: Precup, Sutton
    and Singh 2000; Degris, White and Sutton 2012 (arXiv 1205.4839).

    Args:
        log_prob: `log pi(a|s)` of the actions that mu took, in nats.
        behaviour_log_prob: `log mu(a|s)`, the same shape.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([log_prob, behaviour_log_prob])
    return jnp.exp(log_prob - behaviour_log_prob)


def effective_share(ratio: jax.Array) -> jax.Array:
    """Return the share of the samples that weighted ones are worth, from 0 to 1.

        (mean rho)^2 / mean rho^2

    N weighted samples have about the variance of so many times N samples of pi itself (Kong 1992).
    It is 1 for equal ratios, and 1/N if a single one counts.

    Args:
        ratio: of any shape, not negative.
    """
    scaled = ratio / jnp.maximum(jnp.max(ratio), jnp.finfo(ratio.dtype).tiny)
    square = jnp.mean(jnp.square(scaled))
    return jnp.square(jnp.mean(scaled)) / jnp.maximum(square, jnp.finfo(ratio.dtype).tiny)


def vtrace(
    ratio: jax.Array,
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gamma: jax.Array | float,
    gae_lambda: jax.Array | float,
    rho_clip: jax.Array | float,
    c_clip: jax.Array | float,
) -> VTrace:
    """Estimate values and advantages of pi from steps of mu by V-trace.

    With `rho = min(rho_clip, ratio)` and `c = lambda min(c_clip, ratio)`, backwards from the last
    step,

        delta_t = r_t + gamma (1 - terminated_t) V(s'_t) - V(s_t)
        v_t     = V(s_t) + rho_t delta_t + gamma c_t (v_{t+1} - V(s_{t+1}))
        A_t     = delta_t + gamma lambda (v_{t+1} - V(s_{t+1}))

    where the last terms of v and A are 0 if step t ends its episode, by either flag, or the
    rollout. A truncated step still bootstraps from `V(s'_t)`, and a terminated one does not.
    `min(rho_clip, ratio) A` is what multiplies `grad log pi` in the policy gradient.

    The two clips have two meanings. `rho_clip` decides *what* is learned: the fixed point of v is
    the value of the policy proportional to `min(rho_clip mu, pi)`, which is pi where the clip never
    holds and comes nearer to mu the smaller it is. `c_clip` decides *how fast*, and how noisily: it
    leaves the fixed point where it is. Known estimators are

        ratio = 1, clips >= 1:            `gae` and its lambda-return; n-step returns for lambda = 1
        both clips infinite:              per-decision importance sampling (Precup et al. 2000), the
                                          off-policy actor-critic's (Degris et al. 2012), unbiased
                                          for lambda = 1 and of a variance that grows with T
        lambda = 0, or c_clip = 0:        TD(0) with ratios clipped at `rho_clip`
        rho_clip infinite, c_clip = 1:    Retrace's traces (Munos et al. 2016) for state values
        both clips 1:                     V-trace as published, of bounded variance

    Source: Espeholt et al. 2018 (arXiv 1802.01561), equation 1, remarks 1 and 2, section 4.2; for
    lambda < 1 the advantage mixes `v_{t+1}` and `V(s_{t+1})`, as RLax does, so that it is GAE's at
    ratio 1. Time limits as in `returns.gae`.

    Args:
        ratio: `[T, B]`, `pi(a|s) / mu(a|s)`.
        reward: `[T, B]`.
        value: `[T, B]`, `V(s_t)`.
        next_value: `[T, B]`, `V(s'_t)`; not read where `terminated`.
        terminated: `[T, B]` bool. Where both flags are set, the step counts as terminated.
        truncated: `[T, B]` bool.
        gamma: discount, in [0, 1].
        gae_lambda: trace decay, in [0, 1].
        rho_clip: largest ratio of a TD error, above 0; may be infinite.
        c_clip: largest ratio of a trace; should be at most `rho_clip`, and may be infinite.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([ratio, reward, value, next_value, terminated, truncated])
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    goes_on = ~(terminated | truncated)

    def add(
        after: jax.Array, row: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        ratio, delta, goes_on = row
        after = jnp.where(goes_on, gamma * gae_lambda * after, 0.0)
        error = jnp.minimum(rho_clip, ratio) * delta + jnp.minimum(c_clip, ratio) * after
        return error, (error, delta + after)

    start = jnp.zeros_like(delta[0])
    _, (error, advantage) = jax.lax.scan(add, start, (ratio, delta, goes_on), reverse=True)
    return VTrace(value + error, advantage)
