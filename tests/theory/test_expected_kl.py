"""The bound by the expected divergence: its proof on random points, and how sharp its constant is.

The proof is that of docs/theory.md; the twin of its potential here takes u as the variable, and so
needs no inverse of Ein.
"""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import exp1, rel_entr

from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.bounds import counterexample, expected_kl, improvement_bounds, sharp, shift

ALPHA = 1.7810724179901979
NUM = 40_000
COMPARE = jax.jit(improvement_bounds.compare)
CHAIN_RATIO = jax.jit(sharp.chain_ratio)
EIN = jax.jit(expected_kl.entire_exponential_integral)
EXPONENT = jax.jit(jax.vmap(jax.value_and_grad(expected_kl.exponent)))
POTENTIAL = jax.jit(jax.vmap(jax.value_and_grad(expected_kl.potential)))
WIDTH = jax.jit(jax.vmap(expected_kl.width))
RISING = jax.jit(sharp.rising_chain, static_argnums=2)
GAMMAS = (0.4, 0.5, 0.512, 0.513, 0.7, 0.9, 0.95, 0.99)


def ein(u):
    """`E1(u) + log u + 0.5772...`, and its series where that cancels."""
    series = u - u**2 / 4 + u**3 / 18 - u**4 / 96 + u**5 / 600 - u**6 / 4320
    large = np.maximum(u, 0.05)
    return np.where(u < 0.05, series, exp1(large) + np.log(large) + np.euler_gamma)


def psi(r):
    return rel_entr(r, 1.0) - r + 1.0


def softmax(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


# --- the potential --------------------------------------------------------------------------------


def test_the_exponential_integral_and_its_inverse():
    assert_allclose(improvement_bounds.EXP_EULER, ALPHA, rtol=1e-15)
    at = np.array([0.3, 1.9, 2.1, 40.0])
    area = [quad(lambda s: -np.expm1(-s) / s, 0.0, u, epsabs=1e-13)[0] for u in at]
    assert_allclose(EIN(at), area, rtol=1e-12)
    u = np.concatenate([[0.0], np.logspace(-7, 2.7, 400)])
    likelihood = np.exp(ein(u))
    got, slope = EXPONENT(jnp.asarray(likelihood))
    assert_allclose(got, u, rtol=1e-8, atol=1e-14)  # M - 1 has eight digits where u is 1e-7
    assert_allclose(slope[1:], u[1:] / (likelihood * -np.expm1(-u))[1:], rtol=1e-6)
    assert slope[0] == 1.0


def test_the_potential_is_smooth_and_its_slope_tends_to_one():
    # kappa = 1/alpha up to gamma 1/2, then (1 - gamma)/(alpha gamma); f(0) = kappa
    gamma = np.array([0.25, 0.5, 0.75, 1.0])
    value, slope = POTENTIAL(np.zeros(4), gamma)
    assert_allclose(value, np.array([1, 1, 1 / 3, 0]) / ALPHA, atol=1e-15)
    assert_allclose(slope, -2 * value, atol=1e-15)
    # u = 1: M = exp(.7965995993) = 2.2179862, f = alpha/e, f' = alpha/M
    likelihood = np.array([0.3, 1.0, np.exp(0.7965995992970532), 1e6])
    value, slope = POTENTIAL(likelihood, np.full(4, 0.75))
    assert_allclose(value[:3], [0.49 / (3 * ALPHA), 0.0, ALPHA / np.e], rtol=1e-12)
    assert_allclose(slope[:3], [-1.4 / (3 * ALPHA), 0.0, ALPHA / likelihood[2]], rtol=1e-11)
    assert_allclose(slope[3], 1.0, rtol=1e-9)


@pytest.mark.theorem
def test_every_inequality_of_step_two_on_random_points():
    rng = np.random.default_rng(3)
    u, v = 10.0 ** rng.uniform(-4, 1.7, (2, NUM))
    v[::2] = u[::2] * np.exp(0.1 * rng.normal(size=NUM // 2))
    high, to = np.exp(ein(u)), np.exp(ein(v))
    own, after = u + np.expm1(-u), v + np.expm1(-v)

    def excess(x, value):  # of the growth of f without its tangent over psi
        return value - own - u / high * (x - high) - psi(x / high)

    rounding = 1e-12 * (1.0 + np.maximum(high, to))
    assert np.all(excess(to, after) <= rounding)
    x = np.minimum(
        1.0, np.where(rng.uniform(size=NUM) < 0.5, rng.uniform(size=NUM), high * np.exp(-u))
    )
    r = x / high
    tilted = np.exp(-u) * psi(r * np.exp(u))
    assert_allclose(excess(x, 0.0), -tilted, atol=1e-10)
    assert_allclose(excess(high * np.exp(-u), 0.0), 0.0, atol=1e-10)  # equality: alpha is needed
    # Below 1: kappa (1 - x)^2 <= alpha exp(-u) psi(r exp(u)) + kappa psi(r), for kappa <= alpha/2.
    for kappa in (1 / ALPHA, ALPHA / 2):
        assert np.all(kappa * (1 - x) ** 2 <= ALPHA * tilted + kappa * psi(r) + 1e-12)
    assert np.all((1 - x) ** 2 <= (1 - (1 + u) * r) ** 2 + 1e-12)
    assert np.all(1 + u <= high * (1 + 1e-12))


@pytest.mark.theorem
def test_every_inequality_of_step_three_on_random_points():
    u = np.logspace(-3, 1.2, 2000)
    w, a = np.exp(-exp1(u)), np.exp(-u)
    assert_allclose(w, ALPHA * u / np.exp(ein(u)), rtol=1e-10)
    h = ((1 + w) * np.log1p(w) + (1 - w) * np.log1p(-w)) / 2
    chi = ALPHA * (1 - a) - w
    share = chi / h
    assert np.all(np.diff(share) > -1e-9)
    assert np.all(share <= (ALPHA - 1) / np.log(2))
    assert share[-1] > 0.999 * (ALPHA - 1) / np.log(2)
    # It increases because w^2 <= B, and that because the slope of log B is at most that of log w^2.
    b = 1 - a
    assert np.all(w**2 <= 1 - 2 * a * b / (u + b) + 1e-12)
    slope = b * (1 + 4 * a) / (u + b * (1 - 2 * a)) - (1 + a) / (u + b)
    assert np.all(slope <= 2 * a / u + 1e-9)
    assert np.all(2 * a * u**2 - a * b * u + b**2 * (1 - 2 * a) >= b**3 - 1e-12)
    # For gamma in [0, 1) the parts make no more than alpha.
    gamma = np.linspace(0.0, 0.999, 500)
    kappa = np.asarray(expected_kl.left_curvature(jnp.asarray(gamma)))
    below = np.maximum(gamma * ALPHA, 2 * gamma * kappa + (1 - gamma) / kappa)
    above = gamma * (ALPHA + kappa) + (1 - gamma) * (ALPHA - 1) / np.log(2)
    assert np.all(np.maximum(below, above) <= ALPHA + 1e-12)
    assert np.max(kappa) <= ALPHA / 2


# --- whole steps, on random policies --------------------------------------------------------------


def draws(num):
    """Draw the likelihood ratios, two policies of five actions with zeros, discounts."""
    rng = np.random.default_rng(7)
    likelihood = np.exp(rng.uniform(-7.0, 7.0, num))
    logits = np.exp(rng.uniform(-3.0, 2.5, (num, 2, 1))) * rng.normal(size=(num, 2, 5))
    logits[: num // 2, 1] += logits[: num // 2, 0]  # half of them near
    missing = rng.uniform(size=(num, 2, 5)) < np.array([[0.2], [0.3]])
    missing[:, 1] |= missing[:, 0]
    missing[:, :, 0] = False
    p, q = np.moveaxis(softmax(np.where(missing, -np.inf, logits)), 1, 0)
    return tuple(map(jnp.asarray, (likelihood, p, q, 0.999 * rng.uniform(size=num))))


def proof(likelihood, p, q, gamma):
    return (
        expected_kl.potential_increase(likelihood, p, q, gamma),
        expected_kl.claim(likelihood, p, q, gamma),
        expected_kl.width(p, q),
    )


@functools.cache
def proved():
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(proof))(*draws(NUM)))


@pytest.mark.theorem
def test_every_step_of_the_proof_on_forty_thousand_draws():
    increase, (left, right), w = proved()
    likelihood, p, q, gamma = map(np.asarray, draws(NUM))
    divergence = rel_entr(q, p).sum(1)
    assert np.all(np.isfinite(right))
    assert np.all(increase.gap <= increase.bound + 1e-12 * (1 + likelihood))
    assert np.max(increase.gap / np.maximum(increase.bound, 1e-9)) > 0.7  # alpha is needed
    assert np.all(left <= right + 1e-12 * (1 + likelihood) / (1 - gamma))
    assert np.all(w <= np.minimum(1, np.abs(q - p).sum(1)) + 1e-12)
    assert_allclose(right, ALPHA * divergence / (1 - gamma), rtol=1e-9, atol=1e-12)
    # Falls alone pay for w, and the divergence is at least h(w).
    rho = np.where(p > 0, q / np.where(p > 0, p, 1), 1)
    assert np.all(w**2 <= 4 * (p * psi(rho) * (rho < 1)).sum(1) + 1e-12)
    inside = np.clip(w, 0.0, 1.0 - 1e-12)
    h = ((1 + inside) * np.log1p(inside) + (1 - inside) * np.log1p(-inside)) / 2
    assert np.all(h <= divergence + 1e-9)
    assert np.max(w) > 0.99


def test_the_largest_width_is_the_best_of_all_advantages():
    # pi = (1/4, 3/4), rho = (2, 2/3): A = (1, -1/3) gives 1/4 + 1/12 = 1/3; the weighted median of
    # rho is 2/3, |1/2 - 1/6| + 0 = 1/3.
    p, q = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    assert_allclose(WIDTH(p[None], q[None]), [1 / 3])
    _, p, q, _ = map(np.asarray, draws(NUM))
    rng = np.random.default_rng(0)
    for i in range(0, 4000, 400):
        old, new = p[i], q[i]
        a = rng.uniform(-1.0, 1.0, (400, 5))
        a -= a @ old[:, None]
        a /= np.abs(a[:, old > 0]).max(1)[:, None]
        assert np.all(np.abs(a @ (new - old)) <= proved()[2][i] + 1e-12)


def test_the_steps_of_the_proof_equal_their_definitions():
    increases, claims, w = (jax.tree.map(lambda x: x[::1000], x) for x in proved())
    m, p, q, gamma = (np.asarray(x)[::1000] for x in draws(NUM))
    own, _ = POTENTIAL(m, gamma)
    rho = np.where(p > 0, q / np.where(p > 0, p, 1.0), 0.0)
    each = [POTENTIAL(m * rho[:, a], gamma)[0] for a in range(5)]
    mean = (p * np.stack(each, axis=1)).sum(1)
    assert_allclose(increases.gap, mean - own, atol=1e-11 * np.max(1 + own))
    left = abs(m - 1) * w + gamma / (1 - gamma) * mean - own / (1 - gamma)
    assert_allclose(claims.gap, left, rtol=1e-9, atol=1e-9 * np.max(own / (1 - gamma)))


def test_on_a_trajectory_the_likelihood_ratios_stay_within_the_divergence():
    """Step 4, all of the sum over paths: 2 states, 2 actions, 7 steps."""
    mdp = jax.tree.map(lambda x: jnp.asarray(x[0]), random_mdps(1, 2, 2, 2, 0.8))
    chance, start = np.asarray(mdp.transition), np.asarray(mdp.start)
    p, q = np.array([[0.6, 0.4], [0.3, 0.7]]), np.array([[0.9, 0.1], [0.5, 0.5]])
    width = np.asarray(WIDTH(p, q))
    paths, spent, gap, total = [(s, 1.0, start[s]) for s in (0, 1)], 0.0, 0.0, 0.0
    advantage = jax.jit(solve.evaluate)(mdp, jnp.asarray(p)).advantage
    expected = (q * np.asarray(advantage)).sum(1)
    divergence = rel_entr(q, p).sum(1)
    for t in range(7):
        for state, m, weight in paths:
            spent += 0.8**t * weight * abs(m - 1) * width[state]
            gap += 0.8**t * weight * (m - 1) * expected[state]
            total += 0.8**t * weight * divergence[state]
        paths = [
            (after, m * q[s, a] / p[s, a], weight * p[s, a] * chance[s, a, after])
            for s, m, weight in paths
            for a in (0, 1)
            for after in (0, 1)
        ]
    states = jax.jit(partial(shift.per_step, horizon=7))
    apart = np.asarray(states(mdp, q) - states(mdp, p)) @ expected
    assert_allclose(gap, 0.8 ** np.arange(7) @ apart, atol=1e-14)
    largest = np.abs(advantage).max()
    assert abs(gap) <= largest * spent <= largest * ALPHA / 0.2 * total
    assert spent > 0.1


# --- how sharp ------------------------------------------------------------------------------------


@functools.cache
def sharpest():
    return jax.jit(jax.vmap(sharp.sharp_ratio))(jnp.array(GAMMAS))


def test_the_optimised_chains_strain_the_constant():
    gammas, result = np.array(GAMMAS), np.asarray(sharpest().ratio)
    known = [0.9982, 1.0932, 1.1037, 1.1045, 1.2469, 1.3655, 1.3978, 1.5169]
    assert_allclose(result, known, rtol=0, atol=3e-4)
    # Dynamic programming on a grid had 1.089 at .5, and 1.366 at .9: nothing is lost on it.
    assert result[1] > 1.089
    assert_allclose(result[5], 1.366, atol=1e-3)
    # The printed gamma^2/(1 - gamma)^2 is below it until .512.
    assert_allclose(result > gammas**2 / (1 - gammas) ** 2, gammas < 0.5125)
    assert np.all(result < ALPHA)
    assert result[-1] > np.sqrt(2)


@pytest.mark.parametrize("index", [1, 4, 5, 7])
def test_an_optimised_chain_is_an_mdp_with_its_ratio(index):
    gamma = GAMMAS[index]
    lean, chance = (np.asarray(x[index]) for x in sharpest()[1:])
    # From where double precision can tell the gap from rounding, 40 states.
    first = np.argmax(lean > 1e-4)
    lean, chance = (np.append(x[first:], np.full(40, x[-1]))[:40] for x in (lean, chance))
    example = counterexample.chain(gamma, jnp.asarray(lean), jnp.asarray(chance))
    mdps.check(example.mdp)
    c = COMPARE(*example)
    assert_allclose(c.largest_advantage, 1.0)
    ours, paper = improvement_bounds.expected_kl_bound(c), improvement_bounds.paper_bound(c)
    closed = CHAIN_RATIO(jnp.asarray(gamma), jnp.asarray(lean), jnp.asarray(chance))
    assert_allclose(ALPHA * ours.gap / ours.bound, closed, rtol=1e-5)
    assert_allclose(closed, sharpest().ratio[index], atol=0.02)
    assert (paper.gap > paper.bound) == (gamma == 0.5)
    assert (closed > np.sqrt(2)) == (gamma == 0.99)  # more than chains of even chances can do


def test_the_closed_form_of_a_chain_holds_for_any_leans_and_chances():
    lean, gamma = np.append([0.1, 0.5, 0.3], np.full(21, 0.8)), 0.7
    chance = np.append([0.4, 0.1, 0.25], np.full(21, 0.5))
    c = COMPARE(*counterexample.chain(gamma, jnp.asarray(lean), jnp.asarray(chance)))
    ours = improvement_bounds.expected_kl_bound(c)
    assert_allclose(c.objective, 0.0, atol=1e-15)
    closed = CHAIN_RATIO(jnp.asarray(gamma), jnp.asarray(lean), jnp.asarray(chance))
    assert_allclose(ALPHA * ours.gap / ours.bound, closed, rtol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_a_chain_without_a_future_or_without_a_discount_is_refused(gamma):
    with pytest.raises(ValueError, match=rf"gamma is {gamma:g}: give one in \(0, 1\)"):
        sharp.chain_ratio(gamma, np.array([0.5, 1.0]), np.array([0.5, 0.5]))


def test_no_constant_below_alpha_holds_for_every_discount():
    # Every ratio is one of an MDP that exists; the closed form is their supremum in the limit.
    found = []
    for rate, first, num_states, far in ((0.1, 0.03, 70, 1e-4), (0.01, 0.01, 1000, 1e-7)):
        lean, chance = RISING(rate, first, num_states)
        ratio = float(CHAIN_RATIO(1 - far, lean, chance))
        last = first * np.exp(rate * (num_states - 2))
        limit = ALPHA * np.exp(exp1(last) - ein(np.asarray(first)))
        limit /= -np.expm1(-first) / first + np.expm1(-last) / last + 2 * np.log(2) / last
        assert_allclose(ratio, limit, rtol=0.5 * rate)
        found.append(ratio)
    assert np.sqrt(2) < found[0] < found[1] < ALPHA
    assert found[1] > 0.989 * ALPHA


def test_the_ratio_for_small_steps():
    # At gamma .5 it is 1; for g < .36 more than chains give. No fixed point exists below it: with
    # a <- gamma a + 1/(4 (R/2 - gamma a)) from 0, as R (1 - gamma) passes the value.
    for gamma in (0.3, 0.5, 0.8):
        ratio = float(sharp.local_ratio(jnp.asarray(gamma)))
        for factor, bounded in ((1.001, True), (0.98, False)):
            a, half = 0.0, factor * ratio / (1 - gamma) / 2
            for _ in range(2000):
                a = gamma * a + 1 / (4 * (half - gamma * a)) if gamma * a < half else np.inf
            assert np.isfinite(a) == bounded
    assert_allclose(sharp.local_ratio(jnp.asarray(0.5)), 1.0)
