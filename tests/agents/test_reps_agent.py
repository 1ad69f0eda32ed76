"""The REPS agent: against the exact method, against the analytical agent, its steps by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose
from steps import compiled

import probes
from jaxrl_pg import analytical, reps
from jaxrl_pg.components import epochs, on_policy
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.ops.reps import absorbed_mass, temperature
from jaxrl_pg.theory import mdp, solve
from jaxrl_pg.theory.updates.reps import reps_update
from jaxrl_pg.types import Transition
from programs import TINY
from worked import POLICY_G

LOG3 = math.log(3.0)
DISCRETE = reps.Config(env=probes.Probe(), **TINY)
START, ITERATE = jax.jit(reps.init), jax.jit(reps.iterate)
LOSS = compiled(reps._policy_loss)
REAL = reps.Config(env=probes.Probe(discrete=False), **TINY)


# --- the exact method -----------------------------------------------------------------------------

COUNTS = np.rint(10 * POLICY_G).astype(int)  # ten steps of each state
PAIRS = np.array([(s, a) for s in range(3) for a in range(2) for _ in range(COUNTS[s, a])])
GAMMA, EPSILON = 0.8, 0.05


def exact_problem(ends):
    """Three states visited alike, and where action 1 in state 2 `ends` a fourth that absorbs.

    The start distribution is the one that makes the visits alike:
    `(1 - gamma) rho = mu - gamma mu P`, with `gamma / (1 - gamma)` visits of the fourth for
    every end.
    """
    s, a, k = np.ogrid[:3, :2, :3]
    weight = 1.0 + ((s + 1) * (a + 2) * (k + 1)) % 5
    transition = np.zeros((4, 2, 4))
    transition[:3, :, :3] = weight / weight.sum(2, keepdims=True)
    transition[3, :, 3] = 1.0
    transition[2, 1] = [0.0, 0.0, 0.0, 1.0] if ends else transition[2, 1]
    s, a = np.ogrid[:4, :2]
    reward = np.where(s < 3, ((3 * s + 5 * a) % 7) / 7, 0.0)
    visits = np.array([10.0, 10.0, 10.0, 5.0 * GAMMA / (1 - GAMMA)])
    policy = np.vstack([POLICY_G, [[0.5, 0.5]]])
    if not ends:
        transition, reward, visits, policy = transition[:3, :, :3], reward[:3], visits[:3], POLICY_G
    visits = visits / visits.sum()
    start = (visits - GAMMA * np.einsum("s,sa,sak->k", visits, policy, transition)) / (1 - GAMMA)
    assert np.all(start >= -1e-12)
    return mdp.make(transition, reward, np.maximum(start, 0.0), GAMMA), visits, policy


def exact_rows(problem):
    """The batch of ten steps a state; a successor is the expectation of its one-hot vector."""
    state, action = PAIRS.T
    transition = np.asarray(problem.transition, np.float32)[state, action, :3]
    zeros = jnp.zeros(30)
    terminated = jnp.asarray(transition.sum(1) == 0.0)
    obs, reward = jnp.eye(3)[state], jnp.asarray(np.asarray(problem.reward)[state, action])
    reward = reward.astype(jnp.float32)
    steps = reps.Steps(
        obs, jnp.asarray(transition), reward, GAMMA * ~terminated, zeros, target=zeros
    )
    log_prob = jnp.asarray(np.log(POLICY_G[state, action]), jnp.float32)
    batch = on_policy.Batch(obs, jnp.asarray(action), log_prob, zeros, zeros, zeros)
    return steps, batch, absorbed_mass(terminated, GAMMA)


ENV = from_mdp.from_mdp(mdp.make(np.ones((3, 2, 3)) / 3, np.zeros((3, 2)), np.ones(3) / 3, GAMMA))
EXACT = reps.Config(
    env=ENV,
    num_envs=30,
    num_steps=1,
    critic_epochs=300,
    num_epochs=200,
    num_minibatches=1,
    hidden_sizes=(),
    gamma=GAMMA,
    kl_target=EPSILON,
    ent_coef=0.0,
    max_grad_norm=1e6,
)


@jax.jit
def solved(learner, steps, batch, absorbed):
    """The dual minimised and the policy projected, as an iteration does it, to the end."""
    model, key = on_policy.build(EXACT), jax.random.key(0)

    def minimise(learner, rate):
        return reps._fit_critic(EXACT, model, learner, steps, absorbed, key, rate)

    def policy_loss(rows, params):
        return reps._policy_loss(EXACT, model, rows, params)

    def project(fit, rate):
        return epochs.fit(EXACT, policy_loss, rows, fit, key, rate)

    learner, _ = jax.lax.scan(minimise, learner, jnp.array([0.1, 0.01, 0.001]))
    delta = reps._bellman_error(model, steps, learner.params)
    rows, metrics = reps._weigh(EXACT, model, learner, batch._replace(advantage=delta), absorbed)
    fit = (learner.params, learner.opt_state)
    (params, _), _ = jax.lax.scan(project, fit, jnp.array([0.05, 0.01, 0.001]))
    learner = learner._replace(params=params)
    value, logits = model.value(learner, jnp.eye(3)), model.policy(learner, jnp.eye(3))
    weight = jnp.mean(jnp.exp(rows.log_weight))
    return metrics["reps/eta"], metrics["reps/kl"], weight, value, jax.nn.softmax(logits)


def exact_learner():
    learner = START(EXACT, jax.random.key(0)).learner
    heads = dict(learner.params["params"])
    heads["policy_head"] = {
        "kernel": jnp.asarray(np.log(POLICY_G), jnp.float32),
        "bias": jnp.zeros(2),
    }
    return learner._replace(params={"params": heads})


@pytest.mark.parametrize("ends", [pytest.param(False, marks=pytest.mark.slow), True])
def test_with_exact_parts_it_is_the_exact_method(ends):
    problem, visits, policy = exact_problem(ends)
    with jax.enable_x64(True):
        policy = jnp.asarray(policy)
        problem64 = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), float), problem)
        assert_allclose(solve.visitation(problem64, policy), visits, atol=1e-6)
        exact = jax.tree.map(np.asarray, reps_update(problem64, jnp.log(policy), EPSILON))
    eta, kl, mean, value, new = solved(exact_learner(), *exact_rows(problem))
    assert_allclose(eta, exact.eta, rtol=2e-3)
    assert_allclose([kl, mean], [EPSILON, 1.0], rtol=1e-3)
    assert_allclose(new, np.exp(exact.log_policy)[:3], atol=2e-3)
    # V is known up to a constant, and absolutely where a fourth state has V = 0.
    shift = exact.value[3] if ends else exact.value[0] - float(value[0])
    assert_allclose(value, exact.value[:3] - shift, atol=0.01)
    moved = np.max(np.abs(np.exp(exact.log_policy)[:3] - POLICY_G))
    assert moved > 0.05  # which is what there was to find


# --- the analytical agent -------------------------------------------------------------------------


def batch_of(advantage, action, log_prob=-LOG3):
    num = len(advantage)
    zeros = jnp.zeros(num)
    obs = jax.random.normal(jax.random.key(5), (num, 3))
    advantage = jnp.asarray(advantage, jnp.float32)
    return on_policy.Batch(obs, jnp.asarray(action), zeros + log_prob, zeros, advantage, zeros)


def test_with_the_policys_own_value_eta_and_weights_are_those_of_the_analytical_agent():
    config = DISCRETE.replace(critic="returns", gae_lambda=0.95, kl_target=0.2)
    other = analytical.Config(env=config.env, **TINY, kl_target=0.2)
    key, zero = jax.random.key(3), jnp.zeros((), jnp.int32)
    state, peer = START(config, key), jax.jit(analytical.init)(other, key)
    peer_params = peer.learner.params
    learner = state.learner._replace(params=peer_params)
    batch = batch_of([0.3, -1.0, 2.0, 0.1, -0.4, 1.0, 0.0, -2.0], [0, 1, 1, 0, 1, 0, 0, 1])
    rows, metrics = compiled(reps._weigh)(config, learner, batch, jnp.zeros(()))
    weigh = compiled(analytical._weigh_taken_actions)
    peer_rows, _, peer_metrics = weigh(other, peer.learner, batch, zero)
    assert_allclose(metrics["reps/eta"], peer_metrics["analytical/c"], rtol=1e-6)
    assert_allclose(metrics["reps/kl"], 0.2, rtol=1e-3)
    assert_allclose(rows.log_weight, peer_rows.log_target, rtol=1e-5, atol=1e-6)
    assert_allclose(rows.old, peer_rows.old, rtol=1e-6)


# --- steps ----------------------------------------------------------------------------------------


def test_a_cut_step_goes_on_and_an_ended_one_does_not():
    """Three steps of one environment that is cut after the first and ends with the second."""
    config = DISCRETE.replace(num_envs=1, num_steps=3, num_minibatches=1, gamma=0.5)
    state, model = START(config, jax.random.key(0)), on_policy.build(config)
    obs = jnp.arange(12.0).reshape(4, 1, 3)
    flags = jnp.array([[False], [True], [False]]), jnp.array([[True], [False], [False]])
    final = jnp.array([[8.0], [0.0], [0.0]])
    reward, zero = jnp.array([[1.0], [2.0], [3.0]]), jnp.zeros((3, 1))
    steps = Transition(obs[:3], zero.astype(jnp.int32), zero, reward, *flags, final)
    experience = on_policy.Experience(
        steps, state.actor._replace(obs=obs[3]), state.learner.normalizer, {}, None, None
    )
    rows = reps._steps(config, state.learner, experience, zero[:, 0])
    delta = reps._bellman_error(model, rows, state.learner.params)
    value = np.asarray(reps.value(config, state.learner, obs[:, 0]))
    # r + gamma V(s') - V(s), V(s') = 8 where it was cut and 0 where it ended.
    expected = [1.0 + 0.5 * 8.0 - value[0], 2.0 - value[1], 3.0 + 0.5 * value[3] - value[2]]
    assert_allclose(delta, expected, rtol=1e-5)
    # Generalised advantages with lambda 0, which the weights are from, are the same errors.
    batch = on_policy.make_batch(config, model, state.learner, experience)
    assert_allclose(batch.advantage, expected, rtol=1e-5)
    assert_allclose(absorbed_mass(steps.terminated, config.gamma), 1.0 / 3.0, rtol=1e-6)


def test_returns_know_of_no_absorbing_state():
    """Every step ends an episode here, and only the dual counts the time after it."""
    config = DISCRETE.replace(critic="returns", env_params=probes.params(length=1))
    _, metrics = ITERATE(config, START(config, jax.random.key(0)))
    assert float(metrics["reps/absorbed"]) == 0.0


def test_the_weighted_likelihood_by_hand():
    # Weights (1/2, 3/2). Fresh policies are nearly uniform: log pi = -log 2, H = log 2.
    config = DISCRETE.replace(ent_coef=0.1)
    learner = START(config, jax.random.key(0)).learner
    batch = batch_of([0.0, 1.0], [0, 1])
    rows = reps.Rows(batch, jnp.log(jnp.array([0.5, 1.5])), ())
    total, metrics = LOSS(config, rows, learner.params)
    logits = on_policy.build(config).policy(learner, batch.obs)
    log_policy = np.asarray(jax.nn.log_softmax(logits))
    expected = -(0.5 * log_policy[0, 0] + 1.5 * log_policy[1, 1]) / 2
    assert_allclose(metrics["loss/policy"], expected, rtol=1e-5)
    entropy = -np.mean(np.sum(np.exp(log_policy) * log_policy, axis=1))
    assert_allclose(total, expected - 0.1 * entropy, rtol=1e-5)


def test_gaussians_pay_for_mean_and_spread_apart():
    # New N(m, 1), old N(m - 2, e^-2): moving the mean alone costs 2^2 e^2 / 2, the spread alone
    # -1 + (1 / e^2 + ...): KL(N(., e^-1) || N(., 1)) = 1 + (e^-2 - 1) / 2.
    learner = START(REAL, jax.random.key(0)).learner
    batch = batch_of([0.0, 0.0], [[0.0], [0.0]])
    new = on_policy.build(REAL).policy(learner, batch.obs)
    rows = reps.Rows(batch, jnp.zeros(2), Normal(new.mean - 2.0, new.log_std - 1.0))
    plain = REAL.replace(mean_coef=0.0, std_coef=0.0, ent_coef=0.0)
    base = LOSS(plain, rows, learner.params)[0]
    moved, spread = 2.0 * math.exp(2.0), 1.0 + 0.5 * (math.exp(-2.0) - 1.0)
    for mean_coef, std_coef in ((1.0, 0.0), (0.0, 1.0), (0.5, 3.0)):
        config = plain.replace(mean_coef=mean_coef, std_coef=std_coef)
        paid = LOSS(config, rows, learner.params)[0] - base
        assert_allclose(paid, mean_coef * moved + std_coef * spread, rtol=1e-4)


# --- whole iterations -----------------------------------------------------------------------------


LEARNS = DISCRETE.replace(
    num_envs=64, num_epochs=10, learning_rate=0.02, ent_coef=0.0, total_timesteps=1_000_000
)


def test_weights_are_by_the_value_that_minimises_the_dual():
    config = LEARNS.replace(
        env_params=probes.params(length=3, cue_weight=1.0, show_cue=1.0), learning_rate=0.05
    )
    state = START(config, jax.random.key(0))
    after, metrics = ITERATE(config, state)
    experience = compiled(on_policy.gather)(config, state)
    absorbed = absorbed_mass(experience.steps.terminated, config.gamma)
    assert float(absorbed) > 20.0
    assert_allclose(metrics["reps/absorbed"], absorbed, rtol=1e-6)
    batch = compiled(on_policy.make_batch)
    etas = [
        temperature(batch(config, learner, experience).advantage, config.kl_target, absorbed)
        for learner in (state.learner, after.learner)
    ]
    assert_allclose(metrics["reps/eta"], etas[1], rtol=1e-3)
    assert abs(float(etas[0] / etas[1]) - 1.0) > 0.02
    assert_allclose(metrics["reps/kl"], config.kl_target, rtol=1e-3)


def test_v_takes_its_steps_and_the_policy_its_own():
    config = LEARNS.replace(env_params=probes.params(length=3, cue_weight=1.0, show_cue=1.0))
    before = START(config, jax.random.key(0))
    learner = ITERATE(config, before)[0].learner
    _, unravel = ravel_pytree(learner.params)
    for name, old in before.learner.params["params"].items():
        belongs_to_policy = name.startswith("policy")
        for moments, learns in (
            (learner.opt_state.mu, belongs_to_policy),
            (learner.critic_opt_state.mu, not belongs_to_policy),
        ):
            leaves = jax.tree.leaves(unravel(moments)["params"][name])
            assert any(np.any(x) for x in leaves) == learns, name
        same = jax.tree.map(np.array_equal, old, learner.params["params"][name])
        assert not all(jax.tree.leaves(same)), name


@pytest.mark.parametrize("critic", ["dual", pytest.param("returns", marks=pytest.mark.slow)])
def test_actions_that_pay_become_likelier(critic):
    """One state, two actions, the reward is known: 0 for action 1 and -4 for action 0."""
    env_params = probes.params(length=1, cost=1.0, target=1.0)
    config = LEARNS.replace(env_params=env_params, critic=critic)
    state = START(config, jax.random.key(0))
    for _ in range(10):
        state, _ = ITERATE(config, state)
    obs = jnp.array([[1.0, 0.0, 1.0]])
    logits = on_policy.build(config).policy(state.learner, obs)
    assert float(jax.nn.softmax(logits)[0, 1]) > 0.9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"critic": "return"}, r"critic='return': did you mean 'returns'\? allowed: dual, returns"),
        ({"shared_torso": True}, r"shared_torso=True: .*give False"),
        ({"kl_target": 0.0}, r"kl_target=0.0: give a number > 0"),
        ({"critic_epochs": 0}, r"critic_epochs=0: give a whole number >= 1"),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DISCRETE.replace(**values)
