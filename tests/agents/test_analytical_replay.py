"""The analytical update from a replay: targets, weights and whole rounds by hand, and learning.

Networks without hidden layers are linear, so that a round can be worked out with numpy.
"""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats
from steps import compiled

import probes
from jaxrl_pg import analytical_replay as agent
from jaxrl_pg.components import off_policy, replay, replay_updates, step_size
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.ops import closed_form, full_normal
from jaxrl_pg.ops.collectives import AXIS
from jaxrl_pg.theory import builders, solve
from jaxrl_pg.training import program
from programs import shaken

INIT, ITERATE, TRAIN = jax.jit(agent.init), jax.jit(agent.iterate), jax.jit(program.train)
POLICY_STEP = compiled(agent._policy_step, agent.build)
ZERO = jnp.zeros((), jnp.int32)
LOG3 = math.log(3.0)
SMALL = {
    "num_envs": 4,
    "num_steps": 4,
    "batch_size": 6,
    "buffer_size": 16,
    "learning_starts": 0,
    "hidden_sizes": (),
    "gamma": 0.9,
    "learning_rate": 0.01,
    "num_updates": 2,
}
DISCRETE = agent.Config(env=probes.Probe(), **SMALL)
BOX = agent.Config(env=probes.Probe(discrete=False), num_actions_sampled=3, **SMALL)
PLANE = agent.Config(env="Reacher-misc", **SMALL)  # two real actions
FULL = PLANE.replace(covariance="full")


def start(config):
    """A learner whose policy, old policy, critics and targets all say different things."""
    learner = INIT(config.replace(step_size="kl"), jax.random.key(0)).learner
    return learner._replace(
        params=shaken(learner.params, 1),
        old=shaken(learner.old, 2),
        target=shaken(learner.target, 3),
    )


@jax.jit
def loss_and_gradient(config, obs, actions, log_target, policy):
    """`((loss, metrics), gradient)` of a policy's parameters."""
    model = agent.build(config)
    loss = jax.value_and_grad(agent._policy_loss, has_aux=True)
    return loss(policy, config, model, obs, actions, log_target)


def with_heads(params, policy=None, critics=()):
    """Networks that say the same of every observation: the biases, and no kernels."""
    params = jax.tree.map(jnp.zeros_like, params)
    if policy is not None:
        params.policy["params"]["policy_head"]["bias"] = jnp.asarray(policy, jnp.float32)
    for i, bias in enumerate(critics):
        head = params.critics["params"][f"critic_{i}"]["value_head"]
        head["bias"] = jnp.asarray(bias, jnp.float32)
    return params


# --- the target -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kl", "scheduled"])
def test_the_target_over_a_finite_set_by_hand(kind):
    """pi_old = (1/4, 3/4), critics (1, 5) and (4, 3), of which the least is Q = (1, 3).

    V = 1/4 + 9/4 = 5/2, A = (-3/2, 1/2), eps 3/2. At C = 2 / log 3, exp(Q / C) is in the ratio
    1 : 3, so the target is (1/4, 9/4) / (10/4) = (1/10, 9/10), and its KL from pi_old is
    0.1 log 0.4 + 0.9 log 1.2 = 0.0724603.
    """
    constant, divergence = 2.0 / LOG3, 0.1 * math.log(0.4) + 0.9 * math.log(1.2)
    ratio = constant / 1.5
    config = DISCRETE.replace(step_size=kind, kl_target=divergence, c_start=ratio, c_end=ratio)
    learner = start(config)
    params = with_heads(learner.params, np.log([0.25, 0.75]), [(1.0, 5.0), (4.0, 3.0)])
    obs = jnp.ones((2, 3))
    learner = learner._replace(params=params, old=params.policy)
    actions = agent.build(config).actions(params.policy, params.critics, obs, jnp.zeros(2))
    assert_allclose(actions.q, [[1.0, 3.0]] * 2, rtol=1e-6)
    assert_allclose(agent.value(config, learner, obs), [2.5, 2.5], rtol=1e-6)
    _, metrics = POLICY_STEP(config, learner, ZERO, obs, jnp.zeros(2))
    assert_allclose(metrics["analytical/eps"], 1.5, rtol=1e-6)
    assert_allclose(metrics["analytical/c"], constant, rtol=1e-3)
    # The policy is still pi_old: cross-entropy and KL from (1/10, 9/10) to (1/4, 3/4).
    cross = -0.1 * math.log(0.25) - 0.9 * math.log(0.75)
    assert_allclose(metrics["loss/policy"], cross, rtol=1e-3)
    assert_allclose(metrics["analytical/projection_kl"], divergence, rtol=1e-2)
    assert_allclose(metrics["analytical/ratio_max"], 1.0, rtol=1e-5)


def test_weights_of_draws_against_quadrature():
    """One real action, Q = 2 tanh(u) and C = 1: mean, variance and KL of the target by a sum.

    Of 100,000 draws the standard errors are about 0.004, 0.007 and 0.004 (measured over seeds).
    """
    config = BOX.replace(step_size="scheduled", c_start=1.0, c_end=1.0)
    params = with_heads(start(config).params, [0.3, math.log(0.8)])
    for i in range(2):
        head = params.critics["params"][f"critic_{i}"]["value_head"]
        head["kernel"] = jnp.array([[0.0], [0.0], [0.0], [2.0]])
    noise = jax.random.normal(jax.random.key(4), (1, 100_000, 1))
    model = agent.build(config)
    actions = model.actions(params.policy, params.critics, jnp.ones((1, 3)), noise)
    prior, advantage = actions.log_prior, closed_form.centred(actions.q, actions.log_prior)
    log_target, metrics = step_size.improve(
        config, config.gamma, prior, advantage, jnp.ones(()), ZERO
    )
    weight, draws = np.exp(np.asarray(log_target[0], float)), np.asarray(actions.draws[0, :, 0])
    assert_allclose(metrics["analytical/c"], 1.0, rtol=1e-6)
    assert_allclose(weight.sum(), 1.0, rtol=1e-4)
    u = np.linspace(-6.0, 7.0, 20_001)
    prior = stats.norm(0.3, 0.8).pdf(u)
    target = prior * np.exp(2.0 * np.tanh(u))
    prior, target = prior / prior.sum(), target / target.sum()
    mean = np.sum(target * u)
    assert_allclose(np.sum(weight * draws), mean, atol=0.025)
    spread = np.sum(weight * (draws - mean) ** 2)
    assert_allclose(spread, np.sum(target * (u - mean) ** 2), atol=0.04)
    divergence = np.sum(special.rel_entr(target, prior))
    assert_allclose(np.sum(weight * np.log(weight * 100_000)), divergence, atol=0.025)
    assert mean > 0.5  # and not the 0.3 of the old policy


# --- the fit --------------------------------------------------------------------------------------


def test_the_fit_over_a_finite_set_is_perfect_at_the_target():
    config, learner = DISCRETE, start(DISCRETE)
    obs = jnp.ones((1, 3))
    prior = jnp.log(jnp.array([[0.25, 0.75]]))
    actions, target = agent.Sampled(prior, (), (), prior, prior), jnp.log(jnp.array([[0.1, 0.9]]))
    there = with_heads(learner.params, target[0] + 3.0).policy
    (_, metrics), grads = loss_and_gradient(config, obs, actions, target, there)
    assert max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(grads)) < 1e-6
    assert_allclose(metrics["analytical/projection_kl"], 0.0, atol=1e-6)
    # Ratios (0.1 / 0.25, 0.9 / 0.75).
    ratios = metrics["analytical/ratio_min"], metrics["analytical/ratio_max"]
    assert_allclose(ratios, (0.4, 1.2), rtol=1e-5)
    # Elsewhere the gradient in the logits is pi - target; the entropy's is 0 at (1/2, 1/2).
    (total, metrics), grads = loss_and_gradient(
        config.replace(ent_coef=0.5),
        obs,
        actions,
        target,
        with_heads(learner.params, [7, 7]).policy,
    )
    assert_allclose(grads["params"]["policy_head"]["bias"], [0.4, -0.4], rtol=1e-5)
    assert_allclose(metrics["policy/entropy"], math.log(2.0), rtol=1e-6)
    assert_allclose(total, 0.5 * math.log(2.0), rtol=1e-5)


def moments(actions, log_target):
    """Weighted mean and covariance of the draws of one state."""
    draws, weight = np.asarray(actions.draws[0], float), np.exp(np.asarray(log_target[0], float))
    mean = weight @ draws
    return mean, (draws - mean).T @ ((draws - mean) * weight[:, None])


def weighted_draws(config, num=40):
    """Draws at one state with random weights, and the parameters of pi_old."""
    learner, model = start(config), agent.build(config)
    noise = jax.random.normal(jax.random.key(5), (1, num, model.env.spec.num_actions))
    obs = jnp.ones((1, *model.env.spec.obs_shape))
    below = [0.7] if config.covariance == "full" else []
    old = with_heads(learner.params, [0.3, -0.2, 0.1, -0.4, *below]).policy
    learner = learner._replace(old=old)
    actions = model.actions(learner.old, learner.target, obs, noise)
    log_target = jax.nn.log_softmax(jax.random.normal(jax.random.key(6), (1, num)))
    return learner, obs, actions, log_target


@pytest.mark.parametrize("config", [PLANE, FULL], ids=["diagonal", "full"])
def test_the_likelihoods_optimum_has_the_moments_of_the_weighted_draws(config):
    """All of them with a full covariance, of each coordinate alone with a diagonal one."""
    config = config.replace(std_coef=0.0)
    learner, obs, actions, log_target = weighted_draws(config)
    mean, covariance = moments(actions, log_target)
    lower = np.linalg.cholesky(covariance)
    bias = [*mean, *np.log(np.sqrt(np.diag(covariance)))]
    if config.covariance == "full":
        bias = [*mean, *np.log(np.diag(lower)), lower[1, 0] / lower[1, 1]]
        assert abs(bias[-1]) > 0.05
    there = with_heads(learner.params, bias).policy
    (_, there_metrics), grads = loss_and_gradient(config, obs, actions, log_target, there)
    assert max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(grads)) < 1e-4
    (_, old_metrics), grads = loss_and_gradient(config, obs, actions, log_target, learner.old)
    assert max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(grads)) > 0.05
    assert there_metrics["loss/policy"] < old_metrics["loss/policy"]


def test_with_nothing_below_the_diagonal_both_covariances_are_one():
    learner, obs, actions, log_target = weighted_draws(PLANE)
    full = start(FULL)
    biases = [0.3, -0.2, 0.1, -0.4]
    results = {}
    for config, params, below in ((PLANE, learner.params, []), (FULL, full.params, [0.0])):
        policy = with_heads(params, [*biases, *below]).policy
        dist, noise = actions.dist, jax.random.normal(jax.random.key(7), (1, 40, 2))
        if config is FULL:
            dist = full_normal.make(*dist, jnp.zeros((1, 1)))
        again = agent.build(config).actions(policy, learner.target, obs, noise)
        value, _ = loss_and_gradient(config, obs, actions._replace(dist=dist), log_target, policy)
        results[config.covariance] = (again.draws, again.q, value)
    jax.tree.map(partial(assert_allclose, rtol=1e-5), results["full"], results["diagonal"])


def test_normals_pay_for_mean_and_spread_apart():
    # pi_old N(0, 1), pi N(2, e^2): moved alone KL is 2^2 / 2 = 2; spread alone it is
    # log(e) + (e^-2 - 1) / 2 = 0.567668. One draw at 0: -log N(0; 2, e) = 1 + 2/e^2 + log(2 pi)/2.
    learner, obs = start(BOX), jnp.ones((1, 3))
    old = with_heads(learner.params, [0, 0]).policy
    actions = agent.build(BOX).actions(old, learner.target, obs, 0.0)
    actions = actions._replace(draws=jnp.zeros((1, 1, 1)), log_prior=jnp.zeros((1, 1)))
    policy = with_heads(learner.params, [2.0, 1.0]).policy
    likelihood = 1.0 + 2.0 * math.exp(-2.0) + 0.5 * math.log(2.0 * math.pi)
    for mean_coef, std_coef in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 3.0)):
        config = BOX.replace(mean_coef=mean_coef, std_coef=std_coef)
        (total, metrics), _ = loss_and_gradient(config, obs, actions, jnp.zeros((1, 1)), policy)
        paid = mean_coef * 2.0 + std_coef * (1.0 + 0.5 * (math.exp(-2.0) - 1.0))
        assert_allclose(total, likelihood + paid, rtol=1e-5)
    # log N(0; 2, e) - log N(0; 0, 1) = -1 - 2 / e^2, of the one draw.
    assert_allclose(metrics["analytical/ratio_max"], math.exp(-1.0 - 2.0 * math.exp(-2.0)), 1e-5)


# --- whole rounds ---------------------------------------------------------------------------------


def linear(params, name, x):
    head = params["params"][name]
    return x @ np.asarray(head["kernel"], float) + np.asarray(head["bias"], float)


def q_values(params, x):
    """`[num_critics, N, ...]` of linear critics."""
    heads = params["params"]
    return np.stack([linear({"params": heads[c]}, "value_head", x) for c in sorted(heads)])


def adam(old, grad, rate):
    """The first step of Adam with eps 1e-5."""
    return old - rate * grad / (np.abs(grad) + 1e-5)


ROUND = {"num_updates": 1, "buffer_size": 64}


def state_of(config, key):
    """A state whose replay is full of random rows, half of which end an episode."""
    spec, num = agent.build(config).env.spec, config.buffer_size
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, num, *spec.obs_shape)).astype(np.float32)
    action = rng.uniform(-1, 1, (num, *spec.action_shape)).astype(np.float32)
    if spec.discrete:
        action = rng.integers(spec.num_actions, size=num, dtype=np.int32)
    reward, ends = rng.normal(size=num).astype(np.float32), np.arange(num) % 2 == 0
    rows = jax.tree.map(jnp.asarray, off_policy.Rows(obs, action, reward, ends, next_obs))
    state = INIT(config.replace(step_size="kl"), key)
    return state._replace(learner=start(config), memory=replay.add(state.memory, rows))


@jax.jit
def drawn(config, state):
    """What the only round of an iteration learns from, and its noise."""
    env, _, policy, _ = agent.build(config)
    params = state.learner.params.policy
    experience = off_policy.gather(config, env, state, lambda obs: policy.apply(params, obs))
    times = 2 * config.num_actions_sampled
    draws = replay_updates.draw(config, env.spec, experience, 1, 1, times)
    return replay.take(experience.memory, draws.places[0, 0]), draws.noise[0]


def one_round(config, key):
    """Learners before and after, metrics, and what was drawn."""
    state = state_of(config, jax.random.key(key))
    after, metrics = ITERATE(config, state)
    rows, noise = jax.tree.map(lambda x: np.asarray(x, float), drawn(config, state))
    assert 0 < rows.terminated.sum() < 6
    return state.learner, after.learner, metrics, rows, noise


def test_a_round_over_a_finite_set_is_the_plain_one():
    config = DISCRETE.replace(step_size="scheduled", c_start=0.5, c_end=0.5, **ROUND)
    before, after, metrics, rows, _ = one_round(config, 8)
    prior = special.softmax(linear(before.old, "policy_head", rows.next_obs), axis=1)
    future = np.sum(prior * q_values(before.target, rows.next_obs).min(axis=0), axis=1)
    target = rows.reward + 0.9 * (1.0 - rows.terminated) * future
    taken = np.eye(2)[rows.action.astype(int)]
    error = np.sum(q_values(before.params.critics, rows.obs) * taken, axis=2) - target
    assert_allclose(metrics["loss/q"], 0.5 * np.mean(error**2, axis=1).sum(), rtol=1e-4)
    for i in range(2):
        new = after.params.critics["params"][f"critic_{i}"]["value_head"]
        old = before.params.critics["params"][f"critic_{i}"]["value_head"]
        grad = rows.obs.T @ (error[i][:, None] * taken) / 6
        assert_allclose(new["kernel"], adam(np.asarray(old["kernel"]), grad, 0.01), atol=1e-4)
    # The policy's target is of the critics that have just learned, and of the old policy.
    log_prior = special.log_softmax(linear(before.old, "policy_head", rows.obs), axis=1)
    q = q_values(after.params.critics, rows.obs).min(axis=0)
    advantage = q - np.sum(np.exp(log_prior) * q, axis=1, keepdims=True)
    eps = np.max(np.abs(advantage))
    assert_allclose([after.eps, metrics["analytical/c"]], [eps, 0.5 * eps], rtol=1e-4)
    improved = special.softmax(log_prior + q / (0.5 * eps), axis=1)
    log_prob = special.log_softmax(linear(before.params.policy, "policy_head", rows.obs), axis=1)
    assert_allclose(
        metrics["loss/policy"], -np.mean(np.sum(improved * log_prob, axis=1)), rtol=1e-4
    )
    missed = np.mean(np.sum(special.rel_entr(improved, np.exp(log_prob)), axis=1))
    assert_allclose(metrics["analytical/projection_kl"], missed, rtol=1e-3)
    ratios = np.exp(log_prob - log_prior)
    names = ["analytical/ratio_min", "analytical/ratio_max"]
    assert_allclose([metrics[n] for n in names], [ratios.min(), ratios.max()], rtol=1e-4)
    grad = rows.obs.T @ (np.exp(log_prob) - improved) / 6
    head = before.params.policy["params"]["policy_head"]["kernel"]
    new = after.params.policy["params"]["policy_head"]["kernel"]
    assert_allclose(new, adam(np.asarray(head), grad, 0.01), atol=1e-4)


def test_a_round_with_real_actions_is_the_plain_one():
    config = BOX.replace(
        step_size="scheduled", c_start=0.5, c_end=0.5, mean_coef=0.3, std_coef=2.0, **ROUND
    )
    before, after, metrics, rows, noise = one_round(config, 9)
    noise = noise.reshape(2, 6, 3)

    def evaluate(critics, obs, noise):
        mean, log_std = linear(before.old, "policy_head", obs).T[:, :, None]
        log_std = np.minimum(log_std, 2.0)
        draws = mean + np.exp(log_std) * noise
        q = [q_values(critics, np.c_[obs, np.tanh(draws[:, k])]) for k in range(3)]
        return draws, np.min(np.concatenate(q, axis=2), axis=0), mean, log_std

    _, q, *_ = evaluate(before.target, rows.next_obs, noise[0])
    target = rows.reward + 0.9 * (1.0 - rows.terminated) * q.mean(axis=1)
    error = q_values(before.params.critics, np.c_[rows.obs, rows.action])[..., 0] - target
    assert_allclose(metrics["loss/q"], 0.5 * np.mean(error**2, axis=1).sum(), rtol=1e-4)
    draws, q, mean, log_std = evaluate(after.params.critics, rows.obs, noise[1])
    eps = np.max(np.abs(q - q.mean(axis=1, keepdims=True)))
    assert_allclose(after.eps, eps, rtol=1e-4)
    weight = special.softmax(q / (0.5 * eps), axis=1)
    new_mean, new_log_std = linear(before.params.policy, "policy_head", rows.obs).T[:, :, None]
    new_log_std = np.minimum(new_log_std, 2.0)
    log_prob = stats.norm(new_mean, np.exp(new_log_std)).logpdf(draws)
    moved = 0.5 * np.mean(((new_mean - mean) / np.exp(log_std)) ** 2)
    change = log_std - new_log_std
    spread = np.mean(0.5 * (np.exp(2.0 * change) - 1.0) - change)
    loss = -np.mean(np.sum(weight * log_prob, axis=1)) + 0.3 * moved + 2.0 * spread
    assert_allclose(metrics["loss/policy"], loss, rtol=1e-4)
    # The entropy is that of tanh(u), by draws of the new policy from the same noise.
    entropy = stats.norm(0.0, np.exp(new_log_std)).entropy()
    volume = -2.0 * np.log(np.cosh(new_mean + np.exp(new_log_std) * noise[1]))
    assert_allclose(metrics["policy/entropy"], np.mean(entropy + volume), rtol=1e-4)


def test_the_old_policy_is_renewed_when_it_is_time_and_targets_follow():
    config = DISCRETE.replace(policy_period=3, **ROUND)
    state = state_of(config, jax.random.key(0))
    for k in range(1, 8):
        before = state.learner
        state, _ = ITERATE(config, state)
        learner = state.learner
        assert int(learner.rounds) == k
        expected = learner.params.policy if k % 3 == 0 else before.old
        jax.tree.map(assert_array_equal, learner.old, expected)
        jax.tree.map(
            lambda old, new, average: assert_allclose(
                average, 0.995 * old + 0.005 * new, rtol=1e-5, atol=1e-6
            ),
            *(before.target, learner.params.critics, learner.target),
        )


def test_half_a_batch_on_each_of_two_devices_is_the_batch():
    learner, obs = start(DISCRETE), jax.random.normal(jax.random.key(2), (8, 3))
    whole, metrics = POLICY_STEP(DISCRETE, learner, ZERO, obs, jnp.zeros(8))
    step = partial(agent._policy_step, DISCRETE, agent.build(DISCRETE), learner, ZERO)
    each = jax.vmap(step, (0, None), axis_name=AXIS)
    halves, both = jax.jit(each)(obs.reshape(2, 4, 3), jnp.zeros(4))
    assert_allclose(both["analytical/c"], jnp.full(2, metrics["analytical/c"]), rtol=1e-4)
    for half, expected in zip(
        *map(jax.tree.leaves, (halves.params.policy, whole.params.policy)), strict=True
    ):
        assert_allclose(half, jnp.stack([expected, expected]), atol=1e-4)


@pytest.mark.parametrize("config", [DISCRETE, BOX], ids=["discrete", "box"])
def test_the_policy_acts_and_not_the_old_one(config):
    """The one always takes the action 1 (or one near it), the other never."""
    state = INIT(config.replace(step_size="kl"), jax.random.key(0))
    sure = [-20.0, 20.0] if config is DISCRETE else [3.0, -5.0]
    params = with_heads(state.learner.params, sure)
    old = with_heads(state.learner.params, [-x for x in sure]).policy
    learner = state.learner._replace(params=params, old=old)
    after, metrics = ITERATE(config, state._replace(learner=learner))
    action = np.asarray(after.memory.data.action, float)
    assert np.all(action > 0.9)
    assert int(metrics["train/num_updates"]) == config.num_updates
    assert int(after.learner.rounds) == config.num_updates


def test_actions_of_a_full_covariance_are_drawn_with_it():
    """20,000 draws before tanh: L = diag(0.5, 0.25) ((1, 0), (2, 1)), so 0.25, 0.25 and 0.3125."""
    learner = start(FULL)
    policy = with_heads(learner.params, [0.3, -0.2, math.log(0.5), math.log(0.25), 2.0])
    learner = learner._replace(params=policy)
    obs = jnp.ones((20_000, *agent.build(FULL).env.spec.obs_shape))
    draws = np.arctanh(np.asarray(agent.act(FULL, learner, obs, jax.random.key(3), False), float))
    assert_allclose(draws.mean(axis=0), [0.3, -0.2], atol=0.03)
    assert_allclose(np.cov(draws.T), [[0.25, 0.25], [0.25, 0.3125]], atol=0.02)
    modes = agent.act(FULL, learner, obs[:1], jax.random.key(3), True)
    assert_allclose(modes, np.tanh([[0.3, -0.2]]), rtol=1e-5)


# --- learning -------------------------------------------------------------------------------------


@cache
def learned(discrete, **params):
    """Training on a probe; only numbers differ, so that each kind is one program."""
    config = agent.Config(
        env=(DISCRETE if discrete else BOX).env,
        env_params=probes.params(**params),
        num_envs=8,
        num_steps=8,
        num_updates=16,
        batch_size=64,
        learning_starts=256,
        total_timesteps=64 * 64,
        buffer_size=4096,
        hidden_sizes=(32, 32),
        learning_rate=0.003,
        kl_target=0.03,
        tau=0.1,
        gamma=0.5,
        policy_period=20,
        num_actions_sampled=8,
    )
    state, _ = TRAIN(config, jax.random.key(0))
    obs = jnp.array([[1.0, 0.0, 1.0]])
    action = agent.act(config, state.learner, obs, jax.random.key(0), True)
    return float(agent.value(config, state.learner, obs)[0]), float(action.reshape(()))


@pytest.mark.parametrize(("discrete", "paid"), [(True, 1.0), (False, 0.5)])
def test_the_paid_action_is_taken(discrete, paid):
    """Paid 0 for the action 1 of -1 and 1, or of [-2, 2] (0.5 of [-1, 1]), less for any other."""
    value, action = learned(discrete, cost=1, target=1, length=1)
    assert_allclose(action, paid, atol=0.15)
    assert_allclose(value, 0.0, atol=0.1)


@pytest.mark.parametrize("discrete", [True, False])
def test_a_time_limit_is_no_end_and_an_end_is_one(discrete):
    """Reward 1 at gamma 1/2, whatever is done: worth 2 though cut off every two steps, else 1."""
    cut_off, _ = learned(discrete, base=1, max_steps_in_episode=2)
    assert_allclose(cut_off, 2.0, atol=0.02)
    ended, _ = learned(discrete, base=1, length=1, max_steps_in_episode=2)
    assert_allclose(ended, 1.0, atol=0.02)


LAKE = builders.frozen_lake(0.99)


def lake_policy(config, key):
    """Probabilities `[S, A]` after training."""
    state, _ = program.train(config, key)
    policy = agent.build(config).policy
    return jax.nn.softmax(policy.apply(state.learner.params.policy, jnp.eye(16)))


@pytest.mark.slow
def test_a_lake_is_learned_from_the_replay_as_solved_exactly():
    """J of what was learned, by exact solution: 0.992, 0.992 and 0.987 of the optimum measured.

    A table of four actions in 16 states, 81,920 steps, the first 20,480 of them random.
    """
    config = agent.Config(
        env=from_mdp.from_mdp(LAKE, 100),
        num_envs=64,
        num_steps=8,
        num_updates=64,
        learning_starts=512 * 40,
        total_timesteps=512 * 160,
        buffer_size=512 * 160,
        hidden_sizes=(),
        learning_rate=0.01,
        tau=0.02,
        num_critics=1,
        policy_period=50,
        kl_target=0.02,
    )
    keys = jax.random.split(jax.random.key(0), 3)
    run = jax.jit(partial(jax.lax.map, partial(lake_policy, config)))
    policies = np.asarray(run(keys), float)
    with jax.enable_x64(True):
        lake = jax.tree.map(lambda x: jnp.asarray(x, float), LAKE)
        best = float(lake.start @ solve.policy_iteration(lake).value)
        policies /= policies.sum(axis=-1, keepdims=True)
        objectives = [
            float(solve.evaluate(lake, jnp.asarray(policy)).objective) for policy in policies
        ]
    print(np.array(objectives) / best)
    assert min(objectives) >= 0.95 * best
    assert max(objectives) <= best * (1.0 + 1e-9)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step_size": "fix"}, r"step_size='fix': did you mean 'fixed'"),
        ({"covariance": "fulll"}, r"covariance='fulll': did you mean 'full'\? allowed: diagonal"),
        ({"policy_period": 0}, r"policy_period=0: give a whole number >= 1"),
        ({"num_actions_sampled": 1}, r"num_actions_sampled=1: give a whole number >= 2"),
        ({"kl_target": 0.0}, r"kl_target=0\.0: give a number > 0"),
        ({"batch_size": 3, "num_devices": 2}, r"batch_size=3 does not split over num_devices=2"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(values, message):
    with pytest.raises(ValueError, match=message) as error:
        agent.Config(**values)
    assert "\n" not in str(error.value)


def test_a_covariance_of_a_finite_set_is_refused():
    config = agent.Config(env="CartPole-v1", covariance="full")
    with pytest.raises(
        ValueError, match=r"Box actions and 'CartPole-v1' has none: give 'diagonal'"
    ):
        jax.eval_shape(partial(agent.init, config), jax.random.key(0))
