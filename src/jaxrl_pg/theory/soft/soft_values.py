"""Maximum-entropy control, exactly: the entropy of the policy counts as reward.

    J(pi) = E sum_t gamma^t [r(s_t, a_t) + temperature H(pi(.|s_t))]

V counts the entropy of this step, Q only that of the steps after it. A temperature is not negative,
and 0 is the limit: plain values, and the best actions alike.
An absorbing state without reward is not worth 0: it goes on earning entropy, at best
`temperature log|A| / (1 - gamma)`.

Haarnoja et al. is "Soft Actor-Critic" (2018, arXiv 1801.01290), with temperature 1 and equations
numbered as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.arguments import finite, number
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP, uniform_policy
from jaxrl_pg.theory.probability import entropy, kl_divergence, log_of, log_of_taken, mean_over
from jaxrl_pg.theory.solve import boltzmann, soft_maximum

__all__ = [
    "Iterates",
    "Limit",
    "Sides",
    "backup",
    "evaluate",
    "evaluation_iterates",
    "hard_limit",
    "improve",
    "optimal_backup",
    "performance_difference",
    "policy_gradient",
    "policy_iterates",
    "policy_iteration",
    "value_iterates",
    "value_iteration",
]

Scalar = jax.Array | float
_Carry = tuple[jax.Array, jax.Array, jax.Array]  # Q, iterations, last change


class Iterates(NamedTuple):
    """The sequence of Q that an iteration produces.

    Attributes:
        q: `[K + 1, S, A]`, the first being that before the first iteration.
        least_change: `[K]`, `min_{s,a} Q_{k+1} - Q_k`: not negative while Q rises everywhere.
    """

    q: jax.Array
    least_change: jax.Array


class Limit(NamedTuple):
    """Soft and hard optimal values, `0 <= soft - hard <= bound`, `0 <= hard - obtained <= bound`.

    Attributes:
        soft: `[S]`, the optimum with entropy.
        hard: `[S]`, the optimum without.
        obtained: `[S]`, the value of the soft-optimal policy without entropy.
        bound: `[]`, `temperature log|A| / (1 - gamma)`.
    """

    soft: jax.Array
    hard: jax.Array
    obtained: jax.Array
    bound: jax.Array


class Sides(NamedTuple):
    """The two sides of an equation or inequality, of one shape."""

    left: jax.Array
    right: jax.Array


# --- a policy -------------------------------------------------------------------------------------


@checked(temperature=number(0.0))
def evaluate(mdp: MDP, policy: jax.Array, temperature: Scalar) -> solve.Solution:
    """Return soft V, Q, A, d and J of a policy by linear solve, the limit of Lemma 1's iteration.

        (I - gamma P_pi) V = r_pi + temperature H        Q = r + gamma P V
        A = Q - temperature log pi - V                   sum_a pi A = 0

    Source: Haarnoja et al., equations 2 and 3. A of an action that is never taken has no limit:
    `log pi` is left out of it.
    """
    bonus = temperature * entropy(policy)
    rewarded = solve.evaluate(mdp._replace(reward=mdp.reward + bonus[:, None]), policy)
    q = solve.q_values(mdp, rewarded.value)
    advantage = q - temperature * log_of_taken(policy) - rewarded.value[:, None]
    return rewarded._replace(q=q, advantage=advantage)


@checked(temperature=number(0.0))
def backup(mdp: MDP, policy: jax.Array, temperature: Scalar, q: jax.Array) -> jax.Array:
    """Apply the soft Bellman operator of a policy, a contraction by gamma, `[S, A]` to `[S, A]`.

        (T Q)(s,a) = r + gamma E_{s'} [ E_{a'~pi} Q(s',a') + temperature H(pi(.|s')) ]

    Source: Haarnoja et al., equations 2 and 3. The proof of their Lemma 1 prints the reward with
    entropy as `r + E H(pi(.|s'))`; the entropy there needs the factor gamma.
    """
    value = jnp.sum(policy * q, axis=1) + temperature * entropy(policy)
    return solve.q_values(mdp, value)


@checked(temperature=number(0.0))
def evaluation_iterates(
    mdp: MDP, policy: jax.Array, temperature: Scalar, num: int, q: jax.Array | None = None
) -> Iterates:
    """Iterate soft policy evaluation `Q_{k+1} = T Q_k` from q or zeros.

    Source: Haarnoja et al., Lemma 1.
    """
    start = jnp.zeros_like(mdp.reward) if q is None else q
    return _iterates(lambda q: backup(mdp, policy, temperature, q), start, num)


@checked()
def performance_difference(mdp: MDP, old: jax.Array, new: jax.Array, temperature: Scalar) -> Sides:
    """Return both sides of the soft performance difference of two policies.

        J(new) - J(old) = temperature/(1-gamma) E_{s~d_new} [ KL(old || p) - KL(new || p) ],
        p = softmax(Q_old / temperature)

    With `new = p` it is the gain of an improvement, `E_{d_new} KL(old || new)`: an exact form of
    Haarnoja et al., Lemma 2. With `old` optimal it is the loss of `new`,
    `-E_{d_new} KL(new || old)` (Mei et al. 2020, arXiv 2005.06392). Both are times
    `temperature/(1-gamma)`.
    """
    before, after = evaluate(mdp, old, temperature), evaluate(mdp, new, temperature)
    below = before.q - jnp.max(before.q, axis=1, keepdims=True)
    target = jax.nn.log_softmax(below / temperature)
    nearer = kl_divergence(log_of(old), target) - kl_divergence(log_of(new), target)
    gain = temperature * mean_over(after.visitation, nearer) / (1.0 - mdp.gamma)
    return Sides(after.objective - before.objective, gain)


@checked(temperature=number(0.0))
def policy_gradient(mdp: MDP, logits: jax.Array, temperature: Scalar) -> jax.Array:
    """Return the exact gradient of the soft J of a softmax policy, entropy inside the return.

        dJ / dtheta(s,a) = d(s) pi(a|s) A(s,a) / (1 - gamma),   A = Q - temperature log pi - V

    Source: Levine 2018 (arXiv 1805.00909), section 4, there without a discount.

    Args:
        mdp: the MDP.
        logits: theta `[S, A]`.
        temperature: weight of the entropy.
    """
    policy = jax.nn.softmax(logits)
    solution = evaluate(mdp, policy, temperature)
    return solution.visitation[:, None] * policy * solution.advantage / (1.0 - mdp.gamma)


# --- the best policy ------------------------------------------------------------------------------


@checked(q=finite("...A"), temperature=number(0.0))
def improve(q: jax.Array, temperature: Scalar) -> jax.Array:
    """Return `pi_new = softmax(Q / temperature)`.

    It minimises `KL(pi || exp(Q / temperature) / Z)`, and is in no state worse than the policy
    whose Q it was. Source: Haarnoja et al., equation 4 and Lemma 2.
    """
    return boltzmann(q, temperature)


@checked(temperature=number(0.0))
def optimal_backup(mdp: MDP, temperature: Scalar, q: jax.Array) -> jax.Array:
    """Return `r + gamma E_{s'} temperature log sum_a' exp(Q(s',a') / temperature)`, `[S, A]`.

    It is a contraction by gamma. Source: Levine 2018 (arXiv 1805.00909), section 3, there without
    the gamma.
    """
    return solve.q_values(mdp, soft_maximum(q, temperature))


@checked(temperature=number(0.0))
def value_iterates(mdp: MDP, temperature: Scalar, num: int, q: jax.Array | None = None) -> Iterates:
    """Iterate soft value iteration from q or zeros; from a policy's Q it rises everywhere."""
    start = jnp.zeros_like(mdp.reward) if q is None else q
    return _iterates(lambda q: optimal_backup(mdp, temperature, q), start, num)


@checked(temperature=number(0.0))
def policy_iterates(
    mdp: MDP, temperature: Scalar, num: int, policy: jax.Array | None = None
) -> Iterates:
    """Iterate soft policy iteration, exact evaluation and `improve` (Haarnoja et al., Theorem 1).

    It starts from a policy, the uniform one if None. Q rises everywhere, and is nowhere below that
    of soft value iteration from the same Q.
    """
    start = evaluate(mdp, uniform_policy(mdp) if policy is None else policy, temperature).q
    return _iterates(lambda q: _improve_and_evaluate(mdp, temperature, q), start, num)


@checked(temperature=number(0.0))
def value_iteration(
    mdp: MDP, temperature: Scalar, tolerance: float = 1e-10, max_iterations: int = 1_000_000
) -> solve.Iteration:
    """Return the soft-optimal V and policy by repeated `optimal_backup`.

    It stops when no entry of Q changes by more than `tolerance`. Q is then within
    `tolerance gamma / (1 - gamma)` of the optimum. A change that is no more than rounding ends it
    too, see `solve.value_iteration`. The residual is the last change.
    """
    start = jnp.zeros_like(mdp.reward)
    return _until(
        lambda q: optimal_backup(mdp, temperature, q),
        start,
        temperature,
        tolerance,
        max_iterations,
    )


@checked(temperature=number(0.0))
def policy_iteration(
    mdp: MDP, temperature: Scalar, tolerance: float = 1e-10, max_iterations: int = 1_000
) -> solve.Iteration:
    """Return what `value_iteration` does by soft policy iteration, which takes few iterations.

    The rounding at which it stops is `1 / (1 - gamma)` times larger, as a linear system is solved.
    """
    start = evaluate(mdp, uniform_policy(mdp), temperature).q
    return _until(
        lambda q: _improve_and_evaluate(mdp, temperature, q),
        start,
        temperature,
        tolerance,
        max_iterations,
        1.0 / (1.0 - mdp.gamma),
    )


@checked(temperature=number(0.0))
def hard_limit(mdp: MDP, temperature: Scalar) -> Limit:
    """Return how far entropy moves values, which is `temperature log|A| / (1 - gamma)` at most.

    The entropy of a step is between 0 and log|A|. So the best policy without entropy loses nothing
    when entropy is counted, and the best policy with entropy gains at most the bound.
    """
    soft = policy_iteration(mdp, temperature)
    bound = temperature * jnp.log(1.0 * mdp.reward.shape[1]) / (1.0 - mdp.gamma)
    hard, obtained = solve.policy_iteration(mdp).value, solve.evaluate(mdp, soft.policy).value
    return Limit(soft.value, hard, obtained, bound)


def _improve_and_evaluate(mdp: MDP, temperature: Scalar, q: jax.Array) -> jax.Array:
    return evaluate(mdp, improve(q, temperature), temperature).q


def _iterates(step: Callable[[jax.Array], jax.Array], q: jax.Array, num: int) -> Iterates:
    def advance(q: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        q = step(q)
        return q, q

    _, rest = jax.lax.scan(advance, q, None, length=num)
    every = jnp.concatenate([q[None], rest])
    return Iterates(every, jnp.min(every[1:] - every[:-1], axis=(1, 2)))


def _until(
    step: Callable[[jax.Array], jax.Array],
    q: jax.Array,
    temperature: Scalar,
    tolerance: float,
    max_iterations: int,
    amplification: Scalar = 1.0,
) -> solve.Iteration:
    """Repeat a step until no entry of Q changes by more than the tolerance, or its own rounding."""

    def advance(carry: _Carry) -> _Carry:
        q, count, _ = carry
        next_q = step(q)
        return next_q, count + 1, jnp.max(jnp.abs(next_q - q))

    q, count, change = jax.lax.while_loop(
        lambda carry: (
            (carry[2] > solve.attainable(tolerance, amplification * carry[0]))
            & (carry[1] < max_iterations)
        ),
        advance,
        (q, jnp.zeros((), jnp.int32), jnp.full_like(q[0, 0], jnp.inf)),
    )
    return solve.Iteration(soft_maximum(q, temperature), improve(q, temperature), count, change)
