"""The named things that rooms hand to each other. No logic lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

__all__ = ["ActorState", "Agent", "EnvSpec", "Metrics", "TimeStep", "TrainState", "Transition"]

Metrics = dict[str, jax.Array]


class EnvSpec(NamedTuple):
    """What a network must know of an environment; hashable, so it can be static.

    Attributes:
        obs_shape: shape of one observation, `()` excluded: a scalar becomes `(1,)`.
        discrete: True for a finite action set, False for a box of real actions.
        num_actions: number of actions (discrete) or of action dimensions (box).
        action_shape: shape of one action, `()` when discrete.
    """

    obs_shape: tuple[int, ...]
    discrete: bool
    num_actions: int
    action_shape: tuple[int, ...]


class TimeStep(NamedTuple):
    """One step of `B` environments, automatic reset included.

    Attributes:
        obs: `[B, ...]` what the agent sees next; after an episode's end, the new episode's first.
        reward: `[B]` float32.
        terminated: `[B]` bool, the episode reached a state without a future.
        truncated: `[B]` bool, the episode was cut off (a time limit); both can be true.
        final_obs: `[B, ...]` the observation this step led to, before any reset.
    """

    obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_obs: jax.Array


class ActorState(NamedTuple):
    """Everything that lives on the environment side; every leaf has the axis `B` first.

    Attributes:
        env_state: the environments' own states.
        obs: `[B, ...]` current observations.
        episode_return: `[B]` undiscounted reward of the episode in progress.
        episode_length: `[B]` int32 steps of the episode in progress.
        discounted_return: `[B]` running discounted reward, read by reward normalisation.
    """

    env_state: Any
    obs: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    discounted_return: jax.Array


class Transition(NamedTuple):
    """A rollout, time-major: every leaf is `[T, B, ...]`.

    Attributes:
        obs: observation acted on, as the environment gave it.
        action: the policy's raw action (before rescaling to the environment's bounds).
        log_prob: log-probability of `action` under the policy that took it.
        reward: the environment's reward.
        terminated: the step ended the episode for good.
        truncated: the step was the episode's last because of a time limit.
        final_value: value of the step's own successor where it was truncated and not
            terminated, 0 elsewhere.
    """

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_value: jax.Array


class TrainState(NamedTuple):
    """All that training touches: save it and the run can go on bit for bit.

    Attributes:
        learner: the agent's own state: parameters, optimiser, normaliser statistics.
        actor: the environments' side, see `ActorState`.
        memory: what outlives an iteration beside these (a replay buffer); `()` if nothing.
        key: random key of the next iteration.
        iteration: int32 scalar, iterations done.
    """

    learner: Any
    actor: ActorState
    memory: Any
    key: jax.Array
    iteration: jax.Array


class Agent(NamedTuple):
    """The contract of an agent: pure functions over one train state.

    Attributes:
        name: what the command line and run folders call it.
        Config: its configuration class; the type finds the agent.
        init: `(config, key) -> TrainState`.
        iterate: `(config, state) -> (TrainState, Metrics)`, one iteration of
            `config.steps_per_iteration` environment steps.
        act: `(config, learner, obs [N, ...], key, deterministic) -> raw actions [N, ...]`.
        value: `(config, learner, obs [N, ...]) -> [N]`, the critic on raw observations.
    """

    name: str
    Config: type
    init: Callable[..., TrainState]
    iterate: Callable[..., tuple[TrainState, Metrics]]
    act: Callable[..., jax.Array]
    value: Callable[..., jax.Array]
