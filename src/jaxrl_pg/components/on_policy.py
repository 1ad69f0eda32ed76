"""What on-policy agents share: their fields, acting, and rows to learn from.

An agent's config is an `OnPolicyConfig`; its learner has `params` (of a `networks.ActorCritic`)
and `normalizer`. An iteration is: `gather` a rollout, learn from it, `advance` the train state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks, normalize, optim, rollout
from jaxrl_pg.config import BaseConfig, check_choice
from jaxrl_pg.ops import collectives, distributions, returns
from jaxrl_pg.types import ActorState, EnvSpec, Metrics, TrainState, Transition

__all__ = [
    "Batch",
    "Experience",
    "Learner",
    "OnPolicyConfig",
    "act",
    "advance",
    "as_rows",
    "collect",
    "family",
    "flatten",
    "gather",
    "init",
    "init_params",
    "learning_rate",
    "make_batch",
    "network",
    "report",
    "start",
    "value",
    "values",
]


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(BaseConfig):
    """Fields of every on-policy agent."""

    learning_rate: float = 5e-4
    """Adam's step size, at the start if annealed"""
    anneal_lr: bool = True
    """let the learning rate fall linearly to 0 over total_timesteps"""
    max_grad_norm: float = 0.5
    """largest global norm of a gradient"""
    ent_coef: float = 0.01
    """weight of the entropy bonus"""
    normalize_obs: bool = False
    """normalise observations by their running mean and standard deviation"""
    normalize_reward: bool = False
    """divide rewards by the running standard deviation of the discounted return"""
    shared_torso: bool = False
    """one torso for policy and value instead of two"""
    log_std_init: float = 0.0
    """initial log standard deviation of continuous actions"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        check_choice("activation", self.activation, networks.ACTIVATIONS)
        if self.num_envs % self.num_devices:
            raise ValueError(
                f"num_envs={self.num_envs} does not split over num_devices={self.num_devices}: "
                "give a multiple"
            )


class Learner(NamedTuple):
    """State of an agent that learns by one optimiser and nothing else.

    Attributes:
        params: of the policy and value networks.
        opt_state: Adam's moments.
        normalizer: statistics of observations and rewards.
    """

    params: Any
    opt_state: Any
    normalizer: normalize.Normalizer


class Experience(NamedTuple):
    """What an iteration's rollout gave.

    Attributes:
        steps: the rollout, `[T, B]`, rewards normalised where that is asked for.
        actor: where the environments stand now.
        normalizer: after the rollout.
        episodes: sums over the episodes that ended, as from `rollout.collect`.
        update_key: for learning, another one on every device.
        next_key: of the next iteration.
    """

    steps: Transition
    actor: ActorState
    normalizer: normalize.Normalizer
    episodes: Metrics
    update_key: jax.Array
    next_key: jax.Array


class Batch(NamedTuple):
    """A rollout as rows, `[N, ...]` with `N = num_envs * num_steps`.

    Attributes:
        obs: observations as networks see them, normalised.
        action: raw actions.
        log_prob: of the actions, when they were taken.
        value: the critic's values when the rollout was done.
        advantage: an estimate of `Q(s, a) - V(s)`.
        target: what the critic should learn, `advantage + value`.
    """

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


def init(config: Any, key: jax.Array) -> TrainState:
    """A fresh train state around a `Learner`: parameters, optimiser, first observations."""
    params, normalizer, actor, train_key = start(config, key)
    learner = Learner(params, optim.init(params), normalizer)
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def start(config: Any, key: jax.Array) -> tuple[Any, normalize.Normalizer, ActorState, jax.Array]:
    """Parameters, normaliser statistics, first observations, and the key to train with."""
    env = envs.make(config.env, config.env_params)
    params_key, reset_key, train_key = jax.random.split(key, 3)
    params = init_params(config, params_key)
    normalizer = normalize.init(env.spec, config.normalize_obs, config.normalize_reward)
    return params, normalizer, rollout.start(env, reset_key, config.num_envs), train_key


def gather(config: Any, state: TrainState) -> Experience:
    """One rollout of `num_steps` steps, taken into the normaliser's statistics."""
    next_key, *keys = jax.random.split(state.key, 4)
    noise_key, env_key, update_key = collectives.device_keys(keys, config.num_devices)
    actor, steps, episodes = collect(config, state.learner, state.actor, noise_key, env_key)
    normalizer, discounted, reward = normalize.update(
        state.learner.normalizer, steps, actor.discounted_return, config.gamma, config.num_devices
    )
    actor = actor._replace(discounted_return=discounted)
    steps = steps._replace(reward=reward)
    return Experience(steps, actor, normalizer, episodes, update_key, next_key)


def advance(
    config: Any, state: TrainState, experience: Experience, learner: Any, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """The train state after an iteration, and its metrics with those of the episodes."""
    state = TrainState(
        learner, experience.actor, state.memory, experience.next_key, state.iteration + 1
    )
    return state, report(config, metrics, experience.episodes)


def report(config: Any, metrics: Metrics, episodes: Metrics) -> Metrics:
    """Metrics of all devices, with means over the episodes that `episodes` sums up."""
    metrics = collectives.mean({**metrics, **episodes}, config.num_devices)
    return rollout.episode_means(metrics, config.num_devices)


def learning_rate(config: Any, iteration: jax.Array) -> jax.Array:
    """This iteration's learning rate."""
    initial = jnp.asarray(config.learning_rate)
    if not config.anneal_lr:
        return initial
    return optim.linear_anneal(initial, iteration, config.num_iterations)


def init_params(config: Any, key: jax.Array) -> Any:
    """Fresh parameters of the policy and the value network."""
    spec = _spec(config)
    params = networks.init_params(network(config), key, spec.obs_shape)
    if not spec.discrete:
        params["params"]["log_std"] += config.log_std_init
    return params


def act(
    config: Any, learner: Any, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Raw actions for observations `[N, ...]`: sampled, or the most probable ones."""
    params = _apply(config, learner, obs, "policy")
    if deterministic:
        return family(config).mode(params)
    noise = family(config).noise(key, obs.shape[:1], _spec(config).num_actions)
    return family(config).sample(params, noise)


def value(config: Any, learner: Any, obs: jax.Array) -> jax.Array:
    """The critic's value `[N]` of observations `[N, ...]`.

    With `normalize_reward` it is in units of the normalised reward.
    """
    return _apply(config, learner, obs, "value")


def collect(
    config: Any, learner: Any, actor: ActorState, noise_key: jax.Array, env_key: jax.Array
) -> tuple[ActorState, Transition, Metrics]:
    """`num_steps` steps of this device's environments; returns what `rollout.collect` does."""
    env = envs.make(config.env, config.env_params)
    batch_shape = (config.num_steps, actor.obs.shape[0])
    noise = family(config).noise(noise_key, batch_shape, env.spec.num_actions)
    policy, critic = partial(_sample, config, learner), partial(value, config, learner)
    return rollout.collect(env, policy, critic, actor, noise, env_key)


def values(config: Any, learner: Any, experience: Experience) -> tuple[jax.Array, jax.Array]:
    """The critic's `V(s_t)` and `V(s'_t)` of a rollout, both `[T, B]`; see `ops.returns`."""
    steps = experience.steps
    every_obs = jnp.concatenate([steps.obs, experience.actor.obs[None]])
    every_value = value(config, learner, flatten(every_obs)).reshape(every_obs.shape[:2])
    before, end = every_value[:-1], steps.terminated | steps.truncated
    return before, returns.successor_values(before, every_value[-1], steps.final_value, end)


def make_batch(config: Any, learner: Any, experience: Experience) -> Batch:
    """Rows with generalised advantages, by the config's `gae_lambda`."""
    before, following = values(config, learner, experience)
    steps = experience.steps
    flags = (steps.terminated, steps.truncated)
    advantage = returns.gae(
        steps.reward, before, following, *flags, config.gamma, config.gae_lambda
    )
    return as_rows(learner, steps, before, advantage)


def as_rows(learner: Any, steps: Transition, before: jax.Array, advantage: jax.Array) -> Batch:
    """Rows of a rollout, from `V(s_t)` and advantages `[T, B]`."""
    obs = normalize.observe(learner.normalizer, steps.obs)
    target = advantage + before
    batch = Batch(obs, steps.action, steps.log_prob, before, advantage, target)
    return jax.tree.map(flatten, batch)


def network(config: Any) -> networks.ActorCritic:
    """The policy and value network that a config asks for."""
    torso = (config.hidden_sizes, config.activation, config.conv_features, config.shared_torso)
    return networks.ActorCritic(_spec(config), *torso)


def family(config: Any) -> distributions.Distribution:
    """The distribution of the environment's kind of action."""
    return distributions.family(_spec(config).discrete)


def flatten(x: jax.Array) -> jax.Array:
    """`[T, B, ...]` as rows `[T * B, ...]`."""
    return x.reshape(-1, *x.shape[2:])


def _sample(
    config: Any, learner: Any, obs: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    params = _apply(config, learner, obs, "policy")
    action = family(config).sample(params, noise)
    return action, family(config).log_prob(params, action)


def _apply(config: Any, learner: Any, obs: jax.Array, part: str) -> Any:
    obs = normalize.observe(learner.normalizer, obs)
    return networks.apply(network(config), learner.params, obs, part)


def _spec(config: Any) -> EnvSpec:
    return envs.make(config.env).spec
