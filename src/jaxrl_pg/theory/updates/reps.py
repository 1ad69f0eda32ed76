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

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import joint_log
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.linear import factorize, solve
from jaxrl_pg.theory.mdp import MDP, induced
from jaxrl_pg.theory.probability import kl_divergence
from jaxrl_pg.theory.solve import Solution, evaluate, policy_iteration, visitation
from jaxrl_pg.theory.updates.analytical import analytical_update

__all__ = ["Reps", "bellman_error", "dual", "reps_update"]

_LENGTHS = 24  # lengths of a Newton step that are tried, each half of the previous one
_RIDGE = 1e-12
_SMALLEST = 1e-6  # eta, in units of the largest advantage
_LEAST = (30.0, 1.0, 1.0 / 3.0)  # eta to begin with, in the same units
_NEAR = 0.01  # change of delta / eta below which a Newton step is taken whole
_LONGEST = 10.0  # largest change of delta / eta in a step


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


class _State(NamedTuple):
    eta: jax.Array
    value: jax.Array
    decrement: jax.Array
    iterations: jax.Array


class _Moved(NamedTuple):
    delta: jax.Array
    log_joint: jax.Array
    gain: jax.Array
    kl: jax.Array
    flow_error: jax.Array


@checked()
def bellman_error(mdp: MDP, value: jax.Array) -> jax.Array:
    """Return `delta_v = r + gamma P v - v`, `[S, A]`; the advantage if v is the policy's value."""
    return mdp.reward + mdp.gamma * mdp.transition @ value - value[:, None]


@checked(log_q=joint_log())
def dual(
    mdp: MDP,
    log_q: jax.Array,
    epsilon: jax.typing.ArrayLike,
    eta: jax.Array,
    value: jax.Array,
) -> jax.Array:
    """Return g(eta, v) `[]`, whose minimum is the maximum of `E_p r`.

    Args:
        mdp: the MDP.
        log_q: `[S, A]`, logarithms of q.
        epsilon: the bound on the KL divergence, in nats.
        eta: > 0, `[]`.
        value: v `[S]`.
    """
    partition = jax.nn.logsumexp(log_q + bellman_error(mdp, value) / eta)
    return eta * (epsilon + partition) + (1.0 - mdp.gamma) * jnp.vdot(mdp.start, value)


@checked()
def reps_update(
    mdp: MDP,
    log_policy: jax.Array,
    epsilon: jax.typing.ArrayLike,
    max_iterations: int = 100,
) -> Reps:
    """Return the policy of the best state-action distribution within `KL(p || q) <= epsilon`.

    The dual is minimised by Newton's method with a line search, from v = V (where delta_v is the
    advantage) and several eta, and the best of the ends is taken. Where the optimal policy lies
    inside the trust region, eta goes to 0 and stops at 1e-6 of its scale. So it does where all
    actions are equally good: then q itself is the answer, and the policy stays. It stays, too,
    where epsilon is 0, at an infinite eta.

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
    stays = alike | (epsilon <= 0)
    room, steps = jnp.where(stays, 1.0, epsilon), jnp.where(stays, 0, max_iterations)
    starts = _starts(relative, log_q, room)
    ends = jax.vmap(lambda eta, v: _minimise(relative, log_q, room, steps, eta, v))(*starts)
    gaps = jax.vmap(lambda end: _gap(relative, log_q, epsilon, end))(ends)
    best = jnp.argmin(gaps)
    found = jnp.isfinite(gaps[best]) & ~stays
    eta = jnp.where(found, ends.eta[best], jnp.where(alike & (epsilon > 0), _SMALLEST, jnp.inf))
    end = _State(eta, jnp.where(found, ends.value[best], 0.0), gaps[best], ends.iterations[best])
    moved = _moved(relative, log_q, end)
    stayed = (1.0 - mdp.gamma) * before.objective
    return Reps(
        log_policy=analytical_update(log_policy, moved.delta, eta).log_policy,
        eta=unit * eta,
        value=before.value + unit * end.value,
        joint=jnp.exp(moved.log_joint),
        primal=stayed + unit * moved.gain,
        dual=stayed
        + unit * jnp.where(epsilon > 0, dual(relative, log_q, epsilon, eta, end.value), 0.0),
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


def _starts(mdp: MDP, log_q: jax.Array, epsilon: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return where Newton's method begins: eta `[4]` and v `[4, S]`.

    Three begin at v = 0 and the eta of small steps, `sqrt(E_q A^2 / (2 epsilon))`, or larger. The
    last is next to the best deterministic policy: the answer where its KL is below epsilon.
    """
    spread = jnp.sqrt(jnp.sum(jnp.exp(log_q) * mdp.reward**2))
    small_steps = jnp.maximum(spread / jnp.sqrt(2.0 * epsilon), jnp.asarray(_LEAST, spread.dtype))
    lowest = jnp.asarray([_SMALLEST], spread.dtype)
    none = jnp.zeros((len(_LEAST), log_q.shape[0]), spread.dtype)
    vertex = _vertex(mdp, log_q, _SMALLEST)
    return jnp.concatenate([small_steps, lowest]), jnp.concatenate([none, vertex[None]])


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


def _minimise(
    mdp: MDP,
    log_q: jax.Array,
    epsilon: jax.Array,
    max_iterations: jax.Array,
    eta: jax.Array,
    value: jax.Array,
) -> _State:
    """Minimise the dual of rewards of size 1, from eta and v."""
    tolerance = jnp.finfo(eta.dtype).eps ** 1.5
    return jax.lax.while_loop(
        lambda x: (x.decrement > tolerance) & (x.iterations < max_iterations),
        lambda x: _newton(mdp, log_q, epsilon, jnp.full_like(eta, _SMALLEST), x),
        _State(eta, value, jnp.full_like(eta, jnp.inf), jnp.zeros((), jnp.int32)),
    )


def _moved(mdp: MDP, log_q: jax.Array, state: _State) -> _Moved:
    """Return `p = q exp(delta_v / eta) / Z` and what it is worth."""
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


def _gap(mdp: MDP, log_q: jax.Array, epsilon: jax.Array, state: _State) -> jax.Array:
    """Return `|g(eta, v) - E_p r|` `[]`, a bound on what p misses, infinite if p is not allowed.

    It is allowed if its flow is balanced, `KL(p || q) <= epsilon`, and it is no worse than q.
    """
    moved = _moved(mdp, log_q, state)
    balanced = moved.flow_error <= jnp.maximum(1e-7, 1e3 * jnp.finfo(log_q.dtype).eps)
    allowed = balanced & (moved.kl <= epsilon * (1.0 + 1e-8)) & (moved.gain >= 0)
    gap = jnp.abs(dual(mdp, log_q, epsilon, state.eta, state.value) - moved.gain)
    return jnp.where(allowed, gap, jnp.inf)


def _newton(
    mdp: MDP,
    log_q: jax.Array,
    epsilon: jax.Array,
    smallest: jax.Array,
    state: _State,
) -> _State:
    """Take one Newton step on g(eta, v), with the best of some lengths."""
    eta, value = state.eta, state.value
    direction, decrement, moved = _direction(mdp, log_q, epsilon, smallest, eta, value)

    def dual_along(length: jax.Array) -> jax.Array:
        new_eta = eta + length * direction[0]
        new_value = value + length * direction[1:]
        return dual(mdp, log_q, epsilon, jnp.maximum(new_eta, smallest), new_value)

    lengths = jnp.asarray(2.0, eta.dtype) ** -jnp.arange(_LENGTHS)
    values = jax.vmap(dual_along)(lengths)
    best = jnp.argmin(values)
    better = values[best] < dual(mdp, log_q, epsilon, eta, value)
    near = moved < _NEAR  # where Newton's step is right, and g too flat to be compared
    length = jnp.where(near, 1.0, jnp.where(better, lengths[best], 0.0))
    return _State(
        jnp.maximum(eta + length * direction[0], smallest),
        value + length * direction[1:],
        jnp.where(near | better, decrement, 0.0),
        state.iterations + 1,
    )


def _direction(
    mdp: MDP,
    log_q: jax.Array,
    epsilon: jax.Array,
    least_eta: jax.Array,
    eta: jax.Array,
    value: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the Newton step in (eta, v) `[1 + S]`, its decrement, and its change of `delta / eta`.

    The gradient is (epsilon - KL(p || q), (1 - gamma) rho + E_p B) and the Hessian that of a
    covariance, Cov_p(z) / eta with z = (-delta / eta, B), B = gamma P - 1. The step in eta at most
    halves or doubles it, and the step in v is the best one for that step in eta.
    """
    num_states, num_actions = log_q.shape
    own = jnp.repeat(jnp.eye(num_states, dtype=log_q.dtype), num_actions, axis=0)
    flow = mdp.gamma * mdp.transition.reshape(-1, num_states) - own
    x = bellman_error(mdp, value).ravel() / eta
    log_p = jax.nn.log_softmax(log_q.ravel() + x)
    p = jnp.exp(log_p)
    slack = epsilon - kl_divergence(log_p, log_q.ravel())
    gradient = p @ flow + (1.0 - mdp.gamma) * mdp.start
    centred, x_centred = flow - (p @ flow)[None], x - p @ x
    hessian = (p[:, None] * centred).T @ centred / eta
    trace, smallest = jnp.trace(hessian), jnp.finfo(p.dtype).eps
    lift = jnp.maximum(trace, smallest / eta)
    # A constant added to v changes nothing, and neither does v where p has no mass.
    reached = jnp.where(jnp.diagonal(hessian) > smallest**2 * trace, 1.0 / num_states, 0.0)
    hessian = hessian + lift * jnp.outer(reached, reached)
    solve_with = _factor_positive(hessian)
    mixed = -(p * x_centred) @ centred / eta
    along, towards = solve_with(mixed), solve_with(gradient)
    own_curvature = p @ x_centred**2 / eta
    curvature = jnp.maximum(own_curvature - mixed @ along, _RIDGE * own_curvature)
    curvature = jnp.maximum(curvature, jnp.finfo(p.dtype).tiny)
    # Far from the best v for this eta: move towards it first, within the region of trust.
    distance = jnp.maximum(jnp.max(jnp.abs(flow @ towards)) / eta, 1.0)
    towards = towards * jnp.minimum(1.0, _LONGEST / distance)
    lowest = jnp.maximum(-0.5 * eta / distance, least_eta - eta)
    eta_step = jnp.clip(-(slack - mixed @ towards) / curvature, lowest, eta)
    value_step = -towards * (1.0 + eta_step / eta) - along * eta_step
    moved = jnp.max(jnp.abs(flow @ value_step - x * eta_step)) / eta
    decrement = -(slack * eta_step + gradient @ value_step)
    return jnp.concatenate([eta_step[None], value_step]), decrement, moved


def _factor_positive(matrix: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """Return `b -> x` with `matrix x = b` for a positive semidefinite matrix, by elimination.

    The matrix is scaled to a diagonal of ones, and a ridge leaves directions without curvature
    unchanged.
    """
    diagonal = jnp.diagonal(matrix)
    tiny = jnp.finfo(matrix.dtype).tiny
    scale = jnp.where(diagonal > tiny, jax.lax.rsqrt(jnp.maximum(diagonal, tiny)), 0.0)
    scaled = matrix * scale[:, None] * scale[None]
    identity = jnp.eye(scale.shape[0], dtype=matrix.dtype)
    lifted = scaled + jnp.where(scale > 0, _RIDGE, 1.0)[:, None] * identity
    factor = factorize(identity - lifted, jnp.ones((), matrix.dtype))
    return lambda rhs: scale * solve(factor, scale * rhs)
