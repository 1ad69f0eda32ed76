"""Choices of the constant C of the analytical update, one in each iteration.

What matters of C is `c = C / eps`, `eps = max |A|`: with exact advantages a smaller one is
faster and never loses. A proved constant makes the certificate of an update hold; it is what
makes the rule slow, not what makes it safe.

A `Constant` is a function of an `Iterate`. `by_paper`, `expected_kl` and `greedy` are constants;
`fixed`, `scaled`, `scheduled`, `geometric` and `kl_target` return one: `scaled(0.1)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import Argument, function, number
from jaxrl_pg.theory.bounds.improvement_bounds import expected_kl_constant, paper_constant
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.probability import kl_divergence, mean_over
from jaxrl_pg.theory.solve import Solution
from jaxrl_pg.theory.updates.analytical import analytical_update

__all__ = [
    "CONSTANT",
    "Constant",
    "Iterate",
    "by_paper",
    "expected_kl",
    "fixed",
    "geometric",
    "greedy",
    "kl_target",
    "scaled",
    "scheduled",
]

_BISECTIONS = 60
_LOG_SMALLEST, _LOG_LARGEST = -16.0, 24.0  # of C / eps, the bracket of a KL target


class Iterate(NamedTuple):
    """The policy before an update, from which C is chosen.

    Attributes:
        solution: the exact solution of the policy.
        log_policy: `[S, A]`.
        gamma: `[]`.
        iteration: `[]` int, from 0.
    """

    solution: Solution
    log_policy: jax.Array
    gamma: jax.Array
    iteration: jax.Array

    @property
    def eps(self) -> jax.Array:
        """Return `max |A|`, `[]`."""
        return jnp.max(jnp.abs(self.solution.advantage))


Constant = Callable[[Iterate], jax.Array]
CONSTANT: Argument = function("such as constants.fixed(0.5)")
"""the check of an argument that is a `Constant`"""


def by_paper(iterate: Iterate) -> jax.Array:
    """Return `gamma^2 eps / (1 - gamma)^3` (Li, Clavette and He 2022), which is very slow."""
    return paper_constant(iterate.gamma, iterate.eps)


def expected_kl(iterate: Iterate) -> jax.Array:
    """Return `1.7811 eps / (1 - gamma)`, with which the certificate is proved for every gamma."""
    return expected_kl_constant(iterate.gamma, iterate.eps)


def greedy(iterate: Iterate) -> jax.Array:
    """Return C = 0, which is policy iteration."""
    return jnp.zeros_like(iterate.solution.objective)


@checked()
def fixed(constant: jax.typing.ArrayLike) -> Constant:
    """Choose the same C in every iteration."""
    return lambda iterate: jnp.asarray(constant, iterate.solution.value.dtype)


@checked()
def scaled(scale: jax.typing.ArrayLike) -> Constant:
    """Choose `scale eps`, which fixes the ratio of C to the advantages."""
    return lambda iterate: jnp.asarray(scale, iterate.solution.value.dtype) * iterate.eps


@checked(constants=number(0.0))
def scheduled(constants: jax.Array) -> Constant:
    """Choose the entries of a list `[T]` in turn, and its last one from then on."""

    def choose(iterate: Iterate) -> jax.Array:
        index = jnp.minimum(iterate.iteration, constants.shape[0] - 1)
        return constants[index].astype(iterate.solution.value.dtype)

    return choose


@checked(rate=number(0.0))
def geometric(scale: jax.typing.ArrayLike, rate: jax.typing.ArrayLike) -> Constant:
    """Choose `scale rate^k eps` in iteration k, which approaches policy iteration if rate < 1."""

    def choose(iterate: Iterate) -> jax.Array:
        start = jnp.asarray(scale, iterate.solution.value.dtype)
        return start * jnp.asarray(rate, start.dtype) ** iterate.iteration * iterate.eps

    return choose


@checked()
def kl_target(target: jax.typing.ArrayLike) -> Constant:
    """Choose the C at which `E_d KL(pi_new || pi)` is `target`, by bisection of log C.

    The update then solves the trust-region problem "largest E_d E_pi' A with E_d KL(pi' || pi) <=
    target" exactly, C being its multiplier. A target that even the greedy policy does not reach
    gives a C of nearly 0.
    """

    def choose(iterate: Iterate) -> jax.Array:
        solution, log_policy, eps = iterate.solution, iterate.log_policy, iterate.eps

        def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bracket
            middle = 0.5 * (low + high)
            update = analytical_update(log_policy, solution.advantage, jnp.exp(middle) * eps)
            moved = mean_over(solution.visitation, kl_divergence(update.log_policy, log_policy))
            too_far = moved > target
            return jnp.where(too_far, middle, low), jnp.where(too_far, high, middle)

        like = solution.objective
        bracket = (jnp.full_like(like, _LOG_SMALLEST), jnp.full_like(like, _LOG_LARGEST))
        low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, bracket)
        return jnp.exp(0.5 * (low + high)) * eps

    return choose
