"""Softmax policies on multi-armed bandits: the policy gradient in its simplest case.

A policy is `pi = softmax(theta)` over `A` arms with mean rewards `r [A]`; `J = pi . r`. The
gradient of the log-probability of an arm is `e_a - pi`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import finite, logits_of
from jaxrl_pg.theory.checks import below, checked

__all__ = [
    "Ascent",
    "Learning",
    "ascend",
    "gradient_estimate",
    "gradient_variance",
    "learn",
    "objective",
    "optimal_baseline",
    "policy_gradient",
]


class Ascent(NamedTuple):
    """Exact gradient ascent.

    Attributes:
        logits: `[N, A]` theta after each step.
        policy: `[N, A]` its softmax.
        objective: `[N]` J.
    """

    logits: jax.Array
    policy: jax.Array
    objective: jax.Array


class Learning(NamedTuple):
    """Gradient ascent on single pulls.

    Attributes:
        logits: `[A]` theta after the last pull.
        baseline: `[]` b after the last pull.
        action: `[N]` int32, the arms pulled.
        objective: `[N]` J after each pull.
    """

    logits: jax.Array
    baseline: jax.Array
    action: jax.Array
    objective: jax.Array


@checked(reward=finite("A"), logits=logits_of("A"))
def objective(reward: jax.Array, logits: jax.Array) -> jax.Array:
    """Return `J = sum_a pi_a r_a`, `[]`, of `reward [A]` and `logits [A]`."""
    return jnp.vdot(jax.nn.softmax(logits), reward)


@checked(reward=finite("A"), logits=logits_of("A"))
def policy_gradient(reward: jax.Array, logits: jax.Array) -> jax.Array:
    """Return the exact gradient of J, `[A]`.

        dJ / dtheta_a = sum_b (r_b - beta) dpi_b / dtheta_a = pi_a (r_a - pi . r)

    for any constant beta, because the probabilities sum to one whatever theta is. Source:
    Williams 1992; in this form Sutton and Barto 2018, section 2.8.
    """
    policy = jax.nn.softmax(logits)
    return policy * (reward - jnp.vdot(policy, reward))


@checked(logits=logits_of("A"))
def gradient_estimate(
    payoff: jax.Array, logits: jax.Array, action: jax.Array, baseline: jax.Array | float
) -> jax.Array:
    """Return the estimate of the gradient by one pull, `(R - b) grad log pi(a)`, `[A]`.

    It is unbiased for every b that does not depend on the pull.

    Args:
        payoff: R `[]`, of mean `reward[action]`.
        logits: `[A]`.
        action: `[]` int, the arm pulled, from `softmax(logits)`.
        baseline: `[]`, b.
    """
    below("action", action, logits.shape[0])
    chosen = jax.nn.one_hot(action, logits.shape[0], dtype=logits.dtype)
    return (payoff - baseline) * (chosen - jax.nn.softmax(logits))


@checked(reward=finite("A"), logits=logits_of("A"))
def gradient_variance(
    reward: jax.Array,
    logits: jax.Array,
    baseline: jax.Array | float,
    noise: jax.Array | float = 0.0,
) -> jax.Array:
    """Return the total variance of `gradient_estimate`, `[]`, summed over the parameters.

        sum_a pi_a [(r_a - b)^2 + noise^2] |e_a - pi|^2 - |grad J|^2

    Args:
        reward: `[A]` means.
        logits: `[A]`.
        baseline: `[]`, b.
        noise: standard deviation of a payoff about its mean.
    """
    policy = jax.nn.softmax(logits)
    second = jnp.square(reward - baseline) + jnp.square(noise)
    mean = policy_gradient(reward, logits)
    return jnp.vdot(policy * _squared_scores(policy), second) - jnp.vdot(mean, mean)


@checked(reward=finite("A"), logits=logits_of("A"))
def optimal_baseline(reward: jax.Array, logits: jax.Array) -> jax.Array:
    """Return the constant b `[]` that minimises the total variance.

        b = E[|grad log pi|^2 r] / E[|grad log pi|^2]

    Any other b adds `E|grad log pi|^2 (b - b_best)^2` to the variance. The mean reward is the
    best one only where score and reward are uncorrelated. A policy that always pulls one arm has
    no variance with any b; its mean reward is returned then. Source: Greensmith, Bartlett and
    Baxter 2004.
    """
    policy = jax.nn.softmax(logits)
    weights = policy * _squared_scores(policy)
    total = jnp.sum(weights)
    best = jnp.vdot(weights, reward) / jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, best, jnp.vdot(policy, reward))


@checked(reward=finite("A"), logits=logits_of("A"))
def ascend(
    reward: jax.Array, logits: jax.Array, learning_rate: jax.Array | float, num_steps: int
) -> Ascent:
    """Take `num_steps` steps of exact ascent, `theta <- theta + alpha grad J`.

    With rewards in [0, 1] J is 5/2-smooth, so that no step with alpha <= 2/5 lowers it, and with
    alpha = 2/5 after t steps `max r - J <= 5 / (c^2 t)`, with c the smallest probability that
    the best arm has had. Source: Mei et al. 2020, "On the global convergence rates of softmax
    policy gradient methods", lemma 2 and theorem 2.

    Args:
        reward: `[A]`.
        logits: `[A]` to begin with.
        learning_rate: alpha.
        num_steps: N.
    """

    def step(logits: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        logits = logits + learning_rate * policy_gradient(reward, logits)
        return logits, logits

    _, path = jax.lax.scan(step, logits, None, length=num_steps)
    policy = jax.nn.softmax(path)
    return Ascent(path, policy, policy @ reward)


@checked(reward=finite("A"), logits=logits_of("A"))
def learn(
    reward: jax.Array,
    logits: jax.Array,
    learning_rate: jax.Array | float,
    baseline: jax.Array | float,
    baseline_rate: jax.Array | float,
    noise: jax.Array | float,
    key: jax.Array,
    num_steps: int,
) -> Learning:
    """Learn by REINFORCE from `num_steps` pulls, with a baseline that tracks the payoffs.

        theta <- theta + alpha (R - b) (e_a - pi),   then   b <- b + beta (R - b)

    `baseline = baseline_rate = 0` is REINFORCE without a baseline. Source: Williams 1992.

    Args:
        reward: `[A]` means.
        logits: `[A]` to begin with.
        learning_rate: alpha.
        baseline: b to begin with.
        baseline_rate: beta; 0 keeps b constant.
        noise: standard deviation of the Gaussian added to every payoff.
        key: consumed.
        num_steps: N.
    """

    def pull(
        carry: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        logits, baseline = carry
        action_key, noise_key = jax.random.split(key)
        action = jax.random.categorical(action_key, logits).astype(jnp.int32)
        payoff = reward[action] + noise * jax.random.normal(noise_key, dtype=reward.dtype)
        logits = logits + learning_rate * gradient_estimate(payoff, logits, action, baseline)
        baseline = baseline + baseline_rate * (payoff - baseline)
        return (logits, baseline), (action, objective(reward, logits))

    carry = (logits, jnp.asarray(baseline, logits.dtype))
    keys = jax.random.split(key, num_steps)
    (logits, last), (action, objectives) = jax.lax.scan(pull, carry, keys)
    return Learning(logits, last, action, objectives)


def _squared_scores(policy: jax.Array) -> jax.Array:
    """Return `|e_a - pi|^2 = 1 - 2 pi_a + pi . pi`, `[A]`."""
    return 1.0 - 2.0 * policy + jnp.vdot(policy, policy)
