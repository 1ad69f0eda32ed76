"""Relative entropy policy search (Peters, Mulling and Altun 2010), solved exactly.

    max_p E_p r   over state-action distributions p of policies,   KL(p || q) <= epsilon,

q(s,a) = d(s) pi(a|s) being that of the policy so far. Its dual is convex in (eta, v):

    g = eta epsilon + eta log E_q exp(delta_v / eta) + (1 - gamma) rho . v,
    delta_v(s,a) = r(s,a) + gamma sum_s' P(s'|s,a) v(s') - v(s),

and at the minimum p is proportional to q exp(delta_v / eta), and g = E_p r = (1 - gamma) J.
So REPS is the analytical update with delta_v for the advantage and eta for C.

As q itself is allowed, the exact method never loses; what it lacks is a guarantee under sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.linear import Factor, factorize, solve
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.solve import evaluate
from jaxrl_pg.theory.updates.analytical import analytical_update, kl_divergence

__all__ = ["Reps", "bellman_error", "dual", "reps_update"]

_LENGTHS = 24  # of a Newton step that are tried, each half the one before
_RIDGE = 1e-12
_NEAR = 0.01
_LONGEST = 10.0  # of a change of delta / eta


class Reps(NamedTuple):
    """A REPS update.

    Attributes:
        log_policy: `[S, A]`.
        eta: `[]`, the temperature.
        value: v `[S]`; a constant added to it changes nothing.
        joint: p `[S, A]`, a distribution over states and actions.
        primal: `E_p r` `[]`, in exact arithmetic (1 - gamma) J of the new policy.
        dual: g(eta, v) `[]`.
        kl: `KL(p || q)` `[]`, epsilon unless the optimal policy is nearer than that.
        flow_error: `[]`, the most by which p misses being a state-action distribution:
            `max_s |sum_a p(s,a) - (1 - gamma) rho(s) - gamma sum p P(s|.,.)|`.
        iterations: `[]` int32, Newton steps made.
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


def bellman_error(mdp: MDP, value: jax.Array) -> jax.Array:
    """`delta_v = r + gamma P v - v`, `[S, A]`; the advantage where v is the policy's value."""
    return mdp.reward + mdp.gamma * mdp.transition @ value - value[:, None]


def dual(
    mdp: MDP,
    log_q: jax.Array,
    epsilon: jax.typing.ArrayLike,
    eta: jax.Array,
    value: jax.Array,
) -> jax.Array:
    """g(eta, v) `[]`, the smallest of which is the largest `E_p r`.

    Args:
        mdp: the MDP.
        log_q: `[S, A]`, logarithms of q.
        epsilon: the bound on the KL divergence, in nats.
        eta: > 0, `[]`.
        value: v `[S]`.
    """
    partition = jax.nn.logsumexp(log_q + bellman_error(mdp, value) / eta)
    return eta * (epsilon + partition) + (1.0 - mdp.gamma) * jnp.vdot(mdp.start, value)


def reps_update(
    mdp: MDP,
    log_policy: jax.Array,
    epsilon: jax.typing.ArrayLike,
    max_iterations: int = 100,
) -> Reps:
    """The policy of the best state-action distribution within `KL(p || q) <= epsilon`.

    The dual is minimised by Newton's method with a line search, from v = V (where delta_v is the
    advantage) and the eta that would be right were the step small. Where the optimal policy lies
    inside the trust region, eta goes to 0 and stops at 1e-6 of its scale.
    """
    epsilon = jnp.asarray(epsilon, log_policy.dtype)
    solution = evaluate(mdp, jnp.exp(log_policy))
    log_q = jnp.log(jnp.maximum(solution.visitation, jnp.finfo(log_policy.dtype).tiny))
    log_q = jax.nn.log_softmax((log_q[:, None] + log_policy).ravel()).reshape(log_policy.shape)
    spread = jnp.sqrt(jnp.sum(jnp.exp(log_q) * solution.advantage**2))
    rounding = jnp.finfo(spread.dtype).eps * (1.0 + jnp.max(jnp.abs(mdp.reward)))
    largest = jnp.maximum(jnp.max(jnp.abs(solution.advantage)), rounding)
    eta = jnp.maximum(spread / jnp.sqrt(2.0 * epsilon), largest / 3.0)
    count = jnp.zeros((), jnp.int32)
    start = _State(eta, solution.value, jnp.full_like(eta, jnp.inf), count)
    step = partial(_newton, mdp, log_q, epsilon, 1e-6 * largest)
    state = jax.lax.while_loop(partial(_unfinished, largest, max_iterations), step, start)
    return _result(mdp, log_policy, log_q, epsilon, state)


def _result(
    mdp: MDP,
    log_policy: jax.Array,
    log_q: jax.Array,
    epsilon: jax.Array,
    state: _State,
) -> Reps:
    delta = bellman_error(mdp, state.value)
    log_p = jax.nn.log_softmax((log_q + delta / state.eta).ravel())
    joint = jnp.exp(log_p).reshape(log_q.shape)
    flow = jnp.sum(joint, axis=1) - mdp.gamma * jnp.einsum("sa,sak->k", joint, mdp.transition)
    return Reps(
        log_policy=analytical_update(log_policy, delta, state.eta).log_policy,
        eta=state.eta,
        value=state.value,
        joint=joint,
        primal=jnp.sum(joint * mdp.reward),
        dual=dual(mdp, log_q, epsilon, state.eta, state.value),
        kl=kl_divergence(log_p[None], log_q.ravel()[None])[0],
        flow_error=jnp.max(jnp.abs(flow - (1.0 - mdp.gamma) * mdp.start)),
        iterations=state.iterations,
    )


def _unfinished(scale: jax.Array, max_iterations: int, state: _State) -> jax.Array:
    tolerance = jnp.finfo(scale.dtype).eps ** 1.5
    return (state.decrement > tolerance * scale) & (state.iterations < max_iterations)


def _newton(
    mdp: MDP,
    log_q: jax.Array,
    epsilon: jax.Array,
    smallest: jax.Array,
    state: _State,
) -> _State:
    """One Newton step on g(eta, v), with the best of some lengths."""
    eta, value = state.eta, state.value
    direction, decrement, moved = _direction(mdp, log_q, epsilon, eta, value)
    lengths = jnp.asarray(2.0, eta.dtype) ** -jnp.arange(_LENGTHS)
    try_length = partial(_along, mdp, log_q, epsilon, smallest, state, direction)
    values = jax.vmap(try_length)(lengths)
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
    eta: jax.Array,
    value: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The Newton step in (eta, v) `[1 + S]`, its decrement, and how far it moves `delta / eta`.

    The gradient is (epsilon - KL(p || q), (1 - gamma) rho + E_p B) and the Hessian that of a
    covariance, Cov_p(z) / eta with z = (-delta / eta, B), B = gamma P - 1. The step in v is the
    one that fits the step in eta, which at most halves eta or doubles it.
    """
    num_states, num_actions = log_q.shape
    own = jnp.repeat(jnp.eye(num_states, dtype=log_q.dtype), num_actions, axis=0)
    flow = mdp.gamma * mdp.transition.reshape(-1, num_states) - own
    x = bellman_error(mdp, value).ravel() / eta
    log_p = jax.nn.log_softmax(log_q.ravel() + x)
    p = jnp.exp(log_p)
    slack = epsilon - kl_divergence(log_p[None], log_q.ravel()[None])[0]
    gradient = p @ flow + (1.0 - mdp.gamma) * mdp.start
    centred, x_centred = flow - (p @ flow)[None], x - p @ x
    hessian = (p[:, None] * centred).T @ centred / eta
    trace, smallest = jnp.trace(hessian), jnp.finfo(p.dtype).eps
    lift = jnp.maximum(trace, smallest / eta)
    # A constant added to v is no step, and where p never goes v means nothing.
    reached = jnp.where(jnp.diagonal(hessian) > smallest**2 * trace, 1.0 / num_states, 0.0)
    hessian = hessian + lift * jnp.outer(reached, reached)
    solve_with = _factor_positive(hessian)
    mixed = -(p * x_centred) @ centred / eta
    along, towards = solve_with(mixed), solve_with(gradient)
    own_curvature = p @ x_centred**2 / eta
    curvature = jnp.maximum(own_curvature - mixed @ along, _RIDGE * own_curvature)
    curvature = jnp.maximum(curvature, jnp.finfo(p.dtype).tiny)
    # Far from the v that belongs to this eta: towards it first, and no further than is known.
    distance = jnp.maximum(jnp.max(jnp.abs(flow @ towards)) / eta, 1.0)
    towards = towards * jnp.minimum(1.0, _LONGEST / distance)
    eta_step = jnp.clip(-(slack - mixed @ towards) / curvature, -0.5 * eta / distance, eta)
    value_step = -towards * (1.0 + eta_step / eta) - along * eta_step
    moved = jnp.max(jnp.abs(flow @ value_step - x * eta_step)) / eta
    decrement = -(slack * eta_step + gradient @ value_step)
    return jnp.concatenate([eta_step[None], value_step]), decrement, moved


def _along(
    mdp: MDP,
    log_q: jax.Array,
    epsilon: jax.Array,
    smallest: jax.Array,
    state: _State,
    direction: jax.Array,
    length: jax.Array,
) -> jax.Array:
    eta = state.eta + length * direction[0]
    value = state.value + length * direction[1:]
    found = dual(mdp, log_q, epsilon, jnp.maximum(eta, smallest), value)
    return jnp.where(eta > smallest, found, jnp.inf)


def _factor_positive(matrix: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """`b -> x` with `matrix x = b` for a positive semidefinite matrix, by elimination.

    Scaled to a diagonal of ones and lifted by a ridge, which leaves what has no curvature alone.
    """
    diagonal = jnp.diagonal(matrix)
    tiny = jnp.finfo(matrix.dtype).tiny
    scale = jnp.where(diagonal > tiny, jax.lax.rsqrt(jnp.maximum(diagonal, tiny)), 0.0)
    scaled = matrix * scale[:, None] * scale[None]
    identity = jnp.eye(scale.shape[0], dtype=matrix.dtype)
    lifted = scaled + jnp.where(scale > 0, _RIDGE, 1.0)[:, None] * identity
    return partial(_solve_scaled, factorize(identity - lifted, jnp.ones((), matrix.dtype)), scale)


def _solve_scaled(factor: Factor, scale: jax.Array, rhs: jax.Array) -> jax.Array:
    return scale * solve(factor, scale * rhs)
