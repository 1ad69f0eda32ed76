"""Soft agents against exact solutions: the soft-optimal values and policy of finite MDPs.

Networks without hidden layers on one-hot observations are tables, so that nothing but the
algorithm stands between an agent and the optimum. Two problems of one shape are one program:
`mixing` never ends, and every episode is cut off after seven steps, which must change nothing;
`ending` terminates, and its end is worth 0.

What errors are left are the sample's, values of 3 to 6 out of a few thousand visits to each action,
and Adam's, whose last steps move a value by several times the learning rate. Measured on two keys:
at most 0.09 in Q, 0.06 in V and 0.04 in a probability.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special

from jaxrl_pg import agents
from jaxrl_pg.agents import sac, soft_q_learning
from jaxrl_pg.config import agent_of
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory.soft import soft_values
from jaxrl_pg.training import program

GAMMA, ALPHA, S, A, SEEDS = 0.8, 0.3, 5, 3, 2


def mixing():
    """Every state leads everywhere."""
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.ones(S), size=(S, A))
    return mdps.MDP(transition, rng.normal(size=(S, A)), np.full(S, 1 / S), GAMMA)


def ending():
    """The same, but the last state is an end, which every step reaches with some probability."""
    problem = mixing()
    transition, reward = problem.transition.copy(), problem.reward.copy()
    transition[-1], reward[-1] = np.eye(S)[-1], 0.0
    start = np.array([*np.full(S - 1, 1 / (S - 1)), 0.0])
    return mdps.MDP(transition, reward, start, GAMMA)


PROBLEMS = {"mixing": mixing(), "ending": ending()}
# What environments pay is a problem's reward divided by this, which agents multiply it with.
SCALES = {"mixing": 1.0, "ending": 2.0}
SAC = {"learn_alpha": False, "num_critics": 1, "num_updates": 24}
AGENTS = {
    "twin": ("sac", {**SAC, "num_critics": 2}),
    "value": ("sac", {**SAC, "variant": "value", "policy_loss": "kl_projection"}),
    "soft-q": ("soft_q_learning", {"num_updates": 24}),
}


class Learned(NamedTuple):
    """What the seeds learned on one problem, `[SEEDS, S, ...]`, and the episodes' lengths."""

    q: np.ndarray
    value: np.ndarray
    policy: np.ndarray
    frequency: np.ndarray
    lengths: np.ndarray


@cache
def environment():
    """The problems differ in their parameters only."""
    return from_mdp.from_mdp(PROBLEMS["mixing"], max_steps_in_episode=7)


def config_of(name, problem):
    agent, values = AGENTS[name]
    mdp, scale = PROBLEMS[problem], SCALES[problem]
    return agents.AGENTS[agent].Config(
        env=environment(),
        env_params=from_mdp.params_of(mdp._replace(reward=mdp.reward / scale)),
        reward_scale=scale,
        gamma=GAMMA,
        alpha=ALPHA,
        num_envs=64,
        num_steps=8,
        batch_size=512,
        buffer_size=512 * 200,
        total_timesteps=512 * 200,
        # So that every action of every state was seen thousands of times.
        learning_starts=512 * 100,
        learning_rate=0.005,
        tau=0.02,
        hidden_sizes=(),
        **values,
    )


def learn(config, key):
    """Train, and ask for Q, values and policy in every state."""
    agent = agent_of(config)
    state, metrics = program.train(config, key)
    every = jnp.eye(S)
    params = state.learner.params
    if agent is sac.AGENT:
        model = sac.build(config)
        logits = model.policy.apply(params.policy, every)
        q = model.critics.apply(params.critics, every)
    else:
        q = soft_q_learning.build(config).q.apply(params, every)
        logits = q[0] / config.alpha
    draws = agent.act(config, state.learner, jnp.repeat(every, 500, axis=0), key, False)
    return Learned(
        jnp.mean(q, axis=0),
        agent.value(config, state.learner, every),
        jax.nn.softmax(logits),
        jnp.mean(jax.nn.one_hot(draws, A).reshape(S, 500, A), axis=1),
        metrics["train/length_mean"],
    )


@cache
def trained_by(name):
    """Both problems and all seeds in one program."""
    configs = [config_of(name, problem) for problem in PROBLEMS]
    config = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v, jnp.float32) for v in x]), *configs)
    over = jax.vmap(jax.vmap(learn, (None, 0)), (0, None))
    results = jax.jit(over)(config, jax.random.split(jax.random.key(0), SEEDS))
    return {
        problem: Learned(*(np.asarray(x[i], float) for x in results))
        for i, problem in enumerate(PROBLEMS)
    }


def optimum(problem):
    """Soft-optimal Q, V and policy by plain soft value iteration; an end is worth 0."""
    mdp = PROBLEMS[problem]
    ends = np.array([np.all(mdp.transition[s, :, s] == 1.0) for s in range(S)])
    value = np.zeros(S)
    for _ in range(500):
        q = mdp.reward + GAMMA * mdp.transition @ value
        value = np.where(ends, 0.0, ALPHA * special.logsumexp(q / ALPHA, axis=1))
    return q, value, special.softmax(q / ALPHA, axis=1), ~ends


def test_the_oracle_is_that_of_the_exact_room():
    q, value, policy, _ = optimum("mixing")
    with jax.enable_x64(True):
        problem = mdps.MDP(*(jnp.asarray(x) for x in PROBLEMS["mixing"]))
        solution = jax.jit(soft_values.value_iteration)(problem, ALPHA)
        assert_allclose(solution.value, value, rtol=1e-8)
        assert_allclose(solution.policy, policy, rtol=1e-6)
    # Where there is an end, the exact room counts the entropy of staying there for ever.
    assert np.max(np.abs(optimum("ending")[1] - value)) > 0.1
    assert_allclose(q.shape, (S, A))


both = pytest.mark.parametrize("problem", PROBLEMS)
every = pytest.mark.parametrize("name", AGENTS)


@both
@every
def test_soft_agents_learn_the_soft_optimal_values_and_policy(name, problem):
    run = trained_by(name)[problem]
    q, value, policy, live = optimum(problem)
    errors = (run.q - q)[:, live], (run.value - value)[:, live], (run.policy - policy)[:, live]
    print(name, problem, *(np.max(np.abs(error)).round(3) for error in errors))
    seeds = (SEEDS, live.sum())
    assert_allclose(run.q[:, live], np.broadcast_to(q[live], (*seeds, A)), atol=0.12)
    assert_allclose(run.value[:, live], np.broadcast_to(value[live], seeds), atol=0.08)
    assert_allclose(run.policy[:, live], np.broadcast_to(policy[live], (*seeds, A)), atol=0.08)
    # A uniform policy and the greedy one are both far away.
    assert np.max(np.abs(policy[live] - 1 / A)) > 0.3
    assert np.min(np.max(policy[live], axis=1)) < 0.7


@both
@every
def test_the_policy_that_is_compared_is_the_one_that_acts(name, problem):
    """Each frequency within six standard errors and one draw."""
    run = trained_by(name)[problem]
    error = np.sqrt(run.policy * (1.0 - run.policy) / 500)
    assert np.all(np.abs(run.frequency - run.policy) <= 6.0 * error + 1 / 500)


def test_episodes_were_cut_off_where_nothing_ends():
    lengths = trained_by("soft-q")["mixing"].lengths
    assert_allclose(lengths[np.isfinite(lengths)], 7.0)
    assert np.nanmean(trained_by("soft-q")["ending"].lengths) < 6.9
