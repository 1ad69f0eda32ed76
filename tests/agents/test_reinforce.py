"""REINFORCE against the exact gradient of a finite MDP, and its pieces by hand.

The policy is a softmax of one logit a state and action, so that the network's kernel is the table
theta and its gradient the gradient of the MDP's objective, known by listing all trajectories.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal
from steps import compiled

import probes
from jaxrl_pg import envs, reinforce
from jaxrl_pg.components import normalize, on_policy, rollout
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory.learning import estimators
from jaxrl_pg.types import ActorState, TrainState, Transition
from worked import mdp_g

GATHER, WEIGH = compiled(on_policy.gather), compiled(reinforce.weigh)
HORIZON, GAMMA, NUM_ENVS, NUM_BATCHES = 3, 0.9, 16, 8192
THETA = np.array([[0.2, -0.1], [0.0, 0.3], [-0.4, 0.1]])


ENV = from_mdp.from_mdp(mdp_g(GAMMA, jnp.float32), max_steps_in_episode=HORIZON)

# What the agent's switches make, and the exact estimator with the same expectation.
ESTIMATORS = {
    "raw": ("raw", {"returns": "trajectory", "discount": "none", "baseline": "none"}),
    "average": ("raw", {"returns": "trajectory", "discount": "none", "baseline": "average"}),
    "optimal": ("raw", {"returns": "trajectory", "discount": "none", "baseline": "optimal"}),
    "per parameter": (
        "raw",
        {"returns": "trajectory", "discount": "none", "baseline": "per_parameter"},
    ),
    "critic of the start": (
        "raw",
        {"returns": "trajectory", "discount": "none", "baseline": "value"},
    ),
    "causal": ("causal", {"discount": "none", "baseline": "none"}),
    "causal average": ("causal", {"discount": "none", "baseline": "average"}),
    "causal optimal": ("causal", {"discount": "none", "baseline": "optimal"}),
    "causal per parameter": ("causal", {"discount": "none", "baseline": "per_parameter"}),
    "causal critic": ("causal", {"discount": "none", "baseline": "value"}),
    "option 1": ("option_1", {"discount": "from_t", "baseline": "none"}),
    "option 2": (
        "option_2",
        {"returns": "trajectory", "discount": "from_start", "baseline": "none"},
    ),
    "option 2 causal": ("option_2_causal", {"discount": "from_start", "baseline": "none"}),
}


def config_of(**values):
    fixed = {"env": ENV, "num_envs": NUM_ENVS, "num_steps": HORIZON, "gamma": GAMMA}
    return reinforce.Config(**fixed, hidden_sizes=(), ent_coef=0.0, **values)


def start(key, num_envs=NUM_ENVS):
    """A train state with theta as the policy's table and a critic that is wrong in every state."""
    params = {
        "policy_head": {"kernel": jnp.float32(THETA), "bias": jnp.zeros(2)},
        "value_head": {"kernel": jnp.array([[1.0], [2.0], [0.5]]), "bias": jnp.zeros(1)},
    }
    reset_key, train_key = jax.random.split(key)
    actor = rollout.start(envs.make(ENV), reset_key, num_envs)
    learner = reinforce.Learner({"params": params}, (), normalize.Normalizer((), ()))
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def one_batch(configs, key, num_envs=NUM_ENVS):
    """dJ/dtheta as each config estimates it; it descends on minus the mean over T steps."""
    model, state, estimates = on_policy.build(config_of()), start(key, num_envs), {}
    experience = on_policy.gather(config_of(), model, state)
    for name, config in configs.items():
        weights = reinforce.weigh(config, model, state.learner, experience)
        grads, _ = reinforce.gradient(config, model, state.learner, experience, weights)
        estimates[name] = -HORIZON * grads["params"]["policy_head"]["kernel"]
    return estimates


@cache
def sampled():
    """Estimates `[NUM_BATCHES, S, A]` of every kind, from the same trajectories."""
    configs = {name: config_of(**values) for name, (_, values) in ESTIMATORS.items()}
    soft = {"discount": "from_start", "baseline": "none", "entropy_in_return": True}
    configs["regularised"] = config_of(**soft).replace(ent_coef=0.3)
    # So much that the entropy's own gradient stands out, less a baseline that takes the noise off.
    whole = {"returns": "trajectory", "baseline": "average", "ent_coef": 30.0}
    configs["regularised whole"] = configs["regularised"].replace(**whole)
    keys = jax.random.split(jax.random.key(7), NUM_BATCHES)
    estimates = jax.jit(jax.vmap(partial(one_batch, configs)))(keys)
    return {name: np.asarray(x, np.float64) for name, x in estimates.items()}


@cache
def exact():
    with jax.enable_x64(True):
        moments = jax.jit(partial(estimators.exact_moments, horizon=HORIZON))
        mean, variance = moments(mdp_g(GAMMA), jnp.asarray(THETA))
        return jax.tree.map(np.asarray, (mean._asdict(), variance._asdict()))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_estimate_is_unbiased_for_the_exact_gradient(name):
    """131,072 trajectories; six entries within five standard errors (false alarm 4e-6 a name)."""
    mean, estimates = exact()[0][ESTIMATORS[name][0]], sampled()[name]
    average, error = estimates.mean(axis=0), estimates.std(axis=0) / NUM_BATCHES**0.5
    assert np.all(np.abs(average - mean) < 5.0 * error), (average, mean)
    assert np.all(error < 0.004)  # small beside the differences between the objectives


def test_option_1_is_not_the_gradient_of_the_discounted_objective():
    mean, estimates = exact()[0], sampled()["option 1"]
    error = estimates.std(axis=0) / NUM_BATCHES**0.5
    assert np.max(np.abs(estimates.mean(axis=0) - mean["option_2"]) / error) > 8.0


@pytest.mark.parametrize("name", ["raw", "causal", "option 1", "option 2", "option 2 causal"])
def test_the_variance_is_the_exact_one_over_the_number_of_episodes(name):
    """Relative standard error of a variance from 8,192 nearly normal samples: below 0.016."""
    expected = exact()[1][ESTIMATORS[name][0]] / NUM_ENVS
    assert_allclose(sampled()[name].var(axis=0).sum(), expected, rtol=0.08)


def test_every_step_of_the_ladder_removes_variance():
    """Exact for one trajectory: raw 2.86, average baseline 0.48; causal 1.58, critic 0.21."""
    variance = {name: x.var(axis=0).sum() * NUM_ENVS for name, x in sampled().items()}
    assert variance["causal"] < 0.65 * variance["raw"]
    assert variance["average"] < 0.25 * variance["raw"]
    assert variance["causal average"] < 0.5 * variance["causal"]
    assert variance["option 2 causal"] < 0.65 * variance["option 2"]
    # The best constant is hardly better than the average here, and 15 episodes must tell it.
    assert variance["optimal"] < 1.1 * variance["average"]
    assert variance["causal optimal"] < 1.1 * variance["causal average"]


def test_a_constant_for_each_parameter_has_less_variance_than_one_for_all():
    """Exactly 0.405 for one trajectory; what 63 others tell of the constants adds some to that.

    The variances are of the same 131,072 trajectories, in 64 groups of 32 batches; the mean of
    their differences is beyond five standard errors (false alarm 3e-7). (15 others are too few:
    the constants' own noise then costs more than they save, 0.56 against 0.53.)
    """
    whole = {"returns": "trajectory", "discount": "none"}
    configs = {
        name: config_of(**whole, baseline=name).replace(num_envs=64)
        for name in ("per_parameter", "optimal")
    }
    keys = jax.random.split(jax.random.key(8), 2048)
    estimates = jax.jit(jax.vmap(partial(one_batch, configs, num_envs=64)))(keys)
    own, one = (
        64 * np.asarray(estimates[name], np.float64).reshape(64, 32, 6).var(axis=1).sum(axis=1)
        for name in configs
    )
    best = exact()[1]["optimal_baseline"]
    assert_allclose(best, 0.404743703, rtol=1e-6)
    assert best < own.mean() < 1.2 * best
    difference = one - own
    assert difference.mean() > 5.0 * difference.std() / 64**0.5


def test_each_parameters_constant_is_the_exact_one():
    """`E[g^2 R] / E[g^2]` by listing all trajectories, beside 4,096 sampled ones.

    Each entry within five standard errors of a ratio of means (false alarm 4e-6 for six).
    """
    values = {"returns": "trajectory", "discount": "none", "baseline": "per_parameter"}
    config = config_of(**values).replace(num_envs=4096)
    state = start(jax.random.key(5), 4096)
    experience = GATHER(config, state)
    weights = WEIGH(config, state.learner, experience)
    assert_array_equal(weights.baseline, np.zeros((HORIZON, 4096)))
    scores = jax.jit(partial(reinforce._scores, on_policy.build(config)))
    s, u = (np.asarray(x, float) for x in scores(state.learner, experience.steps, weights))
    kernel = jax.tree.map(jnp.zeros_like, state.learner.params)
    kernel["params"]["policy_head"]["kernel"] = jnp.ones((3, 2))
    places = np.flatnonzero(np.asarray(ravel_pytree(kernel)[0]))
    s, u = s[:, places], u[:, places]
    found = np.sum(u * s, axis=0) / np.sum(s * s, axis=0)
    error = np.std(u * s - found * s * s, axis=0) / np.mean(s * s, axis=0) / 4096**0.5

    def listed(mdp, theta):
        paths = estimators.enumerate_trajectories(mdp, jax.nn.softmax(theta), HORIZON)
        return estimators.optimal_baseline(theta, paths)

    with jax.enable_x64(True):
        expected = np.asarray(jax.jit(listed)(mdp_g(GAMMA), jnp.asarray(THETA)))
    assert np.all(np.abs(found - expected.ravel()) < 5.0 * error)
    assert np.max(error) < 0.05 * np.ptp(expected)


def test_a_parameters_constant_comes_from_the_other_environments():
    """By plain loops over parameters i and environments b: `sum_b (u_bi - b_bi s_bi)`."""
    config = config_of(returns="trajectory", discount="none", baseline="per_parameter")
    plain = config.replace(baseline="none")
    state = start(jax.random.key(3))
    experience = GATHER(config, state)
    weights = WEIGH(config, state.learner, experience)
    model = on_policy.build(config)
    both = jax.jit(
        lambda learner, experience, weights: [
            ravel_pytree(reinforce.gradient(one, model, learner, experience, weights)[0])[0]
            for one in (config, plain)
        ]
    )
    found, without = (np.asarray(x, float) for x in both(state.learner, experience, weights))
    scores = jax.jit(partial(reinforce._scores, model))
    s, u = (np.asarray(x, float) for x in scores(state.learner, experience.steps, weights))
    expected = np.zeros(s.shape[1])
    for i in range(s.shape[1]):
        for b in range(NUM_ENVS):
            others = [j for j in range(NUM_ENVS) if j != b]
            above = sum(u[j, i] * s[j, i] for j in others)
            below = sum(s[j, i] ** 2 for j in others)
            expected[i] += s[b, i] * (above / below if below > 0 else 0.0)
    assert_allclose(found - without, expected / (NUM_ENVS * HORIZON), rtol=1e-3, atol=1e-5)
    assert np.max(np.abs(found - without)) > 0.01


def test_the_optimal_baseline_is_the_ratio_of_score_products():
    """u.s / s.s summed over the other environments, with the scores of a softmax table by hand."""
    config = config_of(discount="from_start", baseline="optimal")
    state = start(jax.random.key(3))
    experience = GATHER(config, state)
    weights = WEIGH(config, state.learner, experience)
    taken, visited = np.asarray(experience.steps.action), np.asarray(experience.steps.obs)
    policy = np.exp(THETA) / np.exp(THETA).sum(axis=1, keepdims=True)
    products = []
    for b in range(NUM_ENVS):
        s, u = np.zeros((4, 2)), np.zeros((4, 2))  # three states, and the bias
        for t in range(HORIZON):
            here = np.append(visited[t, b], 1.0)
            score = np.outer(here, np.eye(2)[taken[t, b]] - visited[t, b] @ policy) * GAMMA**t
            s, u = s + score, u + score * float(weights.ret[t, b])
        products.append((np.sum(u * s), np.sum(s * s)))
    for b in range(NUM_ENVS):
        us, ss = np.sum([x for i, x in enumerate(products) if i != b], axis=0)
        assert_allclose(weights.baseline[:, b], us / ss, rtol=1e-4)


# --- baselines ------------------------------------------------------------------------------------


NETWORK = {"policy_head": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
CRITIC = {"value_head": {"kernel": jnp.array([[0.3], [0.0], [0.4]]), "bias": jnp.zeros(1)}}
WORTH = 0.7  # of the observation (1, 0, 1), by this critic


def weights_of(reward, terminated=(), truncated=(), limit=2, **values):
    """Weights of a rollout of equal environments: rewards, and the steps that end episodes."""
    config = reinforce.Config(
        env=probes.Probe(),
        env_params=probes.params(max_steps_in_episode=limit),
        num_envs=4,
        num_steps=len(reward),
        hidden_sizes=(),
        gamma=0.5,
        **values,
    )
    num_steps = len(reward)
    column = np.ones((1, 4))
    flags = [
        np.isin(np.arange(num_steps), steps)[:, None] & (column > 0)
        for steps in (terminated, truncated)
    ]
    cut = flags[1] & ~flags[0]
    obs = jnp.ones((num_steps, 4, 3)) * jnp.array([1.0, 0.0, 1.0])[None, None]
    steps = Transition(
        obs=obs,
        action=jnp.zeros((num_steps, 4), jnp.int32),
        log_prob=jnp.full((num_steps, 4), -np.log(2)),
        reward=jnp.float32(np.array(reward)[:, None] * column),
        terminated=jnp.asarray(flags[0]),
        truncated=jnp.asarray(flags[1]),
        final_value=jnp.float32(np.where(cut, WORTH, 0.0)),
    )
    learner = reinforce.Learner({"params": NETWORK | CRITIC}, (), normalize.Normalizer((), ()))
    actor = ActorState((), obs[0], *(jnp.zeros(4) for _ in range(3)))
    key = jax.random.key(0)
    experience = on_policy.Experience(steps, actor, learner.normalizer, {}, key, key)
    return WEIGH(config, learner, experience)


def test_weights_worked():
    """Episodes of two steps that pay 1 each: with gamma .5 worth 1.5 at first and 1 then."""
    # Four steps hold two episodes, begun at 0 and 2; both end within the limit of 2.
    two = {"reward": [1.0] * 4, "terminated": [1, 3], "baseline": "none"}
    to_go, factor = [1.5, 1.0, 1.5, 1.0], [1.0, 0.5, 1.0, 0.5]
    for discount, ret, expected in (
        ("from_t", to_go, [1.0] * 4),
        ("from_start", to_go, factor),
        ("none", [2.0, 1.0, 2.0, 1.0], [1.0] * 4),
    ):
        weights = weights_of(**two, discount=discount)
        assert_allclose(weights.ret[:, 0], ret)
        assert_allclose(weights.factor[:, 0], expected)
        assert_allclose(weights.counted, np.ones((4, 4)))
        assert_allclose(weights.baseline, np.zeros((4, 4)))


def test_a_trajectory_has_one_return_and_the_average_is_over_the_others():
    whole = {"terminated": [1, 3], "returns": "trajectory", "discount": "from_start"}
    weights = weights_of([1.0, 1.0, 4.0, 2.0], **whole, baseline="average")
    assert_allclose(weights.ret[:, 0], [1.5, 1.5, 5.0, 5.0])
    assert_allclose(weights.baseline, np.full((4, 4), 3.25))  # (1.5 + 1.5 + 5 + 5) / 4
    assert_allclose(weights.factor, np.ones((4, 4)))
    # A critic is asked about the episode's first state: here all are worth the same.
    weights = weights_of([1.0, 1.0, 4.0, 2.0], **whole, baseline="value")
    assert_allclose(weights.baseline, np.full((4, 4), WORTH), rtol=1e-6)


def test_an_episode_counts_only_if_it_had_the_time_to_end():
    """Limit 4 in 6 steps: what began at 0 or 2 had four steps left, what began at 4 had not."""
    weights = weights_of([1.0] * 6, terminated=[1, 3, 5], limit=4, baseline="average")
    # Four of six steps count, by 1.5 each, so that their mean is 1.
    assert_allclose(weights.counted[:, 0], [1.5, 1.5, 1.5, 1.5, 0.0, 0.0])
    assert_allclose(weights.baseline, np.full((6, 4), 1.25))  # (1.5 + 1) / 2, whatever comes later


def test_a_time_limit_is_bootstrapped_by_a_critic_and_part_of_the_task_without_one():
    """Two steps that pay 1, cut off in a state worth .7: 1.5 + .7 / 4 and 1 + .7 / 2."""
    cut = {"reward": [1.0, 1.0], "truncated": [1]}
    weights = weights_of(**cut, baseline="value")
    assert_allclose(weights.ret[:, 0], [1.675, 1.35], rtol=1e-6)
    assert_allclose(weights.target, weights.ret)
    assert_allclose(weights_of(**cut, baseline="none").ret[:, 0], [1.5, 1.0])
    undiscounted = weights_of(**cut, baseline="value", discount="none")
    assert_allclose(undiscounted.ret[:, 0], [2.0, 1.0])
    # Cut off and terminated at once is terminated.
    both = weights_of(**cut, terminated=[1], baseline="value")
    assert_allclose(both.ret[:, 0], [1.5, 1.0])


def test_entropy_counts_as_reward_when_asked():
    """Two actions that are equally likely have log 2 nats; .1 of it at both steps: .15 and .1."""
    free = {"reward": [0.0, 0.0], "terminated": [1], "baseline": "none", "ent_coef": 0.1}
    weights = weights_of(**free, entropy_in_return=True)
    assert_allclose(weights.ret[:, 0], [0.15 * np.log(2), 0.1 * np.log(2)], rtol=1e-6)
    assert_allclose(weights_of(**free).ret, np.zeros((2, 4)))
    # What a trajectory's return counts from its start, its own gradient does too.
    whole = weights_of(**free, entropy_in_return=True, returns="trajectory")
    assert_allclose(whole.ret[:, 0], [0.15 * np.log(2)] * 2, rtol=1e-6)
    assert_allclose([whole.factor[:, 0], whole.decay[:, 0]], [[1.0, 1.0], [1.0, 0.5]])


def test_counted_episodes_are_no_shorter_than_others():
    """Half of the steps end an episode, none lasts longer than 4: mean 1 + 1/2 + 1/4 + 1/8.

    Some 16,000 episodes count; standard error 0.009, five of them allowed (false alarm 6e-7).
    Those that ended in the rollout are shorter, by more than that.
    """
    transition = np.zeros((2, 1, 2))
    transition[0, 0], transition[1, 0] = [0.5, 0.5], [0.0, 1.0]
    mdp = mdps.make(transition, [[1.0], [0.0]], [1.0, 0.0], 0.5)
    config = reinforce.Config(
        env=from_mdp.from_mdp(jax.tree.map(jnp.float32, mdp), max_steps_in_episode=4),
        num_envs=8192,
        num_steps=6,
        hidden_sizes=(),
        discount="none",
        baseline="none",
    )
    state = jax.jit(reinforce.init)(config, jax.random.key(0))
    experience = GATHER(config, state)
    weights = WEIGH(config, state.learner, experience)
    done = np.asarray(experience.steps.terminated | experience.steps.truncated)
    counted = np.asarray(weights.counted) > 0
    assert (done & counted).sum() > 14_000
    assert abs(counted.sum() / (done & counted).sum() - 1.875) < 0.045
    episodes = experience.episodes
    assert float(episodes["length_sum"] / episodes["episodes"]) < 1.875 - 0.1


@pytest.mark.parametrize(("name", "coef"), [("regularised", 0.3), ("regularised whole", 30.0)])
def test_with_entropy_in_the_return_it_is_the_gradient_of_the_regularised_objective(name, coef):
    """Three states, three steps, listed: J = E sum gamma^t (r + coef H). Five standard errors."""
    estimates = sampled()[name]
    average, error = estimates.mean(axis=0), estimates.std(axis=0) / NUM_BATCHES**0.5
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(regularised_objective))
        arguments = jnp.asarray(THETA), mdp_g(GAMMA)
        expected, plain = (np.asarray(gradient(*arguments, c)) for c in (coef, 0.0))
    assert np.all(np.abs(average - expected) < 5.0 * error)
    assert np.max(np.abs(average - plain) / error) > 8.0


def regularised_objective(theta, mdp, ent_coef):
    policy = jax.nn.softmax(theta)
    reward = mdp.reward - ent_coef * jax.nn.log_softmax(theta)
    state, total = mdp.start, 0.0
    for t in range(HORIZON):
        total += GAMMA**t * jnp.sum(state[:, None] * policy * reward)
        state = jnp.einsum("s,sa,sak->k", state, policy, mdp.transition)
    return total


# --- learning -------------------------------------------------------------------------------------


def test_a_rollout_that_cannot_hold_an_episode_is_refused():
    config = reinforce.Config(env="CartPole-v1", num_steps=499)
    with pytest.raises(
        ValueError, match="num_steps=499 and an episode of CartPole-v1 may take 500"
    ):
        reinforce.init(config, jax.random.key(0))
    shorter = config.replace(env_params={"max_steps_in_episode": 499})
    jax.eval_shape(partial(reinforce.init, shorter), jax.random.key(0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"returns": "to_go"}, "returns='to_go': did you mean 'reward_to_go'"),
        ({"discount": "from_begin"}, "discount='from_begin'"),
        ({"baseline": "mean"}, "baseline='mean'"),
        ({"baseline": "average", "num_envs": 1}, "give at least 2 on each"),
        ({"baseline": "per_parameter", "num_envs": 1}, "give at least 2 on each"),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        reinforce.Config(**values)


def test_rollouts_begin_with_their_episodes():
    """Whatever the environments did before, step 0 is an episode's first in every one of them."""
    params = probes.params(length=3, max_steps_in_episode=4, base=1, show_time=1)
    config = reinforce.Config(
        env=probes.Probe(), env_params=params, num_envs=2, num_steps=4, hidden_sizes=(4,)
    )
    iterate = jax.jit(reinforce.iterate)
    state = jax.jit(reinforce.init)(config, jax.random.key(0))
    for _ in range(3):
        state, metrics = iterate(config, state)
        # Four steps from the start are one episode of three steps and one more step.
        assert_array_equal(state.actor.episode_length, [1, 1])
        assert float(metrics["train/episodes"]) == 2.0
