"""The analytical update rule: a policy reweighted by its exponentiated advantages.

    pi_new = pi exp(A / C) / Z,     Z(s) = sum_a pi(a|s) exp(A(s,a) / C)

Source: Li, Clavette and He 2022 (arXiv 2112.02045), who derive it from the bound

    |J(pi') - L(pi')| <= C / (1 - gamma) E_{s~d}[KL(pi' || pi)].

The improvement itself needs no bound. Since E_pi A = 0, log Z = KL(pi || pi_new), hence
E_pi_new A = C [KL(pi_new || pi) + KL(pi || pi_new)] in every state, for every C > 0.

Policies are logarithms, `log_policy [S, A]`, so that no probability is ever rounded to zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import number
from jaxrl_pg.theory.checks import checked

__all__ = [
    "Update",
    "analytical_update",
    "guaranteed_ratio_interval",
    "ratio_interval",
    "weighted_softmax",
]


class Update(NamedTuple):
    """A policy after the analytical update.

    Attributes:
        log_policy: `[S, A]`.
        gain: `C log Z` `[S]`, which is `C KL(pi || pi_new)` and at C = 0 `max_a A`.
    """

    log_policy: jax.Array
    gain: jax.Array


@checked()
def analytical_update(
    log_policy: jax.Array, advantage: jax.Array, constant: jax.typing.ArrayLike
) -> Update:
    """Return the policy that maximises `E_pi' A - C KL(pi' || pi)` in every state.

        pi_new(a|s) = pi(a|s) exp(A(s,a) / C) / Z(s)

    Source: Li, Clavette and He 2022. As C -> 0 this is Howard's policy iteration within the
    support of pi, and C = 0 gives that limit, in which equally good actions keep their shares under
    pi. (Howard's own step may choose any of them, and also actions that pi never takes.)

    Args:
        log_policy: `[S, A]`.
        advantage: `[S, A]`.
        constant: C >= 0, `[]`.
    """
    constant = jnp.asarray(constant, advantage.dtype)
    best, below = _best(log_policy, advantage)
    rounding = 32.0 * jnp.finfo(below.dtype).eps * jnp.max(jnp.abs(advantage))
    greedy_logits = jnp.where(below >= -rounding, log_policy, -jnp.inf)
    positive = constant > 0
    scale = jnp.clip(jnp.where(positive, constant, 1.0), None, jnp.finfo(constant.dtype).max)
    logits = jnp.where(positive, log_policy + below / scale, greedy_logits)
    gain = jnp.where(positive, _gain(log_policy, advantage, scale), best)
    return Update(jax.nn.log_softmax(logits), gain)


@checked(constant=number(0.0, without="low"))
def weighted_softmax(
    log_policy: jax.Array, q: jax.Array, constant: jax.typing.ArrayLike
) -> jax.Array:
    """Return the same update from Q, for C > 0: a softmax of Q weighted by the old policy.

        pi_new(a|s) = pi(a|s) exp(Q(s,a) / C) / sum_b pi(b|s) exp(Q(s,b) / C)

    V(s) multiplies numerator and denominator alike, so it cancels (Li, Clavette and He 2022). With
    C = (1 - gamma) / eta this is the natural policy gradient step of size eta.

    Args:
        log_policy: `[S, A]`.
        q: `[S, A]`.
        constant: C > 0, `[]`.

    Returns:
        The logarithm of the new policy, `[S, A]`.
    """
    return jax.nn.log_softmax(log_policy + _best(log_policy, q)[1] / constant)


@checked(constant=number(0.0, without="low"))
def ratio_interval(
    log_policy: jax.Array, advantage: jax.Array, constant: jax.typing.ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Return the interval in which `pi_new / pi` lies in each state, the rule's own clip range.

        [exp(min_a A / C) / Z, exp(max_a A / C) / Z],  both `[S]`, for C > 0

    Minimum and maximum are over the actions that the policy takes.
    """
    _, below = _best(log_policy, advantage)
    reach = jnp.min(below, axis=1) / constant
    largest = -jax.nn.logsumexp(log_policy + below / constant, axis=1)
    return jnp.exp(reach + largest), jnp.exp(largest)


@checked(scale=number(0.0, without="low"))
def guaranteed_ratio_interval(scale: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Return the largest possible `ratio_interval` for `c = C / max |A|`, over all MDPs.

        [exp(-1/c - 1/(2 c^2)), exp(1/c)]

    The lower end has |A| / C <= 1/c and log Z <= 1/(2 c^2) (Hoeffding's lemma), the upper end
    log Z >= 0 (Jensen). It stays within PPO's [0.8, 1.2] from c = 1/log(1.2) = 5.48 on, for every
    gamma.
    """
    inverse = 1.0 / jnp.asarray(scale, float)
    return jnp.exp(-inverse - 0.5 * inverse**2), jnp.exp(inverse)


def _best(log_policy: jax.Array, advantage: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the best advantage of the actions taken `[S]`, and A less it `[S, A]`, 0 elsewhere."""
    possible = log_policy > -jnp.inf
    best = jnp.max(jnp.where(possible, advantage, -jnp.inf), axis=1)
    return best, jnp.where(possible, advantage - best[:, None], 0.0)


def _gain(log_policy: jax.Array, advantage: jax.Array, constant: jax.Array) -> jax.Array:
    """Return `C log sum_a pi exp(A / C)` `[S]`, exact to rounding of A / C where that is small."""
    best, below = _best(log_policy, advantage)
    far = best + constant * jax.nn.logsumexp(log_policy + below / constant, axis=1)
    alpha = jnp.where(log_policy > -jnp.inf, advantage / constant, 0.0)
    small = jnp.clip(alpha, -1.0, 1.0)
    near = constant * jnp.log1p(jnp.sum(jnp.exp(log_policy) * jnp.expm1(small), axis=1))
    return jnp.where(jnp.max(jnp.abs(alpha), axis=1) < 0.5, near, far)
