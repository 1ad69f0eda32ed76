"""The dual of relative entropy policy search, minimised by Newton's method with a line search.

See `updates.reps` for the problem and its dual g(eta, v).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import joint_log
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.linear import factorize, solve
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.probability import kl_divergence

__all__ = ["Point", "bellman_error", "dual", "minimise", "smallest_eta"]

_LENGTHS = 24  # lengths of a Newton step that are tried, each half of the previous one
_NEAR = 0.01  # change of delta / eta below which a Newton step is taken whole
_LONGEST = 10.0  # largest change of delta / eta in a step


class Point(NamedTuple):
    """A point of the dual.

    Attributes:
        eta: `[]`.
        value: v `[S]`.
        decrement: `[]`, what the last step was to win, to first order.
        iterations: `[]` int32, Newton steps so far.
    """

    eta: jax.Array
    value: jax.Array
    decrement: jax.Array
    iterations: jax.Array


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


def smallest_eta(dtype: jax.typing.DTypeLike) -> float:
    """Return the least eta for rewards of size 1: 1e-6, or what leaves delta / eta four digits."""
    return max(1e-6, 1e4 * float(jnp.finfo(dtype).eps))


@checked()
def minimise(
    mdp: MDP,
    log_q: jax.Array,
    epsilon: jax.Array,
    max_iterations: jax.Array,
    eta: jax.Array,
    value: jax.Array,
) -> Point:
    """Return the minimum of g(eta, v), eta >= `smallest_eta`, for rewards of size 1.

    Args:
        mdp: the MDP.
        log_q: `[S, A]`, logarithms of q.
        epsilon: > 0, the bound on the KL divergence, in nats.
        max_iterations: the largest number of Newton steps.
        eta: `[]`, where it begins.
        value: v `[S]`, where it begins.
    """
    tolerance = jnp.finfo(eta.dtype).eps ** 1.5
    return jax.lax.while_loop(
        lambda x: (x.decrement > tolerance) & (x.iterations < max_iterations),
        lambda x: _newton(mdp, log_q, epsilon, x),
        Point(eta, value, jnp.full_like(eta, jnp.inf), jnp.zeros((), jnp.int32)),
    )


def _newton(mdp: MDP, log_q: jax.Array, epsilon: jax.Array, state: Point) -> Point:
    """Take one Newton step on g(eta, v), with the best of some lengths."""
    eta, value, smallest = state.eta, state.value, smallest_eta(log_q.dtype)
    direction, decrement, moved = _direction(mdp, log_q, epsilon, eta, value)

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
    return Point(
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
    """Return the Newton step in (eta, v) `[1 + S]`, its decrement, and its change of `delta / eta`.

    The gradient is (epsilon - KL(p || q), (1 - gamma) rho + E_p B) and the Hessian that of a
    covariance, Cov_p(z) / eta with z = (-delta / eta, B), B = gamma P - 1. The step in eta at most
    halves or doubles it and ends where eta does, and the step in v is the best one for that step.
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
    curvature = jnp.maximum(own_curvature - mixed @ along, _ridge(p.dtype) * own_curvature)
    curvature = jnp.maximum(curvature, jnp.finfo(p.dtype).tiny)
    # Far from the best v for this eta: move towards it first, within the region of trust.
    distance = jnp.maximum(jnp.max(jnp.abs(flow @ towards)) / eta, 1.0)
    towards = towards * jnp.minimum(1.0, _LONGEST / distance)
    lowest = jnp.maximum(-0.5 * eta / distance, smallest_eta(eta.dtype) - eta)
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
    lifted = scaled + jnp.where(scale > 0, _ridge(matrix.dtype), 1.0)[:, None] * identity
    factor = factorize(identity - lifted, jnp.ones((), matrix.dtype))
    return lambda rhs: scale * solve(factor, scale * rhs)


def _ridge(dtype: jax.typing.DTypeLike) -> float:
    return max(1e-12, float(jnp.finfo(dtype).eps))
