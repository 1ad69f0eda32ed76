"""The posterior over trajectories: worked numbers, enumeration, and where a policy has the same."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose
from scipy import stats
from test_inference import RISKY, gamble, random_mdp

from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory.soft import inference, posterior

NUM, STATES, ACTIONS, STEPS = 10_000, 2, 2, 3  # 64 trajectories each
SAMPLES = 20_000
MESSAGES = jax.jit(inference.backward_messages, static_argnums=1)
POSTERIOR = jax.jit(posterior.posterior)
ENUMERATED = jax.jit(posterior.enumerated, static_argnums=1)
LOG_PROBABILITY = jax.jit(posterior.log_probability)


def certain(batch):
    """Return the same MDPs with the likeliest start and outcomes made certain."""
    sure = (np.eye(STATES)[np.argmax(x, -1)] for x in (batch.transition, batch.start))
    transition, start = sure
    return batch._replace(transition=transition, start=start)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, 0, 0))
def study(mdp, prior, policy, temperature):
    found = inference.backward_messages(mdp, STEPS, prior, temperature)
    closest = inference.variational(mdp, STEPS, prior, temperature)
    any_steps = jnp.broadcast_to(policy, (STEPS, *policy.shape))
    laws = {
        "posterior": posterior.posterior(mdp, found, temperature),
        "inferred": posterior.law_of_policy(mdp, found.policy),
        "variational": posterior.law_of_policy(mdp, closest.policy),
        "any": posterior.law_of_policy(mdp, any_steps),
    }
    paths = posterior.enumerated(mdp, STEPS, prior, temperature)

    def evidence(coldness):
        return inference.backward_messages(mdp, STEPS, prior, 1 / coldness).log_evidence

    return {
        "paths": paths,
        "total": jnp.sum(paths.reward, axis=1),
        "log": {k: posterior.log_probability(law, paths) for k, law in laws.items()},
        "reward": {k: posterior.expected_reward(law, mdp.reward) for k, law in laws.items()},
        "kl": {k: posterior.divergence(law, laws["posterior"]) for k, law in laws.items()},
        "slack": {
            "inferred": found.log_evidence - inference.elbo(mdp, found.policy, prior, temperature),
            "variational": found.log_evidence - closest.elbo,
            "any": found.log_evidence - inference.elbo(mdp, any_steps, prior, temperature),
        },
        "slope": jax.grad(evidence)(1 / temperature),
    }


@cache
def studied(sure=False):
    """Study random MDPs, half of them with sparse dynamics, or all with certain ones."""
    batch = random_mdps(0, NUM, STATES, ACTIONS, sparse=0.5)
    prior, policy = random_policies(1, NUM, STATES, ACTIONS), random_policies(2, NUM, 2, 2)
    problems = certain(batch) if sure else batch, prior, policy, random_sizes(3, NUM, -1.0, 1.5)
    return jax.tree.map(np.asarray, (problems, study(*problems)))


# --- worked numbers -------------------------------------------------------------------------------


def test_the_gamble_of_one_who_won():
    # Safe costs 1, risky 0 with probability .3 and else 10. Of all that is optimal, the shares are
    # risky and won .3, risky and lost .7 e^-10, safe e^-1, each half at the first step, over
    # their sum .3679112: .449166 and .000043 and .550790. The variational policy is sober.
    mdp, reward = gamble(0.3), gamble(0.3).reward
    found = MESSAGES(mdp, 2)
    law = POSTERIOR(mdp, found)
    pair = posterior.visitation(law)
    shares = np.array([0.3, 0.7 * np.exp(-10.0), np.exp(-1.0)])
    shares /= shares.sum()
    assert_allclose(pair[1].sum(axis=1)[1:], shares, rtol=1e-12)
    assert_allclose(pair[0, 0], [shares[2], shares[0] + shares[1]], rtol=1e-12)
    assert_allclose(pair[0, 0, RISKY], 0.449209, atol=1e-6)
    # It remembers a cost of -.5512, where its policy in the world pays -3.6953.
    assert_allclose(posterior.expected_reward(law, reward), -10 * shares[1] - shares[2])
    acted = posterior.law_of_policy(mdp, found.policy)
    assert_allclose(posterior.expected_reward(acted, reward), -3.695254, atol=1e-6)
    closest = inference.variational(mdp, 2)
    sober = posterior.law_of_policy(mdp, closest.policy)
    assert_allclose(posterior.expected_reward(sober, reward), -1.014836, atol=1e-6)
    gap = found.log_evidence - closest.elbo
    assert_allclose(posterior.divergence(sober, law), gap, rtol=1e-11)
    assert posterior.divergence(acted, law) > gap


def test_the_odds_of_two_trajectories_by_hand():
    # One state, two actions of reward 0 and -1, two steps, temperature 1/2: sums 0, -1, -1, -2, and
    # chances 1, e^-2, e^-2, e^-4 over (1 + e^-2)^2.
    mdp = mdps.make([[[1.0], [1.0]]], [[0.0, -1.0]], [1.0], 0.0)
    paths = ENUMERATED(mdp, 2, None, 0.5)
    want = np.exp([0.0, -2.0, -2.0, -4.0])
    assert_allclose(paths.weight, want / want.sum(), rtol=1e-13)
    law = POSTERIOR(mdp, MESSAGES(mdp, 2, None, 0.5), 0.5)
    assert_allclose(LOG_PROBABILITY(law, paths), np.log(want / want.sum()), rtol=1e-12)


# --- enumeration ----------------------------------------------------------------------------------


@pytest.mark.theorem
@pytest.mark.parametrize("sure", [False, True])
def test_the_messages_give_every_trajectory_the_chance_of_bayes_rule(sure):
    _, found = studied(sure)
    assert_allclose(np.exp(found["log"]["posterior"]), found["paths"].weight, atol=1e-12)
    assert_allclose(np.sum(found["paths"].weight, axis=1), 1.0, atol=1e-12)
    mean = np.sum(found["paths"].weight * found["total"], axis=1)
    assert_allclose(found["reward"]["posterior"], mean, atol=1e-11)
    for name in ("inferred", "variational", "any"):
        chance = np.exp(found["log"][name])
        assert_allclose(chance.sum(axis=1), 1.0, atol=1e-12)
        assert_allclose(found["reward"][name], np.sum(chance * found["total"], axis=1), atol=1e-11)


def test_what_is_impossible_stays_so():
    mdp, prior = random_mdp(0)
    paths = ENUMERATED(mdp, STEPS, prior, 0.3)
    law = POSTERIOR(mdp, MESSAGES(mdp, STEPS, prior, 0.3), 0.3)
    assert_allclose(np.exp(LOG_PROBABILITY(law, paths)), paths.weight, atol=1e-13)
    assert np.any(paths.weight == 0)
    assert np.all(LOG_PROBABILITY(law, paths)[paths.weight == 0] == -np.inf)


@pytest.mark.theorem
def test_the_divergence_is_that_of_all_trajectories_and_the_slack_of_the_bound():
    _, found = studied()
    log_posterior = found["log"]["posterior"]
    for name in ("inferred", "variational", "any"):
        log_q = found["log"][name]
        possible = log_q > -np.inf
        ratio = np.where(possible, log_q, 0.0) - np.where(possible, log_posterior, 0.0)
        assert_allclose(found["kl"][name], np.sum(np.exp(log_q) * ratio, axis=1), atol=1e-10)
        assert_allclose(found["kl"][name], found["slack"][name], atol=1e-10)
    assert_allclose(found["kl"]["posterior"], 0.0, atol=1e-14)


# --- the posterior and the policies ---------------------------------------------------------------


@pytest.mark.theorem
def test_without_chance_the_soft_optimal_policy_has_the_posterior():
    _, found = studied(sure=True)
    for name in ("variational", "inferred"):
        assert_allclose(np.exp(found["log"][name]), found["paths"].weight, atol=1e-11)
        assert_allclose(found["kl"][name], 0.0, atol=1e-10)


@pytest.mark.theorem
def test_with_chance_no_policy_has_it_and_the_soft_optimal_one_is_closest():
    _, found = studied()
    best = found["kl"]["variational"]
    assert np.min(found["kl"]["any"] - best) > -1e-12
    assert np.min(found["kl"]["inferred"] - best) > -1e-12
    assert np.quantile(best, 0.1) > 1e-4  # chance could matter little, and seldom does
    assert np.min(best) > 0
    off = np.sum(np.abs(np.exp(found["log"]["variational"]) - found["paths"].weight), axis=1) / 2
    assert np.quantile(off, 0.5) > 0.05
    # Pinsker: total variation is at most sqrt(KL / 2).
    assert np.min(np.sqrt(best / 2) - off) > -1e-12


@pytest.mark.theorem
def test_the_posterior_is_lucky():
    # Whoever acts on it sees what it promises only with its luck: the prior reweighted by exp(R/T)
    # has more reward than the prior, E_posterior R = d log p(O) / d(1/T), rising with 1/T.
    (_, _, _, temperature), found = studied()
    assert_allclose(found["reward"]["posterior"], found["slope"], atol=1e-9)
    weight = found["paths"].weight * np.exp(-found["total"] / temperature[:, None])
    weight /= weight.sum(axis=1, keepdims=True)  # the prior again
    plain = np.sum(weight * found["total"], axis=1)
    assert np.min(found["reward"]["posterior"] - plain) > -1e-10
    # It promises more than the policy inferred from it earns, in nearly all of them (not a law).
    promised = found["reward"]["posterior"] - found["reward"]["inferred"]
    assert np.mean(promised > 0) > 0.95
    assert np.median(promised) > 0.05


@pytest.mark.theorem
def test_without_chance_the_likeliest_is_the_best_and_the_rest_falls_off_exponentially():
    batch = certain(random_mdps(0, NUM, STATES, ACTIONS))
    temperature = random_sizes(3, NUM, -1.0, 1.5)
    paths = jax.jit(jax.vmap(lambda m, t: posterior.enumerated(m, STEPS, None, t)))(
        batch, temperature
    )
    weight, total = np.asarray(paths.weight), np.asarray(paths.reward.sum(axis=2))
    possible = weight > 0
    assert np.all(possible.sum(axis=1) == ACTIONS**STEPS)
    rows = np.arange(NUM)
    likeliest = np.argmax(weight, axis=1)
    best = np.max(np.where(possible, total, -np.inf), axis=1)
    assert_allclose(total[rows, likeliest], best, atol=1e-12)
    log_odds = np.log(np.where(possible, weight, 1.0)) - np.log(weight[rows, likeliest])[:, None]
    behind = (total - best[:, None]) / temperature[:, None]
    assert_allclose(log_odds[possible], behind[possible], atol=1e-9)


# --- samples --------------------------------------------------------------------------------------


def test_samples_come_as_often_as_they_should():
    # 216 trajectories, pooled where fewer than 10 are expected; chi-square, false alarm 1e-4.
    mdp, prior = random_mdp(1)
    law = POSTERIOR(mdp, MESSAGES(mdp, STEPS, prior))
    paths = ENUMERATED(mdp, STEPS, prior)
    drawn = jax.jit(posterior.sample, static_argnums=2)(law, mdp.reward, SAMPLES, jax.random.key(0))
    digits = drawn.state * 2 + drawn.action
    index = np.asarray(digits @ jnp.array([36, 6, 1]))
    counts = np.bincount(index, minlength=216)
    assert_allclose(drawn.reward, np.asarray(mdp.reward)[drawn.state, drawn.action])
    expected = SAMPLES * np.asarray(paths.weight)
    assert np.all(counts[expected == 0] == 0)
    often = expected >= 10
    seen = np.append(counts[often], counts[~often].sum())
    want = np.append(expected[often], expected[~often].sum())
    assert often.sum() > 20
    assert stats.chisquare(seen, want).pvalue > 1e-4


def test_single_precision_stays_single():
    mdp = jax.tree.map(lambda x: x.astype(jnp.float32), gamble(0.3))
    found = jax.eval_shape(lambda m: inference.backward_messages(m, 2), mdp)
    law = jax.eval_shape(posterior.posterior, mdp, found)
    shapes = [
        law,
        jax.eval_shape(posterior.divergence, law, law),
        jax.eval_shape(posterior.expected_reward, law, mdp.reward),
        jax.eval_shape(lambda m: posterior.enumerated(m, 2).weight, mdp),
    ]
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
