"""The update's kin: V-MPO and MPO against rlax, AWR, CRR and MDPO by hand, and what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special
from steps import compiled

import probes
from jaxrl_pg import analytical, analytical_replay
from jaxrl_pg.components import kin, networks, on_policy, step_size, trust
from jaxrl_pg.ops import closed_form, distributions
from jaxrl_pg.ops.collectives import AXIS
from programs import TINY, shaken

LINEAR = {**TINY, "hidden_sizes": ()}
ZERO = jnp.zeros((), jnp.int32)
INIT, ITERATE = jax.jit(analytical.init), jax.jit(analytical.iterate)
PLAN = compiled(analytical._weigh_taken_actions)
ALL_ACTIONS = {"target": "all_actions", "weighting": "exp"}


def batch_of(config, num=8, seed=0):
    """Random rows, whose actions the old policy may have taken."""
    rng = np.random.default_rng(seed)
    obs, advantage, target = rng.normal(size=(num, 3)), *rng.normal(size=(2, num))
    discrete = on_policy.build(config).env.spec.discrete
    action = rng.integers(2, size=num) if discrete else rng.normal(size=(num, 1))
    arrays = (obs, action, np.full(num, -1.0), np.zeros(num), advantage, target)
    types = (jnp.float32, jnp.int32 if discrete else jnp.float32, *[jnp.float32] * 4)
    return on_policy.Batch(*map(jnp.asarray, arrays, types))


def learners(config):
    """An old learner, and another one with other numbers in every parameter."""
    old = INIT(config, jax.random.key(0)).learner
    old = old._replace(params=shaken(old.params, 1))
    multipliers = shaken(old.multipliers, 3)
    return old, old._replace(params=shaken(old.params, 2), multipliers=multipliers)


def policy_loss(config, rows, params):
    """The policy's part of the loss, and its gradient."""

    @jax.jit
    def loss(params, config, rows):
        found = analytical._loss(config, on_policy.build(config), rows, params)
        return found[1]["loss/policy"]

    return jax.value_and_grad(loss)(params, config, rows)


# --- V-MPO and MPO --------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "box"])
def test_v_mpo_is_that_of_rlax_in_values_and_gradients(rlax, discrete):
    env = probes.Probe(discrete=discrete)
    config = analytical.v_mpo(env, **LINEAR, kl_target=0.2, max_kl=0.03, max_kl_std=0.4)
    batch, (old, new) = batch_of(config), learners(config)
    rows, _, metrics = PLAN(config, old, batch, ZERO)
    model = on_policy.build(config)
    family, bounds = model.family, (0.03, 0.4)

    @jax.jit
    def theirs(params, rows, constant):
        network, _, (log_m,) = params
        dist, m = model.network.apply(network, batch.obs, method="policy"), jnp.exp(log_m)
        moved = [dist]
        if not discrete:
            moved = [rows.old._replace(mean=dist.mean), dist._replace(mean=rows.old.mean)]
        constraints = [
            (family.kl(rows.old, x), rlax.LagrangePenalty(m[i], jnp.float32(bounds[i])))
            for i, x in enumerate(moved)
        ]
        loss, _ = rlax.vmpo_loss(
            family.log_prob(dist, batch.action),
            batch.advantage,
            rlax.LagrangePenalty(constant, jnp.float32(0.2)),
            constraints,
            temperature_loss_weight=0.0,
        )
        return jnp.mean(loss)

    params = (new.params, (), new.multipliers)
    value, grads = policy_loss(config, rows, (new.params, (), *new.multipliers))
    expected, their_grads = jax.value_and_grad(theirs)(params, rows, metrics["analytical/c"])
    assert_allclose(value, expected, rtol=1e-4)
    assert_allclose(grads[2], their_grads[2][0], rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda x, y: assert_allclose(x, y, rtol=1e-4, atol=1e-5), grads[0], their_grads[0])
    largest = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(grads[0]))
    assert largest > 0.05


def test_mpo_is_that_of_rlax_in_values_and_gradients(rlax):
    """K draws from pi_old at each state, one temperature for all states, two multipliers."""
    small = {"num_envs": 4, "num_steps": 4, "hidden_sizes": (), "num_actions_sampled": 5}
    bounds = {"max_kl": 0.03, "max_kl_std": 0.4}
    config = analytical_replay.mpo(probes.Probe(discrete=False), **small, **bounds)
    assert config.num_critics == 1
    model = analytical_replay.build(config)
    learner = jax.jit(analytical_replay.init)(config, jax.random.key(0)).learner
    old, new = shaken(learner.params, 1), shaken(learner.params, 2)
    obs, noise = jax.random.normal(jax.random.key(1), (6, 3)), jnp.ones((6, 5, 1))
    noise *= jnp.linspace(-2.0, 2.0, 5)[None, :, None]

    @jax.jit
    def e_step(obs, noise):
        actions = model.actions(old.policy, new.critics, obs, noise)
        advantage = closed_form.centred(actions.q, actions.log_prior)
        scale = jnp.max(jnp.abs(advantage))
        prior = actions.log_prior
        return actions, *step_size.improve(config, 0.99, prior, advantage, scale, ZERO)

    actions, log_target, metrics = e_step(obs, noise)
    log_m = jnp.array([0.3, -0.6])

    def ours(policy, log_m):
        loss = analytical_replay._policy_loss(
            policy, config, model, obs, actions, log_target, (log_m,)
        )
        return loss[0]

    def theirs(policy, log_m):
        dist, before, m = model.policy.apply(policy, obs), actions.dist, jnp.exp(log_m)
        moved = before._replace(mean=dist.mean), dist._replace(mean=before.mean)
        constraints = [
            (model.family.kl(before, x), rlax.LagrangePenalty(m[i], jnp.float32(bound)))
            for i, (x, bound) in enumerate(zip(moved, bounds.values(), strict=True))
        ]
        loss, _ = rlax.mpo_loss(
            model.log_prob(dist, actions),
            actions.q,
            rlax.LagrangePenalty(metrics["analytical/c"], jnp.float32(0.1)),
            constraints,
            temperature_loss_weight=0.0,
            sample_axis=1,
        )
        return jnp.mean(loss)

    value, grads = jax.jit(jax.value_and_grad(ours, (0, 1)))(new.policy, log_m)
    expected, their_grads = jax.jit(jax.value_and_grad(theirs, (0, 1)))(new.policy, log_m)
    assert_allclose(value, expected, rtol=1e-4)
    jax.tree.map(lambda x, y: assert_allclose(x, y, rtol=1e-3, atol=1e-5), grads, their_grads)


BOUNDS = (1e-7, 10.0)


def test_learned_multipliers_move_with_the_divergence():
    """Towards a bound that is passed they rise, and for one out of reach they fall.

    Adam's steps are at most the learning rate long: 8 of 0.01 in two iterations. In the first of
    them the policy is the old one, and stands within both bounds.
    """
    moved = []
    for bound in BOUNDS:
        fields = {"trust": "multipliers", "learning_rate": 0.01, "anneal_lr": False}
        config = analytical.Config(env=probes.Probe(), max_kl=bound, **fields, **LINEAR)
        state = INIT(config, jax.random.key(0))
        for _ in range(2):
            state, metrics = ITERATE(config, state)
        moved.append(float(metrics["policy/kl_coef"]))
        assert_allclose(np.exp(state.learner.multipliers[0]), moved[-1:], rtol=1e-6)
    assert math.exp(-0.081) < moved[1] < 0.95 < 1.02 < moved[0] < math.exp(0.081)


def test_those_of_a_replay_have_an_adam_of_their_own():
    config = analytical_replay.Config(
        env=probes.Probe(), trust="multipliers", learning_rate=0.01, hidden_sizes=(), num_envs=4
    )
    learner = jax.jit(analytical_replay.init)(config, jax.random.key(0)).learner
    step = compiled(analytical_replay._policy_step, analytical_replay.build)
    obs = jax.random.normal(jax.random.key(1), (8, 3))
    # The policy has left pi_old, so that its divergence is between the bounds.
    params = learner.params._replace(policy=shaken(learner.old, 2))
    learner = learner._replace(params=params)
    for bound, sign in zip(BOUNDS, (1.0, -1.0), strict=True):
        after, metrics = step(config.replace(max_kl=bound), learner, ZERO, obs, jnp.zeros(8))
        assert_allclose(after.multipliers[0], [0.01 * sign], rtol=1e-2)
        assert_allclose(metrics["policy/kl_coef"], math.exp(0.01 * sign), rtol=1e-4)


# --- AWR and MDPO ---------------------------------------------------------------------------------


def test_awr_weighs_standardised_advantages_up_to_a_clip():
    config = analytical.awr(probes.Probe(), **LINEAR, temperature=0.5, weight_clip=3.0)
    batch = batch_of(config)
    rows, eps, metrics = PLAN(config, learners(config)[0], batch, ZERO)
    a = np.asarray(batch.advantage, float)
    a = (a - a.mean()) / a.std()
    f = np.minimum(np.exp(a / 0.5), 3.0)
    assert 0 < np.sum(f == 3.0) < 8
    assert_allclose(np.exp(rows.log_target), f / f.mean(), rtol=1e-4)
    assert_allclose([eps, metrics["analytical/c"]], [np.abs(a).max(), 0.5], rtol=1e-5)
    assert_allclose(rows.batch.advantage, a, rtol=1e-4, atol=1e-6)
    # The value network's targets are in the units that they were in.
    assert_array_equal(rows.batch.target, batch.target)


@pytest.mark.parametrize("discrete", [True, False], ids=["discrete", "box"])
def test_mdpo_descends_the_surrogate_and_the_divergence_by_definition(discrete):
    config = analytical.mdpo(probes.Probe(discrete=discrete), **LINEAR, temperature=0.7)
    batch, (old, new) = batch_of(config), learners(config)
    rows, _, metrics = PLAN(config, old, batch, ZERO)
    rows = rows._replace(constant=jnp.broadcast_to(metrics["analytical/c"], (8,)))
    value, _ = policy_loss(config, rows, (new.params, ()))
    model = on_policy.build(config)
    before, after = (model.network.apply(x.params, batch.obs, method="policy") for x in (old, new))
    a = np.asarray(batch.advantage, float)
    a = (a - a.mean()) / a.std()
    log_prob = np.asarray(model.family.log_prob(after, batch.action), float)
    # The old policy's log-probabilities are -1, as `batch_of` says.
    surrogate = np.mean(np.exp(log_prob + 1.0) * a)
    divergence = np.mean(np.asarray(model.family.kl(after, before), float))
    assert_allclose(value, 0.7 * divergence - surrogate, rtol=1e-4)


def test_over_all_actions_the_other_projection_is_that_of_the_surrogate():
    """C KL(pi || pi_target) has the gradient of -E_pi A + C KL(pi || pi_old): log Z is constant."""
    config = analytical.Config(
        env=probes.Probe(), **LINEAR, target="all_actions", projection="reverse"
    )
    rng = np.random.default_rng(4)
    old, advantage, logits = (jnp.asarray(x, jnp.float32) for x in rng.normal(size=(3, 6, 2)))
    old = jax.nn.log_softmax(old)
    advantage = closed_form.centred(advantage, old)
    rows = analytical.Rows((), closed_form.log_target(old, advantage, 0.6), old, jnp.full(6, 0.6))

    def theirs(logits):
        divergence = distributions.CATEGORICAL.kl(logits, old)
        gain = jnp.sum(jax.nn.softmax(logits) * advantage, axis=1)
        return jnp.mean(0.6 * divergence - gain)

    ours = jax.jit(jax.grad(lambda x: analytical._fit_all_actions(config, rows, x)[0]))
    assert_allclose(ours(logits), jax.jit(jax.grad(theirs))(logits), rtol=1e-4, atol=1e-6)
    assert float(jnp.max(jnp.abs(ours(logits)))) > 0.01
    assert_allclose(ours(rows.log_target), jnp.zeros((6, 2)), atol=1e-6)


def test_a_fixed_c_is_the_temperature_and_an_annealed_one_falls_to_0_after_the_last_iteration():
    """1 - k / K of it in iteration k of K = 4: 2, 3/2, 1, 1/2; the step's C: 2, 8/3, 4, 8.

    Beyond the last iteration it stays what it was in it.
    """
    config = analytical.Config(
        env=probes.Probe(), **TINY, total_timesteps=64, temperature=2.0, step_size="annealed"
    )
    assert config.num_iterations == 4

    def constant(config, k):
        progress = step_size.progress(config, jnp.asarray(k))
        return step_size.constant(config, 0.9, jnp.float32(5.0), progress, None)

    falling = [constant(config, k) for k in range(6)]
    assert_allclose(falling, [2.0, 1.5, 1.0, 0.5, 0.5, 0.5], rtol=1e-6)
    step = config.replace(step_size="annealed_step")
    rising = [constant(step, k) for k in range(6)]
    assert_allclose(rising, [2.0, 8 / 3, 4.0, 8.0, 8.0, 8.0], rtol=1e-6)
    assert analytical.mdpo("CartPole-v1").step_size == "annealed_step"
    fixed = config.replace(step_size="fixed")
    assert_allclose([constant(fixed, k) for k in range(4)], [2.0] * 4)
    config = config.replace(hidden_sizes=())
    _, _, metrics = PLAN(config, learners(config)[0], batch_of(config), jnp.asarray(3))
    assert_allclose(metrics["analytical/c"], 0.5, rtol=1e-6)


# --- CRR ------------------------------------------------------------------------------------------


def test_the_target_of_crr_by_hand():
    """pi_old = (1/2, 1/4, 1/4) and Q = (1, 2, 4): V = 2, A = (-1, 0, 2).

    Binary: the third action alone. Clipped at 2 with C = 1: f = (1/e, 1, 2), so pi_target is
    proportional to (1/(2e), 1/4, 1/2). A second state sees no difference and stays as it is.
    """
    config = analytical_replay.crr("CartPole-v1", temperature=1.0, weight_clip=2.0)
    prior = np.log([[0.5, 0.25, 0.25]] * 2)
    advantage = jnp.asarray([[-1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    for kind, first in {
        "binary": [0.0, 0.0, 1.0],
        "clipped": np.array([0.5 / math.e, 0.25, 0.5]) / (0.5 / math.e + 0.75),
    }.items():
        log_target, _ = step_size.improve(
            config, 0.9, jnp.asarray(prior, jnp.float32), advantage, jnp.ones(()), ZERO, kind, 2.0
        )
        assert_allclose(np.exp(log_target), [first, [0.5, 0.25, 0.25]], rtol=1e-5)


# --- masks, devices, refusals ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exp", "clipped", "binary"])
def test_illegal_actions_keep_probability_0_in_every_target(kind):
    """Also where no legal action is better than another, and where one alone is legal."""
    legal = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0]], bool)
    obs = {"action_mask": jnp.asarray(legal)}
    logits = jnp.asarray(np.random.default_rng(5).normal(size=(3, 4)), jnp.float32)
    prior = jax.nn.log_softmax(networks.legal_logits(obs, logits))
    q = jnp.asarray([[1.0, -2.0, 9.0, 4.0], [3.0, 3.0, 99.0, -99.0], [1.0, 2.0, 3.0, 4.0]])
    advantage = closed_form.centred(networks.legal_only(obs, q), prior)
    advantage = networks.legal_only(obs, advantage)
    for step in ("kl", "fixed"):
        config = analytical.Config(step_size=step, temperature=0.01)
        log_target, metrics = step_size.improve(
            config, 0.9, prior, advantage, jnp.ones(()), ZERO, kind
        )
        target = np.exp(np.asarray(log_target))
        assert_array_equal(target[~legal], np.zeros(6))
        assert_allclose(target.sum(axis=1), np.ones(3), rtol=1e-5)
        assert_allclose(target[1], np.exp(prior)[1], rtol=1e-4)
        assert np.all(np.isfinite(list(metrics.values())))


def test_no_gradient_of_what_holds_a_policy_is_of_an_illegal_action():
    legal = jnp.asarray([[True, True, False], [False, True, False]])
    old, new = (
        networks.legal_logits({"action_mask": legal}, jnp.asarray(x, jnp.float32))
        for x in np.random.default_rng(6).normal(size=(2, 2, 3))
    )
    config = analytical.v_mpo("CartPole-v1")

    def loss(new):
        return trust.holding_loss(config, distributions.CATEGORICAL.kl, old, new, jnp.zeros(1))

    found = np.asarray(jax.grad(loss)(new))
    assert np.all(np.isfinite(found))
    assert_array_equal(found[~np.asarray(legal)], np.zeros(3))
    assert np.abs(found[0, 0]) > 0.01


def test_the_median_is_of_the_whole_batch_on_two_devices():
    config = analytical.v_mpo(probes.Probe(), **LINEAR)
    batch, learner = batch_of(config), learners(config)[0]
    batch = batch._replace(advantage=jnp.sort(batch.advantage))
    whole, _, one = PLAN(config, learner, batch, ZERO)
    halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), batch)
    model = on_policy.build(config)

    def plan(half):
        return analytical._weigh_taken_actions(config, model, learner, half, ZERO)

    rows, _, two = jax.jit(jax.vmap(plan, axis_name=AXIS))(halves)
    weight = np.exp(np.asarray(rows.log_target))
    assert_array_equal(weight[0], np.zeros(4))
    assert_allclose(weight.ravel(), np.exp(whole.log_target), rtol=1e-2, atol=1e-7)
    # eps is a mean of the devices' largest |A|, and C is looked for in units of it.
    assert_allclose(two["analytical/c"], jnp.full(2, one["analytical/c"]), rtol=1e-3)


def test_presets_are_named_choices_that_fields_replace():
    env = "CartPole-v1"
    assert analytical.v_mpo(env) == analytical.Config(env=env, **kin.V_MPO)
    assert analytical.awr(env, temperature=0.1).temperature == 0.1
    assert analytical.mdpo(env, step_size="kl").step_size == "kl"
    assert analytical_replay.crr(env, weighting="clipped").weighting == "clipped"
    assert analytical_replay.mpo(env, num_critics=2).num_critics == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**ALL_ACTIONS, "weighting": "top_half"}, r"weighting='top_half' is of the actions taken"),
        ({**ALL_ACTIONS, "normalize_advantage": True}, r"normalize_advantage=True is of .* taken"),
        ({"projection": "reverse", "weighting": "binary"}, r"give weighting='exp'"),
        ({"temperature": 0.0}, r"temperature=0.0: give a number > 0"),
        ({"max_kl": 0.0}, r"max_kl=0.0: give a number > 0"),
        ({"trust": "multiplier"}, r"trust='multiplier': did you mean 'multipliers'\?"),
    ],
)
def test_what_excludes_each_other_is_refused_in_one_line(values, message):
    with pytest.raises(ValueError, match=message) as error:
        analytical.Config(**values)
    assert "\n" not in str(error.value)


def test_a_replay_has_no_larger_half():
    with pytest.raises(ValueError, match=r"weighting='top_half': .*allowed: binary, clipped, exp"):
        analytical_replay.Config(weighting="top_half")


def test_the_default_factor_over_all_actions_is_exp_of_a_over_c():
    prior, advantage = np.log([[0.2, 0.8]]), np.array([[1.0, -0.25]])
    config = analytical.Config(step_size="fixed", temperature=0.5)
    arrays = (jnp.asarray(x, jnp.float32) for x in (prior, advantage))
    log_target, _ = step_size.improve(config, 0.9, *arrays, jnp.ones(()), ZERO)
    assert_allclose(log_target, special.log_softmax(prior + advantage / 0.5, axis=1), rtol=1e-5)
