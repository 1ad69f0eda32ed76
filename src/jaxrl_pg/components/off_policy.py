"""What off-policy agents share: their fields, collecting into the replay, and when to learn.

An agent's config is an `OffPolicyConfig`. An iteration is: `gather` steps into the replay, `learn`
from rows sampled out of it, `advance` the train state. Until `learning_starts` actions are
uniformly random and nothing is learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks, optim, replay, rollout
from jaxrl_pg.config import BaseConfig, check_choice
from jaxrl_pg.ops import collectives, distributions, squashed
from jaxrl_pg.types import ActorState, EnvSpec, Metrics, TrainState

__all__ = [
    "Experience",
    "OffPolicyConfig",
    "Rows",
    "act",
    "advance",
    "gather",
    "is_learning",
    "iterations_before",
    "noise",
    "q_network",
    "spec",
    "start",
    "step",
    "torso",
]

_UNCLIPPED = 1e30
Distribution = Callable[[jax.Array], Any]


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(BaseConfig):
    """Fields of every off-policy agent."""

    num_envs: int = 8
    """environments stepped side by side"""
    activation: str = "relu"
    """tanh, relu, swish or gelu"""
    num_steps: int = 8
    """steps of each environment per iteration"""
    num_updates: int = 64
    """gradient steps per iteration"""
    learning_starts: int = 1000
    """environment steps with random actions before the first gradient step"""
    buffer_size: int = 100_000
    """transitions kept, the newest"""
    batch_size: int = 256
    """transitions in a gradient step"""
    learning_rate: float = 1e-3
    """Adam's step size"""
    max_grad_norm: float | None = None
    """largest global norm of a gradient; None does not clip it"""
    tau: float = 0.005
    """share of the way that the target network moves after every gradient step"""
    noise_correlation: float = 0.0
    """correlation of a Box action's noise with that of the step before, within an iteration"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        check_choice("activation", self.activation, networks.ACTIVATIONS)
        for name in ("num_envs", "buffer_size", "batch_size"):
            if getattr(self, name) % self.num_devices:
                raise ValueError(
                    f"{name}={getattr(self, name)} does not split over "
                    f"num_devices={self.num_devices}: give a multiple"
                )


class Rows(NamedTuple):
    """Transitions, as the replay keeps them.

    Attributes:
        obs: `[N, ...]` observation acted on, as the environment gave it.
        action: `[N, ...]` raw action, before rescaling to the environment's bounds.
        reward: `[N]`.
        terminated: `[N]` bool; false where only a time limit ended the episode.
        next_obs: `[N, ...]` the observation this step led to, before any reset.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    next_obs: jax.Array


class Experience(NamedTuple):
    """What an iteration's steps gave.

    Attributes:
        actor: where the environments stand now.
        memory: the replay with the new rows in it.
        episodes: sums over the episodes that ended, as from `rollout.collect`.
        update_key: for learning, another one on every device.
        next_key: of the next iteration.
    """

    actor: ActorState
    memory: replay.Replay
    episodes: Metrics
    update_key: jax.Array
    next_key: jax.Array


def start(config: Any, key: jax.Array) -> tuple[jax.Array, ActorState, replay.Replay, jax.Array]:
    """A key for parameters, first observations, an empty replay, and the key to train with."""
    env = envs.make(config.env, config.env_params)
    params_key, reset_key, train_key = jax.random.split(key, 3)
    actor = rollout.start(env, reset_key, config.num_envs)
    kind = jnp.int32 if env.spec.discrete else jnp.float32
    action = jnp.zeros(env.spec.action_shape, kind)
    obs = actor.obs[0]
    row = Rows(obs, action, jnp.zeros(()), terminated=jnp.zeros((), bool), next_obs=obs)
    memory = replay.init(row, config.buffer_size, config.num_devices)
    return params_key, actor, memory, train_key


def gather(config: Any, state: TrainState, policy: Distribution) -> Experience:
    """`num_steps` steps of this device's environments, added to its replay.

    Args:
        config: of the agent.
        state: where the iteration begins.
        policy: from observations `[B, ...]` to the parameters of the policy's distribution.
    """
    next_key, *keys = jax.random.split(state.key, 4)
    noise_key, env_key, update_key = collectives.device_keys(keys, config.num_devices)
    env = envs.make(config.env, config.env_params)
    draws = noise(config, noise_key, config.num_steps, state.actor.obs.shape[0])
    if not env.spec.discrete:
        draws = distributions.correlated(draws, config.noise_correlation)
    behave = partial(_behave, config, policy, is_learning(config, state.iteration))
    step_keys = jax.random.split(env_key, 2 * config.num_steps).reshape(config.num_steps, 2)
    finished = rollout.nothing_finished(state.actor)
    carry, rows = jax.lax.scan(
        partial(_step, env, behave), (state.actor, finished), (draws, step_keys)
    )
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    episodes = jax.tree.map(jnp.sum, carry[1])
    return Experience(carry[0], replay.add(state.memory, rows), episodes, update_key, next_key)


def is_learning(config: Any, iteration: jax.Array) -> jax.Array:
    """Whether `learning_starts` steps were taken before this iteration."""
    return iteration >= iterations_before(config)


def iterations_before(config: Any) -> int:
    """That take `learning_starts` steps, or as many more as it takes to finish the last."""
    return -(-config.learning_starts // config.steps_per_iteration)


def advance(
    config: Any, state: TrainState, experience: Experience, learner: Any, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """The train state after an iteration, and its metrics with those of the episodes."""
    metrics = collectives.mean({**metrics, **experience.episodes}, config.num_devices)
    state = TrainState(
        learner, experience.actor, experience.memory, experience.next_key, state.iteration + 1
    )
    return state, rollout.episode_means(metrics, config.num_devices)


def act(config: Any, params: Any, key: jax.Array, deterministic: bool) -> jax.Array:
    """Raw actions out of distributions `[N, ...]`: sampled, or as `squashed.mode` says."""
    if deterministic:
        return squashed.mode(params)
    count = jax.tree.leaves(params)[0].shape[0]
    return squashed.sample(params, noise(config, key, 1, count)[0])


def noise(config: Any, key: jax.Array, num: int, rows: int) -> jax.Array:
    """Randomness of `num` actions for each of `rows` observations, `[num, rows, ...]`."""
    environment = spec(config)
    family = distributions.family(environment.discrete)
    return family.noise(key, (num, rows), environment.num_actions)


def step(config: Any, params: Any, opt_state: Any, grads: Any) -> tuple[Any, Any, jax.Array]:
    """An Adam step on the gradient that all devices agree on; see `optim.apply_gradients`."""
    grads = collectives.mean(grads, config.num_devices)
    most = _UNCLIPPED if config.max_grad_norm is None else config.max_grad_norm
    return optim.apply_gradients(params, opt_state, grads, config.learning_rate, most)


def q_network(config: Any, num_critics: int) -> networks.Critics:
    """Q networks: of all actions of a finite set, or of one given action."""
    environment = spec(config)
    outputs = environment.num_actions if environment.discrete else 1
    return networks.Critics(num_critics, environment, outputs, *torso(config))


def torso(config: Any) -> tuple[tuple[int, ...], str, int]:
    """What every network of a config has in front of its head."""
    return config.hidden_sizes, config.activation, config.conv_features


def spec(config: Any) -> EnvSpec:
    """Of the config's environment."""
    return envs.make(config.env).spec


def _behave(
    config: Any, policy: Distribution, learning: jax.Array, obs: jax.Array, draws: jax.Array
) -> jax.Array:
    params = policy(obs)
    if spec(config).discrete:
        return squashed.sample(jnp.where(learning, params, 0.0), draws)
    # The same normal noise made uniform on [-1, 1]: 2 Phi(z) - 1.
    uniform = jax.lax.erf(draws / jnp.sqrt(2.0))
    return jnp.where(learning, squashed.sample(params, draws), uniform)


def _step(
    env: envs.Env,
    behave: Callable[[jax.Array, jax.Array], jax.Array],
    carry: tuple[ActorState, Metrics],
    xs: tuple[jax.Array, jax.Array],
) -> tuple[tuple[ActorState, Metrics], Rows]:
    (actor, finished), (draws, keys) = carry, xs
    action = behave(actor.obs, draws)
    env_state, timestep = envs.step(env, keys[0], keys[1], actor.env_state, action)
    rows = Rows(actor.obs, action, timestep.reward, timestep.terminated, timestep.final_obs)
    return rollout.after_step(actor, finished, env_state, timestep), rows
