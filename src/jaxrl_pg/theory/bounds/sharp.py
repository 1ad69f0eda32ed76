"""The bound by the expected divergence: the steps of its proof, and how sharp its constant is.

`improvement_bounds.expected_kl_bound` says
`|J(pi') - L| <= 4 eps / (1 - gamma)^2 E_d KL`. With the likelihood ratio
`M_t = prod_{i < t} pi'(a_i|s_i) / pi(a_i|s_i)` and `w(s) = min(1, sum_a |pi' - pi|(a|s))`,
which is at least `|Abar(s)| / eps`:

1. `J(pi') - L = sum_t gamma^t E_pi[(M_t - 1) Abar(s_t)]`, so the gap is at most
   `eps sum_t gamma^t E_pi[|M_t - 1| w(s_t)]`.
2. `f(M) = (M - 1)^2 / (M + 1)` grows slowly: `potential_increase`.
3. So one step costs at most `4 KL / (1 - gamma)`, up to a change of f: `claim`.
4. Times `gamma^t`, in expectation along pi and summed, the changes of f telescope from f(1) = 0 to
   something that is not negative: `sum_t gamma^t E_pi[|M_t - 1| w] <= 4/(1 - gamma)^2 E_d KL`.

If pi' takes an action that pi does not, the right side is infinite and nothing is said.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import count, number, rows
from jaxrl_pg.theory.bounds.improvement_bounds import Bound
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.probability import kl, total_variation

__all__ = [
    "Sharp",
    "chain_ratio",
    "claim",
    "local_ratio",
    "potential",
    "potential_increase",
    "refined_constant",
    "sharp_ratio",
]

_START_RATES = (0.4, 0.5, 0.6, 0.7)
_Triple = tuple[jax.Array, jax.Array, jax.Array]


class Sharp(NamedTuple):
    """A chain on which the bound is nearly reached, and how nearly.

    Attributes:
        ratio: `|J(pi') - L| (1 - gamma)^2 / (eps E_d KL)` of that chain, `[]`.
        lean: the argument of `counterexample.chain`, `[N]`.
    """

    ratio: jax.Array
    lean: jax.Array


# --- the proof ------------------------------------------------------------------------------------


@checked()
def potential(likelihood: jax.Array) -> jax.Array:
    """Return `f(M) = (M - 1)^2 / (M + 1)`, the potential of the proof."""
    return (likelihood - 1.0) ** 2 / (likelihood + 1.0)


@checked(policy=rows("A"), new_policy=rows("A"))
def potential_increase(likelihood: jax.Array, policy: jax.Array, new_policy: jax.Array) -> Bound:
    """Return both sides of step 2 of the proof, which bounds the growth of f in one step.

        sum_a pi f(M pi'/pi) - f(M) <= 4 M/(M + 1) KL(pi'||pi)

    The left side is `4 M^2/(M + 1)^2 sum_a (pi' - pi)^2 / (M pi' + pi)`: f without its tangent at
    pi' = pi. Each term is at most `pi (sqrt(pi'/pi) - 1)^2`, as `M = sqrt(pi/pi')` shows, and that
    is at most the term of KL.

    Args:
        likelihood: M `[]`, not negative.
        policy: pi(.|s) `[A]`.
        new_policy: pi'(.|s) `[A]`, zero where pi is.
    """
    part = likelihood / (likelihood + 1.0)
    below = likelihood * new_policy + policy
    terms = (new_policy - policy) ** 2 / jnp.where(below > 0, below, 1.0)
    return Bound(4.0 * part**2 * jnp.sum(terms), 4.0 * part * kl(new_policy, policy))


@checked(policy=rows("A"), new_policy=rows("A"))
def claim(
    likelihood: jax.Array, policy: jax.Array, new_policy: jax.Array, gamma: jax.Array
) -> Bound:
    """Return both sides of step 3 of the proof, in one state.

        |M - 1| w + gamma/(1 - gamma) sum_a pi f(M pi'/pi) - f(M)/(1 - gamma) <= 4 KL/(1 - gamma)

    By step 2 it is enough that `|M - 1| w - f(M) <= 4 KL (1 - gamma M/(M + 1))/(1 - gamma)`, whose
    right side is at least `4 KL >= 2 w^2` (Pinsker). The left side is at most `w^2 (M + 1)/4` for
    M <= 1, and `2 (1 - sqrt(1 - w))^2 <= 2 w^2` for M >= 1.

    Args:
        likelihood: M `[]`, not negative.
        policy: pi(.|s) `[A]`.
        new_policy: pi'(.|s) `[A]`, zero where pi is.
        gamma: `[]`.
    """
    width = jnp.minimum(1.0, 2.0 * total_variation(new_policy, policy))
    increase, _ = potential_increase(likelihood, policy, new_policy)
    paid = gamma / (1.0 - gamma) * increase - potential(likelihood)
    left = jnp.abs(likelihood - 1.0) * width + paid
    return Bound(left, 4.0 / (1.0 - gamma) * kl(new_policy, policy))


@checked()
def refined_constant(gamma: jax.Array, largest_advantage: jax.Array) -> jax.Array:
    """Return a slightly smaller constant for `improvement_bounds.expected_kl_bound`.

        C = (4 gamma + (1 - gamma) 2/log 2) eps / (1 - gamma)

    By the same proof with `w = |Abar| / eps` itself. `E_pi A = 0` and `|A| <= eps` give
    `E_pi exp(l A/eps) <= cosh l` for every l, so `KL >= sup_l (l w - log cosh l) = h(w)`, where `2
    h(w) = (1 + w) log(1 + w) + (1 - w) log(1 - w) >= w^2`. In step 3 then `|M - 1| w - f(M) <=
    w^2/2 <= h(w)` for M <= 1, and `<= g(w) = 2 (1 - sqrt(1 - w))^2 <= 2/log 2 h(w)` for M >= 1: g/h
    increases up to w = 1, since `g''/h'' = (1 + w)/sqrt(1 - w)` does. Step 2 asks for `4 gamma
    KL/(1 - gamma)` at most.
    """
    small = 2.0 / jnp.log(jnp.asarray(2.0, jnp.result_type(gamma)))
    return (4.0 * gamma + (1.0 - gamma) * small) * largest_advantage / (1.0 - gamma)


# --- how sharp ------------------------------------------------------------------------------------


@checked(lean=number(0.0, 1.0))
def chain_ratio(gamma: jax.Array, lean: jax.Array) -> jax.Array:
    """Return a lower bound on the constant in place of 4, from `counterexample.chain`, `[]`.

        |J(pi') - L| (1 - gamma)^2 / (eps E_d KL)

    In closed form: `J(pi') - L = sum_k (gamma/2)^k (M_k - 1) c_k`, `M_k = prod_{j < k} (1 + c_j)`,
    and `E_d KL = (1 - gamma) sum_k (gamma/2)^k h(c_k)`.

    Args:
        gamma: `[]`, in (0, 1).
        lean: c `[N]`, in [0, 1] and not all zero; the last of the state that stays.
    """
    gap, divergence, _ = _chain_sums(gamma, lean)
    return (1.0 - gamma) * gap / divergence


@checked()
def local_ratio(gamma: jax.Array) -> jax.Array:
    """Return `2 sqrt(gamma (1 - gamma))`, the supremum of the ratio for small steps on any MDP.

    For pi' near pi the worst gap is a quadratic programme over likelihood ratios with value
    `a (M - 1)^2` where `4 a (1 - gamma) (R/2 - gamma a) = 1`; no such a exists for
    `R (1 - gamma)` below this. Larger than what chains give for gamma below about 0.36.
    """
    return 2.0 * jnp.sqrt(gamma * (1.0 - gamma))


@checked(gamma=number(0.0, 1.0, "low high"), num_states=count(2))
def sharp_ratio(gamma: jax.Array, num_states: int = 48, iterations: int = 500) -> Sharp:
    """Return a lower bound on the best constant in place of 4, by optimising the chain.

    Only a lower bound: it is attained by the MDP `counterexample.chain(gamma, lean)`, and nothing
    is proved about other MDPs; the upper bounds are 4 and `refined_constant`. In float64 it is
    1.0932 at gamma 0.5, where the printed `gamma^2/(1 - gamma)^2` is 1, then 1.2469 (0.7), 1.3655
    (0.9), 1.3907 (0.95) and 1.4096 (0.99): the limit looks like sqrt 2.

    For the present ratio R the leans solve `c_k = tanh((M_k - 1 + gamma/2 M_k W_{k+1}) / R)`, where
    W_{k+1} is the derivative of the gap after k by M_{k+1}; R follows.

    Args:
        gamma: `[]`, in (0, 1).
        num_states: of the chain without the absorbing one.
        iterations: of the fixed point.
    """

    def settle(start: jax.Array) -> Sharp:
        def fixed_point(_: jax.Array, lean: jax.Array) -> jax.Array:
            gap, divergence, slopes = _chain_sums(gamma, lean)
            likelihood = _likelihoods(lean)
            gain = jnp.expm1(likelihood) + gamma / 2.0 * jnp.exp(likelihood) * slopes
            return jnp.tanh(gain * divergence / gap).at[-1].set(1.0)

        lean = jax.lax.fori_loop(0, iterations, fixed_point, start)
        return Sharp(chain_ratio(gamma, lean), lean)

    k = jnp.arange(num_states)[::-1]
    rates = jnp.asarray(_START_RATES, jnp.result_type(gamma, float))
    chains = jax.vmap(settle)(rates[:, None] ** k[None])
    best = jnp.argmax(chains.ratio)
    return Sharp(chains.ratio[best], chains.lean[best])


def _likelihoods(lean: jax.Array) -> jax.Array:
    """Return `log M_k`, `[N]`."""
    steps = jnp.log1p(lean)
    return jnp.cumsum(steps) - steps


def _chain_sums(gamma: jax.Array, lean: jax.Array) -> _Triple:
    """Return the gap, the sum of divergences, and W_{k+1} `[N]`, by backward recursion."""
    log_likelihood = _likelihoods(lean)
    last, half = lean[-1], gamma / 2.0
    stay, lost = 1.0 - half * (1.0 + last), 1.0 - half
    gap = last * (jnp.exp(log_likelihood[-1]) / stay - 1.0 / lost)
    divergence = _binary_divergence(lean)

    def step_back(carry: _Triple, state: _Triple) -> tuple[_Triple, jax.Array]:
        gap, total, slope = carry
        excess, lean, own = state
        gap, total = excess * lean + half * gap, own + half * total
        return (gap, total, lean + half * (1.0 + lean) * slope), slope

    carry = (gap, divergence[-1] / lost, last / stay)
    states = (jnp.expm1(log_likelihood[:-1]), lean[:-1], divergence[:-1])
    (gap, total, _), slopes = jax.lax.scan(step_back, carry, states, reverse=True)
    return gap, total, jnp.append(slopes, carry[2])


def _binary_divergence(lean: jax.Array) -> jax.Array:
    """Return h(c), the KL of ((1 + c)/2, (1 - c)/2) to (1/2, 1/2), precise for the smallest c."""
    inside = jnp.where(jnp.abs(lean) < 1.0, lean, 0.0)
    h = inside * jnp.arctanh(inside) + 0.5 * jnp.log1p(-inside * inside)
    return jnp.where(jnp.abs(lean) < 1.0, h, jnp.log(jnp.asarray(2.0, lean.dtype)))
