"""Maximum-entropy inverse reinforcement learning: the reward for which behaviour is soft-optimal.

A reward is linear in K features, `r = phi . w`, and the expert is known by its feature counts, the
discounted sums of features that it collects. Of all policies with these counts the soft-optimal one
for the right w has the largest entropy, and of all soft-optimal policies it is the one under which
the expert's actions are likeliest. Everything is exact: the soft-optimal policy of every w is
solved for.

Sources: Ziebart, Maas, Bagnell and Dey 2008 (AAAI); Ziebart, Bagnell and Dey 2010 (ICML) for random
dynamics, where an action may depend on what has happened and not on what will (causal entropy).
The first treats these as `posterior` does: exact for dynamics without chance, optimistic otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import finite, number, unchecked
from jaxrl_pg.theory.checks import check_paths, checked
from jaxrl_pg.theory.learning.estimators import Trajectories
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.probability import entropy
from jaxrl_pg.theory.soft import soft_values
from jaxrl_pg.theory.solve import attainable, evaluate, visitation

__all__ = [
    "Fit",
    "causal_entropy",
    "dual",
    "empirical_counts",
    "feature_counts",
    "fit",
    "hessian",
    "optimal_policy",
    "rewarded",
]

Scalar = jax.Array | float
_SUFFICIENT, _DAMPING = 0.25, 1e-12  # of the slope; a Newton step on a parabola gains half of it


class Fit(NamedTuple):
    """The result of inverse reinforcement learning.

    Attributes:
        weight: w `[K]`.
        policy: `[S, A]`, soft-optimal for `phi . w`.
        counts: its feature counts `[K]`.
        iterations: `[]` int32, the number of weights that were tried.
        residual: `[]`, the largest entry of the gradient: of the difference of the counts, where
            there is no ridge.
    """

    weight: jax.Array
    policy: jax.Array
    counts: jax.Array
    iterations: jax.Array
    residual: jax.Array


class _Point(NamedTuple):
    """A point of Newton's method, and the step to try from there."""

    weight: jax.Array
    policy: jax.Array
    counts: jax.Array
    loss: jax.Array
    gradient: jax.Array
    step: jax.Array
    size: jax.Array


# --- what an expert shows -------------------------------------------------------------------------


@checked(feature=finite("SAK"))
def feature_counts(mdp: MDP, policy: jax.Array, feature: jax.Array) -> jax.Array:
    """Return `f_k = E sum_t gamma^t phi_k(s_t, a_t)` of a policy, `[K]`.

    Args:
        mdp: the MDP; its reward is not used.
        policy: `[S, A]`.
        feature: phi `[S, A, K]`.
    """
    pair = visitation(mdp, policy)[:, None] * policy
    return jnp.tensordot(pair, feature, 2) / (1.0 - mdp.gamma)


@checked(feature=finite("SAK"), paths=unchecked(), gamma=number(0.0, 1.0))
def empirical_counts(feature: jax.Array, paths: Trajectories, gamma: Scalar) -> jax.Array:
    """Return the weighted mean of `sum_t gamma^t phi_k(s_t, a_t)` over demonstrations, `[K]`.

    What would follow the last of T steps is missing, `gamma^T` of the whole.
    """
    check_paths(paths, *feature.shape[:2])
    discounts = gamma ** jnp.arange(paths.state.shape[1]).astype(feature.dtype)
    collected = jnp.einsum("t,ntk->nk", discounts, feature[paths.state, paths.action])
    return paths.weight @ collected


@checked()
def causal_entropy(mdp: MDP, policy: jax.Array) -> jax.Array:
    """Return `E sum_t gamma^t H(pi(.|s_t))` in nats, `[]`, of a policy `[S, A]`."""
    return jnp.vdot(visitation(mdp, policy), entropy(policy)) / (1.0 - mdp.gamma)


# --- the reward that explains it ------------------------------------------------------------------


@checked(feature=finite("SAK"), weight=finite("K"))
def rewarded(mdp: MDP, feature: jax.Array, weight: jax.Array) -> MDP:
    """Return the MDP with the reward `phi . w` in place of its own."""
    return mdp._replace(reward=feature @ weight)


@checked(feature=finite("SAK"), weight=finite("K"))
def optimal_policy(
    mdp: MDP, feature: jax.Array, weight: jax.Array, temperature: Scalar
) -> jax.Array:
    """Return the soft-optimal policy `[S, A]` for the reward `phi . w`."""
    return soft_values.policy_iteration(rewarded(mdp, feature, weight), temperature).policy


@checked(feature=finite("SAK"), weight=finite("K"), counts=finite("K"))
def dual(
    mdp: MDP, feature: jax.Array, weight: jax.Array, counts: jax.Array, temperature: Scalar
) -> jax.Array:
    """Return what `fit` minimises, `D(w) = max_pi J_soft(pi; phi . w) - w . f`, `[]`.

    It is convex; its gradient is the learner's feature counts minus the expert's, f. And it is the
    expert's negative log-likelihood under the soft-optimal policy of w,

        -temperature E_expert sum_t gamma^t log pi_w(a_t|s_t) = D(w),

    since `temperature log pi_w = Q_w - V_w`, whose sum telescopes. At its minimum it is temperature
    times the causal entropy of the soft-optimal policy.

    Args:
        mdp: the MDP; its reward is not used.
        feature: phi `[S, A, K]`.
        weight: w `[K]`.
        counts: f `[K]` of the expert.
        temperature: of the expert. With another one, w is scaled by it, and no policy changes.
    """
    solved = soft_values.policy_iteration(rewarded(mdp, feature, weight), temperature)
    return jnp.vdot(mdp.start, solved.value) - jnp.vdot(weight, counts)


@checked(feature=finite("SAK"), weight=finite("K"))
def hessian(mdp: MDP, feature: jax.Array, weight: jax.Array, temperature: Scalar) -> jax.Array:
    """Return the second derivative of `dual`, `[K, K]`.

        H_jk = 1 / (temperature (1 - gamma)) E_{s~d, a~pi} [ A_j(s,a) A_k(s,a) ]

    with the advantages `A_k` of the policy of w if feature k is the reward. Directions in which it
    is 0 change no policy: such as constants, and `gamma P h - h` for any h (Ng, Harada and Russell
    1999), if the features span them. Weights are recovered up to these.
    """
    policy = optimal_policy(mdp, feature, weight, temperature)
    return _counts_and_hessian(mdp, feature, policy, temperature)[1]


@checked(feature=finite("SAK"), counts=finite("K"), ridge=number(0.0))
def fit(
    mdp: MDP,
    feature: jax.Array,
    counts: jax.Array,
    temperature: Scalar,
    ridge: Scalar = 0.0,
    tolerance: float = 1e-9,
    max_iterations: int = 200,
) -> Fit:
    """Return the weights whose soft-optimal policy has the expert's feature counts.

    It minimises `dual + ridge |w|^2 / 2` by Newton's method from w = 0, each step halved until it
    is an improvement, until no entry of the gradient is above the tolerance or its rounding.

    Args:
        mdp: the MDP; its reward is not used.
        feature: phi `[S, A, K]`.
        counts: f `[K]` of the expert.
        temperature: see `dual`.
        ridge: above 0, counts are matched up to `ridge w`. An expert that never does what it might,
            or counts from few demonstrations, can have counts that no finite w gives.
        tolerance: in units of counts.
        max_iterations: the most weights for which the MDP is solved.
    """

    def at(weight: jax.Array) -> _Point:
        solved = soft_values.policy_iteration(rewarded(mdp, feature, weight), temperature)
        own, curvature = _counts_and_hessian(mdp, feature, solved.policy, temperature)
        gradient = own - counts + ridge * weight
        loss = jnp.vdot(mdp.start, solved.value) - jnp.vdot(weight, counts)
        loss = loss + 0.5 * ridge * jnp.vdot(weight, weight)
        damping = ridge + _DAMPING * jnp.trace(curvature) + jnp.finfo(loss.dtype).tiny
        damped = curvature + damping * jnp.eye(counts.shape[0], dtype=loss.dtype)
        step = -jnp.linalg.solve(damped, gradient)
        return _Point(weight, solved.policy, own, loss, gradient, step, jnp.ones_like(loss))

    def improve(carry: tuple[_Point, jax.Array]) -> tuple[_Point, jax.Array]:
        here, count = carry
        there = at(here.weight + here.size * here.step)
        slope = jnp.vdot(here.gradient, here.step)
        slack = 100.0 * jnp.finfo(slope.dtype).eps * jnp.abs(there.loss)
        better = there.loss <= here.loss + _SUFFICIENT * here.size * slope + slack
        nearer = here._replace(size=0.5 * here.size)
        point = jax.tree.map(lambda x, y: jnp.where(better, x, y), there, nearer)
        return point, count + 1

    def going_on(carry: tuple[_Point, jax.Array]) -> jax.Array:
        far = jnp.max(jnp.abs(carry[0].gradient)) > enough
        return far & (carry[1] < max_iterations)

    enough = attainable(tolerance, counts / (1.0 - mdp.gamma))
    # Begin with a point that is worse than w = 0, which is the first that is tried.
    zero, one = jnp.zeros_like(counts), jnp.ones_like(counts[0])
    policy = jnp.zeros_like(mdp.reward)
    far = zero + jnp.finfo(zero.dtype).max
    nowhere = _Point(zero, policy, zero, one * jnp.inf, far, zero, one)
    found, count = jax.lax.while_loop(going_on, improve, (nowhere, jnp.zeros((), jnp.int32)))
    residual = jnp.max(jnp.abs(found.gradient))
    return Fit(found.weight, found.policy, found.counts, count, residual)


def _counts_and_hessian(
    mdp: MDP, feature: jax.Array, policy: jax.Array, temperature: Scalar
) -> tuple[jax.Array, jax.Array]:
    """Return the feature counts `[K]` of a policy and the Hessian `[K, K]` of the dual at it."""
    each = jax.vmap(lambda reward: evaluate(mdp._replace(reward=reward), policy), 2)(feature)
    pair = each.visitation[0][:, None] * policy
    products = jnp.einsum("sa,jsa,ksa->jk", pair, each.advantage, each.advantage)
    return each.objective, products / (temperature * (1.0 - mdp.gamma))
