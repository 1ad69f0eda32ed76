"""Temporal differences: learning from experience in an `MDP`, without reading its model.

One loop of interaction that all tabular learners share, and TD(0) as the simplest of them. Those
that choose their actions are in `td_control`; given sequences of stimuli in `conditioning`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.mdp import MDP

__all__ = [
    "Course",
    "Learner",
    "Number",
    "Settings",
    "Step",
    "Tables",
    "interact",
    "move",
    "predict",
]

Number = float | jax.Array


class Settings(NamedTuple):
    """Numbers of a learner; each may be traced and vmapped over.

    Attributes:
        learning_rate: of Q or V; the n-th visit steps by `learning_rate * n ** -power`.
        power: 0 is a constant step; in (1/2, 1] the steps are those of Robbins and Monro 1951.
        epsilon: share of uniform exploration; on the n-th visit of a state `epsilon * n ** -decay`.
        decay: 0 is constant exploration; 1 explores for ever and is greedy in the limit.
        temperature: of the softmax behaviour and of soft Q-learning; 0 is the greedy limit.
        actor_rate: constant step size of an actor.
        max_steps: steps after which an episode is cut off; that is no terminal state.
    """

    learning_rate: Number = 0.1
    power: Number = 0.0
    epsilon: Number = 0.1
    decay: Number = 0.0
    temperature: Number = 0.0
    actor_rate: Number = 0.1
    max_steps: int | jax.Array = 1_000


class Tables(NamedTuple):
    """All that a tabular learner knows.

    Attributes:
        estimate: Q `[S, A]`, or V `[S]` for prediction and actor-critic.
        visits: int32, how often each entry of it was updated.
        logits: theta `[S, A]` of an actor; `()` where there is none.
    """

    estimate: jax.Array
    visits: jax.Array
    logits: jax.Array | tuple[()]


class Step(NamedTuple):
    """One step of one learner in an MDP, all of it `[]`.

    Attributes:
        state: int32.
        action: int32.
        reward: `r(s, a)`.
        next_state: int32, where the step led, before any restart.
        next_action: int32, chosen there before anything is learned from this step.
        discount: gamma, or 0 where the next state is the end of the episode.
    """

    state: jax.Array
    action: jax.Array
    reward: jax.Array
    next_state: jax.Array
    next_action: jax.Array
    discount: jax.Array


class Learner(NamedTuple):
    """What tells one learner from another.

    Attributes:
        policy: `(tables, state) -> [A]`, probabilities of what it does there.
        update: `(tables, step) -> (tables, TD error [])`.
    """

    policy: Callable[[Tables, jax.Array], jax.Array]
    update: Callable[[Tables, Step], tuple[Tables, jax.Array]]


class Course(NamedTuple):
    """What a learner went through, in K records of M steps.

    Attributes:
        tables: `Tables` with the axis K first, as each record ended.
        error: `[K, M]`, the TD error of every step.
        return_mean: `[K]`, mean undiscounted return of the episodes that ended in the record,
            time limits included; NaN where none did.
        episodes: `[K]` int32, how many did.
    """

    tables: Tables
    error: jax.Array
    return_mean: jax.Array
    episodes: jax.Array


class _Actor(NamedTuple):
    """Where the interaction stands, with the action chosen and not yet taken."""

    tables: Tables
    state: jax.Array
    action: jax.Array
    length: jax.Array
    total: jax.Array


def predict(
    mdp: MDP, policy: jax.Array, settings: Settings, key: jax.Array, records: int, steps: int
) -> Course:
    """TD(0) of a given policy `[S, A]`: `V(s) <- V(s) + alpha [r + gamma V(s') - V(s)]`.

    Of the settings `learning_rate`, `power` and `max_steps` are read. Source: Sutton 1988.
    """
    tables = Tables(jnp.zeros_like(mdp.start), jnp.zeros(mdp.start.shape, jnp.int32), ())
    learner = Learner(partial(_follow, policy), partial(_update_value, settings))
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

    It is over in an absorbing state without reward, which is worth 0, and after `max_steps`
    steps, whose next state is worth what the learner says.

    Args:
        mdp: the MDP.
        learner: policy and update.
        tables: what it knows to begin with.
        max_steps: the time limit.
        key: consumed.
        records: K.
        steps: M; K M steps are taken.
    """
    first_key, step_key = jax.random.split(key)
    uniform = jax.random.uniform(first_key, (2,), mdp.reward.dtype)
    state = _draw(uniform[0], mdp.start)
    action = _draw(uniform[1], learner.policy(tables, state))
    length, total = jnp.zeros((), jnp.int32), jnp.zeros_like(mdp.gamma)
    advance = partial(_advance, mdp, _ends(mdp), learner, max_steps)
    keys = jax.random.split(step_key, (records, steps))
    actor = _Actor(tables, state, action, length, total)
    return jax.lax.scan(partial(_record, advance), actor, keys)[1]


def move(
    tables: Tables, index: tuple[jax.Array, ...], target: jax.Array, settings: Settings
) -> tuple[Tables, jax.Array]:
    """Move one entry of the estimate towards a target, by the step size its visits have earned.

    Returns:
        the tables, and the error `target - estimate[index]`, `[]`.
    """
    error = target - tables.estimate[index]
    visits = tables.visits.at[index].add(1)
    rate = settings.learning_rate * visits[index].astype(error.dtype) ** -settings.power
    estimate = tables.estimate.at[index].add(rate * error)
    return tables._replace(estimate=estimate, visits=visits), error


def _record(
    advance: Callable[..., tuple[_Actor, tuple[jax.Array, ...]]], actor: _Actor, keys: jax.Array
) -> tuple[_Actor, Course]:
    actor, (error, total, over) = jax.lax.scan(advance, actor, keys)
    episodes = jnp.sum(over, dtype=jnp.int32)
    mean = jnp.sum(jnp.where(over, total, 0.0)) / jnp.maximum(episodes, 1).astype(total.dtype)
    return actor, Course(actor.tables, error, jnp.where(episodes > 0, mean, jnp.nan), episodes)


def _advance(
    mdp: MDP,
    ends: jax.Array,
    learner: Learner,
    max_steps: int | jax.Array,
    actor: _Actor,
    key: jax.Array,
) -> tuple[_Actor, tuple[jax.Array, jax.Array, jax.Array]]:
    uniform = jax.random.uniform(key, (4,), mdp.reward.dtype)
    next_state = _draw(uniform[0], mdp.transition[actor.state, actor.action])
    next_action = _draw(uniform[1], learner.policy(actor.tables, next_state))
    ended = ends[next_state]
    reward = mdp.reward[actor.state, actor.action]
    discount = jnp.where(ended, 0.0, mdp.gamma)
    step = Step(actor.state, actor.action, reward, next_state, next_action, discount)
    tables, error = learner.update(actor.tables, step)
    over = ended | (actor.length + 1 >= max_steps)
    total = actor.total + reward
    first = _draw(uniform[2], mdp.start)
    first_action = _draw(uniform[3], learner.policy(tables, first))
    state = jnp.where(over, first, next_state)
    action = jnp.where(over, first_action, next_action)
    length = jnp.where(over, 0, actor.length + 1)
    left = jnp.where(over, 0.0, total)
    return _Actor(tables, state, action, length, left), (error, total, over)


def _draw(uniform: jax.Array, probability: jax.Array) -> jax.Array:
    """The index that a number in [0, 1) falls on; never one without probability."""
    cumulative = jnp.cumsum(probability)
    return jnp.sum(cumulative <= uniform * cumulative[-1], dtype=jnp.int32)


def _ends(mdp: MDP) -> jax.Array:
    """States `[S]` that every action stays in and none is paid for."""
    stays = jnp.diagonal(mdp.transition, axis1=0, axis2=2)
    return jnp.all((stays >= 1.0) & (mdp.reward.T == 0.0), axis=0)


def _follow(policy: jax.Array, tables: Tables, state: jax.Array) -> jax.Array:
    return policy[state]


def _update_value(settings: Settings, tables: Tables, step: Step) -> tuple[Tables, jax.Array]:
    target = step.reward + step.discount * tables.estimate[step.next_state]
    return move(tables, (step.state,), target, settings)
