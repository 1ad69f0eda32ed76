"""Natural steps inside a trust region: Fisher products, conjugate gradient, line search.

Parameters are one flat vector `[n]` (`jax.flatten_util.ravel_pytree`). Functions of it come in as
arguments and are asked for means over rows, so a caller may average them over devices before they
are used here. A step of TRPO:

    fisher = trust_region.fisher_vector_product(policy, family.kl, params)
    solution = trust_region.conjugate_gradient(
        lambda v: fisher(v) + damping * v, gradient, iterations=10
    )
    curvature = jnp.vdot(solution.x, gradient - solution.residual)  # x^T A x
    step = trust_region.scale_to_divergence(solution.x, curvature, max_kl)
    search = trust_region.backtracking_line_search(
        surrogate_and_kl, params, step, surrogate_at_params, max_kl, shrink=0.8, num_tries=10
    )
    params = search.point

Without the line search, `params + step` is the natural policy gradient (Kakade 2001), with a step
size that normalises the KL divergence.
"""

from __future__ import annotations

from collections.abc import Callable
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

Scalar = jax.Array | float
Product = Callable[[jax.Array], jax.Array]


class Solution(NamedTuple):
    """The state of conjugate gradient when it stopped.

    Attributes:
        x: `[n]`.
        residual: `[n]`, `b - A x`.
        iterations: `[]` int32, the number of products taken.
    """

    x: jax.Array
    residual: jax.Array
    iterations: jax.Array


class LineSearch(NamedTuple):
    """The result of a line search.

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
    """Return the map `v -> F v` of a policy's Fisher information matrix F.

        F = E_s[J^T H J] = E_{s, a~pi}[grad log pi grad log pi^T]

    J is the derivative of the distribution's own parameters (logits; mean and log standard
    deviation) and H the Hessian of KL(pi_old || pi) in them: at pi = pi_old the KL has no slope,
    so the Gauss-Newton form is its whole Hessian, and `step^T F step / 2` is the KL divergence of a
    step to second order, in either direction. Actions are not sampled: this is the exact F of the
    given states, and not the empirical one of the actions taken.

    `F^-1 grad J` is the natural gradient: it does not depend on how the policy is parameterised.
    For a table of logits it is the advantage, up to a factor and to a shift of each state's logits.

    The policy is linearised once; a product is one forward and one backward pass. Source: Schulman
    et al. 2015 (arXiv 1502.05477), appendix C.1; Martens 2020 (arXiv 1412.1193), section 9; Kakade
    2001, "A natural policy gradient".

    Args:
        policy: from parameters `[n]` to a distribution's parameters, a pytree of `[N, ...]`.
        divergence: from two of these to `KL(p || q)` of each row, `[N]`, in nats.
        at: `[n]`.

    Returns:
        The map from `[n]` to `[n]`, a mean over the N rows.
    """
    old, forward = jax.linearize(policy, at)
    slope = jax.grad(lambda new: jnp.mean(divergence(old, new)))
    _, curve = jax.linearize(slope, old)
    backward = jax.linear_transpose(forward, at)
    return lambda vector: backward(curve(forward(vector)))[0]


def conjugate_gradient(
    product: Product, b: jax.Array, iterations: int, tolerance: Scalar = 0.0
) -> Solution:
    """Solve `A x = b` for a symmetric positive definite A that is known by its products.

    From x = 0, so that x stays in the space of b, A b, A^2 b, ...: if A is singular and b lies in
    its range, x converges to the solution of least norm. In exact arithmetic n iterations solve
    the system; fewer give the best x of that space in the norm of A. One iteration is steepest
    descent with an exact step: x is a multiple of b.

    The Fisher matrix of a softmax policy is singular, as a shift of all logits changes nothing.
    Once the residual is only rounding, further iterations amplify errors outside the range of a
    singular A: add a small multiple of the identity to A (damping), or give a tolerance.

    Source: Hestenes and Stiefel 1952, equations 3:1.

    Args:
        product: `v -> A v`, both `[n]`.
        b: `[n]`.
        iterations: the largest number of products.
        tolerance: stop as soon as `|b - A x| <= tolerance |b|`. It stops too where rounding
            leaves no positive curvature.

    Raises:
        AssertionError: if b is not a vector.
    """
    chex.assert_rank(b, 1)
    small = jnp.square(tolerance) * jnp.vdot(b, b)
    Carry = tuple[Solution, jax.Array, jax.Array]

    def unsolved(carry: Carry) -> jax.Array:
        solution, _, curved = carry
        large = jnp.vdot(solution.residual, solution.residual) > small
        return large & curved & (solution.iterations < iterations)

    def step(carry: Carry) -> Carry:
        (x, residual, iteration), direction, _ = carry
        image = product(direction)
        curvature, square = jnp.vdot(direction, image), jnp.vdot(residual, residual)
        curved = curvature > 0
        length = jnp.where(curved, square / jnp.where(curved, curvature, 1.0), 0.0)
        x, residual = x + length * direction, residual - length * image
        direction = residual + jnp.vdot(residual, residual) / square * direction
        return Solution(x, residual, iteration + 1), direction, curved

    start = Solution(jnp.zeros_like(b), b, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unsolved, step, (start, b, jnp.ones((), bool)))[0]


def scale_to_divergence(
    direction: jax.Array, curvature: jax.Array, max_divergence: Scalar
) -> jax.Array:
    """Scale a direction so that the quadratic model of the KL divergence is `max_divergence`.

        step = sqrt(2 max_divergence / x^T F x) x,   so that step^T F step / 2 = max_divergence

    For `x = F^-1 grad J` this is the largest gain, to first order, within the trust region.
    Source: Schulman et al. 2015 (arXiv 1502.05477), appendix C.

    Args:
        direction: x `[n]`; its length does not matter.
        curvature: `x^T F x`, `[]`; where it is not positive the step is 0.
        max_divergence: KL divergence in nats.

    Returns:
        `[n]`.
    """
    curved = curvature > 0
    scale = jnp.sqrt(2.0 * max_divergence / jnp.where(curved, curvature, 1.0))
    return jnp.where(curved, scale, 0.0) * direction


def backtracking_line_search(
    evaluate: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    start: jax.Array,
    step: jax.Array,
    objective: jax.Array,
    max_divergence: Scalar,
    shrink: Scalar,
    num_tries: int,
) -> LineSearch:
    """Find the longest of `start + shrink^k step` that gains and stays inside the trust region.

    Accepted is the first of k = 0, 1, ... whose objective exceeds the start's and whose
    divergence is at most `max_divergence`; a value that is not a number is neither. Without a
    bound on the divergence (infinity) it is a search for any gain. Source: Schulman et al. 2015
    (arXiv 1502.05477), appendix C.

    Args:
        evaluate: from a point `[n]` to its objective and its divergence from the start, `[]`.
        start: `[n]`.
        step: `[n]`, the full step.
        objective: `[]` at the start; it is maximised.
        max_divergence: the largest divergence allowed, in nats.
        shrink: in (0, 1), the ratio of a try to the one before.
        num_tries: the largest number of points evaluated; if none is accepted, nothing moves.

    Raises:
        AssertionError: if the shapes of `start` and `step` differ.
    """
    chex.assert_equal_shape([start, step])
    zero = jnp.zeros((), start.dtype)
    stay = LineSearch(start, zero, objective, zero, jnp.zeros((), bool))
    Carry = tuple[jax.Array, jax.Array, LineSearch]

    def unaccepted(carry: Carry) -> jax.Array:
        tries, _, result = carry
        return ~result.accepted & (tries < num_tries)

    def attempt(carry: Carry) -> Carry:
        tries, fraction, _ = carry
        point = start + fraction * step
        gained, divergence = evaluate(point)
        accepted = (gained > objective) & (divergence <= max_divergence)
        moved = LineSearch(point, fraction, gained, divergence, accepted)
        result = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), moved, stay)
        return tries + 1, fraction * shrink, result

    return jax.lax.while_loop(unaccepted, attempt, (jnp.zeros((), jnp.int32), zero + 1.0, stay))[2]
