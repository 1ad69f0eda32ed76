"""Exact solutions of finite MDPs: evaluation by linear solve, optimal policies by iteration.

Notation: `d(s) = (1 - gamma) sum_t gamma^t P(s_t = s)` is a distribution, `J = rho . V`,
`A = Q - V`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.linear import factorize, solve
from jaxrl_pg.theory.mdp import MDP, greedy_policy, induced, uniform_policy

__all__ = [
    "Iteration",
    "Solution",
    "bellman_optimality",
    "evaluate",
    "finite_horizon_evaluate",
    "finite_horizon_optimal",
    "modified_policy_iteration",
    "objective",
    "policy_gradient",
    "policy_iteration",
    "q_values",
    "value_iteration",
    "visitation",
]


class Solution(NamedTuple):
    """All that there is to know of a policy on an MDP.

    Attributes:
        value: V `[S]`.
        q: Q `[S, A]`.
        advantage: A = Q - V `[S, A]`.
        visitation: d `[S]`, discounted and normalised.
        objective: J `[]`.
    """

    value: jax.Array
    q: jax.Array
    advantage: jax.Array
    visitation: jax.Array
    objective: jax.Array


class Iteration(NamedTuple):
    """Where an iterative solver stopped.

    Attributes:
        value: V `[S]`.
        policy: greedy with respect to it, `[S, A]`.
        iterations: `[]` int32, sweeps or improvements made.
        residual: `[]`, `max_s |T V - V|` (value iterations) or states whose action changed in
            the last improvement (policy iteration).
    """

    value: jax.Array
    policy: jax.Array
    iterations: jax.Array
    residual: jax.Array


def evaluate(mdp: MDP, policy: jax.Array) -> Solution:
    """V, Q, A, d and J of a policy `[S, A]`, from one factorisation.

        (I - gamma P_pi) V = r_pi          (I - gamma P_pi)^T d = (1 - gamma) rho

    Differentiable with respect to the policy and the MDP by the implicit function theorem.
    """
    transition, reward = induced(mdp, policy)
    factor = factorize(transition, mdp.gamma)
    value = solve(factor, reward)
    q = q_values(mdp, value)
    visited = solve(factor, (1.0 - mdp.gamma) * mdp.start, transpose=True)
    return Solution(value, q, q - value[:, None], visited, jnp.vdot(mdp.start, value))


def objective(mdp: MDP, policy: jax.Array) -> jax.Array:
    """`J = rho . V` of a policy, `[]`."""
    transition, reward = induced(mdp, policy)
    return jnp.vdot(mdp.start, solve(factorize(transition, mdp.gamma), reward))


def visitation(mdp: MDP, policy: jax.Array) -> jax.Array:
    """The discounted state distribution d `[S]` of a policy."""
    factor = factorize(induced(mdp, policy)[0], mdp.gamma)
    return solve(factor, (1.0 - mdp.gamma) * mdp.start, transpose=True)


def policy_gradient(mdp: MDP, logits: jax.Array) -> jax.Array:
    """The exact gradient of J of a softmax policy (the policy gradient theorem).

        dJ / dtheta(s,a) = d(s) pi(a|s) A(s,a) / (1 - gamma)

    Args:
        mdp: the MDP.
        logits: theta `[S, A]`.
    """
    policy = jax.nn.softmax(logits)
    solution = evaluate(mdp, policy)
    weights = solution.visitation[:, None] * policy
    return weights * solution.advantage / (1.0 - mdp.gamma)


def q_values(mdp: MDP, value: jax.Array) -> jax.Array:
    """One step of look-ahead: `Q = r + gamma P V`, `[S, A]` from `[S]`."""
    return mdp.reward + mdp.gamma * jnp.einsum("sak,k->sa", mdp.transition, value)


def bellman_optimality(mdp: MDP, value: jax.Array) -> jax.Array:
    """`(T V)(s) = max_a [r(s,a) + gamma sum_s' P(s'|s,a) V(s')]`, `[S]`."""
    return jnp.max(q_values(mdp, value), axis=1)


def value_iteration(
    mdp: MDP, tolerance: float = 1e-10, max_iterations: int = 1_000_000
) -> Iteration:
    """`V <- T V` until `max_s |T V - V| <= tolerance`.

    The value returned is then within `tolerance gamma / (1 - gamma)` of the optimal one.
    """
    return modified_policy_iteration(mdp, 0, tolerance, max_iterations)


def modified_policy_iteration(
    mdp: MDP, sweeps: int, tolerance: float = 1e-10, max_iterations: int = 1_000_000
) -> Iteration:
    """A greedy improvement, then `sweeps` sweeps of evaluation (Puterman and Shin 1978).

    No sweeps are value iteration; ever more approach policy iteration.
    """
    start = jnp.zeros_like(mdp.reward[:, 0])
    policy = greedy_policy(q_values(mdp, start))
    carry = Iteration(start, policy, jnp.zeros((), jnp.int32), jnp.full_like(mdp.gamma, jnp.inf))
    more = partial(_above, tolerance, max_iterations)
    return jax.lax.while_loop(more, partial(_improve_and_sweep, mdp, sweeps), carry)


def policy_iteration(mdp: MDP, max_iterations: int = 1_000) -> Iteration:
    """Evaluate exactly, act greedily, until no action changes (Howard 1960).

    The value is that of the policy returned; `residual` is 0 once it is optimal. Actions are
    changed only for a gain above rounding, so that ties end the iteration.
    """
    start = uniform_policy(mdp)
    policy = greedy_policy(evaluate(mdp, start).q)
    count = jnp.zeros((), jnp.int32)
    carry = Iteration(evaluate(mdp, policy).value, policy, count, jnp.ones_like(mdp.gamma))
    more = partial(_above, 0.0, max_iterations)
    return jax.lax.while_loop(more, partial(_improve_exactly, mdp), carry)


def finite_horizon_evaluate(
    mdp: MDP, policies: jax.Array, final_value: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Values of a policy with T steps to act, by backward induction.

    Args:
        mdp: its gamma still discounts.
        policies: `[T, S, A]`, the policy of each step.
        final_value: `[S]` what is worth what after the last step; zeros if None.

    Returns:
        V `[T + 1, S]`, its last row the final value, and Q `[T, S, A]`.
    """
    last = _final(mdp, final_value)
    _, (values, q) = jax.lax.scan(partial(_back_up, mdp), last, policies, reverse=True)
    return jnp.concatenate([values, last[None]]), q


def finite_horizon_optimal(
    mdp: MDP, horizon: int, final_value: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Optimal values with `horizon` steps to act; returns what `finite_horizon_evaluate` does."""
    last = _final(mdp, final_value)
    steps = None
    _, (values, q) = jax.lax.scan(
        partial(_back_up_optimally, mdp), last, steps, length=horizon, reverse=True
    )
    return jnp.concatenate([values, last[None]]), q


def _final(mdp: MDP, value: jax.Array | None) -> jax.Array:
    return jnp.zeros_like(mdp.reward[:, 0]) if value is None else value


def _back_up(
    mdp: MDP, value: jax.Array, policy: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    q = q_values(mdp, value)
    value = jnp.sum(policy * q, axis=1)
    return value, (value, q)


def _back_up_optimally(
    mdp: MDP, value: jax.Array, _: None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    q = q_values(mdp, value)
    value = jnp.max(q, axis=1)
    return value, (value, q)


def _above(tolerance: float, max_iterations: int, carry: Iteration) -> jax.Array:
    return (carry.residual > tolerance) & (carry.iterations < max_iterations)


def _improve_and_sweep(mdp: MDP, sweeps: int, carry: Iteration) -> Iteration:
    q = q_values(mdp, carry.value)
    better = jnp.max(q, axis=1)
    policy = greedy_policy(q)
    residual = jnp.max(jnp.abs(better - carry.value))
    value = jax.lax.fori_loop(0, sweeps, partial(_sweep, *induced(mdp, policy), mdp.gamma), better)
    return Iteration(value, policy, carry.iterations + 1, residual)


def _sweep(
    transition: jax.Array, reward: jax.Array, gamma: jax.Array, _: int, value: jax.Array
) -> jax.Array:
    return reward + gamma * transition @ value


def _improve_exactly(mdp: MDP, carry: Iteration) -> Iteration:
    q = q_values(mdp, carry.value)
    rounding = 100.0 * jnp.finfo(q.dtype).eps * jnp.max(jnp.abs(q))
    gain = jnp.max(q, axis=1) > carry.value + rounding
    policy = jnp.where(gain[:, None], greedy_policy(q), carry.policy)
    changed = jnp.sum(gain).astype(q.dtype)
    return Iteration(evaluate(mdp, policy).value, policy, carry.iterations + 1, changed)
