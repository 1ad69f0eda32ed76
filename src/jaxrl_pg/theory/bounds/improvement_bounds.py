"""Bounds on the distance of a new policy's objective from the surrogate of the old policy.

Notation: pi is the old policy, pi' the new one, `A` the advantage of pi, `Abar(s) = sum_a pi'(a|s)
A(s,a)`, `eps = max |A|`, `d` and `d'` the discounted state distributions, `KL(s) = KL(pi'||pi)(s)`,
`TV(s) = sum_a |pi' - pi|(a|s) / 2`, `L` the surrogate

    L = J(pi) + 1/(1 - gamma) E_{s ~ d} Abar(s)

`compare` solves the MDP for both policies once; every bound on `|J(pi') - L|` is then arithmetic
on a `Comparison`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.probability import kl, mean_over, times, total_variation
from jaxrl_pg.theory.solve import evaluate

__all__ = [
    "EXP_EULER",
    "Bound",
    "Comparison",
    "ObjectiveBound",
    "PerformanceDifference",
    "compare",
    "cpo_bound",
    "expected_kl_bound",
    "expected_kl_constant",
    "objective_bound",
    "paper_bound",
    "paper_constant",
    "performance_difference",
    "surrogate",
    "trpo_bound",
    "trpo_constant",
]

EXP_EULER = 1.7810724179901979
"""exp(0.5772156649015329), the exponential of Euler's constant: alpha of `expected_kl_bound`"""


class Bound(NamedTuple):
    """Two sides of an inequality: `gap <= bound`, where it holds.

    Attributes:
        gap: the left side.
        bound: the right side, of the same shape.
    """

    gap: jax.Array
    bound: jax.Array


class Comparison(NamedTuple):
    """The exact quantities of two policies on one MDP from which the bounds are computed.

    Attributes:
        gamma: `[]`.
        objective: J(pi) `[]`.
        new_objective: J(pi') `[]`.
        surrogate: L `[]`.
        visitation: d `[S]`, 0 exactly where pi cannot come.
        new_visitation: d' `[S]`, 0 exactly where pi' cannot come.
        expected_advantage: Abar `[S]`.
        largest_advantage: eps `[]`.
        largest_reward: `max |r|`, `[]`.
        kl: KL(pi'||pi) `[S]`.
        total_variation: TV `[S]`.
    """

    gamma: jax.Array
    objective: jax.Array
    new_objective: jax.Array
    surrogate: jax.Array
    visitation: jax.Array
    new_visitation: jax.Array
    expected_advantage: jax.Array
    largest_advantage: jax.Array
    largest_reward: jax.Array
    kl: jax.Array
    total_variation: jax.Array


class ObjectiveBound(NamedTuple):
    """Bounds on `|J(pi') - L|` by the shift of the states: `gap <= tight <= bound <= crude`.

    Attributes:
        gap: `[]`.
        tight: with `2 (1 - (1 - e)^t)`, `[]`.
        bound: with `2 e t`, `[]`.
        crude: as `bound`, with the advantage bounded by the rewards alone, `[]`.
    """

    gap: jax.Array
    tight: jax.Array
    bound: jax.Array
    crude: jax.Array


class PerformanceDifference(NamedTuple):
    """Both sides of the performance-difference lemma.

    Attributes:
        change: `J(pi') - J(pi)`, `[]`.
        advantage: `1/(1 - gamma) E_{d'} Abar`, `[]`.
    """

    change: jax.Array
    advantage: jax.Array


@checked()
def compare(mdp: MDP, policy: jax.Array, new_policy: jax.Array) -> Comparison:
    """Solve an MDP for an old and a new policy, `[S, A]` each."""
    old, new = evaluate(mdp, policy), evaluate(mdp, new_policy)
    expected = jnp.sum(new_policy * old.advantage, axis=1)
    return Comparison(
        gamma=mdp.gamma,
        objective=old.objective,
        new_objective=new.objective,
        surrogate=old.objective + jnp.vdot(old.visitation, expected) / (1.0 - mdp.gamma),
        visitation=old.visitation,
        new_visitation=new.visitation,
        expected_advantage=expected,
        largest_advantage=jnp.max(jnp.abs(old.advantage)),
        largest_reward=jnp.max(jnp.abs(mdp.reward)),
        kl=kl(new_policy, policy),
        total_variation=total_variation(new_policy, policy),
    )


# --- the lemma and the surrogate ------------------------------------------------------------------


@checked()
def performance_difference(
    mdp: MDP, policy: jax.Array, new_policy: jax.Array
) -> PerformanceDifference:
    """Return both sides of the performance-difference lemma (Kakade and Langford 2002).

    J(pi') - J(pi) = E_{tau ~ pi'} sum_t gamma^t A(s_t, a_t) = 1/(1 - gamma) E_{d'} Abar
    """
    c = compare(mdp, policy, new_policy)
    flow = jnp.vdot(c.new_visitation, c.expected_advantage) / (1.0 - mdp.gamma)
    return PerformanceDifference(c.new_objective - c.objective, flow)


@checked()
def surrogate(mdp: MDP, policy: jax.Array, new_policy: jax.Array) -> jax.Array:
    """Return the importance-sampled surrogate L of J(pi') (Schulman et al. 2015, eq. 3), `[]`.

        L = J(pi) + 1/(1 - gamma) E_{s ~ d, a ~ pi}[ (pi'(a|s) / pi(a|s)) A(s,a) ]

    Actions that pi never takes are missing from that expectation. Here they count, so that it is
    `E_{s ~ d, a ~ pi'} A(s,a)`. Its gradient at pi' = pi is that of J.
    """
    old = evaluate(mdp, policy)
    expected = jnp.sum(new_policy * old.advantage, axis=1)
    return old.objective + jnp.vdot(old.visitation, expected) / (1.0 - mdp.gamma)


# --- bounds on |J(pi') - L| -----------------------------------------------------------------------


def objective_bound(comparison: Comparison) -> ObjectiveBound:
    """Return the bounds by the shift of the states, summed over time (Schulman et al. 2015).

        |J(pi') - L| <= sum_t gamma^t 2 (1 - (1 - e)^t) F <= 2 gamma e F / (1 - gamma)^2

    with `e = max_s TV(s)` and `F = max_s |Abar(s)|`; `crude` uses `F <= 2 max|r| / (1 - gamma)`.
    """
    c, far = comparison, 1.0 - comparison.gamma
    rate, largest = jnp.max(c.total_variation), jnp.max(jnp.abs(c.expected_advantage))
    tight = 2.0 * c.gamma * rate / (far * (1.0 - c.gamma * (1.0 - rate)))
    loose = 2.0 * c.gamma * rate / far**2
    crude = loose * 2.0 * c.largest_reward / far
    return ObjectiveBound(_gap(c), tight * largest, loose * largest, crude)


@checked()
def trpo_constant(gamma: jax.Array, largest_advantage: jax.Array) -> jax.Array:
    """Return `C = 4 gamma eps / (1 - gamma)`, the constant of `trpo_bound`."""
    return 4.0 * gamma * largest_advantage / (1.0 - gamma)


def trpo_bound(comparison: Comparison) -> Bound:
    """Return the bound by the largest divergence (Schulman et al. 2015, theorem 1).

        |J(pi') - L| <= 4 gamma eps / (1 - gamma)^2 max_s KL(pi'||pi)(s)

    The theorem has KL(pi||pi'). Its proof uses TV^2, which is at most either direction of KL.
    """
    c = comparison
    constant = trpo_constant(c.gamma, c.largest_advantage)
    return Bound(_gap(c), times(constant / (1.0 - c.gamma), jnp.max(c.kl)))


def cpo_bound(comparison: Comparison) -> Bound:
    """Return the bound by the expected total variation (Achiam et al. 2017, corollary 1).

    |J(pi') - L| <= 2 gamma max_s |Abar(s)| / (1 - gamma)^2 E_{s ~ d} TV(s)
    """
    c = comparison
    factor = 2.0 * c.gamma * jnp.max(jnp.abs(c.expected_advantage)) / (1.0 - c.gamma) ** 2
    return Bound(_gap(c), factor * jnp.vdot(c.visitation, c.total_variation))


@checked()
def paper_constant(gamma: jax.Array, largest_advantage: jax.Array) -> jax.Array:
    """Return `C = gamma^2 eps / (1 - gamma)^3` (Li, Clavette and He 2022)."""
    return gamma**2 * largest_advantage / (1.0 - gamma) ** 3


def paper_bound(comparison: Comparison) -> Bound:
    """Return the bound by the expected divergence as Li, Clavette and He 2022 print it.

        |J(pi') - L| <= C / (1 - gamma) E_{s ~ d} KL(s),   C = gamma^2 eps / (1 - gamma)^3

    Printed for gamma in [0.5, 1). **It is false at gamma = 0.5** and a little above, up to 0.512
    at least, and below: `counterexample.expected_kl_counterexample`. From 0.572 on it is true, for
    there it is larger than `expected_kl_bound`; in between no violation is known, nor a proof.
    """
    return _kl_bound(comparison, paper_constant(comparison.gamma, comparison.largest_advantage))


@checked()
def expected_kl_constant(gamma: jax.Array, largest_advantage: jax.Array) -> jax.Array:
    """Return `C = alpha eps / (1 - gamma)`, alpha = 1.7811, the constant of `expected_kl_bound`."""
    return EXP_EULER * largest_advantage / (1.0 - gamma)


def expected_kl_bound(comparison: Comparison) -> Bound:
    """Return a bound by the expected divergence that holds for every gamma in [0, 1).

        |J(pi') - L| <= C / (1 - gamma) E_{s ~ d} KL(pi'||pi)(s),   C = alpha eps / (1 - gamma)

    with `alpha = exp(0.5772...) = 1.7811`, the exponential of Euler's constant, and `eps = max |A|`
    over all states and actions. No smaller alpha holds for every gamma: `sharp.rising_chain` comes
    as near to it as one likes while gamma tends to 1. It is `trpo_bound` with 1.7811 in place of 4
    gamma and the expected divergence in place of the largest.

    One factor 1/(1 - gamma) is the sum over time in d; the other is the time over which the
    likelihood ratio of pi' to pi gathers its distance from 1. The proof bounds that distance by a
    potential of the ratio, which a step raises by no more than alpha KL: `expected_kl`, and
    docs/theory.md. It needs nothing of the MDP but bounded advantages. Where pi' takes an action
    that pi does not, in a state that pi comes to, the bound is infinite. With the reversed
    KL(pi||pi') in its place nothing is proved.

    Ours; we know of no earlier statement.
    """
    constant = expected_kl_constant(comparison.gamma, comparison.largest_advantage)
    return _kl_bound(comparison, constant)


def _gap(comparison: Comparison) -> jax.Array:
    return jnp.abs(comparison.new_objective - comparison.surrogate)


def _kl_bound(comparison: Comparison, constant: jax.Array) -> Bound:
    """Return the bound `C / (1 - gamma) E_d KL`; states that cannot be reached do not count."""
    c = comparison
    return Bound(_gap(c), times(constant / (1.0 - c.gamma), mean_over(c.visitation, c.kl)))
