"""What off-policy agents share: their fields, collecting into the replay, and when to learn.

An agent's config is an `OffPolicyConfig`. An iteration is: `gather` steps into the replay, learn
from rows sampled out of it (`replay_updates`), `advance` the train state. Until `learning_starts`
actions are uniformly random and nothing is learned.

Two options help where rewards are rare. With `n_step` a row of the replay is a transition of
several steps, made when they are taken, so that a reward is known that many steps before it after
one update. Nothing corrects for the actions in between, which an older policy took, and targets
with an entropy bonus leave theirs out. With `duration_mu` random actions are repeated for random
numbers of steps (`exploration.persist`), also across iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import layers, networks, optim, own_network, replay, rollout
from jaxrl_pg.components.critics import Critics, q_network
from jaxrl_pg.components.exploration import Held, persist
from jaxrl_pg.config import Activation, BaseConfig, Fraction, Positive, Range
from jaxrl_pg.ops import collectives, distributions, exploration, full_normal, returns
from jaxrl_pg.types import (
    ActorState,
    EnvSpec,
    Metrics,
    Obs,
    OptState,
    Params,
    TimeStep,
    TrainState,
)

__all__ = [
    "DelayedPolicyConfig",
    "Experience",
    "OffPolicyConfig",
    "Rows",
    "act",
    "advance",
    "discount",
    "gather",
    "gradient_step",
    "is_learning",
    "mode",
    "noise",
    "policy_network",
    "q_network",
    "sample",
    "start",
    "value_network",
    "warmup_iterations",
]


class OffPolicyConfig(BaseConfig):
    """Fields of every off-policy agent."""

    num_envs: Annotated[int, Positive] = 8
    """environments stepped side by side"""
    activation: Activation = "relu"
    """activation function of the hidden layers"""
    num_steps: Annotated[int, Positive] = 8
    """steps of each environment per iteration"""
    num_updates: Annotated[int, Positive] = 64
    """gradient steps per iteration"""
    learning_starts: int = 1000
    """environment steps with random actions before the first gradient step"""
    buffer_size: Annotated[int, Positive] = 100_000
    """transitions kept, the newest"""
    batch_size: Annotated[int, Positive] = 256
    """transitions in a gradient step"""
    learning_rate: Annotated[float, Positive] = 1e-3
    """Adam's step size"""
    max_grad_norm: Annotated[float, Positive] | None = None
    """largest global norm of a gradient; None does not clip it"""
    tau: Annotated[float, Range(0.0, 1.0, open_low=True)] = 0.005
    """share of the way that the target network moves after every gradient step"""
    reward_scale: Annotated[float, Positive] = 1.0
    """factor of rewards in what is learned; with a temperature, dividing that by it is the same"""
    noise_correlation: Annotated[float, Fraction] = 0.0
    """correlation of a Box action's noise with that of the step before, within an iteration"""
    duration_mu: Annotated[float, Positive] | None = None
    """a discrete random action is repeated for n steps with probability ~ n^-mu, in the warm-up and
    by epsilon-greedy agents (2 is usual); None takes each for one step"""
    n_step: Annotated[int, Positive] = 1
    """rewards before the critic's value in a target; fewer where an episode or iteration ends"""

    def check(self) -> None:
        """Refuse sizes that do not split over the devices, or that no int32 can index."""
        super().check()
        if self.n_step > self.num_steps:
            raise ValueError(
                f"n_step={self.n_step} rewards are of one iteration and num_steps={self.num_steps}:"
                f" give num_steps={self.n_step} or more (a multiple keeps targets long)"
            )
        if self.buffer_size + self.steps_per_iteration >= 2**31:
            raise ValueError(
                f"buffer_size={self.buffer_size} and the {self.steps_per_iteration} steps of an "
                "iteration are beyond the 2^31 rows that can be indexed: give a smaller buffer"
            )
        for name in ("num_envs", "buffer_size", "batch_size"):
            if getattr(self, name) % self.num_devices:
                raise ValueError(
                    f"{name}={getattr(self, name)} does not split over "
                    f"num_devices={self.num_devices}: give a multiple"
                )


class DelayedPolicyConfig(OffPolicyConfig):
    """Fields of agents whose critics may learn faster than their policy."""

    policy_delay: Annotated[int, Positive] = 1
    """critic steps before each step of the policy, and of what is learned with it"""
    policy_learning_rate: Annotated[float, Positive] | None = None
    """Adam's step size for the policy; None: learning_rate"""

    def check(self) -> None:
        """Refuse updates that the delay does not divide."""
        super().check()
        if self.num_updates % self.policy_delay:
            raise ValueError(
                f"num_updates={self.num_updates} is no multiple of "
                f"policy_delay={self.policy_delay}: give one"
            )


class Rows(NamedTuple):
    """Transitions, as the replay keeps them.

    Attributes:
        obs: `[N, ...]` observation acted on, as the environment gave it.
        action: `[N, ...]` raw action, before rescaling to the environment's bounds.
        reward: `[N]`, the environment's times `reward_scale`.
        terminated: `[N]` bool; false where only a time limit ended the episode.
        next_obs: `[N, ...]` the observation this step led to, before any reset.
        discount: `[N]` of the value of `next_obs`; `()` where that is gamma, with `n_step=1`. With
            more, `reward` is the discounted sum of `n_step` rewards, and `next_obs` and
            `terminated` are those of the last of these steps.
    """

    obs: Obs
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    next_obs: Obs
    discount: Any = ()


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


def start(
    config: OffPolicyConfig, env: envs.Env, key: jax.Array
) -> tuple[jax.Array, ActorState, replay.Replay, jax.Array]:
    """Return a key for parameters, first observations, an empty replay, and a key to train with.

    Raises:
        ValueError: for Box actions without finite bounds, since `sample` squashes them, and for
            Box actions that are to be repeated.
    """
    envs.spaces.require_squashable(env.core, env.params, config.agent.name)
    params_key, reset_key, train_key = jax.random.split(key, 3)
    actor = rollout.start(env, reset_key, config.num_envs)
    if config.duration_mu is not None:
        actor = actor._replace(hidden=_nothing_held(config, env))
    action_type = jnp.int32 if env.spec.discrete else jnp.float32
    action = jnp.zeros(env.spec.action_shape, action_type)
    obs = jax.tree.map(lambda x: x[0], actor.obs)
    row = Rows(obs, action, jnp.zeros(()), terminated=jnp.zeros((), bool), next_obs=obs)
    if config.n_step > 1:
        row = row._replace(discount=jnp.zeros(()))
    memory = replay.init(row, config.buffer_size, config.num_devices)
    return params_key, actor, memory, train_key


def gather(
    config: OffPolicyConfig,
    env: envs.Env,
    state: TrainState[Any],
    policy: Callable[[Obs], Any],
    share: jax.Array | float = 0.0,
) -> Experience:
    """Take `num_steps` steps of this device's environments into its replay.

    Args:
        config: the agent's.
        env: the environment.
        state: where the iteration begins.
        policy: from observations `[B, ...]` to the parameters of the policy's distribution.
        share: with `duration_mu`, how often a random action is begun beside the policy's.
    """
    next_key, *keys = jax.random.split(state.key, 4)
    noise_key, env_key, update_key = collectives.device_keys(keys)
    num_envs = state.actor.episode_return.shape[0]
    draws: Any
    if config.duration_mu is None:
        draws = noise(env.spec, noise_key, config.num_steps, num_envs)
    else:
        three = jax.random.uniform(noise_key, (3 * config.num_steps * num_envs,))
        whether, which, long = three.reshape(3, config.num_steps, num_envs)
        draws = whether, which, exploration.durations(long, config.duration_mu)
    if not env.spec.discrete:
        draws = distributions.correlated(draws, config.noise_correlation)
    learning = is_learning(config, state.iteration)

    def behave(obs: Obs, draws: Any, hidden: Any) -> tuple[jax.Array, tuple[()], Any]:
        params = policy(obs)
        if config.duration_mu is not None:
            action, hidden = persist(obs, params, hidden, draws, jnp.where(learning, share, 1.0))
            return action, (), hidden
        if env.spec.discrete:
            params = jnp.where(learning, params, networks.legal_logits(obs, 0.0))
            return sample(params, draws), (), hidden
        # The same normal noise made uniform on [-1, 1]: 2 Phi(z) - 1.
        uniform = jax.lax.erf(draws / jnp.sqrt(2.0))
        return jnp.where(learning, sample(params, draws), uniform), (), hidden

    def record(obs: Obs, action: jax.Array, _: Any, timestep: TimeStep) -> Any:
        reward = config.reward_scale * timestep.reward
        row = Rows(obs, action, reward, timestep.terminated, timestep.final_obs)
        return row if config.n_step == 1 else (row, timestep.terminated | timestep.truncated)

    actor, rows, episodes = rollout.collect(env, behave, record, state.actor, draws, env_key)
    if config.n_step > 1:
        rows = _of_many_steps(config, *rows)
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    return Experience(actor, replay.add(state.memory, rows), episodes, update_key, next_key)


def _nothing_held(config: OffPolicyConfig, env: envs.Env) -> Held:
    if not env.spec.discrete:
        raise ValueError(
            f"duration_mu={config.duration_mu} repeats discrete actions and {config.env!r} has "
            "real ones: give noise_correlation instead"
        )
    zeros = jnp.zeros((2, config.num_envs), jnp.int32)
    return Held(zeros[0], zeros[1])


def _of_many_steps(config: OffPolicyConfig, rows: Rows, done: jax.Array) -> Rows:
    """Transitions `[T, B]` of `n_step` steps, from those of one and where episodes ended."""
    reward, count = returns.n_step_rewards(rows.reward, done, config.gamma, config.n_step)
    last = jnp.arange(done.shape[0])[:, None] + count - 1
    which = last, jnp.arange(done.shape[1])[None]
    terminated, next_obs = jax.tree.map(lambda x: x[which], (rows.terminated, rows.next_obs))
    discount = jnp.asarray(config.gamma) ** count
    return Rows(rows.obs, rows.action, reward, terminated, next_obs, discount)


def discount(config: OffPolicyConfig, rows: Rows) -> jax.Array | float:
    """Return the discount of the value of `next_obs` in some rows, a number or `[N]`."""
    return config.gamma if config.n_step == 1 else rows.discount


def is_learning(config: OffPolicyConfig, iteration: jax.Array) -> jax.Array:
    """Say whether `learning_starts` steps were taken before this iteration."""
    return iteration >= warmup_iterations(config)


def warmup_iterations(config: OffPolicyConfig) -> int:
    """Return the iterations before learning: `learning_starts` steps, rounded up."""
    return -(-config.learning_starts // config.steps_per_iteration)


def advance(
    state: TrainState[Any], experience: Experience, learner: Any, metrics: Metrics
) -> tuple[TrainState[Any], Metrics]:
    """Return the train state after an iteration, and its metrics with those of the episodes."""
    state = TrainState(
        learner, experience.actor, experience.memory, experience.next_key, state.iteration + 1
    )
    return state, rollout.episode_means({**metrics, **experience.episodes})


def act(spec: EnvSpec, params: Any, key: jax.Array, deterministic: bool) -> jax.Array:
    """Return raw actions out of distributions `[N, ...]`: sampled, or as `mode` says."""
    if deterministic:
        return mode(params)
    count = jax.tree.leaves(params)[0].shape[0]
    return sample(params, noise(spec, key, 1, count)[0])


def sample(params: Any, noise: jax.Array) -> jax.Array:
    """Return the actions that noise makes; real ones are squashed by tanh, or clipped.

    Args:
        params: logits `[N, A]`, a `Normal`, a `FullNormal` or a `ClippedNormal` of `[N, A]`, or a
            function from noise to actions `[N, A]` before tanh.
        noise: of that family, `[N]` or `[N, A]`.

    Returns:
        `[N]` int32, or `[N, A]` within [-1, 1].
    """
    if isinstance(params, distributions.Normal):
        return distributions.tanh_normal_sample(params, noise)[0]
    if callable(params):
        return jnp.tanh(params(noise))
    if isinstance(params, full_normal.FullNormal):
        return jnp.tanh(full_normal.FULL_NORMAL.sample(params, noise))
    if isinstance(params, distributions.ClippedNormal):
        return distributions.clipped_normal_sample(params, noise)
    return distributions.CATEGORICAL.sample(params, noise)


def mode(params: Any) -> jax.Array:
    """Return the most probable actions, or those without noise; shapes are those of `sample`."""
    if isinstance(params, jax.Array):
        return distributions.CATEGORICAL.mode(params)
    if isinstance(params, distributions.ClippedNormal):
        return params.mean
    return jnp.tanh(params.mean)


def noise(spec: EnvSpec, key: jax.Array, num: int, rows: int) -> jax.Array:
    """Draw the noise of `num` actions for each of `rows` observations, `[num, rows, ...]`."""
    return distributions.family(spec.discrete).noise(key, (num, rows), spec.num_actions)


def gradient_step(
    config: OffPolicyConfig,
    params: Params,
    opt_state: OptState,
    grads: Params,
    rate: jax.Array | float | None = None,
) -> tuple[Params, OptState, jax.Array]:
    """Take an Adam step on the devices' mean gradient; see `optim.apply_gradients`.

    The step size is `rate`, or where that is None the config's `learning_rate`.
    """
    return optim.apply_gradients(
        params,
        opt_state,
        collectives.mean(grads),
        config.learning_rate if rate is None else rate,
        config.max_grad_norm,
        config.optimizer,
    )


def policy_network(config: OffPolicyConfig, spec: EnvSpec, covariance: str = "diagonal") -> Any:
    """Make the policy's network."""
    if config.network is not None:
        return own_network.policy(config, spec)
    return networks.Policy(spec, layers.torso_fields(config), covariance)


def value_network(config: OffPolicyConfig, spec: EnvSpec) -> Any:
    """Make a network of one value a state, `[1, N, 1]`."""
    if config.network is not None:
        return own_network.critics(config, spec, "value", 1)
    return Critics(1, spec, 1, layers.torso_fields(config))
