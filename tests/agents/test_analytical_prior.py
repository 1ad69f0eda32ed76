"""The prior of the analytical agent: weights of real actions, where it is kept, its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special, stats
from steps import compiled

import probes
from compare import assert_bit_equal
from jaxrl_pg import analytical
from jaxrl_pg.components import on_policy
from jaxrl_pg.ops.distributions import Normal
from programs import TINY

REAL = analytical.Config(
    env=probes.Probe(discrete=False), **TINY, prior_coef=0.3, normalize_obs=True
)
START, ITERATE = jax.jit(analytical.init), jax.jit(analytical.iterate)
PLAN = compiled(analytical._weigh_taken_actions)


def test_weights_of_real_actions_are_those_of_the_mixture_tilted_by_their_advantages():
    learner = START(REAL, jax.random.key(0)).learner
    rng = np.random.default_rng(0)
    obs, action, advantage = rng.normal(size=(8, 3)), rng.normal(size=(8, 1)), rng.normal(size=8)
    old = on_policy.build(REAL).network.apply(learner.params, jnp.asarray(obs), method="policy")
    spread = np.exp(old.log_std[:, 0])
    log_prob = stats.norm.logpdf(action[:, 0], old.mean[:, 0], spread)
    prior = Normal(rng.normal(size=(8, 1)), rng.normal(size=(8, 1)))
    of_prior = stats.norm.logpdf(action[:, 0], prior.mean[:, 0], np.exp(prior.log_std[:, 0]))
    zeros = np.zeros(8)
    batch = on_policy.Batch(obs, action, log_prob, zeros, advantage, zeros)
    batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch)
    prior = jax.tree.map(jnp.asarray, prior)
    rows, _, metrics = PLAN(REAL, learner, batch, jnp.zeros((), jnp.int32), prior)
    # Normalised by quadrature: the integral of old^.7 prior^.3 over actions, in each row.
    x = np.linspace(-60, 60, 200_001)[:, None]
    densities = 0.7 * stats.norm.logpdf(x, old.mean[:, 0], spread)
    densities += 0.3 * stats.norm.logpdf(x, prior.mean[:, 0], np.exp(prior.log_std[:, 0]))
    log_mass = special.logsumexp(densities, axis=0) + np.log(x[1, 0] - x[0, 0])
    shift = 0.3 * (of_prior - log_prob) - log_mass
    expected = advantage / float(metrics["analytical/c"]) + shift
    expected -= special.logsumexp(expected) - np.log(8)
    assert_allclose(rows.log_target, expected, atol=2e-3)


def test_the_prior_is_the_policy_and_the_statistics_at_the_start_and_stays():
    state = START(REAL, jax.random.key(0))
    after, metrics = ITERATE(REAL, state)
    assert_bit_equal(state.learner.prior.params, state.learner.params)
    assert_bit_equal(after.learner.prior, state.learner.prior)
    assert float(metrics["analytical/prior_kl"]) == 0.0
    # By its own statistics: those of the policy have moved on, and so the two differ now.
    assert float(after.learner.normalizer.obs.count) > 0
    assert float(after.learner.prior.normalizer.obs.count) == 0
    _, metrics = ITERATE(REAL, after)
    assert float(metrics["analytical/prior_kl"]) > 0
    assert START(REAL.replace(prior_coef=None), jax.random.key(0)).learner.prior == ()


def test_refusals():
    for values, message in (
        ({"prior_coef": 1.5}, "prior_coef=1.5: give a number from 0 to 1"),
        ({"prior_coef": 0.1, "core": "gru"}, r"prior_coef=0.1 is of a policy without a memory and"),
    ):
        with pytest.raises(ValueError, match=message):
            analytical.Config(**values)
