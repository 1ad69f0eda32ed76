"""Relative entropy policy search (Peters, Mulling and Altun 2010), solved exactly.

    max_p E_p r   over state-action distributions p of policies,   KL(p || q) <= epsilon,

q(s,a) = d(s) pi(a|s) being that of the policy so far. Its dual is convex in (eta, v):

    g = eta epsilon + eta log E_q exp(delta_v / eta) + (1 - gamma) rho . v,
    delta_v(s,a) = r(s,a) + gamma sum_s' P(s'|s,a) v(s') - v(s),

and at the minimum p is proportional to q exp(delta_v / eta), and g = E_p r = (1 - gamma) J.
So REPS is the analytical update with delta_v for the advantage and eta for C.

As q itself is feasible, the exact method never lowers J; it has no such guarantee under sampling.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.linear import factorize, solve
from jaxrl_pg.theory.mdp import MDP, induced
from jaxrl_pg.theory.probability import kl_divergence
from jaxrl_pg.theory.solve import Solution, evaluate, policy_iteration, visitation
from jaxrl_pg.theory.updates.analytical import analytical_update
from jaxrl_pg.theory.updates.reps_newton import Point, bellman_error, dual, minimise, smallest_eta

__all__ = ["Reps", "bellman_error", "dual", "reps_update"]

_FIRST = 1.0  # the least eta to begin with, in units of the largest advantage


class Reps(NamedTuple):
    """The result of a REPS update.

    Attributes:
        log_policy: `[S, A]`.
        eta: `[]`, the temperature.
        value: v `[S]`, the multipliers of the flow constraint, up to a constant: added to it, it
            changes nothing, so that v is no estimate of V.
        joint: p `[S, A]`, a distribution over states and actions.
        primal: `E_p r` `[]`, in exact arithmetic (1 - gamma) J of the new policy.
        dual: g(eta, v) `[]`.
        kl: `KL(p || q)` `[]`, epsilon unless the optimal policy is nearer than that.
        flow_error: `[]`, the largest violation of the flow constraint:
            `max_s |sum_a p(s,a) - (1 - gamma) rho(s) - gamma sum p P(s|.,.)|`.
        iterations: `[]` int32, the number of Newton steps.
    """

    log_policy: jax.Array
    eta: jax.Array
    value: jax.Array
    joint: jax.Array
    primal: jax.Array
    dual: jax.Array
    kl: jax.Array
    flow_error: jax.Array
    iterations: jax.Array


class _Moved(NamedTuple):
    delta: jax.Array
    log_joint: jax.Array
    gain: jax.Array
    kl: jax.Array
    flow_error: jax.Array


@checked()
def reps_update(
    mdp: MDP,
    log_policy: jax.Array,
    epsilon: jax.typing.ArrayLike,
    max_iterations: int = 100,
) -> Reps:
    """Return the policy of the best state-action distribution within `KL(p || q) <= epsilon`.

    The dual is minimised by Newton's method with a line search, from v = V (where delta_v is the
    advantage) and from the best deterministic policy, and the better end is taken. Where the
    optimal policy lies inside the trust region, eta goes to 0 and stops at 1e-6 of max |A| (1e-3
    in float32). So it does where all actions are equally good: then q itself is the answer, and
    the policy stays. It stays, too, where epsilon is 0, at an infinite eta.

    Args:
        mdp: the MDP.
        log_policy: `[S, A]`, the policy so far.
        epsilon: the bound on the KL divergence, in nats.
        max_iterations: the largest number of Newton steps.
    """
    epsilon = jnp.asarray(epsilon, log_policy.dtype)
    before = evaluate(mdp, jnp.exp(log_policy))
    log_q = _log_joint(before.visitation, log_policy)
    relative, unit, alike = _relative(mdp, before, log_policy)
    end = _best_end(relative, log_q, epsilon, alike, max_iterations)
    moved = _moved(relative, log_q, end)
    above = jnp.where(epsilon > 0, dual(relative, log_q, epsilon, end.eta, end.value), 0.0)
    stayed = (1.0 - mdp.gamma) * before.objective
    return Reps(
        log_policy=analytical_update(log_policy, moved.delta, end.eta).log_policy,
        eta=unit * end.eta,
        value=before.value + unit * end.value,
        joint=jnp.exp(moved.log_joint),
        primal=stayed + unit * moved.gain,
        dual=stayed + unit * above,
        kl=moved.kl,
        flow_error=moved.flow_error,
        iterations=end.iterations,
    )


def _log_joint(visits: jax.Array, log_policy: jax.Array) -> jax.Array:
    """Return `log q = log d(s) + log pi(a|s)`, `[S, A]`, next to -inf where d is 0."""
    log_d = jnp.log(jnp.maximum(visits, jnp.finfo(log_policy.dtype).tiny))
    return jax.nn.log_softmax((log_d[:, None] + log_policy).ravel()).reshape(log_policy.shape)


def _relative(
    mdp: MDP, before: Solution, log_policy: jax.Array
) -> tuple[MDP, jax.Array, jax.Array]:
    """Return the MDP with `A / max |A|` for its rewards, the unit max |A|, and whether A is 0.

    For every distribution p of a policy, `E_p r = (1 - gamma) J(q) + E_p A`. So this is the same
    problem, its v is what is added to V, and no digit of small advantages is lost in large values.
    A is 0 where it is no larger than the rounding of Q, and where q never goes it does not count.
    """
    possible = (before.visitation > 0)[:, None] & (log_policy > -jnp.inf)
    advantage = jnp.where(possible, before.advantage, 0.0)
    size = jnp.max(jnp.abs(before.q)) + jnp.max(jnp.abs(mdp.reward))
    largest = jnp.max(jnp.abs(advantage))
    alike = largest <= 64.0 * jnp.finfo(size.dtype).eps * size
    unit = jnp.where(alike, jnp.where(size > 0, size, 1.0), largest)
    return mdp._replace(reward=jnp.where(alike, 0.0, advantage / unit)), unit, alike


def _best_end(
    mdp: MDP,
    log_q: jax.Array,
    epsilon: jax.Array,
    alike: jax.Array,
    max_iterations: jax.typing.ArrayLike,
) -> Point:
    """Return the end of Newton's method with the smallest gap of duality, from two starts.

    One is v = 0 and the eta of small steps, `sqrt(E_q A^2 / (2 epsilon))`. The other is next to the
    best deterministic policy, which is the answer where its KL is below epsilon. The policy stays
    where actions are alike or epsilon is 0, and should no end be allowed.
    """
    stays = alike | (epsilon <= 0)
    room, steps = jnp.where(stays, 1.0, epsilon), jnp.where(stays, 0, max_iterations)
    spread = jnp.sqrt(jnp.sum(jnp.exp(log_q) * mdp.reward**2))
    first = jnp.maximum(spread / jnp.sqrt(2.0 * room), _FIRST)
    smallest = smallest_eta(log_q.dtype)
    etas = jnp.stack([first, jnp.full_like(first, smallest)])
    values = jnp.stack([jnp.zeros_like(mdp.start), _vertex(mdp, log_q, smallest)])
    ends = jax.vmap(lambda eta, v: minimise(mdp, log_q, room, steps, eta, v))(etas, values)
    gaps = jax.vmap(lambda end: _gap(mdp, log_q, epsilon, end))(ends)
    best = jax.tree.map(lambda x: x[jnp.argmin(gaps)], ends)
    found = jnp.isfinite(jnp.min(gaps)) & ~stays
    lowest = jnp.where(alike & (epsilon > 0), smallest, jnp.inf)
    value = jnp.where(found, best.value, 0.0)
    return best._replace(eta=jnp.where(found, best.eta, lowest), value=value)


def _vertex(mdp: MDP, log_q: jax.Array, eta: float) -> jax.Array:
    """Return v `[S]` for which p is, at a small eta, that of the best deterministic policy.

    With its actions a*(s), its values V* and its visits d* it is `v = V* + eta w`, where

        (I - gamma P*) w = log q(s, a*(s)) - log d*(s),    so that    p(s, a*(s)) = d*(s).
    """
    never = jnp.where(log_q > -jnp.inf, mdp.reward, -4.0 / (1.0 - mdp.gamma))
    best = policy_iteration(mdp._replace(reward=never))
    visits = visitation(mdp, best.policy)
    log_visits = jnp.log(jnp.maximum(visits, jnp.finfo(visits.dtype).eps))
    log_share = jnp.sum(jnp.where(best.policy > 0, log_q, 0.0), axis=1)
    chain = induced(mdp, best.policy)[0]
    return best.value + eta * solve(factorize(chain, mdp.gamma), log_share - log_visits)


def _moved(mdp: MDP, log_q: jax.Array, state: Point) -> _Moved:
    """Return `p = q exp(delta_v / eta) / Z`, its advantage E_p A and its errors."""
    delta = bellman_error(mdp, state.value)
    log_p = jax.nn.log_softmax((log_q + delta / state.eta).ravel())
    joint = jnp.exp(log_p).reshape(log_q.shape)
    flow = jnp.sum(joint, axis=1) - mdp.gamma * jnp.einsum("sa,sak->k", joint, mdp.transition)
    return _Moved(
        delta=delta,
        log_joint=log_p.reshape(log_q.shape),
        gain=jnp.sum(joint * mdp.reward),
        kl=kl_divergence(log_p, log_q.ravel()),
        flow_error=jnp.max(jnp.abs(flow - (1.0 - mdp.gamma) * mdp.start)),
    )


def _gap(mdp: MDP, log_q: jax.Array, epsilon: jax.Array, state: Point) -> jax.Array:
    """Return `|g(eta, v) - E_p r|` `[]`, a bound on what p misses, infinite if p is not allowed.

    It is allowed if its flow is balanced, `KL(p || q) <= epsilon`, and it is no worse than q.
    """
    moved = _moved(mdp, log_q, state)
    rounding = jnp.finfo(log_q.dtype).eps
    balanced = moved.flow_error <= jnp.maximum(1e-7, 4e3 * rounding)
    slack = epsilon * jnp.maximum(1e-8, 1e3 * rounding) + 64.0 * rounding
    allowed = balanced & (moved.kl - epsilon <= slack) & (moved.gain >= -64.0 * rounding)
    gap = jnp.abs(dual(mdp, log_q, epsilon, state.eta, state.value) - moved.gain)
    return jnp.where(allowed, gap, jnp.inf)
