"""Updates from a replay, as off-policy agents make them: all of an iteration's, or none yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import off_policy, replay
from jaxrl_pg.components.off_policy import OffPolicyConfig
from jaxrl_pg.ops import collectives
from jaxrl_pg.types import EnvSpec, Metrics, TrainState

__all__ = ["Draws", "draw", "learn"]

Update = Callable[[Any, "Draws"], tuple[Any, Metrics]]


class Draws(NamedTuple):
    """Randomness of one update, or of several, on an axis in front.

    Attributes:
        places: `[steps, batch]` of rows in the replay.
        noise: `[times, batch, ...]` of actions.
    """

    places: jax.Array
    noise: jax.Array


def draw(
    config: OffPolicyConfig,
    spec: EnvSpec,
    experience: off_policy.Experience,
    num: int,
    steps: int,
    times: int,
) -> Draws:
    """Draw what an iteration's updates will need, all at once.

    Drawn within an update, XLA would compute the noise anew wherever it is used.

    Args:
        config: the agent's.
        spec: the environment's.
        experience: what the iteration gathered; its replay has at least one row.
        num: updates.
        steps: minibatches in an update.
        times: actions in an update for each row.
    """
    row_key, noise_key = jax.random.split(experience.update_key)
    batch = config.batch_size // collectives.num_devices()
    places = replay.draw(experience.memory, row_key, num * steps * batch)
    noise = off_policy.noise(spec, noise_key, num * times, batch)
    return Draws(places.reshape(num, steps, batch), noise.reshape(num, times, *noise.shape[1:]))


def learn(
    config: OffPolicyConfig,
    state: TrainState[Any],
    experience: off_policy.Experience,
    update: Update,
    draws: Draws,
) -> tuple[Any, Metrics]:
    """Make an `update` for each of the draws, or none before learning starts.

    A run that goes on without the replay it had waits until as many rows are there again. A loop
    rather than a branch: under `vmap` it stays one (see `rollout.value_where`).

    Args:
        config: the agent's.
        state: where the iteration began.
        experience: what it gathered.
        update: `(learner, draws) -> (learner, metrics)`, scalars.
        draws: of every update, on the first axis.

    Returns:
        The learner, and means of the metrics over the updates, all 0 where there were none.
    """
    num, first = draws.places.shape[0], jax.tree.map(lambda x: x[0], draws)
    warmup_steps = off_policy.warmup_iterations(config) * config.steps_per_iteration
    min_rows = min(warmup_steps, config.buffer_size) // collectives.num_devices()
    ready = off_policy.is_learning(config, state.iteration) & (
        experience.memory.size[0] >= min_rows
    )
    num_updates = jnp.where(ready, num, 0)

    def one_update(carry: tuple[jax.Array, Any, Metrics]) -> tuple[jax.Array, Any, Metrics]:
        done, learner, sums = carry
        learner, metrics = update(learner, jax.tree.map(lambda x: x[done], draws))
        return done + 1, learner, jax.tree.map(jnp.add, sums, metrics)

    shapes = jax.eval_shape(update, state.learner, first)[1]
    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    _, learner, sums = jax.lax.while_loop(
        lambda carry: carry[0] < num_updates,
        one_update,
        (jnp.zeros_like(num_updates), state.learner, sums),
    )
    metrics = jax.tree.map(lambda x: x / jnp.maximum(num_updates, 1), sums)
    gradient_steps = (num_updates * (config.num_updates // num)).astype(jnp.float32)
    rate = jnp.asarray(config.learning_rate)
    return learner, {**metrics, "learning_rate": rate, "train/num_updates": gradient_steps}
