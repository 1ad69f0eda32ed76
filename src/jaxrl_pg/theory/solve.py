"""Exact solutions of finite MDPs: evaluation by linear solve, optimal policies by iteration.

Notation: `V` and `Q` are the values of states and of actions, `A = Q - V` is the advantage,
`d(s) = (1 - gamma) sum_t gamma^t P(s_t = s)` the discounted distribution of states, and
`J = rho . V` the objective.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import finite, number
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.linear import Factor, factorize, solve
from jaxrl_pg.theory.mdp import MDP, greedy_policy, induced, uniform_policy
from jaxrl_pg.theory.probability import entropy

__all__ = [
    "Iteration",
    "Solution",
    "attainable",
    "bellman_optimality",
    "boltzmann",
    "evaluate",
    "finite_horizon_evaluate",
    "finite_horizon_optimal",
    "modified_policy_iteration",
    "objective",
    "policy_gradient",
    "policy_iteration",
    "q_values",
    "reachable",
    "soft_maximum",
    "value_iteration",
    "visitation",
]


class Solution(NamedTuple):
    """The exact solution of an MDP for one policy.

    Attributes:
        value: V `[S]`.
        q: Q `[S, A]`.
        advantage: A = Q - V `[S, A]`.
        visitation: d `[S]`, discounted and normalised; above 0 in the states that can be reached
            and 0 in all others.
        objective: J `[]`.
    """

    value: jax.Array
    q: jax.Array
    advantage: jax.Array
    visitation: jax.Array
    objective: jax.Array


class Iteration(NamedTuple):
    """The result of an iterative solver.

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


@checked()
def evaluate(mdp: MDP, policy: jax.Array) -> Solution:
    """Return V, Q, A, d and J of a policy `[S, A]`, from one factorisation.

        (I - gamma P_pi) V = r_pi          (I - gamma P_pi)^T d = (1 - gamma) rho

    Differentiable with respect to the policy and the MDP by the implicit function theorem.
    """
    transition, reward = induced(mdp, policy)
    factor = factorize(transition, mdp.gamma)
    value = solve(factor, reward)
    q = q_values(mdp, value)
    visited = _visited(mdp, policy, factor)
    return Solution(value, q, q - value[:, None], visited, jnp.vdot(mdp.start, value))


@checked()
def objective(mdp: MDP, policy: jax.Array) -> jax.Array:
    """Return `J = rho . V` of a policy `[S, A]`, `[]`."""
    transition, reward = induced(mdp, policy)
    return jnp.vdot(mdp.start, solve(factorize(transition, mdp.gamma), reward))


@checked()
def visitation(mdp: MDP, policy: jax.Array) -> jax.Array:
    """Return the discounted state distribution d `[S]` of a policy `[S, A]`, as in `Solution`."""
    return _visited(mdp, policy, factorize(induced(mdp, policy)[0], mdp.gamma))


@checked()
def reachable(mdp: MDP, policy: jax.Array) -> jax.Array:
    """Return in which states `[S]` a policy `[S, A]` can come to be, with a weight in J.

    It follows the graph of transitions of positive probability, so that no rounding decides; at a
    discount of 0 only the first state counts.
    """
    possible = (policy > 0)[:, :, None] & (mdp.transition > 0) & (mdp.gamma > 0)
    edges = jnp.any(possible, axis=1)

    def spread(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        reached, _ = carry
        further = reached | jnp.any(reached[:, None] & edges, axis=0)
        return further, jnp.any(further != reached)

    start = mdp.start > 0
    return jax.lax.while_loop(lambda carry: carry[1], spread, (start, jnp.any(start)))[0]


def _visited(mdp: MDP, policy: jax.Array, factor: Factor) -> jax.Array:
    """Return d, without the rounding that would give states a weight that cannot be reached.

    Its derivatives are those of the linear system: a state may become reachable.
    """
    rough = solve(factor, (1.0 - mdp.gamma) * mdp.start, transpose=True)
    smallest = jnp.finfo(rough.dtype).tiny
    exact = jnp.where(reachable(mdp, policy), jnp.maximum(rough, smallest), 0.0)
    return jax.lax.stop_gradient(exact) + (rough - jax.lax.stop_gradient(rough))


@checked()
def policy_gradient(mdp: MDP, logits: jax.Array) -> jax.Array:
    """Return the exact gradient of J of a softmax policy, by the policy gradient theorem.

        dJ / dtheta(s,a) = d(s) pi(a|s) A(s,a) / (1 - gamma)

    Source: Sutton et al. 2000; Sutton and Barto 2018, section 13.2.

    Args:
        mdp: the MDP.
        logits: theta `[S, A]`.

    Returns:
        `[S, A]`.
    """
    policy = jax.nn.softmax(logits)
    solution = evaluate(mdp, policy)
    weights = solution.visitation[:, None] * policy
    return weights * solution.advantage / (1.0 - mdp.gamma)


@checked()
def q_values(mdp: MDP, value: jax.Array) -> jax.Array:
    """Return `Q = r + gamma P V`, `[S, A]`, one step of look-ahead from values `[S]`."""
    return mdp.reward + mdp.gamma * jnp.einsum("sak,k->sa", mdp.transition, value)


@checked()
def bellman_optimality(mdp: MDP, value: jax.Array) -> jax.Array:
    """Return `(T V)(s) = max_a [r(s,a) + gamma sum_s' P(s'|s,a) V(s')]`, `[S]`."""
    return jnp.max(q_values(mdp, value), axis=1)


@checked(q=finite("...A"), temperature=number(0.0))
def soft_maximum(q: jax.Array, temperature: jax.typing.ArrayLike) -> jax.Array:
    """Return `V = temperature log sum_a exp(Q / temperature)`, `[...]` from `[..., A]`.

    At temperature 0 it is its limit, `max_a Q`. It is often printed as "softmax", which is the
    name of its gradient.
    """
    warm = jnp.asarray(temperature) >= jnp.finfo(q.dtype).tiny
    scale = jnp.where(warm, temperature, 1.0)
    best = jax.lax.stop_gradient(jnp.max(q, axis=-1))
    excess = scale * jax.nn.logsumexp((q - best[..., None]) / scale, axis=-1)
    return jnp.where(warm, best + excess, jnp.max(q, axis=-1))


@checked(q=finite("...A"), temperature=number(0.0))
def boltzmann(q: jax.Array, temperature: jax.typing.ArrayLike) -> jax.Array:
    """Return `softmax(Q / temperature)` `[..., A]`, at temperature 0 the best actions alike."""
    warm = jnp.asarray(temperature) >= jnp.finfo(q.dtype).tiny
    below = q - jax.lax.stop_gradient(jnp.max(q, axis=-1, keepdims=True))
    rounding = 8.0 * jnp.finfo(below.dtype).eps * jnp.max(jnp.abs(q), axis=-1, keepdims=True)
    best = (below >= -rounding).astype(below.dtype)
    greedy = best / jnp.sum(best, axis=-1, keepdims=True)
    return jnp.where(warm, jax.nn.softmax(below / jnp.where(warm, temperature, 1.0)), greedy)


# --- infinite horizon -----------------------------------------------------------------------------


@checked()
def value_iteration(
    mdp: MDP, tolerance: float = 1e-10, max_iterations: int = 1_000_000
) -> Iteration:
    """Repeat `V <- T V` until `max_s |T V - V| <= tolerance`.

    The value returned is then within `tolerance gamma / (1 - gamma)` of the optimal one. A change
    that is no more than rounding, `8 max|V|` times the precision, ends it too: in float32 that is
    about `1e-6 max|V|`, in float64 `2e-15 max|V|`.
    """
    return modified_policy_iteration(mdp, 0, tolerance, max_iterations)


@checked()
def modified_policy_iteration(
    mdp: MDP, sweeps: int, tolerance: float = 1e-10, max_iterations: int = 1_000_000
) -> Iteration:
    """Repeat a greedy improvement and `sweeps` sweeps of evaluation (Puterman and Shin 1978).

    Without sweeps it is value iteration; with more and more of them it approaches policy
    iteration. It stops as `value_iteration` does.
    """

    def improve_and_sweep(carry: Iteration) -> Iteration:
        q = q_values(mdp, carry.value)
        better = jnp.max(q, axis=1)
        policy = greedy_policy(q)
        residual = jnp.max(jnp.abs(better - carry.value))
        transition, reward = induced(mdp, policy)
        value = jax.lax.fori_loop(
            0, sweeps, lambda _, value: reward + mdp.gamma * transition @ value, better
        )
        return Iteration(value, policy, carry.iterations + 1, residual)

    start = jnp.zeros_like(mdp.reward[:, 0])
    policy = greedy_policy(q_values(mdp, start))
    carry = Iteration(start, policy, jnp.zeros((), jnp.int32), jnp.full_like(mdp.gamma, jnp.inf))
    last = jax.lax.while_loop(
        lambda x: (x.residual > attainable(tolerance, x.value)) & (x.iterations < max_iterations),
        improve_and_sweep,
        carry,
    )
    return last._replace(policy=greedy_policy(q_values(mdp, last.value)))


@checked(value=finite())
def attainable(tolerance: jax.typing.ArrayLike, value: jax.Array) -> jax.Array:
    """Return the tolerance, or the rounding of the largest value where that is larger, `[]`."""
    return jnp.maximum(tolerance, 8.0 * jnp.finfo(value.dtype).eps * jnp.max(jnp.abs(value)))


@checked()
def policy_iteration(mdp: MDP, max_iterations: int = 1_000) -> Iteration:
    """Evaluate exactly and act greedily until no action changes (Howard 1960).

    The value is that of the policy returned; `residual` is 0 once it is optimal. Actions are
    changed only for a gain above rounding, so that ties end the iteration.
    """

    def improve(carry: Iteration) -> Iteration:
        q = q_values(mdp, carry.value)
        rounding = 100.0 * jnp.finfo(q.dtype).eps * jnp.max(jnp.abs(q))
        gain = jnp.max(q, axis=1) > carry.value + rounding
        policy = jnp.where(gain[:, None], greedy_policy(q), carry.policy)
        changed = jnp.sum(gain).astype(q.dtype)
        return Iteration(evaluate(mdp, policy).value, policy, carry.iterations + 1, changed)

    policy = greedy_policy(evaluate(mdp, uniform_policy(mdp)).q)
    count = jnp.zeros((), jnp.int32)
    carry = Iteration(evaluate(mdp, policy).value, policy, count, jnp.ones_like(mdp.gamma))
    return jax.lax.while_loop(
        lambda x: (x.residual > 0.0) & (x.iterations < max_iterations), improve, carry
    )


# --- finite horizon -------------------------------------------------------------------------------


@checked(undiscounted=True, temperature=number(0.0))
def finite_horizon_evaluate(
    mdp: MDP,
    policies: jax.Array,
    final_value: jax.Array | None = None,
    temperature: jax.typing.ArrayLike = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Return the values of a policy with T steps to act, by backward induction.

        Q_t = r + gamma P V_{t+1}     V_t = E_{a~pi_t} Q_t + temperature H(pi_t)

    Args:
        mdp: the MDP; its gamma discounts here too.
        policies: `[T, S, A]`, the policy of each step.
        final_value: `[S]`, the value of each state after the last step; zeros if None.
        temperature: the weight of the entropy, 0 for values of reward alone.

    Returns:
        V `[T + 1, S]`, its last row the final value, and Q `[T, S, A]`.
    """

    def back_up(
        value: jax.Array, policy: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        q = q_values(mdp, value)
        value = jnp.sum(policy * q, axis=1) + temperature * entropy(policy)
        return value, (value, q)

    last = jnp.zeros_like(mdp.reward[:, 0]) if final_value is None else final_value
    _, (values, q) = jax.lax.scan(back_up, last, policies, reverse=True)
    return jnp.concatenate([values, last[None]]), q


@checked(undiscounted=True, temperature=number(0.0))
def finite_horizon_optimal(
    mdp: MDP,
    horizon: int,
    final_value: jax.Array | None = None,
    temperature: jax.typing.ArrayLike = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Return the values of the best policies with `horizon` steps to act.

    The arguments and the result are those of `finite_horizon_evaluate`. The best policies are
    greedy at temperature 0 and `softmax(Q_t / temperature)` above it.
    """

    def back_up(value: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        q = q_values(mdp, value)
        value = soft_maximum(q, temperature)
        return value, (value, q)

    last = jnp.zeros_like(mdp.reward[:, 0]) if final_value is None else final_value
    _, (values, q) = jax.lax.scan(back_up, last, None, length=horizon, reverse=True)
    return jnp.concatenate([values, last[None]]), q
