"""Maximum-entropy control, exactly: the entropy of the policy counts as reward.

    J(pi) = E sum_t gamma^t [r(s_t, a_t) + temperature H(pi(.|s_t))]

V counts the entropy of this step, Q only that of the steps after it. A temperature is positive.
An absorbing state without reward is not worth 0: it goes on earning entropy, at best
`temperature log|A| / (1 - gamma)`.

Haarnoja et al. is "Soft Actor-Critic" (2018, arXiv 1801.01290), with temperature 1 and equations
numbered as there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.mdp import MDP, uniform_policy

__all__ = [
    "Iterates",
    "Limit",
    "Sides",
    "backup",
    "entropy",
    "evaluate",
    "evaluation_iterates",
    "hard_limit",
    "improve",
    "optimal_backup",
    "performance_difference",
    "policy_gradient",
    "policy_iterates",
    "policy_iteration",
    "soft_maximum",
    "value_iterates",
    "value_iteration",
]

Scalar = jax.Array | float


class Iterates(NamedTuple):
    """Every Q that an iteration goes through.

    Attributes:
        q: `[K + 1, S, A]`, the first from before the first iteration.
        least_change: `[K]`, `min_{s,a} Q_{k+1} - Q_k`: not negative while Q rises everywhere.
    """

    q: jax.Array
    least_change: jax.Array


class Limit(NamedTuple):
    """Soft values beside hard ones, `0 <= soft - hard <= bound`, `0 <= hard - obtained <= bound`.

    Attributes:
        soft: `[S]`, optimal with entropy.
        hard: `[S]`, optimal without.
        obtained: `[S]`, reward alone that the soft-optimal policy earns.
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


def entropy(policy: jax.Array) -> jax.Array:
    """`H(s) = -sum_a pi(a|s) log pi(a|s)` in nats, `[..., S]` from `[..., S, A]`."""
    return -jnp.sum(policy * _log_of_taken(policy), axis=-1)


def evaluate(mdp: MDP, policy: jax.Array, temperature: Scalar) -> solve.Solution:
    """Soft V, Q, A, d and J of a policy, by linear solve: where Lemma 1's iteration ends.

        (I - gamma P_pi) V = r_pi + temperature H        Q = r + gamma P V
        A = Q - temperature log pi - V                   sum_a pi A = 0

    Source: Haarnoja et al., equations 2 and 3. A of an action that is never taken has no limit:
    `log pi` is left out of it.
    """
    bonus = temperature * entropy(policy)
    rewarded = solve.evaluate(mdp._replace(reward=mdp.reward + bonus[:, None]), policy)
    q = solve.q_values(mdp, rewarded.value)
    advantage = q - temperature * _log_of_taken(policy) - rewarded.value[:, None]
    return rewarded._replace(q=q, advantage=advantage)


def backup(mdp: MDP, policy: jax.Array, temperature: Scalar, q: jax.Array) -> jax.Array:
    """The soft Bellman operator of a policy, a contraction by gamma: `[S, A]` to `[S, A]`.

        (T Q)(s,a) = r + gamma E_{s'} [ E_{a'~pi} Q(s',a') + temperature H(pi(.|s')) ]

    Source: Haarnoja et al., equations 2 and 3. The proof of their Lemma 1 prints the reward with
    entropy as `r + E H(pi(.|s'))`; the entropy there wants the factor gamma.
    """
    value = jnp.sum(policy * q, axis=1) + temperature * entropy(policy)
    return solve.q_values(mdp, value)


def evaluation_iterates(
    mdp: MDP, policy: jax.Array, temperature: Scalar, num: int, q: jax.Array | None = None
) -> Iterates:
    """Soft policy evaluation, `Q_{k+1} = T Q_k` (Haarnoja et al., Lemma 1), from q or zeros."""
    start = jnp.zeros_like(mdp.reward) if q is None else q
    return _iterates(partial(backup, mdp, policy, temperature), start, num)


def performance_difference(mdp: MDP, old: jax.Array, new: jax.Array, temperature: Scalar) -> Sides:
    """By how much a policy is better than another, and how far either is from the old one's target.

        J(new) - J(old) = temperature/(1-gamma) E_{s~d_new} [ KL(old || p) - KL(new || p) ],
        p = softmax(Q_old / temperature)

    With `new = p` it is what an improvement gains, `E_{d_new} KL(old || new)`: an exact form of
    Haarnoja et al., Lemma 2. With `old` optimal it is what `new` lacks, `E_{d_new} KL(new || old)`
    (Mei et al. 2020, arXiv 2005.06392).
    """
    before, after = evaluate(mdp, old, temperature), evaluate(mdp, new, temperature)
    target = jax.nn.log_softmax(before.q / temperature)
    nearer = _divergence(old, target) - _divergence(new, target)
    gain = temperature * jnp.vdot(after.visitation, nearer) / (1.0 - mdp.gamma)
    return Sides(after.objective - before.objective, gain)


def policy_gradient(mdp: MDP, logits: jax.Array, temperature: Scalar) -> jax.Array:
    """The exact gradient of the soft J of a softmax policy, entropy inside the return.

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


def soft_maximum(q: jax.Array, temperature: Scalar) -> jax.Array:
    """`V = temperature log sum_a exp(Q / temperature)`, `[...]` from `[..., A]`.

    Often printed as "softmax", which is `improve`: its gradient.
    """
    return temperature * jax.nn.logsumexp(q / temperature, axis=-1)


def improve(q: jax.Array, temperature: Scalar) -> jax.Array:
    """`pi_new = softmax(Q / temperature)`, the least of all `KL(pi || exp(Q / temperature) / Z)`.

    Nowhere worse than the policy whose Q it was: Haarnoja et al., equation 4 and Lemma 2.
    """
    return jax.nn.softmax(q / temperature)


def optimal_backup(mdp: MDP, temperature: Scalar, q: jax.Array) -> jax.Array:
    """`r + gamma E_{s'} temperature log sum_a' exp(Q(s',a') / temperature)`, a contraction.

    Source: Levine 2018 (arXiv 1805.00909), section 3, there without the gamma.
    """
    return solve.q_values(mdp, soft_maximum(q, temperature))


def value_iterates(mdp: MDP, temperature: Scalar, num: int, q: jax.Array | None = None) -> Iterates:
    """Soft value iteration, from q or zeros; rises everywhere if it starts from a policy's Q."""
    start = jnp.zeros_like(mdp.reward) if q is None else q
    return _iterates(partial(optimal_backup, mdp, temperature), start, num)


def policy_iterates(
    mdp: MDP, temperature: Scalar, num: int, policy: jax.Array | None = None
) -> Iterates:
    """Soft policy iteration: evaluate exactly, `improve`, again (Haarnoja et al., Theorem 1).

    Started from a policy, uniform if None. Q rises everywhere, and never behind soft value
    iteration from the same Q.
    """
    start = evaluate(mdp, uniform_policy(mdp) if policy is None else policy, temperature).q
    return _iterates(partial(_improve_and_evaluate, mdp, temperature), start, num)


def value_iteration(
    mdp: MDP, temperature: Scalar, tolerance: float = 1e-10, max_iterations: int = 1_000_000
) -> solve.Iteration:
    """The soft-optimal V and policy by `optimal_backup`, until no Q changes by more than tolerance.

    Q is then within `tolerance gamma / (1 - gamma)` of the optimum; so it is for
    `policy_iteration`. The residual is the last change.
    """
    step = partial(optimal_backup, mdp, temperature)
    return _until(step, jnp.zeros_like(mdp.reward), temperature, tolerance, max_iterations)


def policy_iteration(
    mdp: MDP, temperature: Scalar, tolerance: float = 1e-10, max_iterations: int = 1_000
) -> solve.Iteration:
    """What `value_iteration` finds, by `policy_iterates`: a handful of iterations at any gamma."""
    start = evaluate(mdp, uniform_policy(mdp), temperature).q
    step = partial(_improve_and_evaluate, mdp, temperature)
    return _until(step, start, temperature, tolerance, max_iterations)


def hard_limit(mdp: MDP, temperature: Scalar) -> Limit:
    """How far entropy moves values: by no more than `temperature log|A| / (1 - gamma)`.

    The entropy of a step is between 0 and log|A|, so the best policy without entropy loses
    nothing by it and the best policy with it gains at most the bound.
    """
    found = policy_iteration(mdp, temperature)
    bound = temperature * jnp.log(1.0 * mdp.reward.shape[1]) / (1.0 - mdp.gamma)
    hard, obtained = solve.policy_iteration(mdp).value, solve.evaluate(mdp, found.policy).value
    return Limit(found.value, hard, obtained, bound)


def _log_of_taken(policy: jax.Array) -> jax.Array:
    taken = policy > 0.0
    return jnp.where(taken, jnp.log(jnp.where(taken, policy, 1.0)), 0.0)


def _divergence(policy: jax.Array, log_target: jax.Array) -> jax.Array:
    return jnp.sum(policy * (_log_of_taken(policy) - log_target), axis=1)


def _improve_and_evaluate(mdp: MDP, temperature: Scalar, q: jax.Array) -> jax.Array:
    return evaluate(mdp, improve(q, temperature), temperature).q


def _iterates(step: Callable[[jax.Array], jax.Array], q: jax.Array, num: int) -> Iterates:
    _, rest = jax.lax.scan(partial(_keep, step), q, None, length=num)
    every = jnp.concatenate([q[None], rest])
    return Iterates(every, jnp.min(every[1:] - every[:-1], axis=(1, 2)))


def _keep(
    step: Callable[[jax.Array], jax.Array], q: jax.Array, _: None
) -> tuple[jax.Array, jax.Array]:
    q = step(q)
    return q, q


def _until(
    step: Callable[[jax.Array], jax.Array],
    q: jax.Array,
    temperature: Scalar,
    tolerance: float,
    max_iterations: int,
) -> solve.Iteration:
    start = (q, jnp.zeros((), jnp.int32), jnp.full_like(q[0, 0], jnp.inf))
    more = partial(_above, tolerance, max_iterations)
    q, count, change = jax.lax.while_loop(more, partial(_again, step), start)
    return solve.Iteration(soft_maximum(q, temperature), improve(q, temperature), count, change)


def _above(
    tolerance: float, max_iterations: int, carry: tuple[jax.Array, jax.Array, jax.Array]
) -> jax.Array:
    return (carry[2] > tolerance) & (carry[1] < max_iterations)


def _again(
    step: Callable[[jax.Array], jax.Array], carry: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, count, _ = carry
    new = step(q)
    return new, count + 1, jnp.max(jnp.abs(new - q))
