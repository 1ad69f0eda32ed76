"""Temporal differences that choose their actions: SARSA, Q-learning, soft Q-learning, actor-critic.

The first four are one loop with one line exchanged, the value they give the next state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.learning.td import (
    Course,
    Learner,
    Number,
    Settings,
    Step,
    Tables,
    interact,
    move,
)
from jaxrl_pg.theory.mdp import MDP

__all__ = [
    "actor_critic",
    "behaviour",
    "control",
    "expected_sarsa",
    "q_learning",
    "sarsa",
    "soft_q_learning",
]

Backup = Callable[[jax.Array, jax.Array, jax.Array, Number], jax.Array]


def control(
    mdp: MDP, backup: Backup, settings: Settings, key: jax.Array, records: int, steps: int
) -> Course:
    """Learn action values, from zero, while acting on them.

        Q(s,a) <- Q(s,a) + alpha [r + gamma backup(Q(s',.)) - Q(s,a)]

    with gamma = 0 at an end. In all of them a' is chosen before the update and then taken, so
    that they differ in the backup alone. gamma is missing in some accounts of these rules, which
    then hold for episodes that end.

    Args:
        mdp: the MDP.
        backup: `sarsa`, `expected_sarsa`, `q_learning` or `soft_q_learning`.
        settings: see `Settings`; `actor_rate` is not read.
        key: consumed.
        records: K.
        steps: M; K M steps are taken.
    """
    tables = Tables(jnp.zeros_like(mdp.reward), jnp.zeros(mdp.reward.shape, jnp.int32), ())
    learner = Learner(partial(_explore, settings), partial(_update_q, backup, settings))
    return interact(mdp, learner, tables, settings.max_steps, key, records, steps)


def actor_critic(mdp: MDP, settings: Settings, key: jax.Array, records: int, steps: int) -> Course:
    """Online one-step actor-critic with a softmax actor; V and theta begin at zero.

        delta = r + gamma V(s') - V(s)
        V(s) <- V(s) + alpha delta,    theta(s,.) <- theta(s,.) + beta delta (e_a - pi(.|s))

    The factor gamma^t of the discounted gradient is left out, as is usual: states count as often
    as they are visited. Of the settings `learning_rate`, `power`, `actor_rate` and `max_steps`
    are read. Source: Barto, Sutton and Anderson 1983; Sutton and Barto 2018, section 13.5.
    """
    visits = jnp.zeros(mdp.start.shape, jnp.int32)
    tables = Tables(jnp.zeros_like(mdp.start), visits, jnp.zeros_like(mdp.reward))
    learner = Learner(_act, partial(_update_both, settings))
    return interact(mdp, learner, tables, settings.max_steps, key, records, steps)


def behaviour(q: jax.Array, epsilon: Number, temperature: Number) -> jax.Array:
    """`(1 - eps) softmax(q / tau) + eps / A`, `[A]`; at tau 0 greedy, ties shared."""
    best = (q == jnp.max(q)).astype(q.dtype)
    soft = jax.nn.softmax(q / _positive(temperature))
    base = jnp.where(jnp.asarray(temperature) > 0, soft, best / jnp.sum(best))
    return (1.0 - epsilon) * base + epsilon / q.shape[0]


# --- backups: the value of the next state ---------------------------------------------------------


def sarsa(q: jax.Array, action: jax.Array, policy: jax.Array, temperature: Number) -> jax.Array:
    """`Q(s', a')` of the action that is taken next (Rummery and Niranjan 1994).

    Args:
        q: `Q(s', .)` `[A]`.
        action: a' `[]` int.
        policy: the behaviour in s', `[A]`.
        temperature: `[]`.
    """
    return q[action]


def expected_sarsa(
    q: jax.Array, action: jax.Array, policy: jax.Array, temperature: Number
) -> jax.Array:
    """`sum_a pi(a|s') Q(s', a)`: SARSA without the noise of a' (van Seijen et al. 2009)."""
    return jnp.vdot(policy, q)


def q_learning(
    q: jax.Array, action: jax.Array, policy: jax.Array, temperature: Number
) -> jax.Array:
    """`max_a Q(s', a)`, whatever is done next (Watkins 1989)."""
    return jnp.max(q)


def soft_q_learning(
    q: jax.Array, action: jax.Array, policy: jax.Array, temperature: Number
) -> jax.Array:
    """`tau log sum_a exp(Q(s', a) / tau)`, the soft maximum (Haarnoja et al. 2017; Levine 2018).

    It learns the soft-optimal Q, whose policy is `exp((Q - V) / tau) = softmax(Q / tau)`,
    whatever is done; at tau 0 it is Q-learning. The end of an episode is worth 0: no entropy is
    earned there, as it is by exact solutions that go on acting in an absorbing state. Where a
    "softmax" of Q is printed in its place, this log-sum-exp is meant, and gamma is missing.
    """
    safe = _positive(temperature)
    soft = safe * jax.nn.logsumexp(q / safe)
    return jnp.where(jnp.asarray(temperature) > 0, soft, jnp.max(q))


# --- learners -------------------------------------------------------------------------------------


def _positive(temperature: Number) -> jax.Array:
    return jnp.where(jnp.asarray(temperature) > 0, temperature, 1.0)


def _explore(settings: Settings, tables: Tables, state: jax.Array) -> jax.Array:
    q = tables.estimate[state]
    visit = 1.0 + jnp.sum(tables.visits[state]).astype(q.dtype)
    return behaviour(q, settings.epsilon * visit**-settings.decay, settings.temperature)


def _update_q(
    backup: Backup, settings: Settings, tables: Tables, step: Step
) -> tuple[Tables, jax.Array]:
    policy = _explore(settings, tables, step.next_state)
    q = tables.estimate[step.next_state]
    value = backup(q, step.next_action, policy, settings.temperature)
    target = step.reward + step.discount * value
    return move(tables, (step.state, step.action), target, settings)


def _act(tables: Tables, state: jax.Array) -> jax.Array:
    return jax.nn.softmax(jnp.asarray(tables.logits)[state])


def _update_both(settings: Settings, tables: Tables, step: Step) -> tuple[Tables, jax.Array]:
    logits = jnp.asarray(tables.logits)
    chosen = jax.nn.one_hot(step.action, logits.shape[1], dtype=logits.dtype)
    score = chosen - jax.nn.softmax(logits[step.state])
    target = step.reward + step.discount * tables.estimate[step.next_state]
    tables, error = move(tables, (step.state,), target, settings)
    logits = logits.at[step.state].add(settings.actor_rate * error * score)
    return tables._replace(logits=logits), error
