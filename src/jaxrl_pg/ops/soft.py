"""Maximum-entropy reinforcement learning: soft values, targets and losses, on arrays.

A policy at `N` observations is given by `K` actions each: their probabilities, their
log-probabilities and their q-values, all `[N, K]`. For a finite action set these are all actions,
and sums over K are exact expectations. For real actions K is 1: one reparameterised draw with
weight 1 and the logarithm of its density. One step of soft actor-critic, for a finite action set:

    log_prob = jax.nn.log_softmax(logits)
    actions = soft.ActionValues(jnp.exp(log_prob), log_prob, jnp.min(q, axis=0))
    policy_loss = soft.expected_policy_loss(actions, alpha)
    temperature_loss = soft.temperature_loss(log_alpha, soft.entropy(actions), target_entropy)
    target = soft.backup(reward, terminated, soft.expected_value(next_actions, alpha), gamma)
    critic_loss = soft.q_loss(q_taken, target)

The temperature alpha is in units of reward: what a nat of entropy is worth. At alpha = 0 the soft
values are the plain ones.

Haarnoja et al. is "Soft Actor-Critic" (2018, arXiv 1801.01290), whose temperature is 1; with one
and learned: "Soft Actor-Critic Algorithms and Applications" (2018, arXiv 1812.05905).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

__all__ = [
    "ActionValues",
    "backup",
    "entropy",
    "expected_policy_loss",
    "expected_value",
    "kl_projection_loss",
    "optimal_value",
    "optimal_value_of_box",
    "polyak_update",
    "q_loss",
    "temperature_loss",
]

Scalar = jax.Array | float


class ActionValues(NamedTuple):
    """Actions of a policy and their values.

    Attributes:
        prob: `[N, K]` weight of each action in an expectation; 1 where K is 1.
        log_prob: `[N, K]` logarithm of the probability, or of the density, in nats.
        q: `[N, K]` q-values in units of reward; they do not count the entropy of this step.
    """

    prob: jax.Array
    log_prob: jax.Array
    q: jax.Array


def entropy(actions: ActionValues) -> jax.Array:
    """Return `H(s) = -E_a log pi(a|s)` `[N]`, in nats; an estimate where K is 1."""
    return -jnp.sum(actions.prob * _log_of_taken(actions), axis=-1)


def _log_of_taken(actions: ActionValues) -> jax.Array:
    """Return the logarithms, and 0 for actions of probability 0, because 0 log 0 = 0."""
    return jnp.where(actions.prob == 0, 0.0, actions.log_prob)


def expected_value(actions: ActionValues, alpha: Scalar) -> jax.Array:
    """Return the soft value of a policy, `V(s) = E_a[Q(s,a) - alpha log pi(a|s)]`.

    It is `E_a Q + alpha H`. As the value of a `backup` it gives the target of soft actor-critic;
    with alpha = 0 that of expected Sarsa. Source: Haarnoja et al., equation 3.

    Args:
        actions: `[N, K]`.
        alpha: temperature, in units of reward.

    Returns:
        `[N]` in units of reward.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape(actions)
    return jnp.sum(actions.prob * (actions.q - alpha * _log_of_taken(actions)), axis=-1)


def optimal_value(q: jax.Array, alpha: Scalar) -> jax.Array:
    """Return the optimal soft value, `V(s) = alpha log sum_a exp(Q(s,a) / alpha)`.

    It is the largest `expected_value` that any policy has, reached by `softmax(Q / alpha)`. As the
    value of a `backup` it gives soft Q-learning, and in the limit alpha -> 0, where it is
    `max_a Q(s,a)`, Q-learning; alpha = 0 is that limit. Source: Haarnoja et al. 2017 (arXiv
    1702.08165), equation 6, with a sum for the integral.

    Args:
        q: `[..., A]`, of all actions.
        alpha: temperature, in units of reward, not negative and, where it is traced, above 0.

    Returns:
        `[...]` in units of reward.
    """
    if not isinstance(alpha, jax.core.Tracer) and alpha == 0:
        return jnp.max(q, axis=-1)
    return alpha * jax.nn.logsumexp(q / alpha, axis=-1)


def optimal_value_of_box(q: jax.Array, alpha: Scalar, num_dimensions: int) -> jax.Array:
    """Estimate the optimal soft value over real actions within [-1, 1].

        V(s) = alpha log integral exp(Q(s,a) / alpha) da
             ~ alpha (log mean_k exp(Q(s,a_k) / alpha) + D log 2)

    The actions a_k are uniform, with density 2^-D. The estimate of the integral has no bias; by
    Jensen's inequality that of its logarithm is too small in the mean, the more so the fewer
    actions there are and the narrower the peak of Q is. Source: Haarnoja et al. 2017 (arXiv
    1702.08165), equation 9.

    Args:
        q: `[..., K]` of the drawn actions.
        alpha: temperature, in units of reward, above 0.
        num_dimensions: D, of an action.

    Returns:
        `[...]` in units of reward.
    """
    log_volume = num_dimensions * jnp.log(2.0)
    return optimal_value(q, alpha) + alpha * (log_volume - jnp.log(1.0 * q.shape[-1]))


def backup(
    reward: jax.Array, terminated: jax.Array, next_value: jax.Array, gamma: Scalar
) -> jax.Array:
    """Return the critic's target, `r + gamma (1 - terminated) V(s')`, without a gradient.

    V decides the method: `expected_value` or `optimal_value`. Source: Haarnoja et al., equation 8.

    Args:
        reward: `[N]`.
        terminated: `[N]` bool; false where a time limit cut the episode off, which has a future.
        next_value: `[N]` soft value of the step's own successor; not read where `terminated`.
        gamma: discount, in [0, 1].

    Returns:
        `[N]` in units of reward.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([reward, terminated, next_value])
    future = jnp.where(terminated, 0.0, next_value)
    return jax.lax.stop_gradient(reward + gamma * future)


def q_loss(q: jax.Array, target: jax.Array) -> jax.Array:
    """Return the critics' loss, `J_Q = sum_k mean((Q_k - target)^2) / 2`.

    Every critic learns as if it were alone. Source: Haarnoja et al., equation 7.

    Args:
        q: `[num_critics, N]`, of the actions taken.
        target: `[N]`, the same for all critics, from `backup`.

    Raises:
        AssertionError: if the shapes do not fit together.
    """
    chex.assert_shape(q, (None, *target.shape))
    return 0.5 * jnp.sum(jnp.mean(jnp.square(q - target[None]), axis=1))


def expected_policy_loss(actions: ActionValues, alpha: Scalar) -> jax.Array:
    """Return the policy's loss, `J_pi = mean_s E_a[alpha log pi(a|s) - Q(s,a)]`.

    With K = 1 the gradient passes through the draw, by way of `q` and `log_prob`
    (reparameterisation); with all actions it is exact. At alpha = 0 and without noise in the draw
    it is the loss of deterministic policy gradients (DDPG). Source: arXiv 1812.05905, equations 7
    and 9.

    Args:
        actions: `[N, K]`.
        alpha: temperature, in units of reward.

    Raises:
        AssertionError: if the shapes differ.
    """
    return -jnp.mean(expected_value(actions, alpha))


def kl_projection_loss(actions: ActionValues, alpha: Scalar) -> jax.Array:
    """Return the KL divergence from a policy to the Boltzmann policy of its q-values.

        mean_s KL(pi(.|s) || exp(Q(s,.) / alpha) / Z(s))

    This is `expected_policy_loss / alpha` and a term without the policy, so both are minimised by
    the same policy. The KL is 0 at best, and its gradient keeps its size when alpha is small. It
    is exact and needs all actions. Source: Haarnoja et al., equation 10.

    Args:
        actions: `[N, A]`, all actions.
        alpha: temperature > 0, in units of reward.

    Returns:
        `[]` in nats.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape(actions)
    target = jax.nn.log_softmax(actions.q / alpha, axis=-1)
    return jnp.mean(jnp.sum(actions.prob * (_log_of_taken(actions) - target), axis=-1))


def temperature_loss(
    log_alpha: jax.Array, policy_entropy: jax.Array, target_entropy: Scalar
) -> jax.Array:
    """Return the temperature's loss, `J(alpha) = log(alpha) mean(H - H_target)`.

    Its gradient in log(alpha) is `mean(H) - H_target`: alpha rises while the policy's entropy is
    below the target and falls while it is above. alpha is the Lagrange multiplier of the constraint
    `mean(H) >= H_target`. Source: arXiv 1812.05905, equation 18, with log(alpha) for alpha as the
    authors' code has it: the same sign, and a step that does not shrink with alpha. No gradient
    reaches the policy.

    Args:
        log_alpha: `[]`.
        policy_entropy: `[N]` in nats, from `entropy`.
        target_entropy: in nats; the paper takes minus the number of action dimensions.
    """
    surplus = jax.lax.stop_gradient(policy_entropy) - target_entropy
    return log_alpha * jnp.mean(surplus)


def polyak_update(target: Any, params: Any, tau: Scalar) -> Any:
    """Move a target network towards its network: `target + tau (params - target)`.

    The target is so an exponential average of past parameters, over about `1 / tau` updates;
    tau = 1 copies the network. Source: Haarnoja et al., algorithm 1's last line.

    Args:
        target: a pytree of arrays.
        params: a pytree of the same structure and shapes.
        tau: step size, in [0, 1].

    Returns:
        The new target.
    """
    return jax.tree.map(lambda t, p: t + tau * (p - t), target, params)
