"""TD(lambda): prediction with eligibility traces, and the forward view that it stands for.

The forward view moves the value of each state visited towards a lambda-return, which is known
only when the episode is over; the backward view shares every TD error out to the states visited
before, by a trace of them. Both are here for given episodes, and the backward view for an `MDP`
that is learned from online. A trace has the step sizes `alpha` of the visits inside it, so that
they may differ from visit to visit.

Sources: Sutton 1988; Singh and Sutton 1996 on replacing traces; van Seijen, Mahmood, Pilarski,
Machado and Sutton 2016 (arXiv 1512.04087) on Dutch traces; Sutton and Barto 2018, chapter 12.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import Argument, number, require, unchecked
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
)
from jaxrl_pg.theory.linear import factorize, solve
from jaxrl_pg.theory.mdp import MDP, induced

__all__ = [
    "ACCUMULATING",
    "DUTCH",
    "EPISODE",
    "REPLACING",
    "Episode",
    "Trace",
    "expected_return",
    "forward_view",
    "lambda_returns",
    "offline",
    "online",
    "predict",
]


class Episode(NamedTuple):
    """One episode of T steps.

    Attributes:
        state: `[T + 1]` int32, the last one where it stopped.
        reward: `[T]`, `r_t` for leaving `s_t`.
        discount: `[T]`, gamma, or 0 where the next state is terminal; what was cut off before
            the end has gamma in its last step too, and bootstraps. A shorter episode is padded by
            staying in its last state with reward 0 and discount 0, if that state has the value 0.
    """

    state: jax.Array
    reward: jax.Array
    discount: jax.Array


class Trace(NamedTuple):
    """A kind of eligibility trace.

    Attributes:
        visit: `(what is left of the trace of the state visited [], alpha []) -> []`, its new trace.
        corrected: whether the value of a state is counted from what it was before the last update,
            as true online TD(lambda) needs it.
    """

    visit: Callable[[jax.Array, jax.Array], jax.Array]
    corrected: bool | jax.Array


ACCUMULATING: Trace = Trace(lambda left, rate: left + rate, corrected=False)
"""every visit adds: the backward view of the lambda-returns from all visits"""
REPLACING: Trace = Trace(lambda left, rate: rate, corrected=False)
"""a visit replaces what is left of the visits before"""
DUTCH: Trace = Trace(lambda left, rate: (1.0 - rate) * left + rate, corrected=True)
"""in between, with the correction of true online TD(lambda): `online` is then exactly the
algorithm that after every step does the whole forward view again with all that is known by then"""


def _check_episode(name: str, episode: Episode) -> None:
    """Raise for an episode whose parts do not fit; of several, they have an axis more."""
    state, *rest = (jnp.asarray(x).shape for x in episode)
    want = (*state[:-1], state[-1] - 1) if state else ()
    fits = bool(state) and all(shape == want for shape in rest)
    require(
        fits,
        f"{name} has state {state}, reward {rest[0]} and discount {rest[1]}: "
        "give [T + 1], [T] and [T]",
    )


EPISODE: Argument = Argument(_check_episode, array=False)
"""the check of an argument that is an `Episode`, or several"""
_DECAY = number(0.0, 1.0)


def _fitting(value: jax.Array, episode: Episode) -> tuple[jax.Array, Episode]:
    """Return values and an episode in one precision; raise for a state without a value."""
    below("episode.state", episode.state, value.shape[0])
    state, reward, discount = (jnp.asarray(x) for x in episode)
    dtype = jnp.result_type(value, reward, discount)
    return value.astype(dtype), Episode(state, reward.astype(dtype), discount.astype(dtype))


class _Memory(NamedTuple):
    """What is kept from step to step: the trace `[S]`, already decayed, and an old value `[]`."""

    trace: jax.Array
    expected: jax.Array


# --- learning online ------------------------------------------------------------------------------


@checked(settings=SETTINGS, trace=unchecked(), trace_decay=_DECAY)
def predict(
    mdp: MDP,
    policy: jax.Array,
    trace: Trace,
    trace_decay: Number,
    settings: Settings,
    key: jax.Array,
    records: int,
    steps: int,
) -> Course:
    """Predict the values of a policy by TD(lambda), updating every state at every step.

        e(s_t) <- visit(e(s_t), alpha_t),    V <- V + delta_t e,    e <- gamma lambda e

    With lambda = 0 it is `td.predict`, on the same random numbers. Traces begin at 0 in every
    episode, truncated ones included. K `records` of M `steps` are taken.

    Args:
        mdp: the MDP.
        policy: `[S, A]`.
        trace: `ACCUMULATING`, `REPLACING` or `DUTCH`.
        trace_decay: lambda, in [0, 1].
        settings: of these `learning_rate`, `power` and `max_steps` are used; alpha is that of the
            visits so far of the state in which the step begins.
        key: consumed.
        records: K.
        steps: M; K M steps are taken.
    """

    def update(tables: Tables, step: Step) -> tuple[Tables, jax.Array]:
        visits = tables.visits.at[step.state].add(1)
        count = visits[step.state].astype(step.reward.dtype)
        rate = settings.learning_rate * count**-settings.power
        memory = _Memory(*tables.memory)
        row = step.state, step.next_state, step.reward, step.discount, rate
        estimate, memory, error = _advance(tables.estimate, memory, trace, trace_decay, row)
        memory = memory._replace(trace=jnp.where(step.over, 0.0, memory.trace))
        return Tables(estimate, visits, (), memory), error

    zero = jnp.zeros_like(mdp.start)
    tables = Tables(zero, jnp.zeros(zero.shape, jnp.int32), (), _Memory(zero, zero[0]))
    learner = Learner(lambda tables, state: policy[state], update)
    return interact(mdp, learner, tables, settings.max_steps, key, records, steps)


# --- one given episode ----------------------------------------------------------------------------


@checked(episode=EPISODE, trace=unchecked(), trace_decay=_DECAY)
def online(
    value: jax.Array,
    episode: Episode,
    trace: Trace,
    trace_decay: Number,
    learning_rate: Number,
) -> jax.Array:
    """Return the values after one episode in which they were updated at every step.

    Args:
        value: V `[S]` before.
        episode: see `Episode`.
        trace: `ACCUMULATING`, `REPLACING` or `DUTCH`.
        trace_decay: lambda.
        learning_rate: alpha, `[]` or one for each state `[S]`.
    """
    value, episode = _fitting(value, episode)
    rate = jnp.broadcast_to(learning_rate, value.shape)[episode.state[:-1]]

    def advance(
        carry: tuple[jax.Array, _Memory], row: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, _Memory], None]:
        value, memory, _ = _advance(*carry, trace, trace_decay, row)
        return (value, memory), None

    rows = episode.state[:-1], episode.state[1:], episode.reward, episode.discount, rate
    start = value, _Memory(jnp.zeros_like(value), jnp.zeros_like(value[0]))
    return jax.lax.scan(advance, start, rows)[0][0]


@checked(episode=EPISODE, trace=unchecked(), trace_decay=_DECAY)
def offline(
    value: jax.Array,
    episode: Episode,
    trace: Trace,
    trace_decay: Number,
    learning_rate: Number,
) -> jax.Array:
    """Return the values after one episode through which they were kept: the backward view.

        V_new = V + sum_t delta_t e_t,    delta_t = r_t + gamma V(s_{t+1}) - V(s_t)

    With accumulating traces it is `forward_view`; with lambda = 1 then every-visit Monte Carlo, and
    with replacing traces and gamma = 1 first-visit Monte Carlo (Singh and Sutton 1996). The
    arguments are those of `online`; the correction of `DUTCH` has nothing to correct.
    """
    value, episode = _fitting(value, episode)
    rate = jnp.broadcast_to(learning_rate, value.shape)[episode.state[:-1]]

    def spread(
        carry: tuple[jax.Array, jax.Array], row: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        left, change = carry
        state, error, discount, rate = row
        eligible = left.at[state].set(trace.visit(left[state], rate))
        return (discount * trace_decay * eligible, change + error * eligible), None

    rows = episode.state[:-1], _errors(value, episode), episode.discount, rate
    zero = jnp.zeros_like(value)
    return value + jax.lax.scan(spread, (zero, zero), rows)[0][1]


@checked(episode=EPISODE, trace_decay=_DECAY)
def forward_view(
    value: jax.Array, episode: Episode, trace_decay: Number, learning_rate: Number
) -> jax.Array:
    """Return `V(s) + sum_{t: s_t = s} alpha(s) (G_t - V(s))` with the lambda-returns `G`, `[S]`.

    The arguments are those of `online`.
    """
    value, episode = _fitting(value, episode)
    state = episode.state[:-1]
    error = lambda_returns(value, episode, trace_decay) - value[state]
    return value + learning_rate * jnp.zeros_like(value).at[state].add(error)


@checked(episode=EPISODE, trace_decay=_DECAY)
def lambda_returns(value: jax.Array, episode: Episode, trace_decay: Number) -> jax.Array:
    """Return the lambda-return of every step of an episode, `[T]`.

        G_t = r_t + gamma_t [(1 - lambda) V(s_{t+1}) + lambda G_{t+1}],    G_T = V(s_T)

    lambda = 0 is the target of TD(0), and lambda = 1 the return, which owes nothing to V if the
    episode has ended.
    """
    value, episode = _fitting(value, episode)

    def back(after: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        reward, discount, bootstrap = row
        mixed = (1.0 - trace_decay) * bootstrap + trace_decay * after
        target = reward + discount * mixed
        return target, target

    rows = episode.reward, episode.discount, value[episode.state[1:]]
    return jax.lax.scan(back, value[episode.state[-1]], rows, reverse=True)[1]


# --- in the mean ----------------------------------------------------------------------------------


@checked(trace_decay=_DECAY)
def expected_return(
    mdp: MDP, policy: jax.Array, value: jax.Array, trace_decay: Number
) -> jax.Array:
    """Return the mean of the lambda-return from every state, `[S]`, that of endless episodes.

        T V = (I - gamma lambda P_pi)^{-1} (r_pi + gamma (1 - lambda) P_pi V)

    V of the policy is its fixed point for every lambda, and it is a contraction by
    `gamma (1 - lambda) / (1 - gamma lambda)` in the maximum norm. lambda = 0 is the Bellman
    operator.
    """
    transition, reward = induced(mdp, policy)
    bootstrapped = reward + mdp.gamma * (1.0 - trace_decay) * (transition @ value)
    return solve(factorize(transition, mdp.gamma * trace_decay), bootstrapped)


def _errors(value: jax.Array, episode: Episode) -> jax.Array:
    """Return the TD errors `[T]` of values that are not changed meanwhile."""
    here, there = value[episode.state[:-1]], value[episode.state[1:]]
    return episode.reward + episode.discount * there - here


def _advance(
    value: jax.Array,
    memory: _Memory,
    trace: Trace,
    trace_decay: Number,
    row: tuple[jax.Array, ...],
) -> tuple[jax.Array, _Memory, jax.Array]:
    """Take one online step, and return the values, what is to be kept, and the TD error.

        e(s_t) <- visit(e(s_t), alpha),    V <- V + (delta + V(s_t) - U) e - alpha (V(s_t) - U) 1_s

    U is the value that `s_t` had when it was bootstrapped from, if the trace is corrected, and
    `V(s_t)` otherwise. The row is `s_t, s_{t+1}, r_t, gamma_t, alpha`.
    """
    state, next_state, reward, discount, rate = row
    error = reward + discount * value[next_state] - value[state]
    drift = (value[state] - memory.expected) * trace.corrected
    eligible = memory.trace.at[state].set(trace.visit(memory.trace[state], rate))
    expected = value[next_state]
    value = (value + (error + drift) * eligible).at[state].add(-rate * drift)
    return value, _Memory(discount * trace_decay * eligible, expected), error
