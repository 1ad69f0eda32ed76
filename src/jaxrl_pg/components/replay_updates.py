"""Rounds of learning from a replay, as off-policy agents make them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import off_policy, replay
from jaxrl_pg.types import Metrics, TrainState

__all__ = ["Draws", "draw", "learn"]

Carry = tuple[jax.Array, jax.Array, Any, Metrics]  # rounds done, wanted; learner; sums
Round = Callable[[Any, "Draws"], tuple[Any, Metrics]]


class Draws(NamedTuple):
    """Randomness of one round of learning, or of several, on an axis in front.

    Attributes:
        places: `[steps, batch]` of rows in the replay.
        noise: `[times, batch, ...]` of actions.
    """

    places: jax.Array
    noise: jax.Array


def draw(
    config: Any, memory: replay.Replay, key: jax.Array, rounds: int, steps: int, times: int
) -> Draws:
    """What an iteration's rounds will need, all at once.

    Drawn within a round, XLA would compute the noise anew wherever it is used.

    Args:
        config: of the agent.
        memory: the replay of this device, with at least one row.
        key: consumed.
        rounds: of learning.
        steps: minibatches a round.
        times: actions a round and row.
    """
    row_key, noise_key = jax.random.split(key)
    batch = config.batch_size // config.num_devices
    places = replay.draw(memory, row_key, rounds * steps * batch)
    draws = off_policy.noise(config, noise_key, rounds * times, batch)
    return Draws(
        places.reshape(rounds, steps, batch), draws.reshape(rounds, times, *draws.shape[1:])
    )


def learn(
    config: Any, state: TrainState, experience: off_policy.Experience, update: Round, draws: Draws
) -> tuple[Any, Metrics]:
    """A round of `update` for each of the draws, or none before learning starts.

    A run that goes on without the replay it had waits until as many rows are there again. A loop
    rather than a branch: under `vmap` it stays one (see `rollout.collect`).

    Args:
        config: of the agent.
        state: where the iteration began.
        experience: what it gathered.
        update: `(learner, draws) -> (learner, metrics)`, scalars.
        draws: of every round, on the first axis.

    Returns:
        The learner, and means of the metrics over the rounds, all 0 where there were none.
    """
    num, first = draws.places.shape[0], jax.tree.map(lambda x: x[0], draws)
    enough = experience.memory.size[0] >= _rows_wanted(config)
    rounds = jnp.where(off_policy.is_learning(config, state.iteration) & enough, num, 0)
    shapes = jax.eval_shape(update, state.learner, first)[1]
    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    carry = (jnp.zeros_like(rounds), rounds, state.learner, sums)
    *_, learner, sums = jax.lax.while_loop(_any_left, partial(_round, update, draws), carry)
    metrics = jax.tree.map(lambda x: x / jnp.maximum(rounds, 1), sums)
    done = (rounds * (config.num_updates // num)).astype(jnp.float32)
    rate = jnp.asarray(config.learning_rate)
    return learner, {**metrics, "learning_rate": rate, "train/num_updates": done}


def _rows_wanted(config: Any) -> int:
    """What a device's replay holds when learning starts."""
    steps = off_policy.iterations_before(config) * config.steps_per_iteration
    return min(steps, config.buffer_size) // config.num_devices


def _any_left(carry: Carry) -> jax.Array:
    return carry[0] < carry[1]


def _round(update: Round, draws: Draws, carry: Carry) -> Carry:
    done, rounds, learner, sums = carry
    learner, metrics = update(learner, jax.tree.map(lambda x: x[done], draws))
    return done + 1, rounds, learner, jax.tree.map(jnp.add, sums, metrics)
