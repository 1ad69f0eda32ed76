"""Exploration of agents that learn values of actions: epsilon-greedy policies, on arrays.

    logits = exploration.epsilon_greedy(q, None, exploration.linear(1.0, 0.05, step / 10_000))
    action = distributions.CATEGORICAL.sample(logits, uniform)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["epsilon_greedy", "linear"]


def epsilon_greedy(
    q: jax.Array, legal: jax.Array | None, epsilon: jax.Array | float
) -> jax.Array:
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


def linear(
    start: jax.Array | float, end: jax.Array | float, progress: jax.Array | float
) -> jax.Array:
    """Return `start` at progress 0, in a straight line to `end` at progress 1 and beyond."""
    return start + (end - start) * jnp.clip(progress, 0.0, 1.0)
