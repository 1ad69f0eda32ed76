"""Temporal-difference control: SARSA, Q-learning, soft Q-learning, actor-critic.

SARSA, expected SARSA, Q-learning and soft Q-learning are one loop; they differ in the value that
they give the next state, their `backup`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import finite, function, number, rows, unchecked
from jaxrl_pg.theory.checks import below, checked
from jaxrl_pg.theory.learning.td import (
    SETTINGS,
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
from jaxrl_pg.theory.solve import boltzmann, soft_maximum

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


@checked(settings=SETTINGS, backup=function("such as sarsa"))
def control(
    mdp: MDP, backup: Backup, settings: Settings, key: jax.Array, records: int, steps: int
) -> Course:
    """Learn action values from zero while acting on them.

        Q(s,a) <- Q(s,a) + alpha [r + gamma backup(Q(s',.)) - Q(s,a)]

    with gamma = 0 at a terminal state. Every rule chooses a' before the update and then takes it,
    so that they differ in the backup alone. Some accounts of these rules leave out gamma, which is
    right for episodes that end.

    Args:
        mdp: the MDP.
        backup: `sarsa`, `expected_sarsa`, `q_learning` or `soft_q_learning`.
        settings: see `Settings`; `actor_rate` is not used.
        key: consumed.
        records: K.
        steps: M; K M steps are taken.
    """

    def policy(tables: Tables, state: jax.Array) -> jax.Array:
        q = tables.estimate[state]
        visit = 1.0 + jnp.sum(tables.visits[state]).astype(q.dtype)
        return behaviour(q, settings.epsilon * visit**-settings.decay, settings.temperature)

    def update(tables: Tables, step: Step) -> tuple[Tables, jax.Array]:
        probabilities = policy(tables, step.next_state)
        q = tables.estimate[step.next_state]
        value = backup(q, step.next_action, probabilities, settings.temperature)
        target = step.reward + step.discount * value
        return move(tables, (step.state, step.action), target, settings)

    tables = Tables(jnp.zeros_like(mdp.reward), jnp.zeros(mdp.reward.shape, jnp.int32), ())
    learner = Learner(policy, update)
    return interact(mdp, learner, tables, settings.max_steps, key, records, steps)


@checked(settings=SETTINGS)
def actor_critic(mdp: MDP, settings: Settings, key: jax.Array, records: int, steps: int) -> Course:
    """Learn by the online one-step actor-critic with a softmax actor; V and theta begin at zero.

        delta = r + gamma V(s') - V(s)
        V(s) <- V(s) + alpha delta,    theta(s,.) <- theta(s,.) + beta delta (e_a - pi(.|s))

    The factor gamma^t of the discounted gradient is left out, as is usual: states count as often
    as they are visited. Of the settings it uses `learning_rate`, `power`, `actor_rate` and
    `max_steps`. K `records` of M `steps` are taken. Source: Barto, Sutton and Anderson 1983; Sutton
    and Barto 2018, section 13.5.
    """

    def policy(tables: Tables, state: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.asarray(tables.logits)[state])

    def update(tables: Tables, step: Step) -> tuple[Tables, jax.Array]:
        logits = jnp.asarray(tables.logits)
        chosen = jax.nn.one_hot(step.action, logits.shape[1], dtype=logits.dtype)
        score = chosen - jax.nn.softmax(logits[step.state])
        target = step.reward + step.discount * tables.estimate[step.next_state]
        tables, error = move(tables, (step.state,), target, settings)
        logits = logits.at[step.state].add(settings.actor_rate * error * score)
        return tables._replace(logits=logits), error

    visits = jnp.zeros(mdp.start.shape, jnp.int32)
    tables = Tables(jnp.zeros_like(mdp.start), visits, jnp.zeros_like(mdp.reward))
    learner = Learner(policy, update)
    return interact(mdp, learner, tables, settings.max_steps, key, records, steps)


@checked(q=finite("A"), epsilon=number(0.0, 1.0), temperature=number(0.0))
def behaviour(q: jax.Array, epsilon: Number, temperature: Number) -> jax.Array:
    """Return `(1 - eps) softmax(q / tau) + eps / A`, `[A]`; at tau 0 greedy, with ties shared."""
    return (1.0 - epsilon) * boltzmann(q, temperature) + epsilon / q.shape[0]


# --- backups: the value of the next state ---------------------------------------------------------


@checked(q=finite("A"), policy=unchecked(), temperature=number(0.0))
def sarsa(q: jax.Array, action: jax.Array, policy: jax.Array, temperature: Number) -> jax.Array:
    """Return `Q(s', a')` of the action that is taken next (Rummery and Niranjan 1994).

    Args:
        q: `Q(s', .)` `[A]`.
        action: a' `[]` int.
        policy: the behaviour in s', `[A]`.
        temperature: `[]`.
    """
    below("action", action, q.shape[0])
    return q[action]


@checked(q=finite("A"), policy=rows("A"), temperature=number(0.0))
def expected_sarsa(
    q: jax.Array, action: jax.Array, policy: jax.Array, temperature: Number
) -> jax.Array:
    """Return `sum_a pi(a|s') Q(s', a)`, SARSA without the noise of a' (van Seijen et al. 2009)."""
    return jnp.vdot(policy, q)


@checked(q=finite("A"), policy=unchecked(), temperature=number(0.0))
def q_learning(
    q: jax.Array, action: jax.Array, policy: jax.Array, temperature: Number
) -> jax.Array:
    """Return `max_a Q(s', a)`, whatever is done next (Watkins 1989)."""
    return jnp.max(q)


@checked(q=finite("A"), policy=unchecked(), temperature=number(0.0))
def soft_q_learning(
    q: jax.Array, action: jax.Array, policy: jax.Array, temperature: Number
) -> jax.Array:
    """Return `tau log sum_a exp(Q(s', a) / tau)` (Haarnoja et al. 2017; Levine 2018).

    It learns the soft-optimal Q, whose policy is `exp((Q - V) / tau) = softmax(Q / tau)`,
    whatever is done; at tau 0 it is Q-learning. A terminal state has the value 0: no entropy is
    earned there, unlike in exact solutions, which go on acting in an absorbing state. Where a
    "softmax" of Q is printed in its place, this log-sum-exp is meant, and gamma is missing.
    """
    return soft_maximum(q, temperature)
