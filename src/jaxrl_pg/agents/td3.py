"""Twin delayed deterministic policy gradient (TD3: Fujimoto et al. 2018, arXiv 1802.09477).

One iteration takes `num_steps` steps of `num_envs` environments into the replay, then
`num_updates` gradient steps of the critics on minibatches out of it, and after every `policy_delay`
of them one of the policy mu, a function from observations to actions in [-1, 1]:

    J_Q = (Q_k - r - gamma min_j Q'_j(s', a'))^2 / 2 for every k
    a'  = clip(mu'(s') + clip(e, -c, c), -1, 1),    e ~ N(0, sigma^2)
    grad J_mu = E_s[ grad mu(s) grad_a Q_1(s, a) at a = mu(s) ]

which is their algorithm 1. The last line is the deterministic policy gradient (Silver et al. 2014,
theorem 1): with the true Q and the states that mu visits it is the gradient of the return; the
states here are the replay's, as in their section 4.2. A prime marks exponential averages, which
move when the policy does; sigma is `target_policy_noise` and c is `target_noise_clip`.

The environments are given a = clip(mu(s) + `exploration_noise` z, -1, 1) with standard normal z, so
both noises are shares of half the action's range. Independent z are TD3's; z of one step and the
next have `noise_correlation`. The Ornstein-Uhlenbeck process of DDPG's paper (theta 0.15, sigma
0.2) is a correlation of 0.85 and a standard deviation of 0.2 / sqrt(1 - 0.85^2) = 0.38. Noise
begins anew with every iteration, so its correlation needs many `num_steps`.

One critic, no delay and no noise in the target is DDPG (Lillicrap et al. 2016, arXiv 1509.02971):
the agent `ddpg` is this one with such defaults. Where it differs from the papers and most of the
field: updates come in bursts, as many as steps were taken, networks are smaller, and a step cut off
by a time limit bootstraps from its own final observation. Observations are not normalised.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks, off_policy, optim, replay, replay_updates
from jaxrl_pg.components.critics import q_of
from jaxrl_pg.components.off_policy import DelayedPolicyConfig, Rows
from jaxrl_pg.components.replay_updates import Draws
from jaxrl_pg.config import Positive, Range
from jaxrl_pg.ops import soft
from jaxrl_pg.ops.distributions import ClippedNormal, Normal
from jaxrl_pg.types import Agent, Metrics, Obs, OptState, TrainState

__all__ = ["AGENT", "Config", "Learner", "Params", "act", "adopt", "init", "iterate", "value"]


class Config(DelayedPolicyConfig):
    """Hyper-parameters of TD3; floats are pytree leaves, everything else is static."""

    env: Any = "Pendulum-v1"
    """name (`jaxrl-pg envs` lists them) of one with Box actions, or an object like gymnax's"""
    num_critics: Annotated[int, Positive] = 2
    """Q networks, of which the least value counts in the target"""
    policy_delay: Annotated[int, Positive] = 2
    """critic steps before each step of the policy and of the target networks"""
    tau: Annotated[float, Range(0.0, 1.0, open_low=True)] = 0.005
    """share of the way that the target networks move after every step of the policy"""
    exploration_noise: float = 0.1
    """standard deviation of the noise on actions in training, which are from -1 to 1"""
    target_policy_noise: float = 0.2
    """standard deviation of the noise on the target policy's actions"""
    target_noise_clip: float = 0.5
    """largest noise on the target policy's actions"""


class Params(NamedTuple):
    """Parameters of networks.

    Attributes:
        policy: of the policy.
        critics: of the Q networks.
    """

    policy: Any
    critics: Any


class Learner(NamedTuple):
    """TD3's own state.

    Attributes:
        params: what is learned by gradients.
        target: their exponential averages.
        policy_opt: Adam's moments of the policy.
        critic_opt: Adam's moments of the Q networks.
    """

    params: Params
    target: Params
    policy_opt: OptState
    critic_opt: OptState


class Model(NamedTuple):
    """What a config names, made: the environment, and a network for each part of `Params`."""

    env: envs.Env
    policy: Any
    critics: Any

    def action(self, policy: Any, obs: Obs) -> jax.Array:
        """Return `mu(s)` `[N, A]`, within [-1, 1]."""
        head = self.policy.apply(policy, obs)
        # A user's network that was written for a stochastic agent gives a normal.
        return jnp.tanh(head.mean if isinstance(head, Normal) else head)

    def q(self, critics: Any, obs: Obs, action: jax.Array) -> jax.Array:
        """Return every critic's `Q(s, a)` `[num_critics, N]`."""
        return q_of(self.critics, critics, obs, action)


def build(config: Config) -> Model:
    """Make the environment and the networks that a config names.

    Raises:
        ValueError: for a finite action set.
    """
    env = envs.of(config)
    if env.spec.discrete:
        raise ValueError(
            f"{config.agent.name} follows the gradient of Q in a real action and {config.env!r} "
            "has a finite action set: give an environment with Box actions, or use sac"
        )
    policy = off_policy.policy_network(config, env.spec, "none")
    return Model(env, policy, off_policy.q_network(config, env.spec, config.num_critics))


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimisers, an empty replay, first observations."""
    model = build(config)
    obs_shape, action_shape = model.env.spec.obs_shape, model.env.spec.action_shape
    params_key, actor, memory, train_key = off_policy.start(config, model.env, key)
    policy_key, critic_key = jax.random.split(params_key)
    params = Params(
        networks.init_params(model.policy, policy_key, obs_shape),
        networks.init_params(model.critics, critic_key, obs_shape, action_shape),
    )
    learner = Learner(
        params=params,
        target=params,
        policy_opt=optim.init(params.policy, config.optimizer),
        critic_opt=optim.init(params.critics, config.optimizer),
    )
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return a fresh learner with the networks of another."""
    params = given.params
    return learner._replace(
        params=params,
        target=params,
        policy_opt=optim.init(params.policy, config.optimizer),
        critic_opt=optim.init(params.critics, config.optimizer),
    )


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Step the environments into the replay and learn from it."""
    model, delay, policy = build(config), config.policy_delay, state.learner.params.policy
    experience = off_policy.gather(
        config,
        model.env,
        state,
        lambda obs: ClippedNormal(model.action(policy, obs), config.exploration_noise),
    )
    draws = replay_updates.draw(
        config, model.env.spec, experience, config.num_updates // delay, delay, delay
    )

    def update(learner: Learner, draws: Draws) -> tuple[Learner, Metrics]:
        """Take `policy_delay` gradient steps of the critics and one of the policy."""
        rows = replay.take(experience.memory, draws.places)
        learner, metrics = jax.lax.scan(
            lambda learner, xs: _critic_step(config, model, learner, *xs),
            learner,
            (rows, draws.noise),
        )
        obs = jax.tree.map(lambda x: x[-1], rows.obs)
        learner, policy_metrics = _policy_step(config, model, learner, obs)
        return learner, {**jax.tree.map(jnp.mean, metrics), **policy_metrics}

    learner, metrics = replay_updates.learn(config, state, experience, update, draws)
    return off_policy.advance(state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: Obs, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return raw actions for observations `[N, ...]`: with the exploration's noise, or without."""
    model = build(config)
    obs = envs.batch(model.env, obs)
    action = model.action(learner.params.policy, obs)
    params = ClippedNormal(action, config.exploration_noise)
    return off_policy.act(model.env.spec, params, key, deterministic)


def value(config: Config, learner: Learner, obs: Obs) -> jax.Array:
    """Return the least `Q(s, mu(s))` `[N]` of observations `[N, ...]`."""
    model = build(config)
    obs = envs.batch(model.env, obs)
    action = model.action(learner.params.policy, obs)
    return jnp.min(model.q(learner.params.critics, obs, action), axis=0)


def _critic_step(
    config: Config, model: Model, learner: Learner, rows: Rows, noise: jax.Array
) -> tuple[Learner, Metrics]:
    """Take one gradient step of the Q networks."""
    grads, metrics = jax.grad(_critic_loss, has_aux=True)(
        learner.params.critics, config, model, learner, rows, noise
    )
    critics, critic_opt, norm = off_policy.gradient_step(
        config, learner.params.critics, learner.critic_opt, grads
    )
    params = learner.params._replace(critics=critics)
    return learner._replace(params=params, critic_opt=critic_opt), {**metrics, "grad_norm": norm}


def _policy_step(
    config: Config, model: Model, learner: Learner, obs: Obs
) -> tuple[Learner, Metrics]:
    """Take one gradient step of the policy; the targets of policy and Q networks follow."""
    loss, grads = jax.value_and_grad(_policy_loss)(
        learner.params.policy, model, learner.params.critics, obs
    )
    policy, policy_opt, norm = off_policy.gradient_step(
        config, learner.params.policy, learner.policy_opt, grads, config.policy_learning_rate
    )
    params = learner.params._replace(policy=policy)
    target = soft.polyak_update(learner.target, params, config.tau)
    learner = learner._replace(params=params, target=target, policy_opt=policy_opt)
    return learner, {"loss/policy": loss, "policy/grad_norm": norm}


def _critic_loss(
    critics: Any, config: Config, model: Model, learner: Learner, rows: Rows, noise: jax.Array
) -> tuple[jax.Array, Metrics]:
    """J_Q, with the noise standard normal `[N, A]`."""
    clip = config.target_noise_clip
    smoothing = jnp.clip(config.target_policy_noise * noise, -clip, clip)
    action = jnp.clip(model.action(learner.target.policy, rows.next_obs) + smoothing, -1.0, 1.0)
    next_value = jnp.min(model.q(learner.target.critics, rows.next_obs, action), axis=0)
    discount = off_policy.discount(config, rows)
    target = soft.backup(rows.reward, rows.terminated, next_value, discount)
    q = model.q(critics, rows.obs, rows.action)
    loss = soft.q_loss(q, target)
    return loss, {"loss/q": loss, "q/mean": jnp.mean(q)}


def _policy_loss(policy: Any, model: Model, critics: Any, obs: Obs) -> jax.Array:
    """Minus the mean of `Q_1(s, mu(s))`."""
    return -jnp.mean(model.q(critics, obs, model.action(policy, obs))[0])


AGENT = Agent("td3", Config, init, iterate, act, value, adopt=adopt, actions="Box")
