"""How sharp the bound by the expected divergence is: lower bounds on its constant, by chains.

`improvement_bounds.expected_kl_bound` has a constant `C = alpha eps / (1 - gamma)`; its `ratio` on
an MDP and two policies,

    |J(pi') - L| (1 - gamma)^2 / (eps E_d KL),

is at most alpha = 1.7811. What it reaches on `counterexample.chain` is a lower bound on the best
constant for that discount, since these MDPs exist. `chain_ratio` is its closed form, `sharp_ratio`
the best of what gradient ascent over chains finds, and `rising_chain` a family whose ratio tends to
alpha itself as gamma tends to 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import count, number
from jaxrl_pg.theory.checks import checked

__all__ = ["Sharp", "chain_ratio", "local_ratio", "rising_chain", "sharp_ratio"]

_STARTS = ((0.5, 0.45), (0.15, 0.15))  # rate and chance of the first chains
_NEAR = 0.02  # below it, (1 + y) log(1 + y) - y is summed as a series


class Sharp(NamedTuple):
    """A chain on which the bound is nearly reached, and how nearly.

    Attributes:
        ratio: `|J(pi') - L| (1 - gamma)^2 / (eps E_d KL)` of that chain, `[]`.
        lean: an argument of `counterexample.chain`, `[N]`.
        chance: another, `[N]`.
    """

    ratio: jax.Array
    lean: jax.Array
    chance: jax.Array


@checked(gamma=number(0.0, 1.0, "low high"), lean=number(0.0, 1.0), chance=number(0.0, 0.5, "low"))
def chain_ratio(gamma: jax.Array, lean: jax.Array, chance: jax.Array) -> jax.Array:
    """Return a lower bound on alpha at this discount, from `counterexample.chain`, `[]`.

        |J(pi') - L| (1 - gamma)^2 / (eps E_d KL)

    In closed form: with `a_k = c_k p_k/(1 - p_k)`, `M_k = prod_{j < k} (1 + a_j)` and
    `P_k = prod_{j < k} (1 - p_j)`, it is `J(pi') - L = sum_k gamma^k P_k (M_k - 1) a_k` and
    `E_d KL = (1 - gamma) sum_k gamma^k P_k KL_k`, the last state counted for ever.

    Args:
        gamma: `[]`, in (0, 1).
        lean: c `[N]`, in [0, 1] and not all zero; the last of the state that stays.
        chance: p `[N]`, in (0, 1/2]; the last is 1/2, so that eps = 1.
    """
    gain = chance * lean / (1.0 - chance)
    rises, stays = jnp.log1p(gain), jnp.log1p(-chance)
    log_likelihood = jnp.cumsum(rises) - rises
    time = jnp.arange(lean.shape[0], dtype=lean.dtype)
    weight = jnp.exp(jnp.cumsum(stays) - stays + time * jnp.log(gamma))
    # The last state is visited again and again: geometric series, of the weight and of M.
    leave = 1.0 - gamma * (1.0 - chance[-1])
    leave_new = 1.0 - gamma * (1.0 - chance[-1]) * (1.0 + gain[-1])
    weight = weight.at[-1].divide(leave)
    last = jnp.exp(log_likelihood[-1]) * leave / leave_new - 1.0
    excess = jnp.expm1(log_likelihood).at[-1].set(last)
    divergence = chance * _relative_entropy(-lean) + (1.0 - chance) * _relative_entropy(gain)
    return (1.0 - gamma) * jnp.vdot(weight, gain * excess) / jnp.vdot(weight, divergence)


@checked()
def local_ratio(gamma: jax.Array) -> jax.Array:
    """Return `2 sqrt(gamma (1 - gamma))`, the supremum of the ratio for small steps on any MDP.

    For pi' near pi the worst gap is a quadratic programme over likelihood ratios with value
    `a (M - 1)^2` where `4 a (1 - gamma) (R/2 - gamma a) = 1`; no such a exists for
    `R (1 - gamma)` below this. Larger than what chains give for gamma below about 0.36.
    """
    return 2.0 * jnp.sqrt(gamma * (1.0 - gamma))


@checked(rate=number(0.0, 0.5, "low"), first=number(0.0, without="low"), num_states=count(2))
def rising_chain(rate: jax.Array, first: jax.Array, num_states: int) -> tuple[jax.Array, jax.Array]:
    """Return leans and chances `[N]` of a chain whose ratio tends to alpha = exp(0.5772...).

    In state k pi loses with probability `rate`, and pi' with `rate exp(-u_k)`, where `u_k = first
    exp(rate k)`: a fall of M by the factor `exp(-u)`, from an M of about `exp(Ein(u))`. That is
    where the potential of the proof grows as fast as it may. In the last state, which stays, pi'
    never loses. As gamma tends to 1, and then the rate to 0 with the last `u = U`, the ratio tends
    to

        alpha exp(E1(U) - Ein(first)) / (g(first) - g(U) + 2 log(2)/U),  g(u) = (1 - exp(-u))/u

    and that to alpha as first tends to 0 and U grows: docs/theory.md.

    Args:
        rate: p `[]`, in (0, 1/2], of the states but the last, which has 1/2.
        first: u in the first state `[]`, above 0.
        num_states: N.
    """
    u = first * jnp.exp(rate * jnp.arange(num_states - 1))
    chance = jnp.full((num_states - 1,), rate, u.dtype)
    return jnp.append(-jnp.expm1(-u), 1.0), jnp.append(chance, 0.5)


@checked(gamma=number(0.0, 1.0, "low high"), num_states=count(2))
def sharp_ratio(gamma: jax.Array, num_states: int = 48, iterations: int = 2000) -> Sharp:
    """Return a lower bound on the best constant for this discount, by optimising the chain.

    Only a lower bound: it is attained by `counterexample.chain(gamma, lean, chance)`, and nothing
    is proved about other MDPs. In float64 it is 1.0932 at gamma 0.5, where the printed
    `gamma^2/(1 - gamma)^2` is 1, then 1.2469 (0.7), 1.3655 (0.9), 1.3978 (0.95), 1.5169 (0.99) and
    1.6673 (0.999, with 64 states and 3000 iterations). Up to 0.9 the best chances are 1/2.

    Args:
        gamma: `[]`, in (0, 1).
        num_states: of the chain without the absorbing one.
        iterations: of Adam, with a step size that falls to 0.
    """

    def chain(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        lean, chance = jax.nn.sigmoid(x[0]), 0.5 * jax.nn.sigmoid(x[1])
        return lean.at[-1].set(1.0), chance.at[-1].set(0.5)

    def climb(start: jax.Array) -> Sharp:
        gradient = jax.grad(lambda x: jnp.log(chain_ratio(gamma, *chain(x))))

        def step(i: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            x, mean, square = carry
            slope = gradient(x)
            mean, square = 0.9 * mean + 0.1 * slope, 0.99 * square + 0.01 * slope**2
            rate = 0.05 * (1.0 + jnp.cos(jnp.pi * i / iterations))
            return x + rate * mean / (jnp.sqrt(square) + 1e-30), mean, square

        carry = (start, jnp.zeros_like(start), jnp.zeros_like(start))
        lean, chance = chain(jax.lax.fori_loop(0, iterations, step, carry)[0])
        return Sharp(chain_ratio(gamma, lean, chance), lean, chance)

    back = jnp.arange(num_states, dtype=jnp.result_type(gamma, float))[::-1]
    starts = [
        jnp.stack([jnp.log(jnp.expm1(2.0 * jnp.exp(-rate * back))), jnp.full_like(back, odds)])
        for rate, odds in ((r, jnp.log(p / (0.5 - p))) for r, p in _STARTS)
    ]
    chains = jax.vmap(climb)(jnp.stack(starts))
    best = jnp.argmax(chains.ratio)
    return jax.tree.map(lambda x: x[best], chains)


def _relative_entropy(y: jax.Array) -> jax.Array:
    """Return `(1 + y) log(1 + y) - y`, y >= -1, precise for the smallest y."""
    near = jnp.abs(y) < _NEAR
    small = jnp.where(near, y, 0.0)
    series = jnp.polyval(jnp.asarray([-1 / 42, 1 / 30, -1 / 20, 1 / 12, -1 / 6, 1 / 2]), small)
    far = jnp.where(near, 1.0, y)
    rest = jnp.where(far > -1.0, jnp.log1p(jnp.where(far > -1.0, far, 0.0)), 0.0)
    return jnp.where(near, small**2 * series, (1.0 + far) * rest - far)
