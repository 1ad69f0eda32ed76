"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1801.01290 and arXiv 1812.05905).

One iteration takes `num_steps` steps of `num_envs` environments into the replay, then
`num_updates` gradient steps on minibatches out of it. Two variants of the critic:

    twin:   J_Q = (Q_k - r - gamma V'(s'))^2 / 2 for every k, V' = E_a[min_k Q'_k - alpha log pi]
    value:  J_Q = (Q_k - r - gamma V'(s'))^2 / 2 for every k, V' a network's target
            J_V = (V - E_a[min_k Q_k - alpha log pi])^2 / 2

where a prime marks exponential averages. (The second is the first paper's algorithm 1, with a
temperature; the first is the second paper's.) The policy minimises `E_a[alpha log pi - min_k Q_k]`
or, for a finite action set, KL(pi || exp(Q / alpha) / Z). The temperature is fixed or learned,
towards a wanted entropy.

Box actions are tanh of a normal, and gradients pass through the draw; over a finite action set
every expectation is exact (after Christodoulou 2019, arXiv 1910.07207), with an entropy target
that two actions can meet. Where it differs from most of the field: a step cut off by a time limit
bootstraps from its own final observation. Observations are not normalised.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import networks, off_policy, optim, replay, replay_updates
from jaxrl_pg.components.off_policy import OffPolicyConfig, Rows
from jaxrl_pg.components.replay_updates import Draws
from jaxrl_pg.config import agent_config, check_choice
from jaxrl_pg.ops import distributions, losses, soft
from jaxrl_pg.types import Agent, Metrics, TrainState

__all__ = ["AGENT", "Config", "Learner", "Params", "act", "init", "iterate", "value"]

_LOG_ALPHA_RANGE = (-9.2, 4.6)  # a learned temperature stays between 1e-4 and 1e2


@agent_config
class Config(OffPolicyConfig):
    """Hyper-parameters of SAC; floats are pytree leaves, everything else is static."""

    variant: str = "twin"
    """critic: twin (target networks of Q) or value (a value network and its target)"""
    num_critics: int = 2
    """Q networks, of which the least value counts"""
    policy_loss: str = "reparameterised"
    """reparameterised (finite action sets: the exact expectation) or kl_projection (those only)"""
    policy_delay: int = 1
    """critic steps before each step of policy and temperature"""
    alpha: float = 1.0
    """temperature, at the start if learned"""
    learn_alpha: bool = True
    """adapt the temperature until the policy has the target entropy"""
    target_entropy: float | None = None
    """wanted entropy in nats; None: -1 an action dimension, or by the ratio below"""
    target_entropy_ratio: float = 0.5
    """wanted entropy over a finite action set, as a share of the largest possible"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        super().check()
        check_choice("variant", self.variant, CRITIC_LOSSES)
        check_choice("policy_loss", self.policy_loss, POLICY_LOSSES)
        if self.num_updates % self.policy_delay:
            raise ValueError(
                f"num_updates={self.num_updates} is no multiple of "
                f"policy_delay={self.policy_delay}: give one"
            )


class Params(NamedTuple):
    """What is learned by gradients.

    Attributes:
        policy: of the policy network.
        critics: of the Q networks.
        value: of the value network; `()` in the twin variant.
    """

    policy: Any
    critics: Any
    value: Any


class Learner(NamedTuple):
    """SAC's own state.

    Attributes:
        params: of the networks.
        target: averaged parameters: of the Q networks (twin) or of the value network (value).
        log_alpha: `[]` logarithm of the temperature.
        policy_opt: Adam's moments of the policy.
        critic_opt: of Q and value networks together.
        alpha_opt: of the temperature.
    """

    params: Params
    target: Any
    log_alpha: jax.Array
    policy_opt: Any
    critic_opt: Any
    alpha_opt: Any


def init(config: Config, key: jax.Array) -> TrainState:
    """A fresh train state: parameters, optimisers, an empty replay, first observations."""
    spec = off_policy.spec(config)
    if config.policy_loss == "kl_projection" and not spec.discrete:
        raise ValueError(
            f"policy_loss='kl_projection' sums over a finite action set and {config.env!r} has "
            "none: give policy_loss='reparameterised'"
        )
    params_key, actor, memory, train_key = off_policy.start(config, key)
    policy_key, critic_key, value_key = jax.random.split(params_key, 3)
    params = Params(
        networks.init_params(_policy_network(config), policy_key, spec.obs_shape),
        networks.init_params(_q_network(config), critic_key, spec.obs_shape, spec.action_shape),
        networks.init_params(_value_network(config), value_key, spec.obs_shape)
        if config.variant == "value"
        else (),
    )
    log_alpha = jnp.log(jnp.asarray(config.alpha, jnp.float32))
    learner = Learner(
        params=params,
        target=_targeted(config, params),
        log_alpha=log_alpha,
        policy_opt=optim.init(params.policy),
        critic_opt=optim.init((params.critics, params.value)),
        alpha_opt=optim.init(log_alpha),
    )
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """Step the environments into the replay and learn from it."""
    policy = partial(networks.apply, _policy_network(config), state.learner.params.policy)
    experience = off_policy.gather(config, state, policy)
    memory, key, delay = experience.memory, experience.update_key, config.policy_delay
    num = config.num_updates // delay
    draws = replay_updates.draw(config, memory, key, num, steps=delay, times=delay + 1)
    update = partial(_update, config, memory)
    learner, metrics = replay_updates.learn(config, state, experience, update, draws)
    metrics["alpha"] = jnp.exp(learner.log_alpha)
    return off_policy.advance(config, state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Raw actions for observations `[N, ...]`: sampled, or tanh of the mean, or the likeliest."""
    params = networks.apply(_policy_network(config), learner.params.policy, obs)
    return off_policy.act(config, params, key, deterministic)


def value(config: Config, learner: Learner, obs: jax.Array) -> jax.Array:
    """The critic's soft value `[N]` of observations `[N, ...]`, entropy included.

    Of Box actions in the twin variant it is the least Q at the mean action, without the entropy
    of this step.
    """
    if config.variant == "value":
        return _value(config, learner.params.value, obs)
    spec = off_policy.spec(config)
    noise = jnp.zeros((obs.shape[0], *spec.action_shape))
    judged = _judge(config, learner.params.policy, learner.params.critics, obs, noise)
    alpha = jnp.exp(learner.log_alpha) if spec.discrete else 0.0
    return soft.expected_value(judged, alpha)


def _update(
    config: Config, memory: replay.Replay, learner: Learner, draws: Draws
) -> tuple[Learner, Metrics]:
    """`policy_delay` gradient steps of the critics and one of the policy."""
    rows = replay.take(memory, draws.places)
    step = partial(_critic_step, config)
    learner, metrics = jax.lax.scan(step, learner, (rows, draws.noise[:-1]))
    learner, policy_metrics = _policy_step(config, learner, rows.obs[-1], draws.noise[-1])
    return learner, {**jax.tree.map(jnp.mean, metrics), **policy_metrics}


def _critic_step(
    config: Config, learner: Learner, xs: tuple[Rows, jax.Array]
) -> tuple[Learner, Metrics]:
    """One gradient step of the Q networks (and the value network); the target follows."""
    loss = partial(CRITIC_LOSSES[config.variant], config, learner, *xs)
    params = (learner.params.critics, learner.params.value)
    grads, metrics = jax.grad(loss, has_aux=True)(params)
    (critics, values), critic_opt, norm = off_policy.step(config, params, learner.critic_opt, grads)
    new = learner.params._replace(critics=critics, value=values)
    target = soft.follow(learner.target, _targeted(config, new), config.tau)
    learner = learner._replace(params=new, target=target, critic_opt=critic_opt)
    return learner, {**metrics, "grad_norm": norm}


def _policy_step(
    config: Config, learner: Learner, obs: jax.Array, noise: jax.Array
) -> tuple[Learner, Metrics]:
    """One gradient step of the policy, then one of the temperature if it is learned."""
    loss = partial(_policy_loss, config, learner, obs, noise)
    grads, (policy_loss, entropy) = jax.grad(loss, has_aux=True)(learner.params.policy)
    policy, policy_opt, norm = off_policy.step(
        config, learner.params.policy, learner.policy_opt, grads
    )
    learner = learner._replace(params=learner.params._replace(policy=policy), policy_opt=policy_opt)
    metrics = {
        "loss/policy": policy_loss,
        "policy/entropy": jnp.mean(entropy),
        "policy/grad_norm": norm,
    }
    if not config.learn_alpha:
        return learner, metrics
    alpha_loss, grad = jax.value_and_grad(soft.temperature_loss)(
        learner.log_alpha, entropy, _wanted(config)
    )
    log_alpha, alpha_opt, _ = off_policy.step(config, learner.log_alpha, learner.alpha_opt, grad)
    log_alpha = jnp.clip(log_alpha, *_LOG_ALPHA_RANGE)
    learner = learner._replace(log_alpha=log_alpha, alpha_opt=alpha_opt)
    return learner, {**metrics, "loss/alpha": alpha_loss}


def _twin_loss(
    config: Config, learner: Learner, rows: Rows, noise: jax.Array, params: tuple[Any, Any]
) -> tuple[jax.Array, Metrics]:
    judged = _judge(config, learner.params.policy, learner.target, rows.next_obs, noise)
    next_value = soft.expected_value(judged, jnp.exp(learner.log_alpha))
    return _q_loss(config, rows, next_value, params[0])


def _value_loss(
    config: Config, learner: Learner, rows: Rows, noise: jax.Array, params: tuple[Any, Any]
) -> tuple[jax.Array, Metrics]:
    next_value = _value(config, learner.target, rows.next_obs)
    loss, metrics = _q_loss(config, rows, next_value, params[0])
    judged = _judge(config, learner.params.policy, learner.params.critics, rows.obs, noise)
    target = soft.expected_value(judged, jnp.exp(learner.log_alpha))
    value_loss = losses.value_loss(_value(config, params[1], rows.obs), target)
    return loss + value_loss, {**metrics, "loss/value": value_loss}


CRITIC_LOSSES = {"twin": _twin_loss, "value": _value_loss}


def _q_loss(
    config: Config, rows: Rows, next_value: jax.Array, params: Any
) -> tuple[jax.Array, Metrics]:
    target = soft.backup(rows.reward, rows.terminated, next_value, config.gamma)
    q = networks.q_of(_q_network(config), params, rows.obs, rows.action)
    loss = soft.q_loss(q, target)
    return loss, {"loss/q": loss, "q/mean": jnp.mean(q)}


def _policy_loss(
    config: Config, learner: Learner, obs: jax.Array, noise: jax.Array, params: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    judged = _judge(config, params, learner.params.critics, obs, noise)
    loss = POLICY_LOSSES[config.policy_loss](judged, jnp.exp(learner.log_alpha))
    return loss, (loss, soft.entropy(judged))


POLICY_LOSSES = {
    "reparameterised": soft.expected_policy_loss,
    "kl_projection": soft.kl_projection_loss,
}


def _judge(
    config: Config, policy: Any, critics: Any, obs: jax.Array, noise: jax.Array
) -> soft.Judged:
    """All actions of a finite set, or one draw, with the least of the critics' values."""
    params = networks.apply(_policy_network(config), policy, obs)
    if isinstance(params, distributions.Normal):
        action, log_prob = distributions.tanh_normal_sample(params, noise)
        q = networks.apply(_q_network(config), critics, obs, action=action)
        return soft.Judged(jnp.ones_like(q[0]), log_prob[:, None], jnp.min(q, axis=0))
    q = networks.apply(_q_network(config), critics, obs)
    log_prob = jax.nn.log_softmax(params)
    return soft.Judged(jnp.exp(log_prob), log_prob, jnp.min(q, axis=0))


def _value(config: Config, params: Any, obs: jax.Array) -> jax.Array:
    return networks.apply(_value_network(config), params, obs)[0, :, 0]


def _targeted(config: Config, params: Params) -> Any:
    """The parameters that the target network averages."""
    return params.value if config.variant == "value" else params.critics


def _wanted(config: Config) -> jax.Array | float:
    """The target entropy in nats."""
    if config.target_entropy is not None:
        return config.target_entropy
    spec = off_policy.spec(config)
    if not spec.discrete:
        return -1.0 * spec.num_actions
    return config.target_entropy_ratio * jnp.log(1.0 * spec.num_actions)


def _policy_network(config: Config) -> networks.Policy:
    return networks.Policy(off_policy.spec(config), *off_policy.torso(config))


def _q_network(config: Config) -> networks.Critics:
    return off_policy.q_network(config, config.num_critics)


def _value_network(config: Config) -> networks.Critics:
    return networks.Critics(1, off_policy.spec(config), 1, *off_policy.torso(config))


AGENT = Agent("sac", Config, init, iterate, act, value)
