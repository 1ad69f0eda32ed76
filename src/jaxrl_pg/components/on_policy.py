"""What on-policy agents share: their fields, acting, and rows to learn from.

An agent's config is an `OnPolicyConfig`; its learner has `params` (of a `networks.ActorCritic`)
and `normalizer`. An iteration is: `gather` a rollout, learn from it, `advance` the train state.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks, normalize, optim, own_network, rollout
from jaxrl_pg.config import BaseConfig, Fraction, Positive, Range
from jaxrl_pg.ops import collectives, distributions, returns
from jaxrl_pg.types import ActorState, Metrics, OptState, Params, TimeStep, TrainState, Transition

__all__ = [
    "ActorCriticModel",
    "Batch",
    "EpochsConfig",
    "Experience",
    "Learner",
    "Model",
    "OnPolicyConfig",
    "act",
    "advance",
    "as_rows",
    "build",
    "choose",
    "flatten",
    "gather",
    "gradient_step",
    "init",
    "learning_rate",
    "make_batch",
    "start",
    "value",
    "values",
]


class OnPolicyConfig(BaseConfig):
    """Fields of every on-policy agent."""

    learning_rate: Annotated[float, Positive] = 5e-4
    """Adam's step size, at the start if annealed"""
    anneal_lr: bool = True
    """let the learning rate fall linearly to 0 over total_timesteps"""
    max_grad_norm: Annotated[float, Positive] | None = 0.5
    """largest global norm of a gradient; None does not clip it"""
    ent_coef: float = 0.01
    """weight of the entropy bonus"""
    normalize_obs: bool = False
    """normalise observations by their running mean and standard deviation"""
    normalize_reward: bool = False
    """divide rewards by the running standard deviation of the discounted return"""
    shared_torso: bool = False
    """one torso for policy and value instead of two"""
    log_std_init: Annotated[float, Range(-20.0, 10.0)] = 0.0
    """initial log standard deviation of continuous actions, whose bounds are -1 and 1; try -1 or -2
    where actions end at a bound"""

    def check(self) -> None:
        """Refuse environments that do not split over the devices."""
        super().check()
        if self.num_envs % self.num_devices:
            raise ValueError(
                f"num_envs={self.num_envs} does not split over num_devices={self.num_devices}: "
                "give a multiple"
            )


class EpochsConfig(OnPolicyConfig):
    """Fields of agents that pass over a rollout several times, in minibatches."""

    num_epochs: Annotated[int, Positive] = 4
    """passes over a rollout"""
    num_minibatches: Annotated[int, Positive] = 32
    """gradient steps per pass"""
    gae_lambda: Annotated[float, Fraction] = 0.95
    """decay of the advantage estimate's trace"""

    def check(self) -> None:
        """Refuse a rollout that does not split into minibatches, or whose rows no int32 counts."""
        super().check()
        rows = self.steps_per_iteration // self.num_devices
        if rows % self.num_minibatches:
            # Of at least two rows each, and not much further than what was asked for.
            tried = range(1, max(1, min(rows // 2, 2 * self.num_minibatches)) + 1)
            even = [n for n in tried if rows % n == 0]
            near = sorted(sorted(even, key=lambda n: abs(n - self.num_minibatches))[:2])
            raise ValueError(
                f"num_envs={self.num_envs} x num_steps={self.num_steps} does not split into "
                f"num_minibatches={self.num_minibatches} on num_devices={self.num_devices}: give "
                f"an even split, such as num_minibatches={' or '.join(map(str, near))}"
            )
        if self.steps_per_iteration * self.num_epochs >= 2**31:
            raise ValueError(
                f"num_envs={self.num_envs} x num_steps={self.num_steps} x "
                f"num_epochs={self.num_epochs} is beyond the 2^31 rows that can be indexed: "
                "lower one of them"
            )


class Model(Protocol):
    """What a config names, made: built once an iteration and handed on."""

    @property
    def env(self) -> envs.Env:
        """The environment."""

    @property
    def family(self) -> distributions.Distribution:
        """The distribution of the environment's kind of action."""

    def policy(self, learner: Any, obs: jax.Array) -> Any:
        """Return the parameters of the action distributions at raw observations `[N, ...]`."""

    def value(self, learner: Any, obs: jax.Array) -> jax.Array:
        """Return the critic's values `[N]` of raw observations `[N, ...]`."""


class ActorCriticModel(NamedTuple):
    """The `Model` of agents with one `networks.ActorCritic`.

    Attributes:
        env: the environment.
        family: the distribution of the environment's kind of action.
        network: the policy and value network, `networks.ActorCritic` or called as it is.
    """

    env: envs.Env
    family: distributions.Distribution
    network: Any

    def policy(self, learner: Any, obs: jax.Array) -> Any:
        """Return the parameters of the action distributions at raw observations `[N, ...]`."""
        obs = normalize.observe(learner.normalizer, obs)
        return self.network.apply(learner.params, obs, method="policy")

    def value(self, learner: Any, obs: jax.Array) -> jax.Array:
        """Return the critic's values `[N]` of raw observations `[N, ...]`."""
        obs = normalize.observe(learner.normalizer, obs)
        return self.network.apply(learner.params, obs, method="value")


class Learner(NamedTuple):
    """State of an agent that learns by one optimiser and nothing else.

    Attributes:
        params: of the policy and value networks.
        opt_state: Adam's moments.
        normalizer: statistics of observations and rewards.
    """

    params: Params
    opt_state: OptState
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


def build(config: OnPolicyConfig) -> ActorCriticModel:
    """Make the environment and the network that a config names."""
    env = envs.make(config.env, config.env_params)
    torso = networks.torso_fields(config)
    network: Any = networks.ActorCritic(env.spec, torso, config.shared_torso)
    if config.network is not None:
        network = own_network.policy_and_value(config, env.spec)
    return ActorCriticModel(env, distributions.family(env.spec.discrete), network)


def init(config: OnPolicyConfig, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state around a `Learner`."""
    params, normalizer, actor, train_key = start(config, key)
    learner = Learner(params, optim.init(params, config.optimizer), normalizer)
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def start(
    config: OnPolicyConfig, key: jax.Array
) -> tuple[Params, normalize.Normalizer, ActorState, jax.Array]:
    """Return parameters, normaliser statistics, first observations, and the key to train with."""
    env, _, network = build(config)
    params_key, reset_key, train_key = jax.random.split(key, 3)
    params = networks.init_params(network, params_key, env.spec.obs_shape)
    if not env.spec.discrete and config.network is None:
        params["params"]["log_std"] += config.log_std_init
    normalizer = normalize.init(env.spec, config.normalize_obs, config.normalize_reward)
    return params, normalizer, rollout.start(env, reset_key, config.num_envs), train_key


def act(
    config: OnPolicyConfig, learner: Any, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return raw actions for observations `[N, ...]`: sampled, or the most probable ones."""
    model = build(config)
    return choose(model, learner, envs.batch(model.env, obs), key, deterministic)


def value(config: OnPolicyConfig, learner: Any, obs: jax.Array) -> jax.Array:
    """Return the critic's value `[N]` of observations `[N, ...]`.

    With `normalize_reward` it is in units of the normalised reward.
    """
    model = build(config)
    return model.value(learner, envs.batch(model.env, obs))


def choose(
    model: Model, learner: Any, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return what `act` does, for any model."""
    params = model.policy(learner, obs)
    if deterministic:
        return model.family.mode(params)
    noise = model.family.noise(key, obs.shape[:1], model.env.spec.num_actions)
    return model.family.sample(params, noise)


def gather(config: OnPolicyConfig, model: Model, state: TrainState[Any]) -> Experience:
    """Take a rollout of `num_steps` steps, and its rewards into the normaliser's statistics."""
    env, family, learner = model.env, model.family, state.learner
    next_key, *keys = jax.random.split(state.key, 4)
    noise_key, env_key, update_key = collectives.device_keys(keys)
    batch_shape = (config.num_steps, state.actor.obs.shape[0])
    noise = family.noise(noise_key, batch_shape, env.spec.num_actions)

    def sample(obs: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        params = model.policy(learner, obs)
        action = family.sample(params, noise)
        return action, family.log_prob(params, action)

    def record(obs: jax.Array, action: jax.Array, log_prob: Any, timestep: TimeStep) -> Transition:
        cut = timestep.truncated & ~timestep.terminated
        final_value = rollout.value_where(
            cut, lambda obs: model.value(learner, obs), timestep.final_obs
        )
        ends = (timestep.terminated, timestep.truncated)
        return Transition(obs, action, log_prob, timestep.reward, *ends, final_value)

    actor, steps, episodes = rollout.collect(env, sample, record, state.actor, noise, env_key)
    normalizer, discounted, reward = normalize.update(
        learner.normalizer, steps, actor.discounted_return, config.gamma
    )
    actor = actor._replace(discounted_return=discounted)
    steps = steps._replace(reward=reward)
    return Experience(steps, actor, normalizer, episodes, update_key, next_key)


def values(model: Model, learner: Any, experience: Experience) -> tuple[jax.Array, jax.Array]:
    """Return the critic's `V(s_t)` and `V(s'_t)` of a rollout, both `[T, B]`; see `ops.returns`."""
    steps = experience.steps
    every_obs = jnp.concatenate([steps.obs, experience.actor.obs[None]])
    every_value = model.value(learner, flatten(every_obs)).reshape(every_obs.shape[:2])
    value, end = every_value[:-1], steps.terminated | steps.truncated
    return value, returns.successor_values(value, every_value[-1], steps.final_value, end)


def make_batch(config: EpochsConfig, model: Model, learner: Any, experience: Experience) -> Batch:
    """Return a rollout as rows with generalised advantages, by the config's `gae_lambda`.

    Args:
        config: the agent's.
        model: the config's.
        learner: the one that took the rollout, its normaliser as it was then.
        experience: the rollout.
    """
    value, next_value = values(model, learner, experience)
    steps = experience.steps
    ends = (steps.terminated, steps.truncated)
    advantage = returns.gae(steps.reward, value, next_value, *ends, config.gamma, config.gae_lambda)
    return as_rows(learner.normalizer, steps, value, advantage)


def as_rows(
    normalizer: normalize.Normalizer, steps: Transition, value: jax.Array, advantage: jax.Array
) -> Batch:
    """Return the rows of a rollout, from `V(s_t)` and advantages `[T, B]`."""
    obs = normalize.observe(normalizer, steps.obs)
    target = advantage + value
    batch = Batch(obs, steps.action, steps.log_prob, value, advantage, target)
    return jax.tree.map(flatten, batch)


def gradient_step(
    config: OnPolicyConfig,
    learner: Learner,
    experience: Experience,
    grads: Params,
    rate: jax.Array | float,
) -> tuple[Learner, jax.Array]:
    """Take one step on the devices' mean gradient, and the rollout's normaliser with it.

    Returns:
        The learner, and the gradient's norm before clipping.
    """
    params, opt_state, norm = optim.apply_gradients(
        learner.params,
        learner.opt_state,
        collectives.mean(grads),
        rate,
        config.max_grad_norm,
        config.optimizer,
    )
    return Learner(params, opt_state, experience.normalizer), norm


def advance(
    state: TrainState[Any], experience: Experience, learner: Any, metrics: Metrics
) -> tuple[TrainState[Any], Metrics]:
    """Return the train state after an iteration, and its metrics with those of the episodes."""
    state = TrainState(
        learner, experience.actor, state.memory, experience.next_key, state.iteration + 1
    )
    return state, rollout.episode_means({**metrics, **experience.episodes})


def learning_rate(config: OnPolicyConfig, iteration: jax.Array) -> jax.Array:
    """Return this iteration's learning rate."""
    initial = jnp.asarray(config.learning_rate)
    if not config.anneal_lr:
        return initial
    return optim.linear_anneal(initial, iteration, config.num_iterations)


def flatten(x: jax.Array) -> jax.Array:
    """Return `[T, B, ...]` as rows `[T * B, ...]`."""
    return x.reshape(-1, *x.shape[2:])
