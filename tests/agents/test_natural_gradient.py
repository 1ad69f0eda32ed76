"""Natural and trust-region policy gradients: steps worked out by hand, and what they may not do."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose
from steps import compiled

import jaxrl_pg
import probes
from jaxrl_pg import envs, natural_gradient
from jaxrl_pg.components import on_policy, optim
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.ops.collectives import AXIS
from jaxrl_pg.theory import builders

# --- one step of a table of logits, by hand -------------------------------------------------------
# Two states seen as one-hot vectors, no hidden layer. pi = (1/4, 3/4) in both, and rows whose
# counts are exact probabilities: d = (1/3, 2/3), and of each state 1 row in 4 has action 0.
# Advantages (-3, 1) in state 0 and (6, -2) in state 1, so that E_pi A = 0 and
# E A^2 = 1/3 (9/4 + 3/4) + 2/3 (36/4 + 12/4) = 9.
# F^+ grad L = A but for a shift of a state's logits, and x^T F x = E A^2: the step that is to have
# the KL k is sqrt(2 k / 9) A.

ONE_HOT = from_mdp.from_mdp(builders.two_state_plateau())
COUNTS = {(0, 0): 1, (0, 1): 3, (1, 0): 2, (1, 1): 6}
ADVANTAGE = np.array([[-3.0, 1.0], [6.0, -2.0]])
POLICY = np.array([0.25, 0.75])
BY_HAND = natural_gradient.Config(
    env=ONE_HOT,
    num_envs=12,
    num_steps=1,
    num_minibatches=1,
    hidden_sizes=(),
    cg_damping=1e-6,
    gae_lambda=1.0,
)


def rows_by_hand(advantage=ADVANTAGE):
    """Twelve rows, and parameters whose policy is `POLICY`."""
    pairs = [pair for pair, count in COUNTS.items() for _ in range(count)]
    state, action = np.array(pairs).T
    params = on_policy.start(BY_HAND, jax.random.key(0))[0]
    head = params["params"]["policy_head"]
    head["kernel"], head["bias"] = jnp.zeros((2, 2)), jnp.log(jnp.asarray(POLICY, jnp.float32))
    rows = on_policy.Batch(
        obs=jnp.eye(2)[state],
        action=jnp.asarray(action, jnp.int32),
        log_prob=jnp.log(jnp.asarray(POLICY[action], jnp.float32)),
        value=jnp.zeros(12),
        advantage=jnp.asarray(advantage[state, action], jnp.float32),
        target=jnp.ones(12),
    )
    return params, rows


IMPROVE = compiled(natural_gradient._improve)


def improved(config, advantage=ADVANTAGE):
    """Log-probabilities `[2, 2]` after a step, the parameters, and the metrics."""
    before, rows = rows_by_hand(advantage)
    params, metrics = IMPROVE(config, before, rows)
    logits = on_policy.build(config).network.apply(params, jnp.eye(2), method="policy")
    return np.asarray(jax.nn.log_softmax(logits)), params, metrics


def step_by_hand(length, turned=False):
    """Log-probabilities, surrogate and mean KL after `length` times the advantage, by loops.

    The KL is that of the old policy from the new one, or with `turned` the other.
    """
    log_probs, surrogate, kl = np.zeros((2, 2)), 0.0, 0.0
    for s, weight in enumerate((1 / 3, 2 / 3)):
        unnormalised = [POLICY[a] * np.exp(length * ADVANTAGE[s, a]) for a in range(2)]
        for a in range(2):
            log_probs[s, a] = np.log(unnormalised[a] / sum(unnormalised))
            surrogate += weight * np.exp(log_probs[s, a]) * ADVANTAGE[s, a]
            log_ratio = log_probs[s, a] - np.log(POLICY[a])
            kl += weight * POLICY[a] * (np.exp(log_ratio) * log_ratio if turned else -log_ratio)
    return log_probs, surrogate, kl


@pytest.mark.parametrize("max_kl", [1e-4, 0.01])
def test_the_natural_step_of_a_table_follows_the_advantage(max_kl):
    result, _, metrics = improved(BY_HAND.replace(method="npg", max_kl=max_kl))
    log_probs, surrogate, kl = step_by_hand(np.sqrt(2 * max_kl / 9))
    assert_allclose(result, log_probs, atol=2e-5)
    assert_allclose(metrics["loss/policy"], -surrogate, rtol=1e-3)
    assert_allclose(metrics["policy/kl"], kl, rtol=2e-2)
    # To second order it is what was asked for, whatever the line search would say.
    assert_allclose(metrics["policy/kl"], max_kl, rtol=2.0 * np.sqrt(max_kl) + 1e-3)
    assert float(metrics["policy/step_fraction"]) == 1.0


# At max_kl 1 the whole step has KL(old || new) 1.08 and KL(new || old) 0.77, which can be at most
# 1/3 log 4/3 + 2/3 log 4 = 1.02: action 1 for certain in state 0, action 0 in state 1.
TRUST_REGIONS = [
    ("old_new", 0.01, 0.8),
    ("old_new", 1.0, 0.8),
    ("old_new", 4.0, 1.0),
    ("new_old", 0.01, 0.8),
    ("new_old", 1.0, 1.0),
]


@pytest.mark.parametrize(("direction", "max_kl", "expected"), TRUST_REGIONS)
def test_the_trust_region_step_is_the_first_length_that_both_checks_pass(
    direction, max_kl, expected
):
    full, fraction = np.sqrt(2 * max_kl / 9), 1.0
    for _ in range(10):
        log_probs, surrogate, kl = step_by_hand(fraction * full, direction == "new_old")
        if surrogate > 0.0 and kl <= max_kl:
            break
        fraction *= 0.8
    assert_allclose(fraction, expected)
    config = BY_HAND.replace(method="trpo", max_kl=max_kl, kl_direction=direction)
    result, _, metrics = improved(config)
    assert_allclose(metrics["policy/kl"], kl, rtol=1e-3)
    assert_allclose(float(metrics["policy/step_fraction"]), fraction, rtol=1e-5)
    assert_allclose(result, log_probs, atol=1e-4)
    assert float(metrics["policy/kl"]) <= max_kl
    assert float(metrics["policy/line_search_accepted"]) == 1.0


def test_where_no_length_is_accepted_the_policy_stays_as_it_was():
    assert step_by_hand(np.sqrt(2 / 9))[2] > 1.05  # the KL where the quadratic model says 1
    before, _ = rows_by_hand()
    _, params, metrics = improved(BY_HAND.replace(max_kl=1.0, line_search_steps=1))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(old, new)
    names = ("policy/line_search_accepted", "policy/step_fraction", "policy/kl")
    assert [float(metrics[name]) for name in names] == [0.0, 0.0, 0.0]
    assert float(metrics["grad_norm"]) > 0.1


@pytest.mark.parametrize("method", ["npg", "trpo"])
def test_without_an_advantage_nothing_moves(method):
    before, _ = rows_by_hand()
    _, params, metrics = improved(BY_HAND.replace(method=method), np.zeros((2, 2)))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(old, new)
    assert float(metrics["policy/kl"]) == 0.0


def test_an_entropy_bonus_makes_the_policy_more_even():
    result, _, metrics = improved(BY_HAND.replace(method="npg", ent_coef=1.0), np.zeros((2, 2)))
    assert_allclose(metrics["policy/entropy"], -np.sum(POLICY * np.log(POLICY)), rtol=1e-5)
    assert np.all(result[:, 0] > np.log(0.25) + 0.01)
    assert np.all(result[:, 1] < np.log(0.75) - 0.01)


def test_damping_bounds_the_step_in_parameters():
    """damping |step|^2 / 2 <= step^T (F + damping) step / 2 = max_kl, whatever F is."""
    before, _ = rows_by_hand()
    lengths = []
    for damping in (10.0, 0.1, 1e-6):
        _, params, _ = improved(BY_HAND.replace(method="npg", cg_damping=damping))
        step = ravel_pytree(params)[0] - ravel_pytree(before)[0]
        lengths.append(float(jnp.linalg.norm(step)))
    assert lengths[0] <= np.sqrt(2 * 0.01 / 10.0)
    # With so much damping it is the plain gradient, of the very length that is allowed.
    assert_allclose(lengths[0], np.sqrt(2 * 0.01 / 10.0), rtol=0.05)
    assert lengths[0] < lengths[1] < lengths[2]


# --- rows of CartPole -----------------------------------------------------------------------------

CARTPOLE = natural_gradient.Config(
    num_envs=8,
    num_steps=8,
    num_epochs=2,
    num_minibatches=1,
    hidden_sizes=(8, 8),
    learning_rate=0.01,
    anneal_lr=False,
    cg_iterations=4,
)
KEYS = jax.random.split(jax.random.key(1), 6)


def rows_of_cartpole(config, params):
    obs = jax.random.normal(KEYS[0], (64, 4))
    action = jax.random.randint(KEYS[1], (64,), 0, 2)
    model = on_policy.build(config)
    logits = model.network.apply(params, obs, method="policy")
    return on_policy.Batch(
        obs=obs,
        action=action,
        log_prob=model.family.log_prob(logits, action),
        value=jnp.zeros(64),
        advantage=3.0 + 2.0 * jax.random.normal(KEYS[3], (64,)),
        target=jax.random.normal(KEYS[4], (64,)),
    )


ITERATE = jax.jit(natural_gradient.iterate)


@pytest.fixture(scope="module")
def state():
    return jax.jit(natural_gradient.init)(CARTPOLE, jax.random.key(0))


def test_at_ratio_one_the_gradient_is_the_policy_gradient(state):
    """grad E[ratio A] = E[A grad log pi], the sum over rows written out.

    With damping far above the Fisher information the step is along the plain gradient.
    """
    config = CARTPOLE.replace(method="npg", cg_damping=1e6, max_kl=5e3)
    params, model = state.learner.params, on_policy.build(config)
    rows = rows_of_cartpole(config, params)
    start, unravel = ravel_pytree(params)
    stepped, metrics = IMPROVE(config, params, rows)
    step = np.asarray(ravel_pytree(stepped)[0] - start, float)
    assert_allclose(np.linalg.norm(step), 0.1, rtol=1e-3)  # sqrt(2 x 5,000 / 1,000,000)
    gradient = float(metrics["grad_norm"]) * step / np.linalg.norm(step)

    def log_probs(point):
        logits = model.network.apply(unravel(point), rows.obs, method="policy")
        return model.family.log_prob(logits, rows.action)

    scores, expected = (
        np.asarray(jax.jit(jax.jacrev(log_probs))(start), float),
        np.zeros(start.size),
    )
    for n in range(64):
        expected += float(rows.advantage[n]) * scores[n] / 64
    assert np.abs(expected).max() > 0.1
    assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def rows(state):
    """What the first iteration learns from."""
    experience = compiled(on_policy.gather)(CARTPOLE, state)
    return compiled(on_policy.make_batch)(CARTPOLE, state.learner, experience)


@pytest.fixture(scope="module")
def iterated(state):
    return ITERATE(CARTPOLE, state)


def standardised(rows):
    spread = (rows.advantage - jnp.mean(rows.advantage)) / jnp.std(rows.advantage)
    return rows._replace(advantage=spread)


def parts(params):
    """Flat parameters of the policy, and of the value."""
    split = {True: [], False: []}
    for name, leaves in params["params"].items():
        split[name.startswith("value_")] += jax.tree.leaves(leaves)
    return tuple(np.concatenate([np.ravel(x) for x in split[kind]]) for kind in (False, True))


def value_loss(model, rows, params):
    """Half the mean squared error of the values."""
    values = model.network.apply(params, rows.obs, method="value")
    return 0.5 * jnp.mean((values - rows.target) ** 2)


def test_each_part_moves_by_its_own_step_only(state, rows, iterated):
    """The natural step leaves the value exactly alone, and Adam the policy."""
    before, after = state.learner, iterated[0].learner
    stepped, _ = IMPROVE(CARTPOLE, before.params, standardised(rows))
    (policy, value), (old_policy, old_value) = parts(stepped), parts(before.params)
    np.testing.assert_array_equal(value, old_value)
    assert np.abs(policy - old_policy).max() > 1e-3
    new_policy, new_value = parts(after.params)
    assert_allclose(new_policy, policy, rtol=1e-5, atol=1e-6)
    _, unravel = ravel_pytree(before.params)
    moments = parts(unravel(after.opt_state.mu))
    assert not moments[0].any()
    assert moments[1].any()
    # Adam's first two steps of 0.01 on every parameter of the value.
    assert 0.01 < np.abs(new_value - old_value).max() <= 0.0201


def test_the_fit_lowers_the_value_loss(state, rows, iterated):
    model = on_policy.build(CARTPOLE)
    before, after = (
        float(value_loss(model, rows, params))
        for params in (state.learner.params, iterated[0].learner.params)
    )
    assert after < 0.98 * before


def test_two_devices_pool_their_rows(state):
    """Half of the environments on each, under a named axis: the step of all rows."""
    model, learner = on_policy.build(CARTPOLE), state.learner

    def iterate(state):
        experience = on_policy.gather(CARTPOLE, model, state)
        batch = on_policy.make_batch(CARTPOLE, model, state.learner, experience)
        return natural_gradient.iterate(CARTPOLE, state), batch

    actor = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), state.actor)
    axes = state._replace(learner=None, actor=0, memory=None, key=None, iteration=None)
    each = jax.jit(jax.vmap(iterate, (axes,), axis_name=AXIS))
    (together, _), halves = each(state._replace(actor=actor))
    rows = standardised(jax.tree.map(lambda x: x.reshape(64, *x.shape[2:]), halves))
    assert np.any(halves.obs[0] != halves.obs[1])
    params, metrics = IMPROVE(CARTPOLE, learner.params, rows)

    @jax.jit
    def value_step(params, opt_state):
        grads = jax.grad(lambda params: value_loss(model, rows, params))(params)
        return optim.apply_gradients(
            params, opt_state, grads, CARTPOLE.learning_rate, CARTPOLE.max_grad_norm
        )

    opt_state = learner.opt_state
    for _ in range(CARTPOLE.num_epochs):
        params, opt_state, _ = value_step(params, opt_state)
    for a, b in zip(
        jax.tree.leaves((params, opt_state)),
        jax.tree.leaves((together.learner.params, together.learner.opt_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(b[0], b[1])
        assert_allclose(b[0], a, rtol=1e-3, atol=1e-5)
    # An iteration averages its metrics at its end, whatever they were; a step gives the whole's.
    halves = halves._replace(advantage=rows.advantage.reshape(2, 32))
    improve = partial(natural_gradient._improve, CARTPOLE, model, learner.params)
    _, shared = jax.jit(jax.vmap(improve, axis_name=AXIS))(halves)
    for name in ("policy/kl", "loss/policy", "grad_norm", "policy/entropy", "policy/step_fraction"):
        assert_allclose(shared[name], np.stack([metrics[name]] * 2), rtol=1e-4, err_msg=name)


def test_the_fisher_information_of_fewer_rows_is_another_one(state, iterated):
    fewer, _ = ITERATE(CARTPOLE.replace(fisher_stride=4), state)
    policy, value = parts(fewer.learner.params)
    all_policy, all_value = parts(iterated[0].learner.params)
    assert 1e-4 < np.abs(policy - all_policy).max() < 0.5
    np.testing.assert_array_equal(value, all_value)


# --- training -------------------------------------------------------------------------------------


PROBE = natural_gradient.Config(
    total_timesteps=16 * 16 * 40,
    num_envs=16,
    num_steps=16,
    num_minibatches=4,
    learning_rate=1e-2,
    gamma=0.9,
    hidden_sizes=(16, 16),
    max_kl=0.05,
)
BOX = probes.Probe(discrete=False)


def test_no_step_of_a_run_breaks_the_trust_region():
    """A real action follows its cue, in units of the environment; every KL is within bounds."""
    params = probes.params(base=1, cost=0.25, follow=-1.5, show_cue=1, length=1)
    config = PROBE.replace(env=BOX, env_params=params)
    state, metrics = jax.jit(jaxrl_pg.train)(config, jax.random.key(1))
    obs = jnp.array([(0.0, 0.0, 1.0), (2.0, 0.0, 1.0)])
    raw = natural_gradient.act(config, state.learner, obs, jax.random.key(0), True)
    env = envs.make(config.env, config.env_params)
    assert_allclose(np.ravel(envs.to_env_action(env, raw)), [1.5, -1.5], atol=0.1)
    kl, fraction = metrics["policy/kl"], np.asarray(metrics["policy/step_fraction"])
    accepted = np.asarray(metrics["policy/line_search_accepted"])
    assert np.all(kl <= 0.05)
    assert np.max(kl) > 0.02
    assert set(accepted) <= {0.0, 1.0}
    assert accepted.mean() > 0.5
    np.testing.assert_array_equal(fraction > 0.0, accepted == 1.0)
    tries = np.log(fraction[fraction > 0]) / np.log(0.8)
    assert_allclose(tries, np.round(tries), atol=1e-4)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shared_torso": True}, "shared_torso=True: .* policy alone; give False"),
        ({"method": "trop"}, "method='trop': did you mean 'trpo'"),
        ({"num_minibatches": 7}, "num_minibatches=7 on num_devices=1: give an even split"),
        ({"num_envs": 6, "num_steps": 3, "fisher_stride": 19}, "fisher_stride=19"),
        ({"backtrack_coef": 1.0}, "backtrack_coef=1.0: give a number > 0 and < 1"),
        ({"max_kl": 0.0}, "max_kl=0.0: give a number > 0"),
        ({"line_search_steps": 0}, "line_search_steps=0: give a whole number >= 1"),
        ({"cg_iterations": 0}, "cg_iterations=0: give a whole number >= 1"),
    ],
)
def test_what_cannot_run_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        natural_gradient.Config(**{"num_minibatches": 1, **values})
