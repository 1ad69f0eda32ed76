"""Natural steps inside a trust region: Fisher products, conjugate gradient, line search.

Parameters are one flat vector `[n]`. Functions of it come in as arguments and are asked for means
over rows, so a caller may average them over devices before they are used here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

__all__ = [
    "LineSearch",
    "Solution",
    "backtracking_line_search",
    "conjugate_gradient",
    "fisher_vector_product",
    "scale_to_divergence",
]

Product = Callable[[jax.Array], jax.Array]


class Solution(NamedTuple):
    """Where conjugate gradient stopped.

    Attributes:
        x: `[n]`.
        residual: `[n]`, `b - A x`.
        iterations: `[]` int32, products taken.
    """

    x: jax.Array
    residual: jax.Array
    iterations: jax.Array


class LineSearch(NamedTuple):
    """Where a line search stopped.

    Attributes:
        point: `[n]`, the start itself where nothing was accepted.
        fraction: `[]` of the full step, 0 where nothing was accepted.
        objective: `[]` at the point.
        divergence: `[]` at the point.
        accepted: `[]` bool.
    """

    point: jax.Array
    fraction: jax.Array
    objective: jax.Array
    divergence: jax.Array
    accepted: jax.Array


def fisher_vector_product(
    policy: Callable[[jax.Array], Any], divergence: Callable[[Any, Any], jax.Array], at: jax.Array
) -> Product:
    """Products with the Fisher information of a policy, `v -> F v`.

        F = E_s[J^T H J] = E_{s, a~pi}[grad log pi grad log pi^T]

    J is the derivative of the distribution's own parameters (logits; mean and log standard
    deviation) and H the Hessian of KL(pi_old || pi) in them: at pi = pi_old the KL has no slope,
    so the Gauss-Newton form is its whole Hessian. Nothing is sampled. The policy is linearised
    once; a product is one forward and one backward pass. Source: Schulman et al. 2015 (arXiv
    1502.05477), appendix C.1; Martens 2020 (arXiv 1412.1193), section 9.

    Args:
        policy: from parameters `[n]` to a distribution's parameters, a pytree of `[N, ...]`.
        divergence: from two of these to `KL(p || q)` of each row, `[N]`, in nats.
        at: `[n]`.

    Returns:
        The map from `[n]` to `[n]`, a mean over the N rows.
    """
    old, forward = jax.linearize(policy, at)
    slope = jax.grad(partial(_mean_divergence, divergence, old))
    _, curve = jax.linearize(slope, old)
    backward = jax.linear_transpose(forward, at)
    return partial(_fisher_product, forward, curve, backward)


def conjugate_gradient(
    product: Product, b: jax.Array, iterations: int, tolerance: jax.Array | float = 0.0
) -> Solution:
    """Solve `A x = b` for a symmetric positive definite A that is known by its products.

    From x = 0, so that a singular A is met only where b reaches: if b lies in its range, x is
    the solution of least norm. Source: Hestenes and Stiefel 1952, equations 3:1.

    Args:
        product: `v -> A v`, both `[n]`.
        b: `[n]`.
        iterations: at most so many products.
        tolerance: stop as soon as `|b - A x| <= tolerance |b|`. It stops too where rounding
            leaves no positive curvature.
    """
    chex.assert_rank(b, 1)
    start = Solution(jnp.zeros_like(b), b, jnp.zeros((), jnp.int32))
    enough = jnp.square(tolerance) * jnp.vdot(b, b)
    unsolved = partial(_unsolved, iterations, enough)
    carry = (start, b, jnp.ones((), bool))
    return jax.lax.while_loop(unsolved, partial(_conjugate_step, product), carry)[0]


def scale_to_divergence(
    direction: jax.Array, curvature: jax.Array, most: jax.Array | float
) -> jax.Array:
    """The step along a direction whose quadratic model of the KL is `most`.

        step = sqrt(2 most / x^T F x) x,   so that step^T F step / 2 = most

    Source: Schulman et al. 2015 (arXiv 1502.05477), appendix C.

    Args:
        direction: x `[n]`.
        curvature: `x^T F x`, `[]`; where it is not positive the step is 0.
        most: KL divergence in nats.

    Returns:
        `[n]`.
    """
    curved = curvature > 0
    scale = jnp.sqrt(2.0 * most / jnp.where(curved, curvature, 1.0))
    return jnp.where(curved, scale, 0.0) * direction


def backtracking_line_search(
    evaluate: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    start: jax.Array,
    step: jax.Array,
    objective: jax.Array,
    most: jax.Array | float,
    shrink: jax.Array | float,
    num_tries: int,
) -> LineSearch:
    """The longest of `start + shrink^k step` that gains and stays inside the trust region.

    Accepted is the first of k = 0, 1, ... whose objective exceeds the start's and whose
    divergence is at most `most`; a value that is not a number is neither. Source: Schulman et
    al. 2015 (arXiv 1502.05477), appendix C.

    Args:
        evaluate: from a point `[n]` to its objective and its divergence from the start, `[]`.
        start: `[n]`.
        step: `[n]`, the full step.
        objective: `[]` at the start.
        most: divergence allowed.
        shrink: in (0, 1), the ratio of a try to the one before.
        num_tries: so many points are evaluated at most; if none is accepted, nothing moves.
    """
    chex.assert_equal_shape([start, step])
    nothing = jnp.zeros((), start.dtype)
    stay = LineSearch(start, nothing, objective, nothing, jnp.zeros((), bool))
    carry = (jnp.zeros((), jnp.int32), nothing + 1.0, stay)
    attempt = partial(_attempt, evaluate, stay, step, most, shrink)
    return jax.lax.while_loop(partial(_unaccepted, num_tries), attempt, carry)[2]


def _mean_divergence(divergence: Callable[[Any, Any], jax.Array], old: Any, new: Any) -> jax.Array:
    return jnp.mean(divergence(old, new))


def _fisher_product(
    forward: Callable[[jax.Array], Any],
    curve: Callable[[Any], Any],
    backward: Callable[[Any], tuple[jax.Array]],
    vector: jax.Array,
) -> jax.Array:
    return backward(curve(forward(vector)))[0]


Conjugate = tuple[Solution, jax.Array, jax.Array]


def _unsolved(iterations: int, enough: jax.Array, carry: Conjugate) -> jax.Array:
    found, _, curved = carry
    left = jnp.vdot(found.residual, found.residual) > enough
    return left & curved & (found.iterations < iterations)


def _conjugate_step(product: Product, carry: Conjugate) -> Conjugate:
    (x, residual, iterations), direction, _ = carry
    image = product(direction)
    curvature, before = jnp.vdot(direction, image), jnp.vdot(residual, residual)
    curved = curvature > 0
    length = jnp.where(curved, before / jnp.where(curved, curvature, 1.0), 0.0)
    residual = residual - length * image
    direction = residual + jnp.vdot(residual, residual) / before * direction
    return Solution(x + length * carry[1], residual, iterations + 1), direction, curved


Attempt = tuple[jax.Array, jax.Array, LineSearch]


def _unaccepted(num_tries: int, carry: Attempt) -> jax.Array:
    return ~carry[2].accepted & (carry[0] < num_tries)


def _attempt(
    evaluate: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    stay: LineSearch,
    step: jax.Array,
    most: jax.Array | float,
    shrink: jax.Array | float,
    carry: Attempt,
) -> Attempt:
    tries, fraction, _ = carry
    point = stay.point + fraction * step
    objective, divergence = evaluate(point)
    good = (objective > stay.objective) & (divergence <= most)
    moved = LineSearch(point, fraction, objective, divergence, good)
    found = jax.tree.map(partial(jnp.where, good), moved, stay)
    return tries + 1, fraction * shrink, found
