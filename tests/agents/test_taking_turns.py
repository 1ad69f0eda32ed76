"""Players who take turns, by hand: who sees what when, losses, one player alone, refusals."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from steps import compiled

from jaxrl_pg import analytical, multi_agent
from jaxrl_pg.components import on_policy
from jaxrl_pg.envs import from_mdp, games
from jaxrl_pg.ops import joint_actions
from jaxrl_pg.ops.collectives import AXIS
from jaxrl_pg.theory import mdp
from jaxrl_pg.types import Transition
from programs import TINY

SIZES = {**TINY, "num_envs": 8, "num_steps": 2}
GAME = games.MatrixGame(np.arange(6.0).reshape(2, 3))
CONFIG = multi_agent.Config(env=GAME, factors=(2, 3), **SIZES)
START, ITERATE = jax.jit(multi_agent.init), jax.jit(multi_agent.iterate)
PLAN = compiled(multi_agent._plan, multi_agent.build)
TURNS = compiled(multi_agent._take_turns, multi_agent.build)
KEYS = jax.random.key(1), jax.random.key(2)


def plan_of(config, advantage, learner, num=16):
    obs = jnp.ones((num, 1))
    old = multi_agent.build(config).log_policies(learner.params.policies, obs)
    advantage = jnp.tile(jnp.asarray(advantage, jnp.float32)[None], (num, 1))
    zero = jnp.zeros((), jnp.int32)
    return multi_agent.Plan(obs, advantage, old, jnp.ones(()), zero, jnp.asarray(0.05))


def policies_in(config, policies):
    return np.exp(multi_agent.build(config).log_policies(policies, jnp.ones((1, 1)))[:, 0])


# --- turns ----------------------------------------------------------------------------------------

LONG = CONFIG.replace(num_epochs=200, ent_coef=0.0, step_size="scheduled", c_start=1.0, c_end=1.0)
PAYS = [0.0, 0.0, 0.0, 0.0, 4.0, -4.0]  # of (0, 0), (0, 1), ... (1, 2)


def updated(order, key):
    config = LONG.replace(order=order)
    learner = START(config, jax.random.key(0)).learner
    (policies, _), metrics = TURNS(config, learner, plan_of(config, PAYS, learner), key, KEYS[1])
    return policies_in(config, policies), metrics


def test_who_comes_second_sees_what_the_first_has_become():
    """From nearly uniform policies at C = 1; the first key lets player 0 begin, the other player 1.

    Player 0 on uniform others: A = (0, 0), so it stays at (1/2, 1/2), and 1 then sees
    (0, 2, -2): (1, e^2, e^-2) / 8.524. If 1 is first it becomes that, and 0 then sees
    (0, (4 e^2 - 4 e^-2) / 8.524) = (0, 3.404): 1 / (1 + e^-3.404) = .9678.
    """
    orders = {}
    for seed in range(8):
        key = jax.random.key(seed)
        orders.setdefault(int(jax.random.permutation(key, 2)[0]), key)
    second = np.exp([0.0, 2.0, -2.0]) / np.sum(np.exp([0.0, 2.0, -2.0]))
    acts = 1.0 / (1.0 + np.exp(-4.0 * (second[1] - second[2])))
    for first, act in ((0, 0.5), (1, acts)):
        policies, metrics = updated("sequential", orders[first])
        assert_allclose(policies[0], [1.0 - act, act, 0.0], atol=0.01)
        assert_allclose(policies[1], second, atol=0.01)
        assert_allclose(metrics["analytical/c"], 1.0, rtol=1e-6)
        together, _ = updated("simultaneous", orders[first])
        assert_allclose(together[0], [0.5, 0.5, 0.0], atol=0.01)
        assert_allclose(together[1], second, atol=0.01)


def test_a_tiny_constant_is_no_danger_to_whom_has_fewer_actions():
    """What a player cannot do is worth nothing to it, not 0 where all else is worth -10."""
    learner = START(LONG, jax.random.key(0)).learner
    plan = plan_of(LONG, np.subtract(PAYS, 10.0), learner)
    config = LONG.replace(c_start=1e-4, c_end=1e-4)
    (policies, _), metrics = TURNS(config, learner, plan, *KEYS)
    assert all(np.isfinite(x) for x in metrics.values())
    policies = policies_in(config, policies)
    assert policies[0, 2] == 0.0
    assert policies[1, 1] > 0.8


def test_the_size_of_advantages_is_the_largest_that_a_player_sees():
    # Uniform policies, no critic: one taken action (1, 1) of advantage 6 weighs 1 at most. Centred:
    # (5, ..., -1 elsewhere). Player 0 sees (-1, (5 - 1 - 1) / 3) = (-1, 1), player 1 (-1, 2, -1).
    config = CONFIG.replace(eps_decay=0.0)
    learner = START(config, jax.random.key(0)).learner
    critic = jax.tree.map(jnp.zeros_like, learner.params.critic)
    policies = jax.tree.map(jnp.zeros_like, learner.params.policies)
    learner = learner._replace(params=multi_agent.Parts(policies, critic))
    ones = jnp.ones(1)
    batch = on_policy.Batch(
        obs=ones[:, None], action=jnp.array([4]), log_prob=ones, value=ones, advantage=6.0 * ones,
        target=ones,
    )  # fmt: skip
    plan = PLAN(config, learner, batch, jnp.zeros((), jnp.int32))
    assert_allclose(plan.advantage, [[-1.0, -1.0, -1.0, -1.0, 5.0, -1.0]], atol=1e-5)
    assert_allclose(plan.eps, 2.0, rtol=1e-5)


def test_one_player_alone_has_the_target_of_the_analytical_agent_over_all_actions():
    game = games.MatrixGame(np.arange(3.0))
    config = multi_agent.Config(env=game, factors=(3,), kl_target=0.1, **SIZES)
    other = analytical.Config(env=game, target="all_actions", kl_target=0.1, **SIZES)
    learner = START(config, jax.random.key(0)).learner
    policies = jax.tree.map(jnp.zeros_like, learner.params.policies)
    learner = learner._replace(params=learner.params._replace(policies=policies))
    peer = jax.jit(analytical.init)(other, jax.random.key(0)).learner
    q = jnp.array([0.3, -1.0, 0.5])
    critic = jax.tree.map(jnp.zeros_like, peer.critic)
    critic["params"]["critic_0"]["value_head"]["bias"] = q
    peer = peer._replace(params=jax.tree.map(jnp.zeros_like, peer.params), critic=critic)
    critic = jax.tree.map(jnp.zeros_like, learner.params.critic)
    critic["params"]["critic_0"]["value_head"]["bias"] = jnp.concatenate([jnp.ones(1), q])
    learner = learner._replace(params=learner.params._replace(critic=critic))
    zeros, zero = jnp.zeros(16), jnp.zeros((), jnp.int32)
    batch = on_policy.Batch(
        obs=jnp.ones((16, 1)), action=jnp.arange(16) % 3, log_prob=zeros, value=zeros,
        advantage=jnp.sin(jnp.arange(16.0)), target=zeros,
    )  # fmt: skip
    plan = PLAN(config, learner, batch, zero)
    _, metrics = TURNS(config, learner, plan, *KEYS)
    _, eps, peer_metrics = compiled(analytical._weigh_all_actions)(other, peer, batch, zero)
    assert_allclose(plan.eps, eps, rtol=1e-5)
    for name, number in peer_metrics.items():
        assert_allclose(metrics[name], number, rtol=1e-4, err_msg=name)


def test_turns_on_two_devices_are_the_turns_on_one():
    learner = START(CONFIG, jax.random.key(0)).learner
    plan = plan_of(CONFIG, PAYS, learner)
    scales = jnp.linspace(0.2, 3.0, 16)[:, None]
    plan = plan._replace(advantage=plan.advantage * scales)
    config = CONFIG.replace(num_epochs=1, num_minibatches=1)
    whole, one = TURNS(config, learner, plan, *KEYS)
    halves = plan._replace(
        obs=plan.obs.reshape(2, 8, 1),
        advantage=plan.advantage.reshape(2, 8, 6),
        old=plan.old.reshape(2, 2, 8, 3).swapaxes(0, 1),
    )
    axes = multi_agent.Plan(0, 0, 0, None, None, None)
    turns = partial(multi_agent._take_turns, config, multi_agent.build(config), learner)
    each = jax.vmap(turns, (axes, None, None), axis_name=AXIS)
    two, both = jax.jit(each)(halves, *KEYS)
    assert_allclose(both["analytical/c"], jnp.full(2, one["analytical/c"]), rtol=1e-3)
    for both_devices, alone in zip(jax.tree.leaves(two[0]), jax.tree.leaves(whole[0]), strict=True):
        assert_allclose(both_devices[0], both_devices[1], rtol=1e-5)
        assert_allclose(both_devices[0], alone, rtol=1e-2, atol=1e-3)


# --- local observations ---------------------------------------------------------------------------

ROOM = from_mdp.from_mdp(
    mdp.make(np.full((3, 6, 3), 1 / 3), np.zeros((3, 6)), np.full(3, 1 / 3), 0.5)
)  # three states, seen as one-hot rows
LOCAL = LONG.replace(env=ROOM, views=(2, 1))


def test_players_see_their_own_parts_and_the_critic_all():
    model, learner = multi_agent.build(LOCAL), START(LOCAL, jax.random.key(0)).learner
    obs = jax.random.normal(jax.random.key(1), (4, 3))
    assert_array_equal(model.seen(obs)[0], obs[:, :2])
    assert_array_equal(model.seen(obs)[1], jnp.stack([obs[:, 2], jnp.zeros(4)], axis=1))
    policies = model.log_policies(learner.params.policies, obs)
    for column, player in ((0, 0), (1, 0), (2, 1)):
        other = model.log_policies(learner.params.policies, obs.at[:, column].add(1.0))
        assert np.all(other[player] != policies[player], where=policies[player] > -1e5)
        assert_array_equal(other[1 - player], policies[1 - player])
    value = model.value(learner, obs)
    assert np.all(value != model.value(learner, obs.at[:, 2].add(1.0)))


def test_a_policy_of_a_part_is_the_mean_of_the_targets_of_states_that_look_alike():
    """Player 1 sees states 0 and 1 as (0), and 2 as (1); C = 1, and the others are uniform.

    Its advantages, from those of all joint actions, are (0, 2, -2) in state 0, (0, -2, 2) in 1 and
    (0, 2, -2) in 2. In state 0 the target is (1, e^2, e^-2) / 8.524, in 1 the same turned round,
    and their mean (0.117, 0.441, 0.441).
    """
    learner = START(LOCAL, jax.random.key(0)).learner
    model = multi_agent.build(LOCAL.replace(order="simultaneous"))
    turned = [0.0, 0.0, 0.0, 0.0, -4.0, 4.0]
    advantage = jnp.tile(jnp.array([PAYS, turned, PAYS]), (8, 1))
    obs = jnp.tile(jnp.eye(3), (8, 1))
    uniform = dict(learner.params.policies["params"])
    uniform["policy_head"] = jax.tree.map(jnp.zeros_like, uniform["policy_head"])
    learner = learner._replace(params=learner.params._replace(policies={"params": uniform}))
    old, zero = model.log_policies({"params": uniform}, obs), jnp.zeros((), jnp.int32)
    plan = multi_agent.Plan(obs, advantage, old, jnp.ones(()), zero, jnp.asarray(0.05))
    (policies, _), _ = TURNS(LOCAL.replace(order="simultaneous"), learner, plan, *KEYS)
    found = np.exp(model.log_policies(policies, jnp.eye(3)))[1]
    target = np.exp([0.0, 2.0, -2.0]) / np.sum(np.exp([0.0, 2.0, -2.0]))
    mixed = (target + target[[0, 2, 1]]) / 2.0
    assert_allclose(found, [mixed, mixed, target], atol=0.02)


# --- losses ---------------------------------------------------------------------------------------


def test_the_cross_entropy_is_over_a_players_own_actions():
    # Zero parameters: player 0 has log 1/2 for each of its two actions, and -1e6 for the third.
    params = jax.tree.map(
        lambda x: jnp.zeros(x.shape[1:]), START(CONFIG, KEYS[0]).learner.params[0]
    )
    target = jnp.log(jnp.array([[0.25, 0.75, 1.0]])) + jnp.array([[0.0, 0.0, joint_actions.NEVER]])
    rows = (jnp.ones((1, 1)), target)
    config = CONFIG.replace(ent_coef=0.1)
    model, num_own = multi_agent.build(config), jnp.array(2)
    loss = jax.value_and_grad(
        lambda params: multi_agent._policy_loss(config, model, num_own, rows, params), has_aux=True
    )
    (total, metrics), grads = jax.jit(loss)(params)
    assert_allclose(metrics["loss/policy"], math.log(2.0), rtol=1e-5)
    assert_allclose(total, 0.9 * math.log(2.0), rtol=1e-5)
    entropy = 0.25 * math.log(4.0) + 0.75 * math.log(4.0 / 3.0)
    assert_allclose(metrics["analytical/projection_kl"], math.log(2.0) - entropy, rtol=1e-4)
    head = np.asarray(grads["params"]["policy_head"]["bias"])
    assert_allclose(head, [0.5 - 0.25, 0.5 - 0.75, 0.0], atol=1e-6)


def test_the_critic_learns_values_and_what_was_taken_is_worth():
    # V = 2 against 5: 9 / 2. Joint values (0, 6) under (1/3, 2/3), centred (-4, 2); the second
    # taken, against an advantage of 3: 1 / 2.
    game = games.MatrixGame([0.0, 1.0])
    config = multi_agent.Config(env=game, factors=(2,), **SIZES)
    params = jax.tree.map(jnp.zeros_like, START(config, KEYS[0]).learner.params.critic)
    params["params"]["critic_0"]["value_head"]["bias"] = jnp.array([2.0, 0.0, 6.0])
    ones = jnp.ones(1)
    batch = on_policy.Batch(ones[:, None], jnp.array([1]), ones, ones, 3.0 * ones, 5.0 * ones)
    log_policy = jnp.log(jnp.array([[1.0, 2.0]]) / 3.0)
    model = multi_agent.build(config)
    total, metrics = multi_agent._critic_loss(model, (batch, log_policy), params)
    assert_allclose([metrics["loss/value"], metrics["loss/q"], total], [4.5, 0.5, 5.0], rtol=1e-5)


# --- acting and rollouts --------------------------------------------------------------------------


def test_players_act_together():
    learner = START(CONFIG, jax.random.key(0)).learner
    policies = jax.tree.map(jnp.zeros_like, learner.params.policies)
    bias = jnp.log(jnp.array([[0.2, 0.8, 1.0], [0.5, 0.1, 0.4]]))
    policies["params"]["policy_head"]["bias"] = bias
    learner = learner._replace(params=learner.params._replace(policies=policies))
    obs = jnp.ones((20_000, 1))
    best = multi_agent.act(CONFIG, learner, obs[:2], KEYS[0], True)
    assert_array_equal(best, [3, 3])  # (1, 0)
    drawn = multi_agent.act(CONFIG, learner, obs, KEYS[0], False)
    frequency = np.bincount(np.asarray(drawn), minlength=6) / 20_000
    # Standard error of a frequency of 0.4: 0.0035.
    assert_allclose(frequency, [0.10, 0.02, 0.08, 0.40, 0.08, 0.32], atol=0.014)


def test_a_cut_step_bootstraps_and_an_ended_one_does_not():
    config = CONFIG.replace(gamma=0.5, gae_lambda=0.0)
    learner = START(config, jax.random.key(0)).learner
    critic = jax.tree.map(jnp.zeros_like, learner.params.critic)
    critic["params"]["critic_0"]["value_head"]["bias"] = jnp.arange(3.0, 10.0)  # V = 3
    learner = learner._replace(params=learner.params._replace(critic=critic))
    ones = jnp.ones((3, 1))
    flags = jnp.array([[False], [True], [False]]), jnp.array([[True], [False], [False]])
    final = jnp.array([[8.0], [0.0], [0.0]])
    steps = Transition(ones[..., None], ones.astype(int), ones, ones, *flags, final)
    actor = START(config, KEYS[0]).actor._replace(obs=jnp.ones((1, 1)))
    experience = on_policy.Experience(steps, actor, learner.normalizer, {}, None, None)
    batch = on_policy.make_batch(config, multi_agent.build(config), learner, experience)
    # r + gamma V' - V: 1 + 4 - 3, 1 - 3, 1 + 1.5 - 3.
    assert_allclose(batch.advantage, [2.0, -2.0, -0.5], rtol=1e-6)
    assert_allclose(batch.target, [5.0, 1.0, 2.5], rtol=1e-6)


def test_the_best_joint_action_is_learned_in_an_order_that_changes():
    config = CONFIG.replace(
        num_envs=64, num_epochs=4, learning_rate=0.02, ent_coef=0.0, total_timesteps=1_000_000
    )
    state, firsts = START(config, jax.random.key(0)), []
    for _ in range(30):
        firsts.append(int(jax.random.permutation(jax.random.split(state.key)[1], 2)[0]))
        state, metrics = ITERATE(config, state)
    assert 5 < sum(firsts) < 25
    assert float(metrics["train/return_mean"]) > 4.8  # (1, 2) pays 5, by chance 2.5 is paid
    policies = policies_in(config, state.learner.params.policies)
    assert policies[0, 1] > 0.95
    assert policies[1, 2] > 0.9


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"order": "sequentially"}, r"order='sequentially': did you mean 'sequential'\?"),
        ({"step_size": "fix"}, r"step_size='fix': did you mean 'fixed'"),
        ({"factors": (2, 0)}, r"factors=\(2, 0\): give a tuple of whole numbers >= 1"),
        ({"shared_torso": True}, r"shared_torso=True: .*give False"),
        ({"factors": (2, 2)}, r"factors=\(2, 2\) make 4 joint actions and .* has 6: give factors"),
        (
            {"views": (1,)},
            r"views=\(1,\) are for 1 players and factors=\(2, 3\) for 2: give as many",
        ),
        (
            {"views": (1, 1)},
            r"views=\(1, 1\) are 2 numbers in a row and .* shape \(1,\): give parts",
        ),
        ({"env": "Pendulum-v1"}, r"env='Pendulum-v1': .*finite action set; give another"),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(multi_agent.init, CONFIG.replace(**values)), jax.random.key(0))
