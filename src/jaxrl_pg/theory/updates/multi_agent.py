"""Several agents that share a reward, each improving by the analytical update.

The joint policy is a product, `pi(a|s) = prod_i pi_i(a_i|s)`, and an agent's advantage is that of
its action when the others act as they do: `A_i(s, a_i) = E_{a_-i ~ pi_-i} A(s, a)`. Changing one
agent only, the change of J is that of the analytical update with A_i, and never negative for any
C (Li, Clavette and He 2022). When all change at once nothing of this holds: two agents that would
each do well to act may do badly to act both.

A joint action is one number, the first agent's digit being the most significant.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.solve import Solution, evaluate
from jaxrl_pg.theory.updates.analytical import Update, analytical_update
from jaxrl_pg.theory.updates.constants import Constant
from jaxrl_pg.theory.updates.improvement import Step, account

__all__ = [
    "Crowd",
    "count_distribution",
    "crowd_advantages",
    "crowd_objective",
    "crowd_sequential",
    "crowd_simultaneous",
    "joint_policy",
    "marginal_advantage",
    "overshooting_crowd",
    "sequential_sweep",
    "simultaneous_update",
]


# --- any number of agents on an MDP whose actions are joint ones ----------------------------------


def joint_policy(log_policies: jax.Array) -> jax.Array:
    """The product of the agents' policies, in logarithms.

    Args:
        log_policies: `[N, S, K]`, K actions an agent. (An agent with fewer has some at -inf.)

    Returns:
        `[S, K^N]`.
    """
    num_agents, num_states, _ = log_policies.shape
    joint = jnp.zeros((num_states, 1), log_policies.dtype)
    for agent in range(num_agents):
        joint = (joint[:, :, None] + log_policies[agent][:, None]).reshape(num_states, -1)
    return joint


def marginal_advantage(advantage: jax.Array, log_policies: jax.Array, agent: int) -> jax.Array:
    """`A_i(s, a_i)`: the joint advantage, averaged over what the others do.

    Args:
        advantage: `[S, K^N]`, of joint actions.
        log_policies: `[N, S, K]`.
        agent: i.

    Returns:
        `[S, K]`, of mean 0 under the agent's own policy.
    """
    num_agents, num_states, num_actions = log_policies.shape
    policies = jnp.exp(log_policies)
    for _ in range(agent + 1, num_agents):  # the last digits, one agent at a time
        advantage = advantage.reshape(num_states, -1, num_actions)
        advantage = jnp.einsum("sma,sa->sm", advantage, policies[num_agents - 1])
        num_agents -= 1
    for other in range(agent):  # the first digits
        advantage = advantage.reshape(num_states, num_actions, -1)
        advantage = jnp.einsum("sam,sa->sm", advantage, policies[other])
    return advantage


def simultaneous_update(
    mdp: MDP, log_policies: jax.Array, constant: Constant, iteration: int = 0
) -> jax.Array:
    """Every agent takes the analytical update for the same joint policy. This can lose.

    Args:
        mdp: with K^N joint actions.
        log_policies: `[N, S, K]`.
        constant: chooses C for each agent, from a `Solution` that has the agent's advantage.
        iteration: handed to `constant`.

    Returns:
        `[N, S, K]`.
    """
    solution = evaluate(mdp, jnp.exp(joint_policy(log_policies)))
    agents = range(log_policies.shape[0])
    propose = partial(_propose, mdp, solution, log_policies, constant, jnp.asarray(iteration))
    return jnp.stack([propose(agent)[0].log_policy for agent in agents])


def sequential_sweep(
    mdp: MDP,
    log_policies: jax.Array,
    constant: Constant,
    order: tuple[int, ...] | None = None,
    iteration: int = 0,
) -> tuple[jax.Array, Step]:
    """One agent after another, each for the policies that those before it have by then.

    Args:
        mdp: with K^N joint actions.
        log_policies: `[N, S, K]`.
        constant: see `simultaneous_update`.
        order: whose turn it is; 0 to N - 1 if None.
        iteration: handed to `constant`.

    Returns:
        `[N, S, K]`, and the `Step` of every turn, its entries `[N]`; no `change` is negative.
    """
    solution = evaluate(mdp, jnp.exp(joint_policy(log_policies)))
    steps = []
    for agent in range(log_policies.shape[0]) if order is None else order:
        own = log_policies[agent]
        seen = jnp.asarray(iteration)
        update, chosen, marginal = _propose(mdp, solution, log_policies, constant, seen, agent)
        log_policies = log_policies.at[agent].set(update.log_policy)
        after = evaluate(mdp, jnp.exp(joint_policy(log_policies)))
        steps.append(account(mdp.gamma, chosen, own, marginal, update, after))
        solution = after
    return log_policies, jax.tree.map(_stack, *steps)


def _stack(*leaves: jax.Array) -> jax.Array:
    return jnp.stack(leaves)


def _propose(
    mdp: MDP,
    solution: Solution,
    log_policies: jax.Array,
    constant: Constant,
    iteration: jax.Array,
    agent: int,
) -> tuple[Update, jax.Array, Solution]:
    """The agent's update, its C, and the solution with the agent's own Q and advantage."""
    advantage = marginal_advantage(solution.advantage, log_policies, agent)
    own = solution._replace(q=advantage + solution.value[:, None], advantage=advantage)
    chosen = constant(own, log_policies[agent], mdp.gamma, iteration)
    return analytical_update(log_policies[agent], advantage, chosen), chosen, own


# --- any number of agents in one state, rewarded by how many of them act --------------------------


class Crowd(NamedTuple):
    """N agents, each of which acts or does not, in the one state of an MDP.

    Attributes:
        reward: `[N + 1]`, for 0 to N agents acting.
        gamma: `[]`.
    """

    reward: jax.Array
    gamma: jax.Array


def overshooting_crowd(num_agents: int, gamma: jax.typing.ArrayLike) -> Crowd:
    """`reward = -(k - N/2 - 2)^2` for k acting: a few more than half should.

    When half of them act by chance, all see the same reason to act more, and together do so too
    much: from N = 19 on even the paper's constant loses at gamma = 0.5, with eps the largest of
    the agents' own advantages. (With that of the joint advantages, C is so large that none lose.)
    """
    count = jnp.arange(num_agents + 1, dtype=jnp.asarray(gamma, float).dtype)
    return Crowd(-((count - num_agents / 2 - 2) ** 2), jnp.asarray(gamma, float))


def count_distribution(probabilities: jax.Array) -> jax.Array:
    """How many act, `[N + 1]`, when agent i does with probability `probabilities[i]`.

    A binomial distribution when all are equal; here by adding one agent at a time.
    """
    start = jnp.zeros(probabilities.shape[0] + 1, probabilities.dtype).at[0].set(1.0)
    return jax.lax.scan(_add_agent, start, probabilities)[0]


def crowd_objective(crowd: Crowd, probabilities: jax.Array) -> jax.Array:
    """J `[]` of agents that act with `probabilities [N]`."""
    return jnp.vdot(count_distribution(probabilities), crowd.reward) / (1.0 - crowd.gamma)


def crowd_advantages(crowd: Crowd, probabilities: jax.Array) -> jax.Array:
    """`A_i(a_i)` of not acting and of acting, `[N, 2]`, exactly."""
    agents = jnp.arange(probabilities.shape[0])
    return jax.vmap(partial(_advantage_of, crowd, probabilities))(agents)


def crowd_simultaneous(
    crowd: Crowd, probabilities: jax.Array, constant: jax.typing.ArrayLike
) -> jax.Array:
    """All agents update at once with C = `constant`; `[N]` to `[N]`."""
    advantages = crowd_advantages(crowd, probabilities)
    log_odds = jax.scipy.special.logit(probabilities)
    return jax.nn.sigmoid(log_odds + (advantages[:, 1] - advantages[:, 0]) / constant)


def crowd_sequential(
    crowd: Crowd, probabilities: jax.Array, constant: jax.typing.ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """One agent after another; `[N]` to `[N]`, and J after each turn `[N]`."""
    agents = jnp.arange(probabilities.shape[0])
    turn = partial(_crowd_turn, crowd, constant)
    return jax.lax.scan(turn, probabilities, agents)


def _add_agent(counts: jax.Array, probability: jax.Array) -> tuple[jax.Array, None]:
    one_more = jnp.roll(counts, 1).at[0].set(0.0)
    return (1.0 - probability) * counts + probability * one_more, None


def _advantage_of(crowd: Crowd, probabilities: jax.Array, agent: jax.Array) -> jax.Array:
    others = count_distribution(probabilities.at[agent].set(0.0))
    idle, acting = jnp.vdot(others[:-1], crowd.reward[:-1]), jnp.vdot(others[:-1], crowd.reward[1:])
    mean = (1.0 - probabilities[agent]) * idle + probabilities[agent] * acting
    return jnp.stack([idle, acting]) - mean


def _crowd_turn(
    crowd: Crowd, constant: jax.typing.ArrayLike, probabilities: jax.Array, agent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    idle, acting = _advantage_of(crowd, probabilities, agent)
    log_odds = jax.scipy.special.logit(probabilities[agent]) + (acting - idle) / constant
    probabilities = probabilities.at[agent].set(jax.nn.sigmoid(log_odds))
    return probabilities, crowd_objective(crowd, probabilities)
