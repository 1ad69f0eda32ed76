"""The baselines of least variance: by hand, against least squares, and better than all others."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import LOGITS_G, random_mdps
from numpy.testing import assert_allclose

from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory.learning import baselines, estimators
from worked import mdp_g

NUM, STATES, ACTIONS, STEPS = 10_000, 2, 3, 2


@partial(jax.jit, static_argnums=2)
def every(mdp, logits, horizon):
    """Return the baselines, their estimates, and the moments of these, over all trajectories."""
    policy = jax.nn.softmax(logits)
    paths = estimators.enumerate_trajectories(mdp, policy, horizon)
    found = {
        "none": jnp.zeros((horizon, logits.shape[0]), logits.dtype),
        "value": estimators.undiscounted_values(mdp, policy, horizon)[0][:-1],
        "stepwise": baselines.stepwise_baseline(logits, paths),
        "state": baselines.state_baseline(logits, paths),
        "parameter": baselines.parameter_baseline(logits, paths),
    }
    samples = {k: baselines.baselined(logits, paths, b) for k, b in found.items()}
    moments = {k: estimators.moments(paths.weight, x) for k, x in samples.items()}
    return paths, found, samples, moments


@cache
def studied():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(NUM, STATES, ACTIONS)))
    batch = jax.tree.map(jnp.asarray, random_mdps(0, NUM, STATES, ACTIONS, sparse=0.3))
    noise = jnp.asarray(rng.normal(size=(NUM, STEPS, STATES)))

    def one(problem):
        mdp, logits, noise = problem
        paths, found, _, moments = every(mdp, logits, STEPS)
        off = baselines.baselined(logits, paths, found["state"] + noise)
        return found, {**moments, "other": estimators.moments(paths.weight, off)}

    run = jax.jit(partial(jax.lax.map, one, batch_size=500))
    return jax.tree.map(np.asarray, run((batch, logits, noise)))


def test_two_arms_have_a_baseline_without_variance():
    # pi = (3/4, 1/4), rewards 1 and 5: b = pi_1 r_0 + pi_0 r_1 = 1/4 + 15/4 = 4, and both pulls
    # give g (r - b) = (1/4, -1/4)(1 - 4) = (-3/4, 3/4)(5 - 4), where V = 2 leaves noise.
    mdp = mdps.make(np.ones((1, 2, 1)), [[1.0, 5.0]], [1.0], 0.0)
    logits = jnp.log(jnp.array([[0.75, 0.25]]))
    _, found, samples, moments = every(mdp, logits, 1)
    for name in ("stepwise", "state"):
        assert_allclose(found[name], [[4.0]], rtol=1e-13)
        assert_allclose(samples[name], np.tile([[[-0.75, 0.75]]], (2, 1, 1)), rtol=1e-13)
        assert_allclose(moments[name].variance, 0.0, atol=1e-25)
    assert_allclose(found["parameter"], [[[4.0, 4.0]]], rtol=1e-13)
    assert_allclose(found["value"], [[2.0]], rtol=1e-13)
    # With V: (1/4)(1 - 2) and -(3/4)(5 - 2) of the first, so -1/4 and -9/4: a variance of 3/4 in
    # each of the two parameters.
    assert_allclose(moments["value"].variance, 2 * 0.75 * 0.25 * 2.0**2, rtol=1e-13)


def test_they_are_the_coefficients_of_least_squares():
    # Minimise E |Y - sum_{t,s} b_t(s) 1{s_t = s} g_t|^2 over b, by a solver that knows nothing of
    # martingales.
    mdp = jax.tree.map(lambda x: jnp.asarray(x[0]), random_mdps(4, 1, STATES, ACTIONS))
    logits = jnp.asarray(np.random.default_rng(5).normal(size=(STATES, ACTIONS)))
    paths, found, samples, _ = every(mdp, logits, 3)
    state, weight = np.asarray(paths.state), np.sqrt(np.asarray(paths.weight))
    g = np.asarray(baselines.scores(logits, paths))
    columns = np.zeros((len(weight), STATES, ACTIONS, 3, STATES))
    rows = np.arange(len(weight))
    for t in range(3):
        columns[rows, state[:, t], :, t, state[:, t]] = g[:, t]
    scaled = columns * weight[:, None, None, None, None]
    target = np.asarray(samples["none"]) * weight[:, None, None]
    best = np.linalg.lstsq(scaled.reshape(-1, 3 * STATES), target.reshape(-1), rcond=None)[0]
    assert_allclose(found["state"].reshape(-1), best, rtol=1e-9)
    for s, a in np.ndindex(STATES, ACTIONS):
        alone = scaled[:, s, a][:, :, s]
        best = np.linalg.lstsq(alone, target[:, s, a], rcond=None)[0]
        assert_allclose(found["parameter"][:, s, a], best, rtol=1e-9)


def test_known_estimators_are_among_them():
    paths, _, samples, moments = every(mdp_g(0.9), LOGITS_G, 3)
    known = jax.jit(estimators.estimates)(mdp_g(0.9), LOGITS_G, paths)
    assert_allclose(samples["none"], known.causal, atol=1e-12)
    assert_allclose(samples["value"], known.causal_value, atol=1e-12)
    assert_allclose(moments["none"].variance, 1.577499612, rtol=1e-8)  # as in test_estimators
    assert_allclose(moments["value"].variance, 0.205905112, rtol=1e-8)
    # With two actions the two components of g are opposite: one baseline does for both.
    assert_allclose(moments["state"].variance, 0.190704347969, rtol=1e-10)
    assert_allclose(moments["parameter"].variance, moments["state"].variance, rtol=1e-12)


@pytest.mark.theorem
def test_no_baseline_has_a_smaller_variance():
    _, moments = studied()
    for other in moments.values():
        assert_allclose(other.mean, moments["none"].mean, atol=1e-11)
    best = moments["state"].variance
    for name in ("none", "value", "stepwise", "other"):
        assert np.min(moments[name].variance - best) > -1e-11, name
    assert np.min(best - moments["parameter"].variance) > -1e-11
    assert np.median(best - moments["parameter"].variance) > 1e-3
    assert np.median((moments["value"].variance - best) / best) > 0.05
    assert np.median((moments["stepwise"].variance - best) / best) > 1e-3


@pytest.mark.theorem
def test_for_one_step_both_formulas_are_one():
    # With one step to act, both formulas are one: E[|g|^2 Q] / E[|g|^2].
    batch = jax.tree.map(jnp.asarray, random_mdps(2, NUM, STATES, 2))
    logits = jnp.asarray(np.random.default_rng(3).normal(size=(NUM, STATES, 2)))
    _, found, _, _ = jax.vmap(partial(every, horizon=1))(batch, logits)
    assert_allclose(found["state"], found["stepwise"], atol=1e-11)
    policy = np.asarray(jax.nn.softmax(logits))
    want = np.sum(policy[..., ::-1] * np.asarray(batch.reward), axis=2)  # as for the two arms
    assert_allclose(found["state"][:, 0], want, atol=1e-9)


def test_single_precision_stays_single():
    mdp = mdp_g(0.9, jnp.float32)
    found = jax.eval_shape(partial(every, horizon=2), mdp, jnp.zeros((3, 2), jnp.float32))
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(found)}
    assert dtypes == {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}
