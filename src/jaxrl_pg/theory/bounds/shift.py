"""Bounds on how far the state distributions of two policies drift apart, step by step.

`p_t` and `p'_t` are the state distributions of the old policy pi and of the new policy pi' after t
steps, and `e = max_s TV(pi', pi)(s)` is the largest distance of the two policies in one state.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.bounds.improvement_bounds import Bound, ObjectiveBound
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP, induced
from jaxrl_pg.theory.probability import total_variation
from jaxrl_pg.theory.solve import finite_horizon_evaluate

__all__ = [
    "Mixture",
    "StateShift",
    "horizon_bound",
    "mixture_shift",
    "per_step",
    "state_shift",
    "step_bound",
]


class StateShift(NamedTuple):
    """The distance of two state distributions and its bounds: `distance <= tight <= loose`.

    Attributes:
        distance: `sum_s |p'_t(s) - p_t(s)|`, `[T]`.
        tight: `2 (1 - (1 - e)^t)`, `[T]`.
        loose: `2 e t`, `[T]`.
    """

    distance: jax.Array
    tight: jax.Array
    loose: jax.Array


class Mixture(NamedTuple):
    """The state distributions of a policy that makes mistakes at a fixed rate.

    Attributes:
        old: p_t `[T, S]`, of the policy without mistakes.
        new: p'_t `[T, S]`, of the policy with mistakes.
        mistaken: p_mistake `[T, S]`, given a mistake before t; the start where there is none.
        no_mistake: `(1 - e)^t`, `[T]`.
    """

    old: jax.Array
    new: jax.Array
    mistaken: jax.Array
    no_mistake: jax.Array


@checked()
def per_step(mdp: MDP, policy: jax.Array, horizon: int) -> jax.Array:
    """Return `p_t(s) = P(s_t = s)` of a policy for t = 0 ... horizon - 1, `[T, S]`."""
    transition, _ = induced(mdp, policy)
    return jax.lax.scan(lambda p, _: (p @ transition, p), mdp.start, length=horizon)[1]


@checked()
def mixture_shift(
    mdp: MDP, policy: jax.Array, mistake: jax.Array, rate: jax.Array, horizon: int
) -> Mixture:
    """Return the states of `pi' = (1 - e) pi + e pi_mistake` (Kakade and Langford 2002).

        p'_t = (1 - e)^t p_t + (1 - (1 - e)^t) p_mistake,t

    The case of a deterministic pi that is disobeyed with probability e (Ross, Gordon and Bagnell
    2011). p_mistake comes from a chain that remembers a mistake, not from the equation.

    Args:
        mdp: the MDP.
        policy: pi `[S, A]`.
        mistake: the policy of a mistake, `[S, A]`.
        rate: e `[]`, in [0, 1].
        horizon: T.
    """
    right, _ = induced(mdp, policy)
    wrong, _ = induced(mdp, mistake)

    def move(
        carry: tuple[jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        clean, erred = carry
        mixed = (1.0 - rate) * right + rate * wrong
        erred = rate * (clean @ wrong) + erred @ mixed
        return ((1.0 - rate) * (clean @ right), erred), carry

    start = (mdp.start, jnp.zeros_like(mdp.start))
    _, (clean, erred) = jax.lax.scan(move, start, length=horizon)
    mass = jnp.sum(erred, axis=1, keepdims=True)
    given = jnp.where(mass > 0, erred / jnp.where(mass > 0, mass, 1.0), mdp.start[None])
    mixed = (1.0 - rate) * policy + rate * mistake
    old, new = per_step(mdp, policy, horizon), per_step(mdp, mixed, horizon)
    return Mixture(old, new, given, jnp.sum(clean, axis=1))


@checked()
def state_shift(mdp: MDP, policy: jax.Array, new_policy: jax.Array, horizon: int) -> StateShift:
    """Return the shift of the states of any two policies (Schulman et al. 2015, lemma 3).

        sum_s |p'_t(s) - p_t(s)| <= 2 (1 - (1 - e)^t) <= 2 e t

    Two actions whose distributions differ by e in total variation can be drawn together so that
    they *disagree* with probability e; that they agree with it is a misprint. e is half of
    `sum_a |pi' - pi|`, not all of it.
    """
    apart = per_step(mdp, new_policy, horizon) - per_step(mdp, policy, horizon)
    return StateShift(jnp.sum(jnp.abs(apart), axis=1), *_drift(policy, new_policy, horizon))


@checked()
def step_bound(
    mdp: MDP, policy: jax.Array, new_policy: jax.Array, values: jax.Array, horizon: int
) -> Bound:
    """Return the bound on the change of the mean of a function of the state, both sides `[T]`.

        |E_{p'_t} f - E_{p_t} f| <= 2 e t max_s |f(s)|

    With `max_s f(s)`, as it is also printed, it fails where f is negative.

    Args:
        mdp: the MDP.
        policy: pi `[S, A]`.
        new_policy: pi' `[S, A]`.
        values: f `[S]`.
        horizon: T.
    """
    apart = per_step(mdp, new_policy, horizon) - per_step(mdp, policy, horizon)
    _, loose = _drift(policy, new_policy, horizon)
    return Bound(jnp.abs(apart @ values), loose * jnp.max(jnp.abs(values)))


@checked()
def horizon_bound(
    mdp: MDP, policy: jax.Array, new_policy: jax.Array, horizon: int
) -> ObjectiveBound:
    """Return `improvement_bounds.objective_bound` for episodes of T steps.

        |J(pi') - L| <= sum_{t < T} gamma^t 2 e t max_s |Abar_t(s)|
        L = J(pi) + sum_{t < T} gamma^t E_{p_t} Abar_t

    The advantages depend on t; `crude` uses `max |Abar_t| <= 2 T max|r|`.
    """
    values, q = finite_horizon_evaluate(mdp, jnp.tile(policy[None], (horizon, 1, 1)))
    new_values, _ = finite_horizon_evaluate(mdp, jnp.tile(new_policy[None], (horizon, 1, 1)))
    expected = jnp.sum(new_policy[None] * (q - values[:-1, :, None]), axis=2)
    discounts = mdp.gamma ** jnp.arange(horizon)
    old = per_step(mdp, policy, horizon)
    gain = jnp.vdot(discounts, jnp.sum(old * expected, axis=1))
    gap = jnp.abs(jnp.vdot(mdp.start, new_values[0] - values[0]) - gain)
    tight, loose = _drift(policy, new_policy, horizon)
    largest = jnp.max(jnp.abs(expected), axis=1)
    crude = 2.0 * horizon * jnp.max(jnp.abs(mdp.reward))
    return ObjectiveBound(
        gap,
        jnp.vdot(discounts, tight * largest),
        jnp.vdot(discounts, loose * largest),
        jnp.vdot(discounts, loose) * crude,
    )


def _drift(policy: jax.Array, new_policy: jax.Array, horizon: int) -> tuple[jax.Array, jax.Array]:
    """Return `2 (1 - (1 - e)^t)` and `2 e t`, both `[T]`."""
    rate = jnp.minimum(jnp.max(total_variation(new_policy, policy)), 1.0)
    t = jnp.arange(horizon)
    return 2.0 * (1.0 - (1.0 - rate) ** t), 2.0 * rate * t
