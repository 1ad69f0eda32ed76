"""Monte-Carlo prediction: the mean of the returns that followed first visits, or every visit.

The mean over first visits is unbiased, since every episode gives a state at most one return. That
over every visit is biased, as a state visited often in an episode counts its returns together, and
consistent. Sources: Singh and Sutton 1996; Sutton and Barto 2018, section 5.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import count, function, unchecked
from jaxrl_pg.theory.checks import below, checked
from jaxrl_pg.theory.learning.estimators import sample_trajectories
from jaxrl_pg.theory.learning.td import terminal_states
from jaxrl_pg.theory.learning.traces import EPISODE, Episode, lambda_returns
from jaxrl_pg.theory.mdp import MDP

__all__ = [
    "Averages",
    "average",
    "every_visit",
    "first_visit",
    "predict",
    "sample_episodes",
]

Counted = Callable[[jax.Array], jax.Array]
_COUNTED = function("first_visit or every_visit")


class Averages(NamedTuple):
    """The estimate after each of N episodes.

    Attributes:
        value: `[N, S]`, the mean return; 0 for states without a visit.
        visits: `[N, S]` int32, the visits counted so far.
    """

    value: jax.Array
    visits: jax.Array


@checked(counted=_COUNTED, horizon=count())
def predict(
    mdp: MDP, policy: jax.Array, counted: Counted, horizon: int, num: int, key: jax.Array
) -> Averages:
    """Predict the values of a policy `[S, A]` by the returns of `num` episodes.

    Args:
        mdp: the MDP.
        policy: `[S, A]`.
        counted: `first_visit` or `every_visit`.
        horizon: steps after which an episode is cut off, and its return with it; the rest is
            missing, as nothing is bootstrapped.
        num: N.
        key: consumed.
    """
    episodes = sample_episodes(mdp, policy, horizon, num, key)
    return average(episodes, counted, mdp.start.shape[0])


@checked(episodes=EPISODE, counted=_COUNTED)
def average(episodes: Episode, counted: Counted, num_states: int) -> Averages:
    """Return the mean returns after each of N given episodes, whose fields are `[N, ...]`.

    The last state of an episode is not counted; padding counts as visits to the terminal state.
    """
    below("episodes.state", episodes.state, num_states)
    state, reward, discount = (jnp.asarray(x) for x in episodes)
    dtype = jnp.result_type(reward, discount, float)

    def totals(episode: Episode) -> tuple[jax.Array, jax.Array]:
        state, zero = episode.state[:-1], jnp.zeros(num_states, dtype)
        target, taken = lambda_returns(zero, episode, 1.0), counted(state)
        visits = jnp.zeros(num_states, jnp.int32).at[state].add(taken.astype(jnp.int32))
        return zero.at[state].add(jnp.where(taken, target, 0.0)), visits

    total, visits = (
        jnp.cumsum(x, axis=0) for x in jax.vmap(totals)(Episode(state, reward, discount))
    )
    return Averages(total / jnp.maximum(visits, 1).astype(total.dtype), visits)


@checked(state=unchecked())
def every_visit(state: jax.Array) -> jax.Array:
    """Return that all visits count, `[T]` bool from the states `[T]` of an episode."""
    return jnp.ones(state.shape, bool)


@checked(state=unchecked())
def first_visit(state: jax.Array) -> jax.Array:
    """Return which visits are the first of their state, `[T]` bool from `[T]`."""
    earlier = jnp.tri(state.shape[0], k=-1, dtype=bool)
    return ~jnp.any(earlier & (state[:, None] == state[None]), axis=1)


@checked(horizon=count())
def sample_episodes(mdp: MDP, policy: jax.Array, horizon: int, num: int, key: jax.Array) -> Episode:
    """Sample `num` episodes of a policy `[S, A]`, cut off after `horizon` steps; axis N first.

    What has ended stays in its terminal state, with reward 0 and discount 0.
    """
    paths = sample_trajectories(mdp, policy, horizon + 1, num, key)
    ended = terminal_states(mdp)[paths.state[:, 1:]]
    return Episode(paths.state, paths.reward[:, :-1], jnp.where(ended, 0.0, mdp.gamma))
