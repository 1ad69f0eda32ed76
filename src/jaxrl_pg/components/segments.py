"""A replay of segments: whole pieces of rollouts, with the probabilities of who took them.

A segment is `num_steps` steps of one environment. It can be learned from by methods that follow
what came after an action, and not only by those of single transitions, whatever the policy has
become since: `log_prob` says how probable its actions were when they were taken.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import networks, normalize, replay, rollout
from jaxrl_pg.components.on_policy import ActorCriticModel, OnPolicyConfig
from jaxrl_pg.config import Fraction, Positive, Range
from jaxrl_pg.ops import collectives
from jaxrl_pg.types import ActorState, Metrics, Obs, TimeStep, TrainState, Transition

__all__ = [
    "Experience",
    "Segments",
    "SegmentsConfig",
    "behaviour",
    "gather",
    "noise",
    "places",
    "start",
    "take",
]


class SegmentsConfig(OnPolicyConfig):
    """Fields of agents with a replay of segments."""

    num_envs: Annotated[int, Positive] = 16
    """environments stepped side by side"""
    num_steps: Annotated[int, Positive] = 32
    """steps of each environment per iteration, which is the length of a segment"""
    buffer_size: Annotated[int, Positive] = 32_768
    """steps kept in the replay, of the newest whole iterations"""
    replay_ratio: Annotated[int, Range(0)] = 4
    """gradient steps on replayed segments for each one on the newest"""
    behaviour_epsilon: Annotated[float, Fraction] = 0.0
    """share of uniformly random actions in the behaviour policy"""

    def check(self) -> None:
        """Refuse a replay that does not hold one iteration."""
        super().check()
        if self.buffer_size < self.steps_per_iteration:
            raise ValueError(
                f"buffer_size={self.buffer_size} does not hold the {self.steps_per_iteration} "
                f"steps of an iteration: give at least as many"
            )


class Segments(NamedTuple):
    """Steps of `B` environments, `[T, B, ...]`; in the replay `[rows, T, ...]`.

    Attributes:
        obs: observation acted on, as the environment gave it.
        action: raw action.
        log_prob: `log mu(a|s)` of the policy that took it.
        reward: the environment's.
        terminated: the step ended the episode for good.
        truncated: the step was the episode's last because of a time limit.
        next_obs: the observation this step led to, before any reset.
    """

    obs: Obs
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: Obs


class Experience(NamedTuple):
    """What an iteration's steps gave.

    Attributes:
        actor: where the environments stand now.
        memory: the replay with the new segments in it.
        normalizer: after the new steps.
        episodes: sums over the episodes that ended, as from `rollout.collect`.
        update_key: for learning, another one on every device.
        next_key: of the next iteration.
    """

    actor: ActorState
    memory: replay.Replay
    normalizer: normalize.Normalizer
    episodes: Metrics
    update_key: jax.Array
    next_key: jax.Array


def start(config: SegmentsConfig, model: ActorCriticModel, actor: ActorState) -> replay.Replay:
    """Return an empty replay for the segments of these environments."""
    spec = model.env.spec
    obs = jax.tree.map(lambda x: x[0], actor.obs)
    number, flag = jnp.zeros(()), jnp.zeros((), bool)
    action = jnp.zeros(spec.action_shape, jnp.int32 if spec.discrete else jnp.float32)
    step = Segments(obs, action, number, number, flag, flag, next_obs=obs)
    segment = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((config.num_steps, *x.shape), x.dtype), step
    )
    num_segments = config.buffer_size // config.steps_per_iteration * config.num_envs
    return replay.init(segment, num_segments, config.num_devices)


def gather(
    config: SegmentsConfig, model: ActorCriticModel, learner: Any, state: TrainState[Any]
) -> Experience:
    """Let the behaviour policy take `num_steps` steps, into the replay and the normaliser.

    Args:
        config: the agent's.
        model: the config's.
        learner: with the `params` and the `normalizer` of `on_policy.Learner`.
        state: where the iteration begins.
    """
    next_key, *keys = jax.random.split(state.key, 4)
    noise_key, env_key, update_key = collectives.device_keys(keys)
    draws = noise(model, noise_key, (config.num_steps, state.actor.episode_return.shape[0]))

    def behave(obs: Obs, draws: Any, hidden: Any) -> tuple[jax.Array, jax.Array, Any]:
        dist = model.policy(learner, obs)
        return *behaviour(model, dist, obs, draws, config.behaviour_epsilon), hidden

    def record(obs: Obs, action: jax.Array, log_prob: jax.Array, timestep: TimeStep) -> Segments:
        ends = (timestep.terminated, timestep.truncated)
        return Segments(obs, action, log_prob, timestep.reward, *ends, timestep.final_obs)

    actor, steps, episodes = rollout.collect(model.env, behave, record, state.actor, draws, env_key)
    # Rewards are kept as they are, since what they are divided by goes on changing.
    ends, unread = (steps.terminated, steps.truncated), jnp.zeros_like(steps.reward)
    rows = Transition(steps.obs, steps.action, steps.log_prob, steps.reward, *ends, unread)
    normalizer, discounted, _ = normalize.update(
        learner.normalizer, rows, actor.discounted_return, config.gamma
    )
    actor = actor._replace(discounted_return=discounted)
    memory = replay.add(state.memory, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps))
    return Experience(actor, memory, normalizer, episodes, update_key, next_key)


def places(experience: Experience, replay_ratio: int) -> jax.Array:
    """Return where the segments of each update are, `[1 + replay_ratio, B]`: first the newest."""
    memory, num_envs = experience.memory, experience.actor.episode_return.shape[0]
    num_segments = memory.data.reward.shape[0]
    newest = (memory.position - num_envs + jnp.arange(num_envs)) % num_segments
    drawn = replay.draw(memory, experience.update_key, replay_ratio * num_envs)
    return jnp.concatenate([newest, drawn]).reshape(1 + replay_ratio, num_envs)


def take(memory: replay.Replay, rows: jax.Array) -> Segments:
    """Return the segments at these places `[B]`, time-major."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), replay.take(memory, rows))


def noise(model: ActorCriticModel, key: jax.Array, shape: tuple[int, int]) -> Any:
    """Draw the randomness of actions, `[T, B, ...]`, for `behaviour`.

    Of Box actions that is three: the noise of pi, a number that says which actions are random
    instead, and the random actions.
    """
    spec = model.env.spec
    own = model.family.noise(key, shape, spec.num_actions)
    if spec.discrete:
        return own, (), ()
    choice_key, action_key = jax.random.split(jax.random.fold_in(key, 1))
    uniform = jax.random.uniform(action_key, (math.prod(own.shape),), minval=-1.0, maxval=1.0)
    choice = jax.random.uniform(choice_key, (math.prod(shape),)).reshape(shape)
    return own, choice, uniform.reshape(own.shape)


def behaviour(
    model: ActorCriticModel, dist: Any, obs: Obs, draws: Any, epsilon: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Act by `mu = (1 - epsilon) pi + epsilon uniform`.

    Uniform is over the legal actions of a finite set, or over the Box `[-1, 1]^A`.

    Args:
        model: the config's.
        dist: parameters of pi at the observations.
        obs: `[B, ...]`.
        draws: from `noise`, of one step.
        epsilon: from 0 to 1.

    Returns:
        Raw actions `[B, ...]`, and `log mu` of them `[B]`.
    """
    own, choice, uniform = draws
    log_own, log_random = jnp.log1p(-jnp.asarray(epsilon)), jnp.log(jnp.asarray(epsilon))
    if model.env.spec.discrete:
        even = jax.nn.log_softmax(networks.legal_logits(obs, jnp.zeros_like(dist)))
        logits = jnp.logaddexp(log_own + jax.nn.log_softmax(dist), log_random + even)
        action = model.family.sample(logits, own)
        return action, model.family.log_prob(logits, action)
    action = jnp.where(choice[:, None] < epsilon, uniform, model.family.sample(dist, own))
    inside = jnp.all(jnp.abs(action) <= 1.0, axis=1)
    even = jnp.where(inside, -math.log(2.0) * action.shape[1], -jnp.inf)
    log_prob = model.family.log_prob(dist, action)
    return action, jnp.logaddexp(log_own + log_prob, log_random + even)
