"""The analytical agent's parts by hand: targets, the losses, eps, C, and its refusals."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from steps import compiled

import probes
from jaxrl_pg import analytical
from jaxrl_pg.components import on_policy, step_size
from jaxrl_pg.ops.collectives import AXIS
from jaxrl_pg.ops.distributions import Normal
from programs import TINY

LOG3 = math.log(3.0)
ZERO = jnp.zeros((), jnp.int32)
START, ITERATE = jax.jit(analytical.init), jax.jit(analytical.iterate)
PLANS = {
    "sampled": analytical._weigh_taken_actions,
    "all_actions": analytical._weigh_all_actions,
}
PLAN = {target: compiled(plan) for target, plan in PLANS.items()}
LOSS = compiled(analytical._loss)
DISCRETE = analytical.Config(env=probes.Probe(), **TINY)
REAL = analytical.Config(env=probes.Probe(discrete=False), **TINY)


def batch_of(advantage, action, log_prob=-LOG3):
    num = len(advantage)
    zeros = jnp.zeros(num)
    obs = jax.random.normal(jax.random.key(5), (num, 3))
    advantage = jnp.asarray(advantage, jnp.float32)
    return on_policy.Batch(obs, jnp.asarray(action), zeros + log_prob, zeros, advantage, zeros)


def learner_of(config):
    """Fresh; neither floats nor the step change what a learner is."""
    return START(DISCRETE.replace(target=config.target), jax.random.key(0)).learner


# --- targets --------------------------------------------------------------------------------------


def test_eps_is_a_mean_of_the_largest_advantages_and_forgets_old_ones():
    # Largest |A|: 4, 1, 1. Plain mean at first: 4, 5/2, 2. From the 11th iteration on it keeps
    # 0.9 of itself: 0.9 x 5 + 0.1 x 1 = 4.6.
    decay = DISCRETE.eps_decay
    eps, results = jnp.zeros(()), []
    for k, largest in enumerate((4.0, 1.0, 1.0)):
        advantage = jnp.array([0.5, -largest])
        eps = step_size.running_eps(eps, advantage, jnp.asarray(k), decay)
        results.append(float(eps))
    assert_allclose(results, [4.0, 2.5, 2.0], rtol=1e-6)
    late = step_size.running_eps(jnp.array(5.0), jnp.ones(2), jnp.asarray(500), decay)
    assert_allclose(late, 4.6, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "constant"),
    [
        ("paper", 0.25 * 2.0 / 0.125),  # gamma^2 eps / (1 - gamma)^3 at gamma 1/2
        ("tight", 1.7810724 * 2.0 / 0.5),  # exp(0.5772157) eps / (1 - gamma)
        ("scheduled", 2.0 * 0.1),  # half way from eps to eps / 100
    ],
)
def test_constants_by_hand(kind, constant):
    config = DISCRETE.replace(
        step_size=kind, gamma=0.5, c_start=1.0, c_end=0.01, total_timesteps=5 * 16, eps_decay=0.0
    )
    assert config.num_iterations == 5
    batch = batch_of([-1.0, 2.0, 0.5, 0.5], [0, 1, 0, 1])
    _, eps, metrics = PLAN["sampled"](config, learner_of(config), batch, jnp.asarray(2))
    assert float(eps) == 2.0
    assert_allclose(metrics["analytical/c"], constant, rtol=1e-5)
    assert_allclose(metrics["analytical/c_over_eps"], constant / 2.0, rtol=1e-5)


def test_the_solved_constant_moves_the_weights_by_the_target():
    config = DISCRETE.replace(kl_target=0.13081203594)
    batch = batch_of([0.0, 5.0], [0, 1])  # weights (1/2, 3/2) at C = 5 / log 3
    rows, _, metrics = PLAN["sampled"](config, learner_of(config), batch, ZERO)
    assert_allclose(metrics["analytical/c"], 5.0 / LOG3, rtol=1e-3)
    assert_allclose(jnp.exp(rows.log_target), [0.5, 1.5], rtol=1e-3)
    # Gain mean((w - 1) A) = (1/2) 5 / 2 = 1.25 and KL 0.130812 at gamma 0.99, eps 5:
    # (1.25 - 1.7810724 x 5 / 0.01 x 0.130812) / 0.01.
    proved = 1.7810724 * 5.0 / 0.01
    promised = (1.25 - proved * 0.13081203594) / 0.01
    assert_allclose(metrics["analytical/estimated_certificate"], promised, rtol=1e-3)


@pytest.mark.parametrize("target", PLANS)
def test_the_target_on_two_devices_is_that_on_one(target):
    config = DISCRETE.replace(target=target, kl_target=0.2)
    batch = batch_of([0.3, -1.0, 2.0, 0.1, -0.4, 1.0, 0.0, -2.0], [0, 1, 1, 0, 1, 0, 0, 1])
    learner, model = learner_of(config), on_policy.build(config)
    whole, eps, one = PLAN[target](config, learner, batch, ZERO)
    halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), batch)
    rows, split_eps, two = jax.jit(
        jax.vmap(lambda half: PLANS[target](config, model, learner, half, ZERO), axis_name=AXIS)
    )(halves)
    # Each half's largest |A| is 2, so eps is the same for taken actions; a critic's need not be.
    if target == "sampled":
        assert_allclose(split_eps, jnp.full(2, eps), rtol=1e-6)
    assert_allclose(two["analytical/c"], jnp.full(2, one["analytical/c"]), rtol=1e-4)
    log_target = rows.log_target.reshape(whole.log_target.shape)
    assert_allclose(log_target, whole.log_target, rtol=1e-3, atol=1e-4)


# --- losses ---------------------------------------------------------------------------------------


def rows_of(batch, log_target, old):
    return analytical.Rows(batch, jnp.asarray(log_target), old)


def test_the_weighted_likelihood_by_hand():
    # Weights (1/2, 3/2), log pi = (-1, -2): loss (1/2 + 3) / 2 = 1.75. With log pi_old = -log 3
    # log ratios are (log 3 - 1, log 3 - 2), and KL(target || new) is the mean of w (log w - them).
    # The observations are one-hot, so that each row has its own policy in a table of logits.
    config = DISCRETE.replace(hidden_sizes=())
    params = jax.tree.map(jnp.zeros_like, START(config, jax.random.key(0)).learner.params)
    likely, unlikely = np.exp([-1.0, -2.0])
    table = np.log([[likely, 1.0 - likely], [1.0 - unlikely, unlikely], [0.5, 0.5]])
    params["params"]["policy_head"]["kernel"] = jnp.asarray(table, jnp.float32)
    batch = batch_of([0.0, 1.0], [0, 1])._replace(obs=jnp.eye(3)[:2])
    _, metrics = LOSS(config, rows_of(batch, np.log([0.5, 1.5]), ()), (params, ()))
    assert_allclose(metrics["loss/policy"], 1.75, rtol=1e-6)
    terms = [0.5 * (math.log(0.5) - LOG3 + 1.0), 1.5 * (math.log(1.5) - LOG3 + 2.0)]
    assert_allclose(metrics["analytical/projection_kl"], sum(terms) / 2.0, rtol=1e-5)


def test_gaussians_pay_for_mean_and_spread_apart():
    # Old N(0, 1), new N(2, e^2): moved alone KL is 2^2 / 2 = 2; spread alone it is
    # log(e) + (e^-2 - 1) / 2 = 0.567668.
    old = Normal(jnp.zeros((2, 1)), jnp.zeros((2, 1)))
    params = jax.tree.map(jnp.zeros_like, START(REAL, jax.random.key(0)).learner.params)
    params["params"]["policy_head"]["bias"] += 2.0
    params["params"]["log_std"] += 1.0
    # Actions at the new mean, of weights 1 and ratios 1: -mean(log pi_old) is -log N(2; 2, e^2).
    likelihood = 1.0 + 0.5 * math.log(2.0 * math.pi)
    batch = batch_of([0.0, 0.0], [[2.0], [2.0]], -likelihood)
    rows = rows_of(batch, jnp.zeros(2), old)
    for mean_coef, std_coef in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 3.0)):
        config = REAL.replace(mean_coef=mean_coef, std_coef=std_coef)
        _, metrics = LOSS(config, rows, (params, ()))
        paid = mean_coef * 2.0 + std_coef * (1.0 + 0.5 * (math.exp(-2.0) - 1.0))
        assert_allclose(metrics["loss/policy"], likelihood + paid, rtol=1e-5)
        assert_allclose(metrics["analytical/projection_kl"], 0.0, atol=1e-7)


def test_the_cross_entropy_over_actions_by_hand():
    # Target (3/4, 1/4), policy (1/2, 1/2): cross-entropy log 2, KL log 2 - H(target).
    rows = rows_of(batch_of([0.0], [0]), np.log([[0.75, 0.25]]), jnp.log(jnp.full((1, 2), 0.5)))
    config = DISCRETE.replace(target="all_actions")
    learner = learner_of(config)
    params = jax.tree.map(jnp.zeros_like, learner.params)
    params["params"]["policy_head"]["bias"] += 7.0
    _, metrics = LOSS(config, rows, (params, learner.critic))
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert_allclose(metrics["loss/policy"], math.log(2.0), rtol=1e-5)
    assert_allclose(metrics["analytical/projection_kl"], math.log(2.0) - entropy, rtol=1e-5)


def test_the_critic_learns_advantages_of_taken_actions_and_values_are_the_value_networks():
    # With q = (1, 3) everywhere and pi_old = (1/4, 3/4), U = (-3/2, 1/2). Rows take both actions
    # and GAE says (0, 2): errors (-3/2, -3/2), half their mean square 9/8. The value network says
    # 1 where 0 is right: half its square 1/2.
    config = DISCRETE.replace(target="all_actions")
    learner = learner_of(config)
    params, critic = jax.tree.map(jnp.zeros_like, (learner.params, learner.critic))
    params["params"]["value_head"]["bias"] += 1.0
    critic["params"]["critic_0"]["value_head"]["bias"] = jnp.array([1.0, 3.0])
    old = jnp.log(jnp.array([[0.25, 0.75], [0.25, 0.75]]))
    rows = rows_of(batch_of([0.0, 2.0], [0, 1]), old, old)
    _, metrics = LOSS(config, rows, (params, critic))
    assert_allclose(metrics["loss/value"], 9.0 / 8.0 + 0.5, rtol=1e-6)


def test_the_total_and_its_metrics():
    """By the definitions, from the parts that the tests above work out."""
    config = DISCRETE.replace(gamma=0.75, ent_coef=0.1, vf_coef=2.0)
    learner = learner_of(config)
    batch = batch_of([3.0, -1.0, 0.5], [0, 1, 1])._replace(target=jnp.array([1.0, 2.0, 3.0]))
    rows = rows_of(batch, np.log([0.5, 1.5, 1.0]), ())
    total, metrics = LOSS(config, rows, (learner.params, ()))
    parts = metrics["loss/policy"] + 2.0 * metrics["loss/value"] - 0.1 * metrics["policy/entropy"]
    assert_allclose(total, parts, rtol=1e-5)
    # The fresh policy is nearly uniform over two actions where the old one gave 1/3: ratios 3/2.
    ratios = [metrics["analytical/ratio_min"], metrics["analytical/ratio_max"]]
    assert_allclose(ratios, [1.5, 1.5], rtol=0.05)
    assert float(metrics["analytical/ratio_min"]) < float(metrics["analytical/ratio_max"])
    assert float(metrics["policy/clip_fraction"]) == 1.0
    # mean(ratio - 1) A / (1 - gamma) = 1/2 (3 - 1 + 1/2) / 3 / (1/4) = 5/3.
    assert_allclose(metrics["analytical/surrogate"], 5.0 / 3.0, rtol=0.1)


# --- whole iterations -----------------------------------------------------------------------------


def test_actions_that_pay_become_likelier_and_the_papers_constant_hardly_moves():
    """One state, two actions, the reward is known: 0 for action 1 and -4 for action 0."""
    env_params = probes.params(length=1, cost=1.0, target=1.0)
    moved = {}
    for kind in ("kl", "paper"):
        config = DISCRETE.replace(
            env_params=env_params,
            step_size=kind,
            num_envs=64,
            num_epochs=10,
            learning_rate=0.02,
            ent_coef=0.0,
            total_timesteps=1_000_000,
        )
        state = START(config, jax.random.key(0))
        for _ in range(10):
            state, metrics = ITERATE(config, state)
        obs = jnp.array([[1.0, 0.0, 1.0]])
        logits = on_policy.build(config).policy(state.learner, obs)
        moved[kind] = float(jax.nn.softmax(logits)[0, 1])
        assert float(metrics["analytical/projection_kl"]) < 0.2
    assert moved["kl"] > 0.9
    assert abs(moved["paper"] - 0.5) < 0.2


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "all_action"}, r"target='all_action': did you mean 'all_actions'\? allowed: "),
        ({"step_size": "fix"}, r"step_size='fix': did you mean 'fixed'"),
        ({"num_minibatches": 3}, r"num_envs=4 x num_steps=4 does not split into num_minibatches=3"),
        ({"kl_target": 0.0}, r"kl_target=0.0: give a number > 0"),
        ({"c_end": 0.0}, r"c_end=0.0: give a number > 0"),
        ({"eps_decay": 1.5}, r"eps_decay=1.5: give a number from 0 to 1"),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DISCRETE.replace(**values)


def test_real_actions_cannot_all_be_summed_over():
    config = REAL.replace(target="all_actions")
    with pytest.raises(ValueError, match=r"finite action set .* give target='sampled'"):
        jax.eval_shape(partial(analytical.init, config), jax.random.key(0))
