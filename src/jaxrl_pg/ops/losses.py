"""Policy and value losses, and the diagnostics that go with them.

Each takes arrays of any one shape and returns a scalar, the mean over all of them. `log_ratio` is
`log pi_new(a|s) - log pi_old(a|s)` of actions that pi_old took; where both are the same policy it
is 0, and the surrogates' gradients are the policy gradient.

    log_ratio = family.log_prob(policy(obs), action) - old_log_prob
    loss = losses.clipped_surrogate_loss(log_ratio, advantage, 0.2)
    loss += 0.5 * losses.value_loss(critic(obs), target)
"""

from __future__ import annotations

import math
from typing import Literal

import chex
import jax
import jax.numpy as jnp

__all__ = [
    "KlDirection",
    "approx_kl",
    "clip_fraction",
    "clipped_surrogate_loss",
    "clipped_value_loss",
    "explained_variance",
    "gradient_td_loss",
    "leave_one_out_ratio",
    "policy_gradient_loss",
    "surrogate_loss",
    "value_loss",
]

KlDirection = Literal["old_new", "new_old"]


def policy_gradient_loss(log_prob: jax.Array, weight: jax.Array) -> jax.Array:
    """Return the loss of the score-function estimator: `-mean(log pi(a|s) weight)`.

    Its gradient is minus the policy gradient, and its value means nothing. The weight is held
    constant and decides the estimator:

        return of the episode                 REINFORCE (Williams 1992)
        return less a baseline of the state   REINFORCE with a baseline, of less variance
        Q(s, a)                               the policy gradient theorem (Sutton et al. 2000)
        advantage, e.g. `returns.gae`         advantage actor-critic

    For the gradient of the discounted objective, step t's weight carries a factor `gamma^t`, which
    is usually left out.

    Args:
        log_prob: `log pi(a|s)` of the actions taken, in nats.
        weight: the same shape, in units of reward.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([log_prob, weight])
    weight = jax.lax.stop_gradient(weight)
    return -jnp.mean(jnp.where(weight == 0, 0.0, log_prob * weight))


def surrogate_loss(log_ratio: jax.Array, advantage: jax.Array) -> jax.Array:
    """Return the importance-sampled surrogate, to be minimised: `-mean(ratio A)`.

    It estimates the new policy's gain over the old one on the old one's states, to first order
    `(1 - gamma) (J(pi_old) - J(pi_new))` where states are weighted by their discounted visits. It
    is what TRPO optimises inside its trust region, and `clipped_surrogate_loss` with an endless
    `clip_eps`. Source: Schulman et al. 2015 (arXiv 1502.05477), equation 14; Schulman et al. 2017
    (arXiv 1707.06347), equation 6.

    Args:
        log_ratio: `log pi_new(a|s) - log pi_old(a|s)`.
        advantage: the same shape.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([log_ratio, advantage])
    return -jnp.mean(_ratio(log_ratio, advantage == 0) * advantage)


def clipped_surrogate_loss(
    log_ratio: jax.Array, advantage: jax.Array, clip_eps: jax.Array | float
) -> jax.Array:
    """Return PPO's clipped objective, to be minimised.

        -mean(min(ratio A, clip(ratio, 1 - eps, 1 + eps) A))

    The minimum makes it a pessimistic bound of `surrogate_loss`. A sample has no gradient where
    its ratio has left the band in the direction that its advantage asks for: above `1 + eps` with
    A > 0, below `1 - eps` with A < 0. On the other sides the gradient stays, so that a policy that
    has gone too far comes back. At ratio 1, the first minibatch of an iteration, loss and gradient
    are those of `surrogate_loss`, whatever eps is.

    Source: Schulman et al. 2017 (arXiv 1707.06347), equation 7.

    Args:
        log_ratio: `log pi_new(a|s) - log pi_old(a|s)`.
        advantage: the same shape.
        clip_eps: half-width of the band around ratio 1.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([log_ratio, advantage])
    ratio = _ratio(log_ratio, advantage >= 0)
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))


def _ratio(log_ratio: jax.Array, harmless: jax.Array) -> jax.Array:
    """Return `exp(log_ratio)`, finite where the loss does not depend on how large it is.

    There an infinite ratio would be multiplied by 0, in the loss or in its gradient.
    """
    large = 0.9 * math.log(jnp.finfo(log_ratio.dtype).max)
    return jnp.exp(jnp.where(harmless, jnp.minimum(log_ratio, large), log_ratio))


def value_loss(value: jax.Array, target: jax.Array) -> jax.Array:
    """Return half the mean squared error of a value estimate: `mean((V - target)^2) / 2`.

    Args:
        value: V.
        target: the same shape, for example the lambda-return `returns.gae(...) + value`.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([value, target])
    return 0.5 * jnp.mean(jnp.square(value - target))


def gradient_td_loss(value: jax.Array, target: jax.Array, expected_error: jax.Array) -> jax.Array:
    """Return a loss whose steps are gradient TD's with the gradient correction (TDC).

        e = v - V,    mean(h v - e V) + mean((e - h)^2) / 2

    where e is constant everywhere and h in the first part. So the steps of V's parameters and of
    h's are

        e grad V - h grad v    and    (e - h) grad h

    The first is that of `value_loss` less `h grad v`, in which the target v is not constant. With h
    the expectation of e in every state they descend a true objective, the projected Bellman error,
    and converge off-policy where the steps of `value_loss` may diverge. Where h is 0, or v depends
    on no parameter, nothing is corrected.

    Source: Sutton et al. 2009 (ICML), for linear V and one step; Maei 2011 (thesis), for importance
    ratios and traces, both of which are v's here (`off_policy_returns.vtrace`); Patterson, White
    and White 2022 (arXiv 2104.13844), for networks, without their decay of h's parameters. The
    value means nothing.

    Args:
        value: V.
        target: v, differentiable in the parameters of V, the same shape.
        expected_error: h, the same shape, with parameters of its own.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([value, target, expected_error])
    error = jax.lax.stop_gradient(target - value)
    corrected = jax.lax.stop_gradient(expected_error) * target - error * value
    return jnp.mean(corrected) + value_loss(expected_error, error)


def clipped_value_loss(
    value: jax.Array, old_value: jax.Array, target: jax.Array, clip_eps: jax.Array | float
) -> jax.Array:
    """Return a value loss that stops rewarding moves beyond `clip_eps` from the old estimate.

        mean(max((V - target)^2, (V_old + clip(V - V_old, -eps, eps) - target)^2)) / 2

    It is the counterpart of `clipped_surrogate_loss` in the authors' code of PPO (OpenAI
    baselines, `ppo2/model.py`), and not in their paper; an endless eps gives `value_loss`.

    Args:
        value: the current estimates.
        old_value: the estimates made when the data were collected, the same shape.
        target: the lambda-returns, the same shape.
        clip_eps: half-width of the band, in units of value: it depends on the scale of rewards.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([value, old_value, target])
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    error = jnp.maximum(jnp.square(value - target), jnp.square(clipped - target))
    return 0.5 * jnp.mean(error)


def leave_one_out_ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Return `sum_{j != i} numerator_j / sum_{j != i} denominator_j` for every i.

    This is a baseline for `policy_gradient_loss`. A constant baseline that is estimated from the
    very returns it is subtracted from biases the gradient; one that is estimated from all other
    samples does not. With `s_i` the sum of sample i's scores `grad log pi` and `u_i` that of its
    scores times returns, the arguments choose which constant is estimated:

        sum of returns, number of steps   the others' mean return (RLOO, for one-step samples)
        u_i . s_i, s_i . s_i              the constant of least variance, `E[u.s] / E[s.s]`
        u_i * s_i, s_i * s_i              that of each parameter by itself, on a second axis

    Source: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free"; the constant of
    least variance is that of Greensmith, Bartlett and Baxter 2004, "Variance reduction techniques
    for gradient estimates in reinforcement learning".

    Args:
        numerator: `[N]` or `[N, n]`, N at least 2.
        denominator: the same shape, not negative; where the others' sum is 0, so is the ratio.

    Returns:
        The same shape.
    """
    # Summing the others, instead of subtracting from the sum, keeps small ones exact.
    others = 1.0 - jnp.eye(numerator.shape[0])
    above, below = others @ numerator, others @ denominator
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1.0), 0.0)


def approx_kl(log_ratio: jax.Array, direction: KlDirection = "old_new") -> jax.Array:
    """Estimate the KL divergence of two policies in nats, from samples of pi_old.

        old_new   KL(pi_old || pi_new)    mean(ratio - 1 - log ratio)
        new_old   KL(pi_new || pi_old)    mean(ratio log ratio - (ratio - 1))

    The first is the k3 of Schulman 2020, "Approximating KL divergence"
    (joschu.net/blog/kl-approx.html). Of the three named there,

        k1 = -log ratio                 is unbiased and may be negative,
        k2 = (log ratio)^2 / 2          is biased and never negative,
        k3 = (ratio - 1) - log ratio    is unbiased and never negative;

    k3 is k1 with `ratio - 1`, whose mean is 0, as a control variate. The second is `ratio log
    ratio`, the other divergence's importance-weighted sample, with the same control variate; it is
    unbiased and never negative too, and at most 1 where the new policy gives an action up, where
    the first one has no bound. Close to `ratio = 1` both are k2.

    Args:
        log_ratio: `log pi_new(a|s) - log pi_old(a|s)`.
        direction: which of the two.
    """
    if direction == "old_new":
        return jnp.mean(jnp.expm1(log_ratio) - log_ratio)
    smallest = math.log(jnp.finfo(log_ratio.dtype).tiny)  # below it the sample is 1
    log_ratio = jnp.maximum(log_ratio, smallest)
    excess = jnp.expm1(log_ratio)
    return jnp.mean(excess * log_ratio - (excess - log_ratio))


def clip_fraction(log_ratio: jax.Array, clip_eps: jax.Array | float) -> jax.Array:
    """Return the share of samples whose ratio lies outside `[1 - eps, 1 + eps]`.

    Not all of these lose their gradient: see `clipped_surrogate_loss`.
    """
    return jnp.mean(jnp.abs(jnp.expm1(log_ratio)) > clip_eps)


def explained_variance(value: jax.Array, target: jax.Array) -> jax.Array:
    """Return `1 - Var(target - V) / Var(target)`, the critic's coefficient of determination.

    1 is a perfect critic but for an offset, 0 one no better than a constant, and less than 0 one
    that is worse. A constant target has no variance to explain: 0 is returned.

    Args:
        value: V.
        target: the same shape, the returns.
    """
    total = jnp.var(target)
    varies = (jnp.max(target) > jnp.min(target)) & (total > 0)
    return jnp.where(varies, 1.0 - jnp.var(target - value) / jnp.where(varies, total, 1.0), 0.0)
