"""Deep Q-learning against exact solutions: the optimal values of finite MDPs, and others'.

Networks without hidden layers on one-hot observations are tables, and all actions are random, so
that every one is tried everywhere and nothing depends on what is found on the way: Q-learning then
has the optimal values as its only fixed point. `mixing` never ends, and every episode is cut off
after seven steps, which must change nothing; `ending` terminates, and its end is worth 0.

With a trace Q(lambda) has another fixed point (Harutyunyan et al. 2016, arXiv 1602.04951), which is
worked out here for the behaviour policy and the rollout's length that the agent has.

What errors are left are the sample's and Adam's. Measured on two keys: at most 0.1 in Q, of values
from -1 to 5.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import programs
from jaxrl_pg import agents, dqn, pqn
from jaxrl_pg.config import agent_of
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.training import program

GAMMA, S, A, SEEDS, STEPS = 0.8, 5, 3, 2, 16


def mixing():
    """Every state leads everywhere; the second best action of any is worth 0.57 less."""
    rng = np.random.default_rng(2)
    transition = rng.dirichlet(np.ones(S), size=(S, A))
    return mdps.MDP(transition, rng.normal(size=(S, A)), np.full(S, 1 / S), GAMMA)


def ending():
    """The same, but the last state is an end, which every step reaches with some probability."""
    problem = mixing()
    transition, reward = problem.transition.copy(), problem.reward.copy()
    transition[-1], reward[-1] = np.eye(S)[-1], 0.0
    return mdps.MDP(transition, reward, np.array([*np.full(S - 1, 1 / (S - 1)), 0.0]), GAMMA)


class Row(NamedTuple):
    """An agent on a problem, with a time limit and (PQN) a lambda."""

    agent: str
    problem: mdps.MDP
    limit: float = 7.0
    trace: float = 0.0


ROWS = {
    "pqn-mixing": Row("pqn", mixing()),
    "pqn-ending": Row("pqn", ending()),
    "pqn-trace": Row("pqn", mixing(), 1e6, 0.8),
    "dqn-mixing": Row("dqn", mixing()),
    "dqn-ending": Row("dqn", ending()),
}
every_row = pytest.mark.parametrize("name", ROWS)
RANDOM = {"gamma": GAMMA, "epsilon_end": 1.0, "hidden_sizes": (), "num_envs": 64}
VALUES = {
    "pqn": {
        "num_steps": STEPS,
        "total_timesteps": 64 * STEPS * 120,
        "num_epochs": 2,
        "num_minibatches": 4,
        "learning_rate": 0.05,
    },
    "dqn": {
        "num_steps": 8,
        "num_updates": 24,
        "batch_size": 512,
        "buffer_size": 512 * 200,
        "total_timesteps": 512 * 200,
        "learning_starts": 512 * 100,
        "learning_rate": 0.005,
        "target_period": 1,
        "tau": 0.02,
    },
}
ENV = from_mdp.from_mdp(mixing(), max_steps_in_episode=7)


def config_of(name):
    row = ROWS[name]
    params = {**from_mdp.params_of(row.problem), "max_steps_in_episode": row.limit}
    values = {**RANDOM, **VALUES[row.agent], "env": ENV, "env_params": params}
    trace = {"q_lambda": row.trace} if row.agent == "pqn" else {}
    return agents.AGENTS[row.agent].Config(**values, **trace)


class Learned(NamedTuple):
    """What the seeds learned on a row, `[SEEDS, S, ...]`, and the episodes' lengths."""

    q: np.ndarray
    value: np.ndarray
    action: np.ndarray
    lengths: np.ndarray


def learn(config, key):
    agent = agent_of(config)
    state, metrics = program.train(config, key)
    network = pqn.build(config, 0.0).network if agent is pqn.AGENT else dqn.build(config)[1]
    every, learner = jnp.eye(S), state.learner
    return Learned(
        network.apply(learner.params, every)[0],
        agent.value(config, learner, every),
        agent.act(config, learner, every, key, True),
        metrics["train/length_mean"],
    )


@cache
def trained_by(agent):
    """All rows of an agent and all seeds in one program."""
    names = [name for name, row in ROWS.items() if row.agent == agent]
    configs = [config_of(name) for name in names]
    config = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v, jnp.float32) for v in x]), *configs)
    over = jax.jit(jax.vmap(jax.vmap(learn, (None, 0)), (0, None)), compiler_options=programs.LONG)
    results = over(config, jax.random.split(jax.random.key(0), SEEDS))
    return {
        name: Learned(*(np.asarray(x[i], float) for x in results)) for i, name in enumerate(names)
    }


def q_after(problem, value):
    """`r + gamma E[V(s')]`, where an end is worth 0."""
    ends = np.all(np.einsum("sas->sa", problem.transition) == 1.0, axis=1)
    return problem.reward + GAMMA * problem.transition @ np.where(ends, 0.0, value)


def fixed_point(name):
    """Of `Q = mean_k G_k` with k = 1..STEPS steps left to the rollout's end, all actions random.

    G_1 bootstraps from the best action; G_k mixes that, by lambda, with the mean of G_{k-1}.
    """
    problem, trace = ROWS[name].problem, ROWS[name].trace
    q = np.zeros((S, A))
    for _ in range(200):
        best = q.max(axis=1)
        targets = [q_after(problem, best)]
        for _ in range(STEPS - 1):
            mixed = (1.0 - trace) * best + trace * targets[-1].mean(axis=1)
            targets.append(q_after(problem, mixed))
        q = np.mean(targets, axis=0)
    return q


@every_row
def test_q_is_the_exact_fixed_point(name):
    run, expected = trained_by(ROWS[name].agent)[name], fixed_point(name)
    live = slice(None, -1 if "ending" in name else None)
    print(name, np.abs(run.q - expected)[:, live].max().round(3), expected.min(), expected.max())
    assert_allclose(run.q[:, live], np.stack([expected[live]] * SEEDS), atol=0.15)
    assert_allclose(run.value[:, live], np.stack([expected[live].max(axis=1)] * SEEDS), atol=0.15)
    assert_array_equal(run.action[:, live], np.stack([expected[live].argmax(axis=1)] * SEEDS))


@every_row
def test_without_a_trace_that_is_the_optimum_of_the_exact_room(name):
    with jax.enable_x64(True):
        problem = mdps.MDP(*(jnp.asarray(x) for x in ROWS[name].problem))
        best = np.asarray(jax.jit(solve.policy_iteration)(problem).value)
    found = fixed_point(name).max(axis=1)
    if "trace" in name:
        assert np.all(found < best - 2.0)  # random actions are part of it
    else:
        assert_allclose(found, best, atol=1e-8)


def test_episodes_were_cut_off_where_nothing_ends():
    assert_allclose(trained_by("pqn")["pqn-mixing"].lengths[:, 1:], 7.0)
    assert np.nanmean(trained_by("pqn")["pqn-ending"].lengths) < 6.9
