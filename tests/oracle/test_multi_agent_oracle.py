"""Players who take turns against the exact ones: turn by turn with exact parts, and learned.

With one-hot observations, no hidden layer, exact joint advantages and a full projection, a player's
turn is a turn of `theory.updates.multi_agent`; all at once, the players lose where the exact ones
do.
"""

from functools import cache, partial
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import programs
from jaxrl_pg.agents import multi_agent as agent
from jaxrl_pg.envs import from_mdp, games
from jaxrl_pg.theory import mdp, solve
from jaxrl_pg.theory.updates import constants, multi_agent

FULL = {
    "num_steps": 1,
    "num_epochs": 400,
    "num_minibatches": 1,
    "hidden_sizes": (),
    "learning_rate": 0.05,
    "ent_coef": 0.0,
    "anneal_lr": False,
    "step_size": "scheduled",
    "correction_clip": 0.0,
    "max_grad_norm": 1e6,
}
ORDERS = get_args(get_type_hints(agent.Config)["order"])
KEYS = jax.random.key(1), jax.random.key(2)


@jax.jit
def take_turns(config, learner, plan, order_key, key):
    return agent._take_turns(config, agent.build(config), learner, plan, order_key, key)


def first_turn(config, learner, plan, player):
    """The learner after the one turn of a player, who is the first of two."""
    orders = ((key, jax.random.permutation(key, 2)) for key in map(jax.random.key, range(100)))
    order_key = next(key for key, order in orders if order[0] == player)
    fit, _ = take_turns(config, learner, plan, order_key, KEYS[0])
    old = learner.params.policies, learner.opt_state.policies
    policies, opt_state = jax.tree.map(lambda x, new: x.at[player].set(new[player]), old, fit)
    return learner._replace(
        params=learner.params._replace(policies=policies),
        opt_state=learner.opt_state._replace(policies=opt_state),
    )


def learner_of(config, log_policies):
    """Fresh, but with the given policies `[I, S, K]`."""
    learner = jax.jit(agent.init)(config, jax.random.key(0)).learner
    heads = dict(learner.params.policies["params"])
    kernel = jnp.asarray(log_policies, jnp.float32)
    heads["policy_head"] = {"kernel": kernel, "bias": jnp.zeros(kernel.shape[::2])}
    return learner._replace(params=learner.params._replace(policies={"params": heads}))


def plan_of(config, advantage, log_policies, constant):
    """For one row a state, with C = constant: the schedule's, as eps is 1."""
    every, rate = jnp.eye(log_policies.shape[1]), jnp.asarray(config.learning_rate)
    advantage, old = (jnp.asarray(x, jnp.float32) for x in (advantage, log_policies))
    config = config.replace(c_start=constant, c_end=constant)
    return config, agent.Plan(every, advantage, old, jnp.ones(()), jnp.zeros(()), rate)


def policies_in(config, policies, num_states):
    log_policies = agent.build(config).log_policies(policies, jnp.eye(num_states))
    return np.asarray(jax.nn.log_softmax(log_policies), float)


# --- the game of two ------------------------------------------------------------------------------

GAME = agent.Config(env="Overshoot-matrix", factors=(2, 2), num_envs=1, **FULL)
# J of the exact updates at gamma = 1/2, from .32: all at once, and after each turn.
KNOWN = [
    (10.0, 0.333030, None),
    (0.5, 0.496962, None),
    (0.3, 0.177264, (0.7410, 0.8895)),
    (0.1, -3.7419, (1.3738, 1.9564)),
]


def objective(log_policies):
    first, second = np.exp(log_policies[:, 0])
    return 2.0 * first @ np.asarray(games.OVERSHOOT) @ second


@pytest.mark.parametrize(("constant", "together", "in_turn"), KNOWN)
def test_all_at_once_they_lose_what_the_exact_players_lose_and_in_turn_they_do_not(
    constant, together, in_turn
):
    start = np.log(np.tile([[[0.9, 0.1]]], (2, 1, 1)))
    assert_allclose(objective(start), 0.32, rtol=1e-12)
    reached = {}
    for order in ORDERS:
        config = GAME.replace(order=order)
        advantage = np.asarray(games.OVERSHOOT).reshape(1, 4)
        config, plan = plan_of(config, advantage, start, constant)
        learner = learner_of(config, start)
        (policies, _), metrics = take_turns(config, learner, plan, *KEYS)
        reached[order] = objective(policies_in(config, policies, 1))
        assert_allclose(metrics["analytical/c"], constant, rtol=1e-5)
        assert float(metrics["analytical/projection_kl"]) < 1e-4
    assert_allclose(reached["simultaneous"], together, rtol=0, atol=3e-3)
    assert (reached["simultaneous"] < 0.32) == (constant <= 0.3)
    assert reached["sequential"] > 0.32
    if in_turn is not None:
        assert_allclose(reached["sequential"], in_turn[1], rtol=0, atol=3e-3)


# --- a Markov game, turn by turn ------------------------------------------------------------------


def markov_game():
    """Three states, two players of two actions: all of it formulas."""
    s, a, k = np.ogrid[:3, :4, :3]
    weight = 1.0 + ((s + 2) * (a + 3) * (k + 1)) % 7
    s, a = np.ogrid[:3, :4]
    reward = ((2 * s + 3 * a * (a + 1)) % 5) / 5
    return mdp.make(weight / weight.sum(2, keepdims=True), reward, [0.5, 0.3, 0.2], 0.9)


def exact(log_policies):
    with jax.enable_x64(True):
        policy = jnp.exp(multi_agent.joint_policy(jnp.asarray(log_policies, float)))
        return jax.tree.map(np.asarray, solve.evaluate(markov_game(), policy))


def test_turns_with_exact_advantages_are_the_exact_turns():
    """Two sweeps, (1, 0) and (0, 1): policies and J within 2e-3, from errors that add."""
    config = agent.Config(
        env=from_mdp.from_mdp(markov_game()), factors=(2, 2), num_envs=3, gamma=0.9, **FULL
    )
    start = np.log([[[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]], [[0.2, 0.8], [0.5, 0.5], [0.7, 0.3]]])
    constant = 0.5
    want, log_policies = jnp.asarray(start), start
    learner = learner_of(config, start)
    for turns in ((1, 0), (0, 1)):
        with jax.enable_x64(True):
            choose = constants.fixed(constant)
            sweep = multi_agent.sequential_sweep
            want, steps = sweep(markov_game(), jnp.asarray(want, float), choose, turns)
        for turn, player in enumerate(turns):
            solution = exact(log_policies)
            assert_allclose(solution.objective, steps.objective[turn], rtol=2e-3)
            exactly, plan = plan_of(config, solution.advantage, log_policies, constant)
            learner = first_turn(exactly, learner, plan, player)
            log_policies = policies_in(config, learner.params.policies, 3)
        assert_allclose(np.exp(log_policies), np.exp(np.asarray(want)), atol=2e-3)
        assert np.all(np.asarray(steps.change) > 1e-3)
    assert exact(log_policies).objective > exact(start).objective + 0.5


# --- learned --------------------------------------------------------------------------------------

SEEDS, BEST_SHARE = 3, 0.95
LEARNED = agent.Config(
    env="Crossing-grid",
    factors=(5, 5),
    num_envs=128,
    num_steps=16,
    num_minibatches=4,
    total_timesteps=400_000,
    hidden_sizes=(32,),
    gamma=0.95,
    gae_lambda=0.9,
    learning_rate=0.01,
    ent_coef=0.003,
    kl_target=0.03,
)


@cache
def learned():
    """Joint policies `[seeds, S, A]` at the end, in float64."""

    def run(key):
        state = agent.init(LEARNED, key)
        state = jax.lax.scan(partial(iterate, LEARNED), state, None, LEARNED.num_iterations)[0]
        return agent.build(LEARNED).policy(state.learner, jnp.eye(37))

    keys = jax.random.split(jax.random.key(0), SEEDS)
    logits = jax.jit(jax.vmap(run), compiler_options=programs.LONG)(keys)
    logits = np.asarray(logits, float)
    policy = np.exp(logits - logits.max(-1, keepdims=True))
    return policy / policy.sum(-1, keepdims=True)


def iterate(config, state, _):
    return agent.iterate(config, state)[0], None


@pytest.mark.slow
def test_two_players_learn_to_cross_as_solved_exactly():
    with jax.enable_x64(True):
        game = mdp.make(*(np.asarray(x, float) for x in games.crossing()), 0.95)
        best = float(game.start @ solve.policy_iteration(game).value)
        reached = np.array([solve.objective(game, jnp.asarray(p)) for p in learned()])
        uniform = float(solve.objective(game, mdp.uniform_policy(game)))
    print(reached / best, uniform / best)
    assert uniform < 0.4 * best
    assert np.all(reached <= best * (1 + 1e-6))
    assert np.mean(reached) >= BEST_SHARE * best, reached / best
