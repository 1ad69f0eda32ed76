"""Maximum-entropy learning: soft values, targets and losses, on arrays.

A policy at `N` observations is given by `K` judged actions each: their probabilities, their
log-probabilities and their action values, all `[N, K]`. For a finite action set these are all
actions, and sums over K are exact expectations. For real actions K is 1: one reparameterised
draw with weight 1 and the logarithm of its density.

Haarnoja et al. is "Soft Actor-Critic" (2018, arXiv 1801.01290), whose temperature is 1; with one
and learned: "Soft Actor-Critic Algorithms and Applications" (2018, arXiv 1812.05905).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

__all__ = [
    "Judged",
    "backup",
    "entropy",
    "expected_policy_loss",
    "expected_value",
    "follow",
    "kl_projection_loss",
    "optimal_value",
    "q_loss",
    "temperature_loss",
]

Scalar = jax.Array | float


class Judged(NamedTuple):
    """Actions of a policy and what they are worth.

    Attributes:
        prob: `[N, K]` weight of each action in an expectation; 1 where K is 1.
        log_prob: `[N, K]` logarithm of the probability, or of the density, in nats.
        q: `[N, K]` action values, the entropy of this step not counted.
    """

    prob: jax.Array
    log_prob: jax.Array
    q: jax.Array


def entropy(judged: Judged) -> jax.Array:
    """`H(s) = -E_a log pi(a|s)` `[N]`, in nats; an estimate where K is 1."""
    return -jnp.sum(judged.prob * judged.log_prob, axis=-1)


def expected_value(judged: Judged, alpha: Scalar) -> jax.Array:
    """`V(s) = E_a[Q(s,a) - alpha log pi(a|s)]` `[N]` (Haarnoja et al., equation 3)."""
    chex.assert_equal_shape(judged)
    return jnp.sum(judged.prob * (judged.q - alpha * judged.log_prob), axis=-1)


def optimal_value(q: jax.Array, alpha: Scalar) -> jax.Array:
    """`V(s) = alpha log sum_a exp(Q(s,a) / alpha)`, `[...]` from `[..., A]`.

    The largest `expected_value` that any policy has, reached by `softmax(Q / alpha)`. Source:
    Haarnoja et al. 2017 (arXiv 1702.08165), equation 6, as a sum.
    """
    return alpha * jax.nn.logsumexp(q / alpha, axis=-1)


def backup(
    reward: jax.Array, terminated: jax.Array, next_value: jax.Array, gamma: Scalar
) -> jax.Array:
    """`r + gamma (1 - terminated) V(s')` `[N]` (Haarnoja et al., equation 8), no gradient.

    Args:
        reward: `[N]`.
        terminated: `[N]` bool; false where a time limit cut the episode off.
        next_value: `[N]` soft value of the step's own successor.
        gamma: discount.
    """
    chex.assert_equal_shape([reward, terminated, next_value])
    future = jnp.where(terminated, 0.0, next_value)
    return jax.lax.stop_gradient(reward + gamma * future)


def q_loss(q: jax.Array, target: jax.Array) -> jax.Array:
    """`J_Q = sum_k mean((Q_k - target)^2) / 2` (Haarnoja et al., equation 7).

    Args:
        q: `[num_critics, N]`, of the actions taken.
        target: `[N]`, the same for all critics.
    """
    chex.assert_shape(q, (None, *target.shape))
    return 0.5 * jnp.sum(jnp.mean(jnp.square(q - target[None]), axis=1))


def expected_policy_loss(judged: Judged, alpha: Scalar) -> jax.Array:
    """`J_pi = mean_s E_a[alpha log pi(a|s) - Q(s,a)]` (arXiv 1812.05905, equations 7 and 9).

    With K = 1 the gradient passes through the draw, by way of `q` and `log_prob`
    (reparameterisation); with all actions it is exact.
    """
    return -jnp.mean(expected_value(judged, alpha))


def kl_projection_loss(judged: Judged, alpha: Scalar) -> jax.Array:
    """`mean_s KL(pi(.|s) || exp(Q(s,.) / alpha) / Z(s))` (Haarnoja et al., equation 10), exact.

    With all actions only. It is `expected_policy_loss / alpha` and a constant of the policy's:
    0 at best, and its gradient keeps its size when alpha is small.
    """
    chex.assert_equal_shape(judged)
    target = jax.nn.log_softmax(judged.q / alpha, axis=-1)
    return jnp.mean(jnp.sum(judged.prob * (judged.log_prob - target), axis=-1))


def temperature_loss(
    log_alpha: jax.Array, policy_entropy: jax.Array, target_entropy: Scalar
) -> jax.Array:
    """`J(alpha) = log(alpha) mean(H - H_target)`: alpha rises while the entropy is too small.

    Source: arXiv 1812.05905, equation 18, with log(alpha) for alpha as the authors' code has it:
    the same sign, and a step that does not shrink with alpha. No gradient reaches the policy.

    Args:
        log_alpha: `[]`.
        policy_entropy: `[N]` in nats.
        target_entropy: in nats.
    """
    surplus = jax.lax.stop_gradient(policy_entropy) - target_entropy
    return log_alpha * jnp.mean(surplus)


def follow(target: Any, params: Any, tau: Scalar) -> Any:
    """The target network's exponential average, `target + tau (params - target)`, of a pytree.

    Source: Haarnoja et al., algorithm 1's last line.
    """
    return jax.tree.map(lambda t, p: t + tau * (p - t), target, params)
