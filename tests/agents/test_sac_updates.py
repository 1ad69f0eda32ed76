"""Soft actor-critic, one update at a time: losses recomputed with numpy from a replay of one row.

With room for one transition every row of every batch is that transition, so a step's metrics and
its targets can be worked out from the networks' own outputs.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

import probes
from jaxrl_pg import sac
from jaxrl_pg.training import program
from programs import shaken

FALSE_ALARM = 1e-6
INIT = jax.jit(sac.init)
ITERATE = jax.jit(sac.iterate)
PROBES = {"discrete": probes.Probe(), "box": probes.Probe(discrete=False)}
SMALL = {"num_envs": 1, "num_steps": 1, "num_updates": 1, "batch_size": 4, "buffer_size": 1}
LATER = 10**6  # an iteration long after learning started


def config_of(kind, **values):
    """A probe that shows cue and time, pays 1 and the cue, and ends or is cut off by parameters."""
    params = {"base": 1, "cue_weight": 0.5, "show_cue": 1, "show_time": 1}
    params.update(values.pop("params", {}))
    return sac.Config(
        env=PROBES[kind],
        env_params=probes.params(**params),
        **{**SMALL, "hidden_sizes": (8,), "gamma": 0.9, "learning_starts": 100, **values},
    )


def start(config, seed=0):
    """A state whose networks and target say different things, learning already."""
    state = INIT(config, jax.random.key(seed))
    learner = state.learner._replace(
        params=shaken(state.learner.params, 1), target=shaken(state.learner.target, 2)
    )
    return state._replace(learner=learner, iteration=jnp.int32(LATER))


def outputs(config, params, obs, action=None):
    """What the networks say of one observation: least Q, all Q, and log-probabilities."""
    model = sac.build(config)
    q = model.critics.apply(params.critics, obs, action)
    return model.policy.apply(params.policy, obs), np.asarray(q[:, 0], np.float64)


def state_value(config, params, obs):
    """`V` of the value network."""
    return float(sac.build(config).state_value(params, obs)[0])


def soft_value(logits, q, alpha):
    """`sum_a pi (min_k Q_k - alpha log pi)` in float64."""
    log_prob = special.log_softmax(np.asarray(logits, np.float64)[0])
    return float(np.sum(np.exp(log_prob) * (q.min(axis=0) - alpha * log_prob)))


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 5], ids=["terminated", "going on"])
@pytest.mark.parametrize("variant", ["twin", "value"])
def test_losses_over_a_finite_action_set(variant, length):
    config = config_of("discrete", variant=variant, alpha=0.3, params={"length": length})
    before = start(config)
    after, metrics = ITERATE(config, before)
    row, old, new = after.memory.data, before.learner.params, after.learner.params
    alpha, reward, ended = 0.3, float(row.reward[0]), bool(row.terminated[0])
    assert ended == (length == 1)
    if variant == "twin":
        logits, _ = outputs(config, old, row.next_obs)
        _, q_next = outputs(config, old._replace(critics=before.learner.target), row.next_obs)
        future = soft_value(logits, q_next, alpha)
    else:
        future = state_value(config, before.learner.target, row.next_obs)
        logits, q = outputs(config, old, row.obs)
        error = state_value(config, old.value, row.obs) - soft_value(logits, q, alpha)
        assert_allclose(metrics["loss/value"], 0.5 * error**2, rtol=1e-4)
    target = reward + (0.0 if ended else 0.9 * future)
    _, q = outputs(config, old, row.obs)
    taken = q[:, int(row.action[0])]
    assert_allclose(metrics["loss/q"], 0.5 * np.sum((taken - target) ** 2), rtol=1e-4)
    # The policy's step comes after the critics' and sees what they have learned.
    logits, _ = outputs(config, old, row.obs)
    _, q = outputs(config, new, row.obs)
    assert_allclose(metrics["loss/policy"], -soft_value(logits, q, alpha), rtol=1e-4)
    entropy = stats.entropy(special.softmax(np.asarray(logits, np.float64)[0]))
    assert_allclose(metrics["policy/entropy"], entropy, rtol=1e-4)


@pytest.mark.parametrize("variant", ["twin", "value"])
def test_the_target_follows_what_it_is_a_target_of(variant):
    config = config_of("discrete", variant=variant, alpha=0.3, params={"length": 5})
    before = start(config)
    learner = ITERATE(config, before)[0].learner
    followed = learner.params.critics if variant == "twin" else learner.params.value
    for old, new, average in zip(
        *(jax.tree.leaves(x) for x in (before.learner.target, followed, learner.target)),
        strict=True,
    ):
        assert_allclose(average, 0.995 * old + 0.005 * new, rtol=1e-5, atol=1e-6)


def test_the_loss_over_real_actions():
    """Almost without noise and temperature: the target is the least Q' of the mean action."""
    config = config_of("box", alpha=1e-9, learn_alpha=False, params={"length": 5})
    before = start(config)
    params = before.learner.params
    bias = params.policy["params"]["policy_head"]["bias"]
    assert bias.shape == (2,)
    quiet = jax.tree.map(lambda x: x, params.policy)
    quiet["params"]["policy_head"]["bias"] = jnp.array([0.3, -100.0])
    params = params._replace(policy=quiet)
    before = before._replace(learner=before.learner._replace(params=params))
    after, metrics = ITERATE(config, before)
    row = after.memory.data
    dist, _ = outputs(config, params, row.next_obs, row.action)
    assert_allclose(dist.log_std, -20.0)
    target_params = params._replace(critics=before.learner.target)
    _, q_next = outputs(config, target_params, row.next_obs, jnp.tanh(dist.mean))
    target = float(row.reward[0]) + 0.9 * q_next.min()
    _, q = outputs(config, params, row.obs, row.action)
    assert_allclose(metrics["loss/q"], 0.5 * np.sum((q[:, 0] - target) ** 2), rtol=1e-4)
    dist, _ = outputs(config, params, row.obs, row.action)
    _, q = outputs(config, after.learner.params, row.obs, jnp.tanh(dist.mean))
    assert_allclose(metrics["loss/policy"], -q.min(), rtol=1e-4)
    assert_allclose(row.action, jnp.tanh(dist.mean), rtol=1e-4)


def test_the_temperature_moves_towards_the_target_entropy_and_stays_within_bounds():
    """Adam's first step is the learning rate, against the sign of `H - H_target`."""
    values = {"learning_rate": 0.5, "params": {"length": 5}}
    for alpha, target, expected in (
        (0.3, 100.0, 0.3 * np.exp(0.5)),
        (0.3, -100.0, 0.3 * np.exp(-0.5)),
        (90.0, 100.0, np.exp(4.6)),
        (1.2e-4, -100.0, np.exp(-9.2)),
    ):
        config = config_of("discrete", alpha=alpha, target_entropy=target, **values)
        _, metrics = ITERATE(config, start(config))
        assert_allclose(metrics["alpha"], expected, rtol=1e-4)


# --- collecting -----------------------------------------------------------------------------------

MANY = {"num_envs": 64, "num_steps": 16, "buffer_size": 2048, "num_updates": 2, "policy_delay": 2}


@cache
def collected(kind, iteration, correlation=0.0, **params):
    """An iteration of a policy that is set on one action, before or after learning starts."""
    config = config_of(
        kind, **MANY, noise_correlation=correlation, params={"max_steps_in_episode": 3, **params}
    )
    state = INIT(config, jax.random.key(0))
    policy = jax.tree.map(lambda x: x, state.learner.params.policy)
    set_on_one = jnp.array([-2.0, 2.0] if kind == "discrete" else [3.0, -5.0])
    policy["params"]["policy_head"]["bias"] = set_on_one
    params = state.learner.params._replace(policy=policy)
    state = state._replace(
        learner=state.learner._replace(params=params), iteration=jnp.int32(iteration)
    )
    after, metrics = ITERATE(config, state)
    rows = jax.tree.map(lambda x: np.asarray(x)[:1024], after.memory.data)
    return state, after, metrics, rows


@pytest.mark.parametrize("kind", PROBES)
def test_a_cut_off_step_keeps_its_own_last_observation(kind):
    *_, rows = collected(kind, 0)
    # Observations are (1 + cue, time, 1); episodes are cut off after three steps.
    assert_array_equal(rows.next_obs[:, 1], rows.obs[:, 1] + 1)
    assert set(rows.obs[:, 1]) == {0, 1, 2}
    assert not np.any(rows.terminated)
    next_obs = rows.obs.reshape(16, 64, 3)[1:]
    reached = rows.next_obs.reshape(16, 64, 3)[:-1]
    goes_on = reached[..., 1] < 3
    assert_array_equal(next_obs[goes_on], reached[goes_on])
    assert np.all(next_obs[~goes_on][:, 1] == 0)


def test_a_terminal_step_says_so_also_when_it_is_cut_off():
    *_, rows = collected("discrete", 0, length=3)
    assert_array_equal(rows.terminated, rows.next_obs[:, 1] == 3)
    # Paid 1 and half the cue of the observation acted on.
    assert_allclose(rows.reward, 1.0 + 0.5 * (rows.obs[:, 0] - 1.0))


def test_actions_are_uniform_until_learning_starts():
    *_, rows = collected("discrete", 0)
    assert stats.binomtest(int(rows.action.sum()), 1024).pvalue > FALSE_ALARM
    *_, rows = collected("discrete", 1)
    assert np.mean(rows.action == 1) > 0.95  # 1 / (1 + e^-4) = 0.982 of them
    *_, rows = collected("box", 0)
    assert stats.kstest(rows.action[:, 0], stats.uniform(-1, 2).cdf).pvalue > FALSE_ALARM
    *_, rows = collected("box", 1)
    assert np.all(rows.action > 0.9)


@pytest.mark.parametrize("kind", PROBES)
def test_nothing_is_learned_until_learning_starts(kind):
    """100 steps are one iteration of 1,024: the first learns nothing, the second does."""
    before, after, metrics, _ = collected(kind, 0)
    jax.tree.map(assert_array_equal, before.learner, after.learner)
    assert metrics["train/num_updates"] == metrics["loss/q"] == 0
    before, after, metrics, _ = collected(kind, 1)
    assert metrics["train/num_updates"] == 2
    for part in ("policy", "critics"):
        old, new = (getattr(s.learner.params, part) for s in (before, after))
        changed = [np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (old, new)), strict=True)]
        assert all(changed), part
    # Two critic steps, and with policy_delay = 2 one of the policy and the temperature.
    learner = after.learner
    assert (learner.critic_opt.count, learner.policy_opt.count) == (2, 1)
    assert learner.alpha_opt.count == 1


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_noise_remembers_as_much_as_is_asked(correlation):
    """Correlation of neighbouring draws, and the spread that it must not change."""
    *_, rows = collected("box", 0, correlation)
    z = stats.norm.ppf(np.clip((rows.action.reshape(16, 64) + 1) / 2, 1e-6, 1 - 1e-6))
    product = np.mean(z[1:] * z[:-1])
    assert abs(product - correlation) < 0.2
    assert abs(np.std(z) - 1.0) < 0.2


# --- learning -------------------------------------------------------------------------------------


@cache
def learned(**params):
    """Training on a probe with a real action; only numbers differ, so the program is shared."""
    config = sac.Config(
        env=PROBES["box"],
        env_params=probes.params(**params),
        num_envs=8,
        num_steps=8,
        num_updates=16,
        batch_size=64,
        learning_starts=256,
        total_timesteps=64 * 64,
        buffer_size=4096,
        hidden_sizes=(16, 16),
        learning_rate=0.003,
        tau=0.1,
        gamma=0.5,
        alpha=0.1,
        learn_alpha=False,
    )
    state, _ = TRAIN(config, jax.random.key(0))
    obs = jnp.array([[1.0, 0.0, 1.0]])
    action = sac.act(config, state.learner, obs, jax.random.key(0), True)
    return float(sac.value(config, state.learner, obs)[0]), float(action[0, 0])


TRAIN = jax.jit(program.train)


def test_the_paid_real_action_is_taken():
    """Paid 0 for the action 1 of [-2, 2], which is 0.5 of [-1, 1], and less for any other."""
    value, action = learned(cost=1, target=1, length=1)
    assert_allclose(action, 0.5, atol=0.1)
    assert_allclose(value, 0.0, atol=0.1)


def test_a_time_limit_is_no_end_and_an_end_is_one():
    """Reward 1 at gamma 1/2, whatever is done: worth 2 though cut off every two steps, else 1.

    And, where it goes on, the entropy to come: log 2 each time for a uniform action on [-1, 1],
    so alpha log 2 (1/2 + 1/4 + ...) = 0.1 log 2 (a tanh of a normal comes that close to uniform).
    """
    cut_off, _ = learned(base=1, max_steps_in_episode=2)
    assert_allclose(cut_off, 2.0 + 0.1 * np.log(2.0), atol=0.02)
    ended, _ = learned(base=1, length=1, max_steps_in_episode=2)
    assert_allclose(ended, 1.0, atol=0.02)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "twins"}, r"variant='twins': did you mean 'twin'\? allowed: twin, value"),
        ({"policy_loss": "kl"}, r"policy_loss='kl': .*allowed: kl_projection, reparameterised"),
        ({"activation": "rely"}, r"activation='rely': did you mean 'relu'"),
        ({"num_updates": 3, "policy_delay": 2}, r"num_updates=3 is no multiple of policy_delay=2"),
        ({"batch_size": 3, "num_devices": 2}, r"batch_size=3 does not split over num_devices=2"),
        ({"buffer_size": 3, "num_devices": 2}, r"buffer_size=3 does not split over"),
        ({"num_envs": 3, "num_devices": 2}, r"num_envs=3 does not split over"),
        ({"batch_size": 0}, r"batch_size=0: give a whole number >= 1"),
        ({"buffer_size": 0}, r"buffer_size=0: give a whole number >= 1"),
        ({"num_updates": 0}, r"num_updates=0: give a whole number >= 1"),
        ({"tau": 0.0}, r"tau=0\.0: give a number > 0 and <= 1"),
        ({"alpha": 0.0}, r"alpha=0\.0: give a number > 0"),
        ({"noise_correlation": 1.5}, r"noise_correlation=1\.5: give a number from 0 to 1"),
        ({"target_entropy_ratio": 2}, r"target_entropy_ratio=2: give a number from 0 to 1"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(values, message):
    with pytest.raises(ValueError, match=message) as error:
        sac.Config(**values)
    assert "\n" not in str(error.value)


def test_a_sum_over_real_actions_is_refused():
    config = sac.Config(env="Pendulum-v1", policy_loss="kl_projection")
    with pytest.raises(ValueError, match=r"sums over a finite action set and 'Pendulum-v1' has"):
        jax.eval_shape(partial(sac.init, config), jax.random.key(0))


def test_a_target_entropy_may_be_negative():
    assert sac.Config(target_entropy=-3.0).target_entropy == -3.0
