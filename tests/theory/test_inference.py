"""Control as inference: every trajectory enumerated, worked numbers, and 10,000 random MDPs."""

import itertools
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_sizes
from numpy.testing import assert_allclose
from scipy.special import logsumexp, softmax

from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.soft import inference, soft_values
from worked import POLICY_G, mdp_g

NUM, STATES, ACTIONS, HORIZON = 10_000, 5, 3, 4
STEPS = 3  # of the enumerated trajectories
SAFE, RISKY = 0, 1
# Compiled as wholes: operation by operation they take several times as long.
BACKWARD_MESSAGES = jax.jit(inference.backward_messages, static_argnums=1)
VARIATIONAL = jax.jit(inference.variational, static_argnums=1)
BEST_CASE = jax.jit(inference.best_case, static_argnums=1)
ELBO = jax.jit(inference.elbo)
POSTERIOR_DYNAMICS = jax.jit(inference.posterior_dynamics)
POSTERIOR_START = jax.jit(inference.posterior_start)
FINITE_EVALUATE = jax.jit(solve.finite_horizon_evaluate)
FINITE_OPTIMAL = jax.jit(solve.finite_horizon_optimal, static_argnums=1)


def gamble(luck):
    """Return an MDP of two steps: safe costs 1, risky nothing with probability `luck` and else 10.

    States: start, won, lost, safe; what they cost is paid on the second step, by any action.
    """
    transition = np.zeros((4, 2, 4))
    transition[0, SAFE, 3] = 1.0
    transition[0, RISKY, 1:3] = luck, 1.0 - luck
    transition[[1, 2, 3], :, [1, 2, 3]] = 1.0
    reward = np.repeat([[0.0], [0.0], [-10.0], [-1.0]], 2, axis=1)
    return mdps.make(transition, reward, [1.0, 0.0, 0.0, 0.0], 0.0)


def random_mdp(seed, states=3, actions=2):
    """Return an MDP with impossible transitions, actions and first states, and a prior."""
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=(states, actions, states))
    weights *= rng.uniform(size=weights.shape) < 0.7
    weights[..., 0] += 1e-2
    start = np.array([0.6, 0.4, 0.0])
    prior = np.array([[0.3, 0.7], [1.0, 0.0], [0.5, 0.5]])
    transition = weights / weights.sum(-1, keepdims=True)
    return mdps.make(transition, rng.normal(size=(states, actions)), start, 0.5), prior


def random_problems():
    """Draw dense and sparse MDPs, a policy for every step, and temperatures from .1 to 10."""
    rng = np.random.default_rng(1)
    batch = random_mdps(0, NUM, STATES, ACTIONS, sparse=0.5)
    policies = rng.dirichlet(np.ones(ACTIONS), (NUM, HORIZON, STATES))
    prior = rng.dirichlet(np.ones(ACTIONS), (NUM, STATES))
    problems = batch, policies, prior, random_sizes(2, NUM, np.log(0.1), np.log(10.0))
    return jax.tree.map(jnp.asarray, problems)


def deterministic(batch):
    """Return the same MDPs with the likeliest outcome of everything made certain."""
    certain = jax.nn.one_hot(jnp.argmax(batch.transition, -1), STATES, dtype=batch.reward.dtype)
    start = jax.nn.one_hot(jnp.argmax(batch.start, -1), STATES, dtype=batch.reward.dtype)
    return batch._replace(transition=certain, start=start)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, 0, 0))
def study(mdp, policies, prior, temperature):
    exact = inference.backward_messages(mdp, HORIZON, prior, temperature)
    return {
        "exact": exact,
        "closest": inference.variational(mdp, HORIZON, prior, temperature),
        "elbo_of_policies": inference.elbo(mdp, policies, prior, temperature),
        "elbo_of_posterior": inference.elbo(mdp, exact.policy, prior, temperature),
        "optimism": inference.optimism(mdp, exact.value[1], temperature),
        "best_case": inference.best_case(mdp, HORIZON),
        "dynamics": inference.posterior_dynamics(mdp, exact, temperature),
        "start": inference.posterior_start(mdp, exact, temperature),
    }


@cache
def studied(certain=False):
    batch, *rest = random_problems()
    problems = (deterministic(batch) if certain else batch, *rest)
    return jax.tree.map(np.asarray, (problems, study(*problems)))


# --- worked numbers: the gamble -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("luck", "hoped", "p_hoped", "p_variational", "earned", "earned_variational"),
    [
        # hoped = log(q + (1 - q) e^-10) beside -10 (1 - q); p = e^Q / (e^Q + e^-1);
        # earned = -10 (1 - q) p - (1 - p).
        (0.01, -4.600686, 0.026579, 1.3637e-4, -1.236553, -1.001214),
        (0.3, -1.203867, 0.449209, 0.00247262, -3.695254, -1.014836),
        (0.5, -0.693102, 0.576128, 0.0179862, -3.304512, -1.071945),
    ],
)
def test_the_gamble(luck, hoped, p_hoped, p_variational, earned, earned_variational):
    mdp = gamble(luck)
    exact, closest = BACKWARD_MESSAGES(mdp, 2), VARIATIONAL(mdp, 2)
    assert_allclose(exact.q[0, 0], [-1.0, np.log(luck + (1 - luck) * np.exp(-10.0))], rtol=1e-13)
    assert_allclose(exact.q[0, 0, RISKY], hoped, atol=1e-6)
    assert_allclose(closest.q[0, 0], [-1.0, -10 * (1 - luck)], rtol=1e-13)
    assert_allclose(exact.policy[0, 0, RISKY], p_hoped, atol=1e-6)
    assert_allclose(closest.policy[0, 0, RISKY], p_variational, rtol=1e-4)
    undiscounted = mdp._replace(gamma=jnp.ones(()))
    for policy, want in ((exact.policy, earned), (closest.policy, earned_variational)):
        assert_allclose(FINITE_EVALUATE(undiscounted, policy)[0][0, 0], want, atol=5e-5)
    # What luck looks like to who already knows that it went well: .9955 at q = .01.
    dynamics = POSTERIOR_DYNAMICS(mdp, exact)
    assert_allclose(
        dynamics[0, 0, RISKY, 1], luck / (luck + (1 - luck) * np.exp(-10.0)), rtol=1e-12
    )
    if luck == 0.01:
        assert_allclose(dynamics[0, 0, RISKY, 1], 0.9955, atol=5e-5)


def test_one_step_by_hand():
    # log(e^0 / 2 + e^-1 / 2), and with a prior of 3/4 on the worse action log(1/4 + 3/4 e^-1).
    mdp = mdps.make([[[1.0], [1.0]]], [[0.0, -1.0]], [1.0], 0.0)
    exact = BACKWARD_MESSAGES(mdp, 1)
    assert_allclose(exact.log_evidence, np.log(0.5 + 0.5 * np.exp(-1)), rtol=1e-14)
    assert_allclose(exact.policy[0, 0], softmax([0.0, -1.0]), rtol=1e-14)
    prior = jnp.array([[0.25, 0.75]])
    exact = BACKWARD_MESSAGES(mdp, 1, prior)
    evidence = 0.25 + 0.75 * np.exp(-1)
    assert_allclose(exact.log_evidence, np.log(evidence), rtol=1e-14)
    assert_allclose(exact.policy[0, 0], [0.25 / evidence, 1 - 0.25 / evidence], rtol=1e-13)
    # The prior itself has the mean reward -3/4 for a bound.
    assert_allclose(ELBO(mdp, prior[None], prior), -0.75, rtol=1e-14)
    hotter = BACKWARD_MESSAGES(mdp, 1, prior, 2.0)
    assert_allclose(hotter.value[0, 0], 2 * np.log(0.25 + 0.75 * np.exp(-0.5)), rtol=1e-14)


# --- every trajectory -----------------------------------------------------------------------------


def trajectories(mdp, prior, temperature, policies=None):
    """Yield `(states, actions, log p(tau), sum r / temperature, log q(tau))` of all 216."""
    with np.errstate(divide="ignore"):
        start, transition = np.log(mdp.start), np.log(mdp.transition)
        log_prior, log_q = np.log(prior), None if policies is None else np.log(policies)
    num_states, num_actions = mdp.reward.shape
    every = itertools.product(
        itertools.product(range(num_states), repeat=STEPS),
        itertools.product(range(num_actions), repeat=STEPS),
    )
    for s, a in every:
        dynamics = start[s[0]] + sum(transition[s[t], a[t], s[t + 1]] for t in range(STEPS - 1))
        prior_of_actions = sum(log_prior[s[t], a[t]] for t in range(STEPS))
        reward = sum(float(mdp.reward[s[t], a[t]]) for t in range(STEPS)) / temperature
        chosen = 0.0 if log_q is None else sum(log_q[t, s[t], a[t]] for t in range(STEPS))
        yield s, a, dynamics + prior_of_actions, reward, dynamics + chosen


@pytest.mark.parametrize(("seed", "temperature"), [(0, 1.0), (1, 0.3)])
def test_messages_are_what_enumeration_finds(seed, temperature):
    mdp, prior = random_mdp(seed)
    found = BACKWARD_MESSAGES(mdp, STEPS, prior, temperature)
    dynamics = POSTERIOR_DYNAMICS(mdp, found, temperature)
    joint = np.zeros((STEPS, 3, 2))
    moves = np.zeros((STEPS, 3, 2, 3))
    for s, a, log_p, reward, _ in trajectories(mdp, prior, temperature):
        weight = np.exp(log_p + reward)
        for t in range(STEPS):
            joint[t, s[t], a[t]] += weight
            if t + 1 < STEPS:
                moves[t, s[t], a[t], s[t + 1]] += weight
    evidence = joint[0].sum()
    assert_allclose(found.log_evidence, np.log(evidence), rtol=1e-12)
    assert_allclose(
        POSTERIOR_START(mdp, found, temperature), joint[0].sum(1) / evidence, atol=1e-13
    )
    reached = joint.sum(2) > 0
    assert reached.sum() >= 7
    policy = joint / np.where(reached, joint.sum(2), 1.0)[..., None]
    assert_allclose(found.policy[reached], policy[reached], rtol=1e-11, atol=1e-14)
    taken = joint[:-1] > 0
    moved = moves[:-1] / np.where(taken, joint[:-1], 1.0)[..., None]
    assert_allclose(dynamics[:-1][taken], moved[taken], rtol=1e-11, atol=1e-14)
    assert np.all(dynamics[:, mdp.transition == 0] == 0)


@pytest.mark.parametrize(("seed", "temperature"), [(0, 1.0), (1, 0.3)])
def test_the_bound_is_what_enumeration_finds(seed, temperature):
    mdp, prior = random_mdp(seed)
    rng = np.random.default_rng(seed)
    policies = rng.dirichlet(np.ones(2), (STEPS, 3))
    policies[:, 1] = [1.0, 0.0]  # the prior allows nothing else
    found = BACKWARD_MESSAGES(mdp, STEPS, prior, temperature)
    bound, divergence = 0.0, 0.0
    for _, _, log_p, reward, log_q in trajectories(mdp, prior, temperature, policies):
        if log_q > -np.inf:
            bound += np.exp(log_q) * (log_p + reward - log_q)
            log_posterior = log_p + reward - float(found.log_evidence)
            divergence += np.exp(log_q) * (log_q - log_posterior)
    got = ELBO(mdp, policies, prior, temperature)
    assert_allclose(got, bound, rtol=1e-12)
    assert_allclose(found.log_evidence - got, divergence, rtol=1e-10)
    # What the prior rules out has no chance at all.
    policies[:, 1] = [0.9, 0.1]
    assert ELBO(mdp, policies, prior, temperature) == -np.inf


def test_what_the_prior_rules_out_counts_where_it_is_reached_by_then():
    # From state 0 only action 1 leads on, to state 1, where the prior excludes action 1.
    prior = np.array([[0.5, 0.5], [1.0, 0.0]])
    transition = np.zeros((2, 2, 2))
    transition[0], transition[1, :, 1] = np.eye(2), 1.0
    mdp = mdps.make(transition, np.full((2, 2), -0.5), [1.0, 0.0], 0.9)
    stays = mdp._replace(transition=jnp.zeros((2, 2, 2)).at[..., 0].set(1.0))
    even = np.full((3, 2, 2), 0.5)
    assert_allclose(ELBO(stays, even, prior), -1.5)  # 3 rewards of -1/2, and no divergence
    first = np.array([even[0], prior, prior])
    assert_allclose(ELBO(mdp, first, prior), -1.5)  # at first it is in state 0 for certain
    second, third = np.array([even[0], even[0], prior]), np.array([even[0], prior, even[0]])
    assert ELBO(mdp, second, prior) == -np.inf
    assert ELBO(mdp, third, prior) == -np.inf
    second[0, 0] = third[0, 0] = [1.0, 0.0]  # it stays at first: state 1 comes a step later
    assert np.isfinite(ELBO(mdp, second, prior))
    assert ELBO(mdp, third, prior) == -np.inf


def test_the_variational_policy_has_the_largest_bound():
    mdp, prior = random_mdp(2)
    prior = np.where(prior == 0, 0.2, prior) / np.where(prior == 0, 1.2, prior.sum(1)[:, None])
    prior /= prior.sum(1, keepdims=True)
    closest = VARIATIONAL(mdp, STEPS, prior, 0.5)
    logits = jnp.log(closest.policy)

    def bound(logits):
        return ELBO(mdp, jax.nn.softmax(logits), prior, 0.5)

    at_best, gradient = jax.jit(jax.value_and_grad(bound))(logits)
    assert_allclose(at_best, closest.elbo, rtol=1e-13)
    assert_allclose(gradient, 0.0, atol=1e-13)
    off = logits.at[0, 0, 0].add(0.1)
    assert bound(off) < at_best - 1e-5


# --- twins ----------------------------------------------------------------------------------------


def test_finite_horizon_values_equal_their_numpy_twins():
    mdp, temperature, final = mdp_g(0.9), 0.4, np.array([1.0, -2.0, 0.5])
    policies = np.stack([POLICY_G, POLICY_G[::-1], POLICY_G])
    value, best = final, final
    values, bests = [final], [final]
    for policy in policies[::-1]:
        q = mdp.reward + 0.9 * mdp.transition @ value
        value = np.sum(policy * (q - temperature * np.log(policy)), axis=1)
        q = mdp.reward + 0.9 * mdp.transition @ best
        best = temperature * logsumexp(q / temperature, axis=1)
        values.insert(0, value)
        bests.insert(0, best)
    got, _ = FINITE_EVALUATE(mdp, policies, final, temperature)
    assert_allclose(got, values, rtol=1e-13)
    got, q = FINITE_OPTIMAL(mdp, 3, final, temperature)
    assert_allclose(got, bests, rtol=1e-13)
    best_policies = soft_values.improve(q, temperature)
    attained, _ = FINITE_EVALUATE(mdp, best_policies, final, temperature)
    assert_allclose(attained, got, rtol=1e-13)


def test_a_long_horizon_is_the_infinite_one():
    mdp = mdp_g(0.9)
    values, q = FINITE_OPTIMAL(mdp, 400, temperature=0.2)
    infinite = [7.222759474991, 6.914862018510, 7.357931984580]  # worked, see test_soft.py
    assert_allclose(values[0], infinite, rtol=0, atol=1e-11)
    assert_allclose(soft_values.improve(q[0], 0.2)[0, 0], 0.015260404352, atol=1e-11)


def test_a_discount_is_a_chance_to_end():
    # Ended, V is 0; going on with probability .9, the entropy of each step counts from log|A|.
    mdp, temperature = mdp_g(0.9), 0.4
    going_on = np.concatenate([0.9 * mdp.transition, np.full((3, 2, 1), 0.1)], axis=2)
    ended = np.broadcast_to([0.0, 0.0, 0.0, 1.0], (1, 2, 4))
    reward = np.concatenate([mdp.reward, np.zeros((1, 2))])
    ending = mdps.make(np.concatenate([going_on, ended]), reward, [0.5, 0.3, 0.2, 0.0], 0.0)
    below = mdp._replace(reward=mdp.reward - temperature * np.log(2))
    want, _ = FINITE_OPTIMAL(below, 6, temperature=temperature)
    found = VARIATIONAL(ending, 6, None, temperature)
    assert_allclose(found.value[:, :3], want, atol=1e-13)
    assert_allclose(found.value[:, 3], 0.0, atol=1e-14)


def test_best_case_equals_its_numpy_twin():
    mdp, _ = random_mdp(3)
    value, values = np.zeros(3), [np.zeros(3)]
    for _ in range(STEPS):
        hoped = np.where(mdp.transition > 0, value, -np.inf).max(2)
        value = np.max(mdp.reward + hoped, axis=1)
        values.insert(0, value)
    got, _ = BEST_CASE(mdp, STEPS)
    assert_allclose(got, values, rtol=1e-14)
    assert not np.all(mdp.transition > 0)


# --- theorems, on random MDPs ---------------------------------------------------------------------


@pytest.mark.theorem
def test_inference_is_never_less_hopeful_than_the_truth():
    (batch, _, _, _), found = studied()
    hoped, true = found["optimism"]
    assert_allclose(
        true, batch.reward + np.einsum("nsak,nk->nsa", batch.transition, found["exact"].value[:, 1])
    )
    assert np.min(hoped - true) >= -1e-12
    assert np.quantile(np.max(hoped - true, axis=(1, 2)), 0.1) > 1e-2
    # So are its values at every step, and the bound of the variational fix is one.
    assert np.min(found["exact"].value - found["closest"].value) >= -1e-11
    slack = found["exact"].log_evidence - found["closest"].elbo
    assert np.min(slack) > 0.0


@pytest.mark.theorem
def test_with_certain_dynamics_both_are_the_same():
    (batch, _, _, _), found = studied(certain=True)
    assert_allclose(*found["optimism"], atol=1e-12)
    exact, closest = found["exact"], found["closest"]
    assert_allclose(exact.value, closest.value, atol=1e-11)
    assert_allclose(exact.policy, closest.policy, atol=1e-10)
    assert_allclose(exact.log_evidence, closest.elbo, atol=1e-10)
    assert_allclose(
        found["dynamics"], np.broadcast_to(batch.transition[:, None], found["dynamics"].shape)
    )


@pytest.mark.theorem
def test_no_policy_has_a_larger_bound_than_the_variational_one():
    _, found = studied()
    best = found["closest"].elbo
    assert np.min(best - found["elbo_of_policies"]) > 0.0
    assert np.min(best - found["elbo_of_posterior"]) > -1e-11
    assert np.max(best - found["elbo_of_posterior"]) > 0.1


@pytest.mark.theorem
def test_posteriors_are_distributions_with_their_closed_form():
    (batch, _, prior, temperature), found = studied()
    scale = temperature[:, None, None, None]
    for result in (found["exact"], found["closest"]):
        assert_allclose(result.policy.sum(-1), 1.0, atol=1e-12)
        advantage = result.q - result.value[:, :-1, :, None]
        assert_allclose(result.policy, prior[:, None] * np.exp(advantage / scale), atol=1e-11)
    assert_allclose(found["dynamics"].sum(-1), 1.0, atol=1e-12)
    assert_allclose(found["start"].sum(-1), 1.0, atol=1e-12)
    # Luck is bent towards better states: the mean of V is never lower than under the truth.
    value = found["exact"].value[:, 1:]
    hoped = np.einsum("ntsak,ntk->ntsa", found["dynamics"], value)
    true = np.einsum("nsak,ntk->ntsa", batch.transition, value)
    assert np.min(hoped - true) >= -1e-11


@pytest.mark.theorem
def test_cold_messages_are_the_best_case():
    # Each of T steps costs at most temperature (log 1/p + log 1/prior), smallest p and prior.
    (batch, _, prior, temperature), found = studied()
    best = found["best_case"][0][:, 0]
    least = np.where(batch.transition > 0, batch.transition, 1.0).min((1, 2, 3))
    cost = HORIZON * temperature * -np.log(least * prior.min((1, 2)))
    gap = best - found["exact"].value[:, 0]
    assert np.min(gap) >= -1e-12
    assert np.all(gap <= cost[:, None])


def test_the_limit_of_no_temperature():
    mdp, _ = random_mdp(4)
    undiscounted = mdp._replace(gamma=jnp.ones(()))
    exact = BACKWARD_MESSAGES(mdp, STEPS, None, 1e-5)
    closest = VARIATIONAL(mdp, STEPS, None, 1e-5)
    best_case, _ = BEST_CASE(mdp, STEPS)
    optimal, _ = FINITE_OPTIMAL(undiscounted, STEPS)
    assert_allclose(exact.value, best_case, atol=1e-3)
    assert_allclose(closest.value, optimal, atol=1e-3)
    assert np.max(best_case - optimal) > 0.1
    # At a temperature as small as this nothing overflows, not even what is impossible.
    dynamics = POSTERIOR_DYNAMICS(mdp, exact, 1e-5)
    assert_allclose(dynamics.sum(-1), 1.0, atol=1e-9)


# --- rewards --------------------------------------------------------------------------------------


def test_rewards_above_zero_are_refused_or_shifted():
    mdp, prior = random_mdp(5)
    with pytest.raises(ValueError, match=r"largest reward is .*use shift_rewards"):
        inference.check_rewards(mdp)
    shifted, amount = inference.shift_rewards(mdp)
    inference.check_rewards(shifted)
    assert_allclose(amount, np.max(mdp.reward))
    log_p = inference.log_optimality(shifted, 0.5)
    assert_allclose(log_p, (mdp.reward - np.max(mdp.reward)) / 0.5)
    assert np.max(log_p) == 0.0
    before = BACKWARD_MESSAGES(mdp, STEPS, prior, 0.5)
    after = BACKWARD_MESSAGES(shifted, STEPS, prior, 0.5)
    assert_allclose(after.policy, before.policy, rtol=1e-12)
    assert_allclose(after.value[0], before.value[0] - STEPS * amount, rtol=1e-12)
    assert_allclose(after.log_evidence, before.log_evidence - STEPS * amount / 0.5, rtol=1e-12)
    assert after.log_evidence < 0.0


def test_single_precision_stays_single():
    mdp = jax.tree.map(lambda x: x.astype(jnp.float32), mdp_g(0.9))
    exact = jax.eval_shape(partial(inference.backward_messages, horizon=3), mdp)
    shapes = [
        exact,
        jax.eval_shape(partial(inference.variational, horizon=3), mdp),
        jax.eval_shape(partial(inference.best_case, horizon=3), mdp),
        jax.eval_shape(inference.posterior_dynamics, mdp, exact),
        jax.eval_shape(inference.elbo, mdp, exact.policy),
    ]
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
