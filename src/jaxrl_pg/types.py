"""The types that all rooms share; no logic lives here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import jax

from jaxrl_pg import precision
from jaxrl_pg.config import BaseConfig

__all__ = [
    "ACTION_MASK",
    "ActorState",
    "Agent",
    "EnvSpec",
    "Memory",
    "Metrics",
    "Obs",
    "ObsShape",
    "OptState",
    "Params",
    "TimeStep",
    "TrainState",
    "Transition",
]

Metrics = dict[str, jax.Array]
Obs = Any  # an array, or a dict of arrays where observations are structured
ObsShape = tuple[int, ...] | tuple[tuple[str, tuple[int, ...]], ...]
ACTION_MASK = "action_mask"  # name of the array that says which actions are legal
Params = Any  # a pytree of arrays: the parameters of networks
OptState = Any  # a pytree of arrays: what an optimiser remembers

ConfigT = TypeVar("ConfigT", bound=BaseConfig)
LearnerT = TypeVar("LearnerT")


class EnvSpec(NamedTuple):
    """What a network must know of an environment; hashable, so it can be static.

    Attributes:
        obs_shape: shape of one observation, `()` excluded: a scalar becomes `(1,)`. Of structured
            observations, `(name, shape)` of each array.
        discrete: True for a finite action set, False for a box of real actions.
        num_actions: number of actions (discrete) or of action dimensions (box).
        action_shape: shape of one action, `()` when discrete.
        masked: observations have an array `action_mask`, `[num_actions]` bool: the legal ones.
        factors: of a `MultiDiscrete` action, the number of choices of each component; an agent's
            action is then the number, row by row, of their combination.
    """

    obs_shape: ObsShape
    discrete: bool
    num_actions: int
    action_shape: tuple[int, ...]
    masked: bool = False
    factors: tuple[int, ...] = ()


class TimeStep(NamedTuple):
    """One step of `B` environments, automatic reset included.

    Attributes:
        obs: `[B, ...]` what the agent sees next; after an episode's end, the new episode's first.
        reward: `[B]` float32.
        terminated: `[B]` bool, the episode reached a state without a future.
        truncated: `[B]` bool, the episode was cut off (a time limit); both can be true.
        final_obs: `[B, ...]` the observation this step led to, before any reset.
    """

    obs: Obs
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_obs: Obs


class ActorState(NamedTuple):
    """Everything that lives on the environment side; every leaf has the axis `B` first.

    Attributes:
        env_state: the environments' own states.
        obs: `[B, ...]` current observations.
        episode_return: `[B]` undiscounted reward of the episode in progress.
        episode_length: `[B]` int32 steps of the episode in progress.
        discounted_return: `[B]` running discounted reward, read by reward normalisation.
        hidden: `[B, ...]` what a recurrent core remembers before it sees `obs`, zero where an
            episode begins; `()` without a core.
    """

    env_state: Any
    obs: Obs
    episode_return: jax.Array
    episode_length: jax.Array
    discounted_return: jax.Array
    hidden: Any = ()


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

    obs: Obs
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


class Memory(NamedTuple):
    """How an agent with a recurrent core acts; `hidden` is a pytree of `[N, ...]`.

    Attributes:
        start: `(config, num) -> hidden` at the beginning of `num` episodes; `()` for a config
            without a core, for which the agent's `act` and `value` hold.
        act: `(config, learner, obs, key, deterministic, hidden) -> (raw actions, hidden)`.
        value: `(config, learner, obs, hidden) -> [N]`.
    """

    start: Callable[[Any, int], Any]
    act: Callable[[Any, Any, Obs, jax.Array, bool, Any], tuple[jax.Array, Any]]
    value: Callable[[Any, Any, Obs, Any], jax.Array]


@dataclass(frozen=True)
class Agent(Generic[ConfigT, LearnerT]):
    """The contract of an agent: pure functions over one train state.

    Making one tells the config class which agent it configures (`Config.agent`), so that
    `train(config, key)` works for any agent, in this package or not; and what it computes by, here
    and in its memory, is traced with the config's `matmul_precision`.

    Attributes:
        name: what the command line and run folders call it.
        Config: its configuration class.
        init: `(config, key) -> state`, a fresh train state.
        iterate: `(config, state) -> (state, metrics)`, one iteration of
            `config.steps_per_iteration` environment steps; metrics are scalars.
        act: `(config, learner, obs [N, ...], key, deterministic) -> raw actions [N, ...]`.
        value: `(config, learner, obs [N, ...]) -> [N]`, the critic on raw observations.
        memory: what replaces `act` and `value` where the config has a recurrent core; None for
            agents that have no such config.
        adopt: `(config, learner, given) -> learner`: a fresh learner that begins with the networks
            and statistics of `given`, a learner of the same kind, while everything that follows
            from them (optimiser, target networks) is made anew; None if it cannot.
        written: `(config, learner) -> components.written.Written`: what `act` reads, under plain
            names, for programs without JAX; None if it cannot be written out. It is not asked
            where a network or a core is the user's.
        actions: which kinds of actions it can take; for listings, as `init` refuses the others.
    """

    name: str
    Config: type[ConfigT]
    init: Callable[[ConfigT, jax.Array], TrainState[LearnerT]]
    iterate: Callable[[ConfigT, TrainState[LearnerT]], tuple[TrainState[LearnerT], Metrics]]
    act: Callable[[ConfigT, LearnerT, Obs, jax.Array, bool], jax.Array]
    value: Callable[[ConfigT, LearnerT, Obs], jax.Array]
    memory: Memory | None = None
    adopt: Callable[[ConfigT, LearnerT, LearnerT], LearnerT] | None = None
    written: Callable[[ConfigT, LearnerT], Any] | None = None
    actions: Literal["both", "discrete", "Box"] = "both"

    def __post_init__(self) -> None:
        """Tell the config class whose it is, and let its functions keep to their precision."""
        self.Config.agent = self
        for name in ("init", "iterate", "act", "value"):
            object.__setattr__(self, name, precision.of_config(getattr(self, name)))
        if self.memory is not None:
            start, act, value = self.memory
            own = Memory(start, precision.of_config(act), precision.of_config(value))
            object.__setattr__(self, "memory", own)
