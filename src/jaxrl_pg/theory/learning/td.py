"""Temporal differences: learning from experience in an `MDP`, without using its model.

The loop of interaction that all tabular learners share, and TD(0), the simplest of them. TD(lambda)
is in `traces`, control in `td_control`, and prediction on given sequences of stimuli in
`conditioning`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import Argument, count, finite, number
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP

__all__ = [
    "SETTINGS",
    "Course",
    "Learner",
    "Number",
    "Settings",
    "Step",
    "Tables",
    "interact",
    "move",
    "predict",
    "terminal_states",
]

Number = float | jax.Array


class Settings(NamedTuple):
    """The hyper-parameters of a learner; each may be traced and vmapped over.

    Attributes:
        learning_rate: of Q or V; the step size of the n-th visit is `learning_rate * n ** -power`.
        power: 0 is a constant step; in (1/2, 1] the steps fulfil the conditions of Robbins and
            Monro 1951.
        epsilon: share of uniform exploration; on the n-th visit of a state `epsilon * n ** -decay`.
        decay: 0 is constant exploration; with 1 it never ends, yet is greedy in the limit.
        temperature: of the softmax behaviour and of soft Q-learning; 0 is the greedy limit.
        actor_rate: constant step size of an actor.
        max_steps: steps after which an episode is truncated, which is no terminal state.
    """

    learning_rate: Number = 0.1
    power: Number = 0.0
    epsilon: Number = 0.1
    decay: Number = 0.0
    temperature: Number = 0.0
    actor_rate: Number = 0.1
    max_steps: int | jax.Array = 1_000


def _check_settings(_: str, settings: Settings) -> None:
    """Raise for a hyper-parameter out of its range."""
    for name, argument in _RANGES.items():
        argument.check(name, getattr(settings, name))


_RANGES = {
    "learning_rate": finite(),
    "power": number(0.0),
    "epsilon": number(0.0, 1.0),
    "decay": number(0.0),
    "temperature": number(0.0),
    "actor_rate": finite(),
    "max_steps": count(),
}
SETTINGS: Argument = Argument(_check_settings, array=False)
"""the check of an argument that is `Settings`"""


class Tables(NamedTuple):
    """The state of a tabular learner.

    Attributes:
        estimate: Q `[S, A]`, or V `[S]` for prediction and actor-critic.
        visits: int32, the number of updates of each of its entries.
        logits: theta `[S, A]` of an actor; `()` where there is none.
        memory: what is kept within an episode, as in `traces`; `()` where nothing is.
    """

    estimate: jax.Array
    visits: jax.Array
    logits: jax.Array | tuple[()]
    memory: tuple[jax.Array, ...] = ()


class Step(NamedTuple):
    """One step of one learner in an MDP, every field `[]`.

    Attributes:
        state: int32.
        action: int32.
        reward: `r(s, a)`.
        next_state: int32, before any restart.
        next_action: int32, chosen in the next state before anything is learned from this step.
        discount: gamma, or 0 where the next state is terminal.
        over: bool, whether the episode ends with this step, terminated or truncated.
    """

    state: jax.Array
    action: jax.Array
    reward: jax.Array
    next_state: jax.Array
    next_action: jax.Array
    discount: jax.Array
    over: jax.Array


class Learner(NamedTuple):
    """The parts in which learners differ.

    Attributes:
        policy: `(tables, state) -> [A]`, the probabilities of the actions.
        update: `(tables, step) -> (tables, TD error [])`.
    """

    policy: Callable[[Tables, jax.Array], jax.Array]
    update: Callable[[Tables, Step], tuple[Tables, jax.Array]]


class Course(NamedTuple):
    """The course of learning, in K records of M steps.

    Attributes:
        tables: `Tables` with the axis K first, at the end of each record.
        error: `[K, M]`, the TD error of every step.
        return_mean: `[K]`, mean undiscounted return of the episodes that ended in the record,
            truncated ones included; NaN where none did.
        episodes: `[K]` int32, the number of those episodes.
    """

    tables: Tables
    error: jax.Array
    return_mean: jax.Array
    episodes: jax.Array


class _Actor(NamedTuple):
    """The state of the interaction, with the action chosen and not yet taken."""

    tables: Tables
    state: jax.Array
    action: jax.Array
    length: jax.Array
    total: jax.Array


@checked(settings=SETTINGS)
def predict(
    mdp: MDP, policy: jax.Array, settings: Settings, key: jax.Array, records: int, steps: int
) -> Course:
    """Predict the values of a policy `[S, A]` by TD(0).

        V(s) <- V(s) + alpha [r + gamma V(s') - V(s)]

    Of the settings it uses `learning_rate`, `power` and `max_steps`. K `records` of M `steps` are
    taken. Source: Sutton 1988.
    """

    def update(tables: Tables, step: Step) -> tuple[Tables, jax.Array]:
        target = step.reward + step.discount * tables.estimate[step.next_state]
        return move(tables, (step.state,), target, settings)

    tables = Tables(jnp.zeros_like(mdp.start), jnp.zeros(mdp.start.shape, jnp.int32), ())
    learner = Learner(lambda tables, state: policy[state], update)
    return interact(mdp, learner, tables, settings.max_steps, key, records, steps)


def interact(
    mdp: MDP,
    learner: Learner,
    tables: Tables,
    max_steps: int | jax.Array,
    key: jax.Array,
    records: int,
    steps: int,
) -> Course:
    """Act, learn from every step, and start again where an episode is over.

    An episode terminates in an absorbing state without reward, whose value is 0, and is truncated
    after `max_steps` steps, where the next state keeps the value that the learner gives it.

    Args:
        mdp: the MDP.
        learner: its policy and update.
        tables: its state to begin with.
        max_steps: the time limit.
        key: consumed.
        records: K.
        steps: M; K M steps are taken.
    """
    terminal = terminal_states(mdp)

    def advance(
        actor: _Actor, key: jax.Array
    ) -> tuple[_Actor, tuple[jax.Array, jax.Array, jax.Array]]:
        uniform = jax.random.uniform(key, (4,), mdp.reward.dtype)
        next_state = _draw(uniform[0], mdp.transition[actor.state, actor.action])
        next_action = _draw(uniform[1], learner.policy(actor.tables, next_state))
        ended = terminal[next_state]
        reward = mdp.reward[actor.state, actor.action]
        discount = jnp.where(ended, 0.0, mdp.gamma)
        over = ended | (actor.length + 1 >= max_steps)
        step = Step(actor.state, actor.action, reward, next_state, next_action, discount, over)
        tables, error = learner.update(actor.tables, step)
        total = actor.total + reward
        start_state = _draw(uniform[2], mdp.start)
        start_action = _draw(uniform[3], learner.policy(tables, start_state))
        actor = _Actor(
            tables,
            state=jnp.where(over, start_state, next_state),
            action=jnp.where(over, start_action, next_action),
            length=jnp.where(over, 0, actor.length + 1),
            total=jnp.where(over, 0.0, total),
        )
        return actor, (error, total, over)

    def record(actor: _Actor, keys: jax.Array) -> tuple[_Actor, Course]:
        actor, (error, total, over) = jax.lax.scan(advance, actor, keys)
        episodes = jnp.sum(over, dtype=jnp.int32)
        mean = jnp.sum(jnp.where(over, total, 0.0)) / jnp.maximum(episodes, 1).astype(total.dtype)
        return actor, Course(actor.tables, error, jnp.where(episodes > 0, mean, jnp.nan), episodes)

    first_key, step_key = jax.random.split(key)
    uniform = jax.random.uniform(first_key, (2,), mdp.reward.dtype)
    state = _draw(uniform[0], mdp.start)
    action = _draw(uniform[1], learner.policy(tables, state))
    length, total = jnp.zeros((), jnp.int32), jnp.zeros_like(mdp.gamma)
    actor = _Actor(tables, state, action, length, total)
    return jax.lax.scan(record, actor, jax.random.split(step_key, (records, steps)))[1]


def move(
    tables: Tables, index: tuple[jax.Array, ...], target: jax.Array, settings: Settings
) -> tuple[Tables, jax.Array]:
    """Move one entry of the estimate towards a target, by the step size of its number of visits.

    Returns:
        the tables, and the error `target - estimate[index]`, `[]`.
    """
    error = target - tables.estimate[index]
    visits = tables.visits.at[index].add(1)
    rate = settings.learning_rate * visits[index].astype(error.dtype) ** -settings.power
    estimate = tables.estimate.at[index].add(rate * error)
    return tables._replace(estimate=estimate, visits=visits), error


def _draw(uniform: jax.Array, probability: jax.Array) -> jax.Array:
    """Return the index that a number in [0, 1) selects; never one of probability 0."""
    cumulative = jnp.cumsum(probability)
    return jnp.sum(cumulative <= uniform * cumulative[-1], dtype=jnp.int32)


@checked()
def terminal_states(mdp: MDP) -> jax.Array:
    """Return which states `[S]` are absorbing and without reward under every action, bool."""
    stays = jnp.diagonal(mdp.transition, axis1=0, axis2=2)
    return jnp.all((stays >= 1.0) & (mdp.reward.T == 0.0), axis=0)
