"""The types that all rooms share; no logic lives here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax

from jaxrl_pg.config import BaseConfig

__all__ = [
    "ActorState",
    "Agent",
    "EnvSpec",
    "Metrics",
    "OptState",
    "Params",
    "TimeStep",
    "TrainState",
    "Transition",
]

Metrics = dict[str, jax.Array]
Params = Any  # a pytree of arrays: the parameters of networks
OptState = Any  # a pytree of arrays: what an optimiser remembers

ConfigT = TypeVar("ConfigT", bound=BaseConfig)
LearnerT = TypeVar("LearnerT")


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


class TrainState(NamedTuple, Generic[LearnerT]):
    """All that training touches: save it and the run can go on bit for bit.

    Attributes:
        learner: the agent's own state: parameters, optimiser, normaliser statistics.
        actor: the environments' side, see `ActorState`.
        memory: what outlives an iteration beside these (a replay buffer); `()` if nothing.
        key: random key of the next iteration.
        iteration: int32 scalar, iterations done.
    """

    learner: LearnerT
    actor: ActorState
    memory: Any
    key: jax.Array
    iteration: jax.Array


@dataclass(frozen=True)
class Agent(Generic[ConfigT, LearnerT]):
    """The contract of an agent: pure functions over one train state.

    Making one tells the config class which agent it configures (`Config.agent`), so that
    `train(config, key)` works for any agent, in this package or not.

    Attributes:
        name: what the command line and run folders call it.
        Config: its configuration class.
        init: `(config, key) -> state`, a fresh train state.
        iterate: `(config, state) -> (state, metrics)`, one iteration of
            `config.steps_per_iteration` environment steps; metrics are scalars.
        act: `(config, learner, obs [N, ...], key, deterministic) -> raw actions [N, ...]`.
        value: `(config, learner, obs [N, ...]) -> [N]`, the critic on raw observations.
    """

    name: str
    Config: type[ConfigT]
    init: Callable[[ConfigT, jax.Array], TrainState[LearnerT]]
    iterate: Callable[[ConfigT, TrainState[LearnerT]], tuple[TrainState[LearnerT], Metrics]]
    act: Callable[[ConfigT, LearnerT, jax.Array, jax.Array, bool], jax.Array]
    value: Callable[[ConfigT, LearnerT, jax.Array], jax.Array]

    def __post_init__(self) -> None:
        """Tell the config class whose it is."""
        self.Config.agent = self
