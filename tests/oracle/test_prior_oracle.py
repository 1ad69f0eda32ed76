"""The analytical agent with a prior, against the exact update: its own functions, exact parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_analytical_oracle import (
    EXACT,
    GAMMA,
    TARGETS,
    A,
    S,
    evaluate,
    gradient_norm,
    learner_of,
    pairs_of,
    rows_of,
)

from jaxrl_pg.agents import analytical as agent
from jaxrl_pg.components import on_policy
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.theory.updates import prior as theory
from worked import POLICY_G, mdp_g

PRIOR = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])


@jax.jit
def plan(config, learner, batch, prior):
    weigh_all, weigh_taken = agent._weigh_all_actions, agent._weigh_taken_actions
    weigh = weigh_all if config.target == "all_actions" else weigh_taken
    iteration = jnp.zeros((), jnp.int32)
    return weigh(config, on_policy.build(config), learner, batch, iteration, prior)


def exact(policy, prior, advantage, constant, share):
    with jax.enable_x64(True):
        arrays = (np.log(policy), np.log(prior), np.asarray(advantage, np.float64))
        update = theory.prior_update(*arrays, constant, share)
        return jax.tree.map(np.asarray, update)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_projections_optimum_is_the_exact_update_with_the_prior(target, share):
    """The loss's gradient is 0 at the exact update, and clearly not at the one without a prior."""
    solved = evaluate(POLICY_G)
    config = EXACT.replace(target=target, correction_clip=0.0, kl_target=0.02, prior_coef=share)
    learner = learner_of(config, POLICY_G, solved.q)
    pairs = pairs_of(target)
    batch = rows_of(POLICY_G, solved.advantage, pairs)
    logits = jnp.asarray(np.log(PRIOR)[[s for s, _ in pairs]], jnp.float32)
    rows, _, metrics = plan(config, learner, batch, logits)
    constant = float(metrics["analytical/c"])
    new = exact(POLICY_G, PRIOR, solved.advantage, constant, share)
    if target == "all_actions":
        assert_allclose(rows.log_target, new.log_policy, atol=2e-5)
    assert gradient_norm(config, rows, learner, np.exp(new.log_policy)) < 1e-6
    without = exact(POLICY_G, PRIOR, solved.advantage, constant, 0.0)
    far = gradient_norm(config, rows, learner, np.exp(without.log_policy))
    assert (far > 5e-3) == (share > 0)
    # KL(old || prior), and the certificate, by the exact parts.
    expected = np.sum(POLICY_G * (np.log(POLICY_G) - np.log(PRIOR)), axis=1)
    shares = np.bincount([s for s, _ in pairs], minlength=S) / len(pairs)
    assert_allclose(metrics["analytical/prior_kl"], expected @ shares, rtol=1e-5)
    if target == "all_actions":
        gain = np.mean(np.sum(np.exp(new.log_policy) * solved.advantage, axis=1))
        ratio = new.log_policy - np.log(POLICY_G)
        kl = np.mean(np.sum(np.exp(new.log_policy) * ratio, axis=1))
        proved = np.exp(np.euler_gamma) / (1 - GAMMA)
        proved *= float(metrics["analytical/eps"])
        expected = (gain - proved * kl) / (1 - GAMMA)
        assert_allclose(metrics["analytical/estimated_certificate"], expected, rtol=1e-3)


def test_a_prior_that_is_the_old_policy_changes_nothing():
    solved = evaluate(POLICY_G)
    for target in TARGETS:
        config = EXACT.replace(target=target, correction_clip=0.0, kl_target=0.02)
        learner = learner_of(config, POLICY_G, solved.q)
        pairs = pairs_of(target)
        batch = rows_of(POLICY_G, solved.advantage, pairs)
        logits = jnp.asarray(np.log(POLICY_G)[[s for s, _ in pairs]], jnp.float32)
        rows, _, _ = plan(config, learner, batch, ())
        kept, _, metrics = plan(config.replace(prior_coef=0.4), learner, batch, logits)
        assert_allclose(kept.log_target, rows.log_target, atol=1e-5)
        assert_allclose(metrics["analytical/prior_kl"], 0.0, atol=1e-6)


def test_iterating_the_agents_targets_goes_to_the_fixed_point():
    """With exact advantages and projections, C fixed: where each state pays for itself."""
    with jax.enable_x64(True):
        config = EXACT.replace(
            env=from_mdp.from_mdp(mdp_g(GAMMA)),
            target="all_actions",
            correction_clip=0.0,
            step_size="scheduled",
            c_start=2.0,
            c_end=2.0,
            prior_coef=0.3,
        )
        logits = jnp.asarray(np.log(PRIOR), jnp.float32)
        policy, pairs = POLICY_G, pairs_of("all_actions")
        for _ in range(40):
            solved = evaluate(policy)
            learner = learner_of(config, policy, solved.q)
            batch = rows_of(policy, solved.advantage, pairs)
            rows, _, metrics = plan(config, learner, batch, logits)
            policy = np.exp(np.asarray(rows.log_target, np.float64))
            policy /= policy.sum(axis=1, keepdims=True)
        temperature = 0.3 * float(metrics["analytical/c"])
        left = theory.residual(mdp_g(GAMMA), np.log(policy), np.log(PRIOR), temperature)
        assert float(left) < 1e-3
        assert policy.shape == (S, A)
