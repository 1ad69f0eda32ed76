"""The proof of the bound by the expected divergence, step by step as functions.

`improvement_bounds.expected_kl_bound` says `|J(pi') - L| <= alpha eps / (1 - gamma)^2 E_d KL` with
`alpha = exp(0.5772...) = 1.7811`, the exponential of Euler's constant. Notation: `rho = pi'/pi`,
the likelihood ratio `M_t = prod_{i < t} rho_i` of a trajectory of pi, `psi(r) = r log r - r + 1`,
so that `E_pi psi(rho) = KL`, and `w(s) = |Abar(s)| / eps`, for which `width` is the largest value
that some advantage allows.

1. `J(pi') - L = sum_t gamma^t E_pi[(M_t - 1) Abar(s_t)]`, so the gap is at most
   `eps sum_t gamma^t E_pi[|M_t - 1| w(s_t)]`.
2. A function f with `f >= 0 = f(1)`, the `potential`, grows by a multiple of psi in one step:
   `potential_increase`.
3. So one step costs at most `alpha KL / (1 - gamma)`, up to a change of f: `claim`.
4. Times `gamma^t`, in expectation along pi and summed, the changes of f telescope from f(1) = 0 to
   something that is not negative: `sum_t gamma^t E_pi[|M_t - 1| w] <= alpha/(1 - gamma)^2 E_d KL`.

docs/theory.md has the proofs of 2 and 3. If pi' takes an action that pi does not, the right side is
infinite and nothing is said.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import number, rows
from jaxrl_pg.theory.bounds.improvement_bounds import EXP_EULER, Bound
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.probability import kl

__all__ = [
    "claim",
    "entire_exponential_integral",
    "exponent",
    "left_curvature",
    "potential",
    "potential_increase",
    "width",
]

_NUM_NEWTON = 8
# Ein is summed as x - x^2/(2 2!) + x^3/(3 3!) - ... up to the middle, whose coefficients over x are
# here from the highest power on; above, E1 is a continued fraction of this depth.
_MIDDLE, _DEPTH = 4.0, 24
_EULER = 0.5772156649015329
_SERIES = tuple((-1.0) ** (k + 1) / (k * math.factorial(k)) for k in range(30, 0, -1))


@checked(x=number(0.0))
def entire_exponential_integral(x: jax.Array) -> jax.Array:
    """Return `Ein(x) = int_0^x (1 - exp(-s)) / s ds = E1(x) + log x + 0.5772...`, x >= 0."""
    small = jnp.minimum(x, _MIDDLE)
    coefficients = jnp.asarray(_SERIES, jnp.result_type(x, float))
    series = small * jnp.polyval(coefficients, small, unroll=len(_SERIES))
    large = jnp.maximum(x, _MIDDLE)
    fraction = large + 2.0 * _DEPTH + 1.0
    for k in range(_DEPTH, 0, -1):
        fraction = large + 2.0 * k - 1.0 - k * k / fraction
    asymptotic = jnp.exp(-large) / fraction + jnp.log(large) + _EULER
    return jnp.where(x < _MIDDLE, series, asymptotic)


@checked(likelihood=number(1.0))
def exponent(likelihood: jax.Array) -> jax.Array:
    """Return the u >= 0 with `log M = Ein(u)`, for M >= 1.

    By Newton's method from `max(2 (sqrt M - 1), (M - 1)/alpha) <= u`; Ein is concave, so it only
    rises. The last step carries the derivative `du/dM = u / (M (1 - exp(-u)))`.
    """
    fixed = jax.lax.stop_gradient(likelihood)
    start = jnp.maximum(2.0 * (jnp.sqrt(fixed) - 1.0), (fixed - 1.0) / EXP_EULER)

    def newton(_: int, u: jax.Array) -> jax.Array:
        return u + (jnp.log(fixed) - entire_exponential_integral(u)) / _slope(u)

    u = jax.lax.fori_loop(0, _NUM_NEWTON, newton, start)
    step = jnp.log(likelihood) - jax.lax.stop_gradient(entire_exponential_integral(u))
    return u + step / jax.lax.stop_gradient(_slope(u))


@checked()
def left_curvature(gamma: jax.Array) -> jax.Array:
    """Return `kappa = min(1, (1 - gamma)/gamma) / alpha`, half of f'' below M = 1."""
    return jnp.minimum(1.0, (1.0 - gamma) / jnp.maximum(gamma, 0.5)) / EXP_EULER


@checked()
def potential(likelihood: jax.Array, gamma: jax.Array) -> jax.Array:
    """Return f(M), the potential of the proof.

    f(M) = kappa (1 - M)^2            for M <= 1
    f(M) = alpha (u - 1 + exp(-u))    for M >= 1, log M = Ein(u)

    Above 1 it is the largest function with f(1) = f'(1) = 0 that fulfils step 2 with alpha alone:
    a fall from M to `M exp(-u)` has equality. Its slope tends to 1, which is what step 3 needs.
    """
    below = left_curvature(gamma) * jnp.minimum(likelihood - 1.0, 0.0) ** 2
    u = exponent(jnp.maximum(likelihood, 1.0))
    return below + EXP_EULER * (u + jnp.expm1(-u))


@checked(policy=rows("A"), new_policy=rows("A"))
def potential_increase(
    likelihood: jax.Array, policy: jax.Array, new_policy: jax.Array, gamma: jax.Array
) -> Bound:
    """Return both sides of step 2 of the proof, which bounds the growth of f in one step.

        sum_a pi f(M rho) - f(M) <= (alpha + kappa) KL                               for M >= 1
        sum_a pi f(M rho) - f(M) <= E_pi[alpha psi(rho) 1{rho >= 1}
                                         + 2 kappa psi(rho) 1{rho < 1}]              for M <= 1

    Args:
        likelihood: M `[]`, not negative.
        policy: pi(.|s) `[A]`.
        new_policy: pi'(.|s) `[A]`, zero where pi is.
        gamma: `[]`.
    """
    kappa = left_curvature(gamma)
    rho = _ratio(policy, new_policy)
    own = potential(likelihood, gamma)
    left = jnp.sum(policy * (potential(likelihood * rho, gamma) - own))
    falls = jnp.sum(jnp.where(rho < 1.0, policy * _psi(rho), 0.0))
    rises = kl(new_policy, policy) - falls
    above = (EXP_EULER + kappa) * kl(new_policy, policy)
    return Bound(left, jnp.where(likelihood >= 1.0, above, EXP_EULER * rises + 2.0 * kappa * falls))


@checked(policy=rows("A"), new_policy=rows("A"))
def width(policy: jax.Array, new_policy: jax.Array) -> jax.Array:
    """Return the largest `|Abar| / eps` that an advantage allows in a state, `[]`.

        max { sum_a (pi' - pi) A : |A| <= 1, E_pi A = 0 } = min_b sum_a |pi' - b pi|

    by duality; the minimum is at a ratio b of the state, the median of rho under pi. It is at most
    1 and at most `sum_a |pi' - pi|`.

    Args:
        policy: pi(.|s) `[A]`.
        new_policy: pi'(.|s) `[A]`, zero where pi is.
    """
    apart = new_policy[None] - _ratio(policy, new_policy)[:, None] * policy[None]
    return jnp.min(jnp.sum(jnp.abs(apart), axis=1))


@checked(policy=rows("A"), new_policy=rows("A"))
def claim(
    likelihood: jax.Array, policy: jax.Array, new_policy: jax.Array, gamma: jax.Array
) -> Bound:
    """Return both sides of step 3 of the proof, in one state.

        |M - 1| w + gamma/(1 - gamma) sum_a pi f(M rho) - f(M)/(1 - gamma) <= alpha KL/(1 - gamma)

    By step 2 and, for M <= 1,

        (1 - M) w - f(M) <= w^2/(4 kappa) <= E_pi[psi(rho) 1{rho < 1}]/kappa

    and, for M >= 1, `(M - 1) w - f(M) <= (alpha - 1)/log 2 KL`.

    Args:
        likelihood: M `[]`, not negative.
        policy: pi(.|s) `[A]`.
        new_policy: pi'(.|s) `[A]`, zero where pi is.
        gamma: `[]`.
    """
    increase = potential_increase(likelihood, policy, new_policy, gamma).gap
    paid = gamma / (1.0 - gamma) * increase - potential(likelihood, gamma)
    left = jnp.abs(likelihood - 1.0) * width(policy, new_policy) + paid
    return Bound(left, EXP_EULER / (1.0 - gamma) * kl(new_policy, policy))


def _ratio(policy: jax.Array, new_policy: jax.Array) -> jax.Array:
    """Return rho, and 1 where pi does not go."""
    taken = policy > 0
    return jnp.where(taken, new_policy / jnp.where(taken, policy, 1.0), 1.0)


def _psi(r: jax.Array) -> jax.Array:
    """Return `r log r - r + 1`."""
    positive = jnp.where(r > 0, r, 1.0)
    return jnp.where(r > 0, r * jnp.log(positive), 0.0) - r + 1.0


def _slope(u: jax.Array) -> jax.Array:
    """Return `Ein'(u) = (1 - exp(-u)) / u`."""
    near = u < 1e-6
    return jnp.where(near, 1.0 - u / 2.0, -jnp.expm1(-u) / jnp.where(near, 1.0, u))
