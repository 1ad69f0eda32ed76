"""Several agents that share a reward, each of which improves by the analytical update.

The joint policy is a product, `pi(a|s) = prod_i pi_i(a_i|s)`, and an agent's advantage is that of
its action when the others act as they do: `A_i(s, a_i) = E_{a_-i ~ pi_-i} A(s, a)`. Changing one
agent only, the change of J is that of the analytical update with A_i, and never negative for any
C (Li, Clavette and He 2022). When all change at once this does not hold: two agents of which each
would gain by acting alone may lose when both act.

A joint action is one number, the first agent's digit being the most significant.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import Argument, finite, number, require
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP
from jaxrl_pg.theory.solve import Solution, evaluate
from jaxrl_pg.theory.updates.analytical import Update, analytical_update
from jaxrl_pg.theory.updates.constants import CONSTANT, Constant, Iterate
from jaxrl_pg.theory.updates.improvement import Step, account

__all__ = [
    "CROWD",
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


@checked()
def joint_policy(log_policies: jax.Array) -> jax.Array:
    """Return the product of the agents' policies, in logarithms.

    Args:
        log_policies: `[N, S, K]`, K actions an agent. (Missing actions of an agent are -inf.)

    Returns:
        `[S, K^N]`.
    """
    num_agents, num_states, _ = log_policies.shape
    joint = jnp.zeros((num_states, 1), log_policies.dtype)
    for agent in range(num_agents):
        joint = (joint[:, :, None] + log_policies[agent][:, None]).reshape(num_states, -1)
    return joint


@checked(advantage=finite("SJ"))
def marginal_advantage(advantage: jax.Array, log_policies: jax.Array, agent: int) -> jax.Array:
    """Return `A_i(s, a_i)`, the joint advantage averaged over the actions of the others.

    Args:
        advantage: `[S, K^N]`, of joint actions.
        log_policies: `[N, S, K]`.
        agent: i.

    Returns:
        `[S, K]`, of mean 0 under the agent's own policy.
    """
    num_agents, num_states, num_actions = log_policies.shape
    joint = num_actions**num_agents
    require(
        advantage.shape[1] == joint,
        f"advantage has shape {advantage.shape}: give [{num_states}, {joint}], of joint actions",
    )
    require(0 <= agent < num_agents, f"agent is {agent}: give one from 0 to {num_agents - 1}")
    policies = jnp.exp(log_policies)
    for _ in range(agent + 1, num_agents):  # the last digits, one agent at a time
        advantage = advantage.reshape(num_states, -1, num_actions)
        advantage = jnp.einsum("sma,sa->sm", advantage, policies[num_agents - 1])
        num_agents -= 1
    for other in range(agent):  # the first digits
        advantage = advantage.reshape(num_states, num_actions, -1)
        advantage = jnp.einsum("sam,sa->sm", advantage, policies[other])
    return advantage


@checked(constant=CONSTANT)
def simultaneous_update(
    mdp: MDP, log_policies: jax.Array, constant: Constant, iteration: int = 0
) -> jax.Array:
    """Update every agent for the same joint policy, which can lower J.

    Args:
        mdp: the MDP, with K^N joint actions.
        log_policies: `[N, S, K]`.
        constant: chooses C for each agent, from a `Solution` with the agent's own advantage.
        iteration: the iteration that `constant` sees.

    Returns:
        `[N, S, K]`.
    """
    _require_joint(mdp, log_policies)
    solution = evaluate(mdp, jnp.exp(joint_policy(log_policies)))
    count = jnp.asarray(iteration)
    updates = [
        _propose(mdp, solution, log_policies, constant, count, agent)[0]
        for agent in range(log_policies.shape[0])
    ]
    return jnp.stack([update.log_policy for update in updates])


@checked(constant=CONSTANT)
def sequential_sweep(
    mdp: MDP,
    log_policies: jax.Array,
    constant: Constant,
    order: tuple[int, ...] | None = None,
    iteration: int = 0,
) -> tuple[jax.Array, Step]:
    """Update one agent after another, each for the policies of the others at its turn.

    Args:
        mdp: the MDP, with K^N joint actions.
        log_policies: `[N, S, K]`.
        constant: see `simultaneous_update`.
        order: the order of turns; 0 to N - 1 if None.
        iteration: the iteration that `constant` sees.

    Returns:
        `[N, S, K]`, and the `Step` of every turn, its entries `[N]`; no `change` is negative.
    """
    _require_joint(mdp, log_policies)
    solution = evaluate(mdp, jnp.exp(joint_policy(log_policies)))
    steps = []
    for agent in range(log_policies.shape[0]) if order is None else order:
        own = log_policies[agent]
        count = jnp.asarray(iteration)
        update, chosen, marginal = _propose(mdp, solution, log_policies, constant, count, agent)
        log_policies = log_policies.at[agent].set(update.log_policy)
        after = evaluate(mdp, jnp.exp(joint_policy(log_policies)))
        steps.append(account(mdp.gamma, chosen, own, marginal, update, after))
        solution = after
    return log_policies, jax.tree.map(lambda *leaves: jnp.stack(leaves), *steps)


def _require_joint(mdp: MDP, log_policies: jax.Array) -> None:
    """Raise where the actions of the MDP are not the joint ones of the agents."""
    num_agents, _, num_actions = log_policies.shape
    joint, own = num_actions**num_agents, mdp.reward.shape[1]
    require(
        joint == own,
        f"log_policies has shape {log_policies.shape}, and so {num_actions}^{num_agents} = {joint} "
        f"joint actions, but the MDP has {own}: give as many",
    )


def _propose(
    mdp: MDP,
    solution: Solution,
    log_policies: jax.Array,
    constant: Constant,
    iteration: jax.Array,
    agent: int,
) -> tuple[Update, jax.Array, Solution]:
    """Return the agent's update, its C, and the solution with the agent's own Q and advantage."""
    advantage = marginal_advantage(solution.advantage, log_policies, agent)
    own = solution._replace(q=advantage + solution.value[:, None], advantage=advantage)
    chosen = constant(Iterate(own, log_policies[agent], mdp.gamma, iteration))
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


def _check_crowd(_: str, crowd: Crowd) -> None:
    """Raise for a crowd that is none."""
    finite().check("reward", crowd.reward)
    number(0.0, 1.0, "high").check("gamma", crowd.gamma)


CROWD: Argument = Argument(_check_crowd, array=False)
"""the check of an argument that is a `Crowd`"""


@checked()
def overshooting_crowd(num_agents: int, gamma: jax.typing.ArrayLike) -> Crowd:
    """Return N agents with `reward = -(k - N/2 - 2)^2` for k acting, best at two more than half.

    When each acts with probability 1/2, all have the same advantage of acting more often, and
    together they overshoot: from N = 19 on J falls at gamma = 0.5 even with the paper's constant,
    with eps the largest of the agents' own advantages. (With eps of the joint advantages C is so
    large that J rises.)
    """
    count = jnp.arange(num_agents + 1, dtype=jnp.asarray(gamma, float).dtype)
    return Crowd(-((count - num_agents / 2 - 2) ** 2), jnp.asarray(gamma, float))


@checked(probabilities=number(0.0, 1.0)._replace(shape="N"))
def count_distribution(probabilities: jax.Array) -> jax.Array:
    """Return the distribution of the number that act, `[N + 1]`, from probabilities `[N]`.

    It is binomial when all probabilities are equal, and is computed by adding one agent at a time.
    """

    def add_agent(counts: jax.Array, probability: jax.Array) -> tuple[jax.Array, None]:
        one_more = jnp.roll(counts, 1).at[0].set(0.0)
        return (1.0 - probability) * counts + probability * one_more, None

    start = jnp.zeros(probabilities.shape[0] + 1, probabilities.dtype).at[0].set(1.0)
    return jax.lax.scan(add_agent, start, probabilities)[0]


@checked(crowd=CROWD)
def crowd_objective(crowd: Crowd, probabilities: jax.Array) -> jax.Array:
    """Return J `[]` of agents that act with `probabilities [N]`."""
    return jnp.vdot(count_distribution(probabilities), crowd.reward) / (1.0 - crowd.gamma)


@checked(crowd=CROWD)
def crowd_advantages(crowd: Crowd, probabilities: jax.Array) -> jax.Array:
    """Return the exact `A_i(a_i)` of not acting and of acting, `[N, 2]`."""
    agents = jnp.arange(probabilities.shape[0])
    return jax.vmap(lambda agent: _advantage_of(crowd, probabilities, agent))(agents)


@checked(crowd=CROWD, constant=number(0.0, without="low"))
def crowd_simultaneous(
    crowd: Crowd, probabilities: jax.Array, constant: jax.typing.ArrayLike
) -> jax.Array:
    """Update all agents at once with C = `constant`; probabilities `[N]` to `[N]`."""
    advantages = crowd_advantages(crowd, probabilities)
    log_odds = jax.scipy.special.logit(probabilities)
    return jax.nn.sigmoid(log_odds + _finite(advantages[:, 1] - advantages[:, 0], constant))


@checked(crowd=CROWD, constant=number(0.0, without="low"))
def crowd_sequential(
    crowd: Crowd, probabilities: jax.Array, constant: jax.typing.ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Update one agent after another; return probabilities `[N]`, and J after each turn `[N]`."""

    def turn(probabilities: jax.Array, agent: jax.Array) -> tuple[jax.Array, jax.Array]:
        idle, acting = _advantage_of(crowd, probabilities, agent)
        log_odds = jax.scipy.special.logit(probabilities[agent])
        log_odds = log_odds + _finite(acting - idle, constant)
        probabilities = probabilities.at[agent].set(jax.nn.sigmoid(log_odds))
        return probabilities, crowd_objective(crowd, probabilities)

    return jax.lax.scan(turn, probabilities, jnp.arange(probabilities.shape[0]))


def _finite(difference: jax.Array, constant: jax.typing.ArrayLike) -> jax.Array:
    """Return the difference over C, finite for the smallest C, as the odds may be infinite."""
    largest = jnp.finfo(difference.dtype).max
    return jnp.clip(difference / constant, -largest, largest)


def _advantage_of(crowd: Crowd, probabilities: jax.Array, agent: jax.Array) -> jax.Array:
    others = count_distribution(probabilities.at[agent].set(0.0))
    idle, acting = jnp.vdot(others[:-1], crowd.reward[:-1]), jnp.vdot(others[:-1], crowd.reward[1:])
    mean = (1.0 - probabilities[agent]) * idle + probabilities[agent] * acting
    return jnp.stack([idle, acting]) - mean
