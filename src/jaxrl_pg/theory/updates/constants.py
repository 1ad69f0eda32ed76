"""Choices of the constant C of the analytical update, one in each iteration.

What matters of C is `c = C / eps`, `eps = max |A|`: with exact advantages a smaller one is
faster and never loses. A proved constant makes the certificate of an update hold; it is what
makes the rule slow, not what makes it safe.

Each function is a `Constant` once its own parameters are bound: `partial(scaled, 0.1)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.bounds.improvement_bounds import expected_kl_constant, paper_constant
from jaxrl_pg.theory.solve import Solution
from jaxrl_pg.theory.updates.analytical import analytical_update, kl_divergence

__all__ = [
    "Constant",
    "by_paper",
    "expected_kl",
    "fixed",
    "geometric",
    "greedy",
    "kl_target",
    "scaled",
    "scheduled",
]

# (solution of the policy, log_policy, gamma, iteration) -> C
Constant = Callable[[Solution, jax.Array, jax.Array, jax.Array], jax.Array]

_BISECTIONS = 60
_LOG_SMALLEST, _LOG_LARGEST = -16.0, 24.0  # of C / eps, where a KL target is looked for


def by_paper(
    solution: Solution, log_policy: jax.Array, gamma: jax.Array, iteration: jax.Array
) -> jax.Array:
    """`gamma^2 eps / (1 - gamma)^3` (Li, Clavette and He 2022): safe and very slow."""
    del log_policy, iteration
    return paper_constant(gamma, _eps(solution))


def expected_kl(
    solution: Solution, log_policy: jax.Array, gamma: jax.Array, iteration: jax.Array
) -> jax.Array:
    """`4 eps / (1 - gamma)`, with which the certificate is proved for every gamma."""
    del log_policy, iteration
    return expected_kl_constant(gamma, _eps(solution))


def fixed(
    constant: jax.typing.ArrayLike,
    solution: Solution,
    log_policy: jax.Array,
    gamma: jax.Array,
    iteration: jax.Array,
) -> jax.Array:
    """The same C always."""
    del log_policy, gamma, iteration
    return jnp.asarray(constant, solution.value.dtype)


def scaled(
    scale: jax.typing.ArrayLike,
    solution: Solution,
    log_policy: jax.Array,
    gamma: jax.Array,
    iteration: jax.Array,
) -> jax.Array:
    """`c eps`: what matters of C is its ratio to the advantages."""
    del log_policy, gamma, iteration
    return jnp.asarray(scale, solution.value.dtype) * _eps(solution)


def scheduled(
    constants: jax.Array,
    solution: Solution,
    log_policy: jax.Array,
    gamma: jax.Array,
    iteration: jax.Array,
) -> jax.Array:
    """A list `[T]` of C, one an iteration; its last entry for all after it."""
    del log_policy, gamma
    index = jnp.minimum(iteration, constants.shape[0] - 1)
    return constants[index].astype(solution.value.dtype)


def geometric(
    scale: jax.typing.ArrayLike,
    rate: jax.typing.ArrayLike,
    solution: Solution,
    log_policy: jax.Array,
    gamma: jax.Array,
    iteration: jax.Array,
) -> jax.Array:
    """`scale rate^k eps` in iteration k: ever closer to policy iteration for a rate below 1."""
    del log_policy, gamma
    start = jnp.asarray(scale, solution.value.dtype)
    return start * jnp.asarray(rate, start.dtype) ** iteration * _eps(solution)


def greedy(
    solution: Solution, log_policy: jax.Array, gamma: jax.Array, iteration: jax.Array
) -> jax.Array:
    """C = 0, policy iteration."""
    del log_policy, gamma, iteration
    return jnp.zeros_like(solution.objective)


def kl_target(
    target: jax.typing.ArrayLike,
    solution: Solution,
    log_policy: jax.Array,
    gamma: jax.Array,
    iteration: jax.Array,
) -> jax.Array:
    """The C at which `E_d KL(pi_new || pi)` is `target`, by bisection of log C.

    The update then solves the trust-region problem "largest E_d E_pi' A with E_d KL(pi' || pi) <=
    target" exactly, C being its multiplier. A target that even the greedy policy does not reach
    gives a C next to nothing.
    """
    del gamma, iteration
    like = solution.objective
    bracket = (jnp.full_like(like, _LOG_SMALLEST), jnp.full_like(like, _LOG_LARGEST))
    step = partial(_bisect, target, solution, log_policy)
    low, high = jax.lax.fori_loop(0, _BISECTIONS, step, bracket)
    return jnp.exp(0.5 * (low + high)) * _eps(solution)


def _eps(solution: Solution) -> jax.Array:
    return jnp.max(jnp.abs(solution.advantage))


def _bisect(
    target: jax.typing.ArrayLike,
    solution: Solution,
    log_policy: jax.Array,
    _: int,
    bracket: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    low, high = bracket
    middle = 0.5 * (low + high)
    update = analytical_update(log_policy, solution.advantage, jnp.exp(middle) * _eps(solution))
    moved = jnp.vdot(solution.visitation, kl_divergence(update.log_policy, log_policy))
    too_far = moved > target
    return jnp.where(too_far, middle, low), jnp.where(too_far, high, middle)
