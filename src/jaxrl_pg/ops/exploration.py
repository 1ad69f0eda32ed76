"""Exploration of agents that learn values of actions: epsilon-greedy policies, on arrays.

logits = exploration.epsilon_greedy(q, None, exploration.linear(1.0, 0.05, step / 10_000))
action = distributions.CATEGORICAL.sample(logits, uniform)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["durations", "epsilon_greedy", "linear"]

_LONGEST = 1000  # steps; with mu = 2 one duration in 1,600 would be longer


def epsilon_greedy(q: jax.Array, legal: jax.Array | None, epsilon: jax.Array | float) -> jax.Array:
    """Return the epsilon-greedy policy as logits of a categorical distribution.

        pi(a|s) = (1 - epsilon) [a = argmax_b Q(s, b)] + epsilon / |A(s)|

    Both the argmax and the uniform part are over the legal actions `A(s)`, so the greedy action has
    probability `1 - epsilon + epsilon / |A(s)|`. Of equal q-values the first is the greedy one.

    Source: Sutton and Barto 2018, section 2.2; Mnih et al. 2015 (doi 10.1038/nature14236).

    Args:
        q: `[..., A]`, values of actions.
        legal: `[..., A]` bool, the legal ones, at least one each; None where all are.
        epsilon: share of uniform actions, in [0, 1].

    Returns:
        `[..., A]` log-probabilities, -inf where a probability is 0.
    """
    legal = jnp.ones(q.shape, bool) if legal is None else legal
    best = jnp.argmax(jnp.where(legal, q, -jnp.inf), axis=-1)
    greedy = jax.nn.one_hot(best, q.shape[-1], dtype=q.dtype)
    uniform = legal / jnp.sum(legal, axis=-1, keepdims=True)
    return jnp.log((1.0 - epsilon) * greedy + epsilon * uniform)


def durations(uniform: jax.Array, mu: jax.Array | float) -> jax.Array:
    """Return numbers of steps n with probability proportional to `n^-mu`, n from 1 to 1,000.

    This is the zeta distribution, cut off: heavy tails, so that an action that is repeated for n
    steps leads far away once in a while, and mostly not. A large mu gives 1 nearly always; with
    mu = 2 it is 1 in 61 of 100 cases, and the mean is 4.6.

    Source: Dabney et al. 2020 (arXiv 2006.01782), section 4.

    Args:
        uniform: `[...]`, in [0, 1).
        mu: exponent > 0.

    Returns:
        `[...]` int32.
    """
    steps = jnp.arange(1, _LONGEST + 1)
    reached = jnp.cumsum(steps ** -jnp.asarray(mu, uniform.dtype))
    found = jnp.searchsorted(reached[:-1], uniform * reached[-1], side="right")
    return found.astype(jnp.int32) + 1


def linear(
    start: jax.Array | float, end: jax.Array | float, progress: jax.Array | float
) -> jax.Array:
    """Return `start` at progress 0, in a straight line to `end` at progress 1 and beyond."""
    return start + (end - start) * jnp.clip(progress, 0.0, 1.0)
