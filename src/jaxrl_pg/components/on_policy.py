"""What on-policy agents share: their fields, acting, and rows to learn from.

An agent's config is an `OnPolicyConfig`; its learner has `params` (of a `networks.ActorCritic`)
and `normalizer`. An agent without a policy network has a `RolloutConfig` and a `Model` of its own.
An iteration is: `gather` a rollout, learn from it, `advance` the train state.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import memory, models, networks, normalize, optim, rollout
from jaxrl_pg.components.memory import Sequences
from jaxrl_pg.components.models import (
    MEMORY,
    ActorCriticModel,
    Batch,
    Model,
    act,
    bound_loss,
    build,
    choose,
    value,
)
from jaxrl_pg.components.on_policy_config import (
    EpochsConfig,
    MinibatchFields,
    OnPolicyConfig,
    RolloutConfig,
    SingleStepConfig,
)
from jaxrl_pg.ops import batching, collectives, returns
from jaxrl_pg.types import (
    ActorState,
    Metrics,
    Obs,
    OptState,
    Params,
    TimeStep,
    TrainState,
    Transition,
)

__all__ = [
    "MEMORY",
    "ActorCriticModel",
    "Batch",
    "EpochsConfig",
    "Experience",
    "Learner",
    "MinibatchFields",
    "Model",
    "OnPolicyConfig",
    "RolloutConfig",
    "SingleStepConfig",
    "act",
    "adopt",
    "advance",
    "as_rows",
    "bound_loss",
    "build",
    "choose",
    "flatten",
    "gather",
    "gradient_step",
    "init",
    "learning_rate",
    "make_batch",
    "paced",
    "start",
    "value",
    "values",
]

LearnerT = TypeVar("LearnerT")


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
        hidden: `[B, ...]` what a core remembered when the rollout began.
    """

    steps: Transition
    actor: ActorState
    normalizer: normalize.Normalizer
    episodes: Metrics
    update_key: jax.Array
    next_key: jax.Array
    hidden: Any = ()


def init(config: OnPolicyConfig, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state around a `Learner`."""
    params, normalizer, actor, train_key = start(config, key)
    learner = Learner(params, optim.init(params, config.optimizer), normalizer)
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def adopt(config: RolloutConfig, learner: LearnerT, given: LearnerT) -> LearnerT:
    """Return a learner with the networks and statistics of another, and a fresh optimiser.

    Args:
        config: the agent's.
        learner: a fresh `Learner`, or one with more fields, which stay as they are.
        given: of the same kind.
    """
    fresh, old = cast(Any, learner), cast(Any, given)  # of any type that has these fields
    opt_state = optim.init(old.params, config.optimizer)
    return fresh._replace(params=old.params, opt_state=opt_state, normalizer=old.normalizer)


def start(
    config: OnPolicyConfig, key: jax.Array
) -> tuple[Params, normalize.Normalizer, ActorState, jax.Array]:
    """Return parameters, normaliser statistics, first observations, and the key to train with."""
    model = build(config)
    env, network = model.env, model.network
    params_key, reset_key, train_key = jax.random.split(key, 3)
    if models.remembers(model):
        params = memory.init_params(network, params_key)
    else:
        params = networks.init_params(network, params_key, env.spec.obs_shape)
    if not env.spec.discrete and config.network is None:
        heads = params["params"]["body"] if models.remembers(model) else params["params"]
        heads["log_std"] += config.log_std_init
    normalizer = normalize.init(env.spec, config.normalize_obs, config.normalize_reward)
    actor = rollout.start(env, reset_key, config.num_envs)
    if models.remembers(model):
        actor = actor._replace(hidden=memory.start(network, config.num_envs))
    return params, normalizer, actor, train_key


def gather(config: RolloutConfig, model: Model, state: TrainState[Any]) -> Experience:
    """Take a rollout of `num_steps` steps, and its rewards into the normaliser's statistics."""
    env, family, learner = model.env, model.family, state.learner
    next_key, *keys = jax.random.split(state.key, 4)
    noise_key, env_key, update_key = collectives.device_keys(keys)
    batch_shape = (config.num_steps, state.actor.episode_return.shape[0])
    noise = family.noise(noise_key, batch_shape, env.spec.num_actions)

    def sample(obs: Obs, noise: jax.Array, hidden: Any) -> tuple[jax.Array, Any, Any]:
        if models.remembers(model):
            hidden, params, _ = model.step(learner, obs, hidden)
        else:
            params = model.policy(learner, obs)
        action = family.sample(params, noise)
        return action, (family.log_prob(params, action), hidden), hidden

    def record(obs: Obs, action: jax.Array, extra: Any, timestep: TimeStep) -> Transition:
        log_prob, hidden = extra
        cut = timestep.truncated & ~timestep.terminated
        final_value = rollout.value_where(
            cut,
            lambda obs: models.value_after(model, learner, obs, hidden),
            timestep.final_obs,
        )
        ends = (timestep.terminated, timestep.truncated)
        kept = envs.packed(env, obs) if config.network is None else obs  # a user's wants floats
        return Transition(kept, action, log_prob, timestep.reward, *ends, final_value)

    actor, steps, episodes = rollout.collect(env, sample, record, state.actor, noise, env_key)
    normalizer, discounted, reward = normalize.update(
        learner.normalizer, steps, actor.discounted_return, config.gamma
    )
    actor = actor._replace(discounted_return=discounted)
    steps = steps._replace(reward=reward)
    began = state.actor.hidden
    return Experience(steps, actor, normalizer, episodes, update_key, next_key, began)


def values(model: Model, learner: Any, experience: Experience) -> tuple[jax.Array, jax.Array]:
    """Return the critic's `V(s_t)` and `V(s'_t)` of a rollout, both `[T, B]`; see `ops.returns`."""
    steps = experience.steps
    every_obs = jax.tree.map(
        lambda x, last: jnp.concatenate([x, last[None].astype(x.dtype)]),
        steps.obs,
        experience.actor.obs,
    )
    if models.remembers(model):
        every_obs = normalize.observe(learner.normalizer, every_obs)
        rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), every_obs)
        sequences = _sequences(experience, steps.terminated | steps.truncated)
        every_value = model.network.apply(learner.params, rows, sequences)[1].T
    else:
        num_steps, num_envs = steps.reward.shape
        rows = jax.tree.map(flatten, every_obs)

        def value_of(obs: Obs) -> jax.Array:
            return model.value(learner, obs)

        max_rows = collectives.rows_at_once(value_of, rows, rows)
        every_value = batching.in_pieces(value_of, rows, max_rows)
        every_value = every_value.reshape(num_steps + 1, num_envs)
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
    return as_rows(model, learner.normalizer, experience, value, advantage)


def as_rows(
    model: Model,
    normalizer: normalize.Normalizer,
    experience: Experience,
    value: jax.Array,
    advantage: jax.Array,
) -> Batch:
    """Return the rows of a rollout, from `V(s_t)` and advantages `[T, B]`."""
    steps = experience.steps
    obs = normalize.observe(normalizer, steps.obs)
    target = advantage + value
    batch = Batch(obs, steps.action, steps.log_prob, value, advantage, target)
    if models.remembers(model):
        batch = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch)
        end = steps.terminated | steps.truncated
        return batch._replace(sequences=_sequences(experience, end[:-1]))
    return jax.tree.map(flatten, batch)


def _sequences(experience: Experience, end: jax.Array) -> Sequences:
    """Where episodes begin, one step later than `end` `[T, B]` says that they end."""
    # The first step begins one where the hidden state is zero already.
    fresh = jnp.concatenate([jnp.zeros_like(end[:1]), end])
    return Sequences(fresh.T, experience.hidden)


def gradient_step(
    config: RolloutConfig,
    learner: Learner,
    experience: Experience,
    grads: Params,
    rate: jax.Array | float,
    std_rate: jax.Array | float | None = None,
) -> tuple[Learner, jax.Array]:
    """Take one step on the devices' mean gradient, and the rollout's normaliser with it.

    A `log_std` goes `std_rate` times as far as the optimiser says, if that is given.

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
    if std_rate is not None:
        params = paced(learner.params, params, std_rate)
    return Learner(params, opt_state, experience.normalizer), norm


def paced(old: Params, new: Params, std_rate: jax.Array | float) -> Params:
    """Return `new`, in which a `log_std` went `std_rate` times as far from `old`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, old, new: (
            old + std_rate * (new - old) if "log_std" in jax.tree_util.keystr(path) else new
        ),
        old,
        new,
    )


def advance(
    state: TrainState[Any], experience: Experience, learner: Any, metrics: Metrics
) -> tuple[TrainState[Any], Metrics]:
    """Return the train state after an iteration, and its metrics with those of the episodes."""
    state = TrainState(
        learner, experience.actor, state.memory, experience.next_key, state.iteration + 1
    )
    return state, rollout.episode_means({**metrics, **experience.episodes})


def learning_rate(config: RolloutConfig, iteration: jax.Array) -> jax.Array:
    """Return this iteration's learning rate."""
    initial = jnp.asarray(config.learning_rate)
    if not config.anneal_lr:
        return initial
    return optim.linear_anneal(initial, iteration, config.num_iterations)


def flatten(x: jax.Array) -> jax.Array:
    """Return `[T, B, ...]` as rows `[T * B, ...]`."""
    return x.reshape(-1, *x.shape[2:])
