"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1801.01290 and arXiv 1812.05905).

One iteration takes `num_steps` steps of `num_envs` environments into the replay, then
`num_updates` gradient steps on minibatches out of it. Two variants of the critic:

    twin:   J_Q = (Q_k - r - gamma V'(s'))^2 / 2 for every k, V' = E_a[min_k Q'_k - alpha log pi]
    value:  J_Q = (Q_k - r - gamma V'(s'))^2 / 2 for every k, V' a network's target
            J_V = (V - E_a[min_k Q_k - alpha log pi])^2 / 2

where a prime marks exponential averages. The policy minimises `E_a[alpha log pi - min_k Q_k]` or,
for a finite action set, KL(pi || exp(Q / alpha) / Z). The temperature is fixed or learned, towards
a target entropy. The twin critic is the second paper's; `algorithm_1` makes the first paper's.

Box actions are tanh of a normal, and gradients pass through the draw; over a finite action set
every expectation is exact (after Christodoulou 2019, arXiv 1910.07207), with an entropy target
that two actions can meet. Where it differs from most of the field: a step cut off by a time limit
bootstraps from its own final observation. Observations are not normalised.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks, off_policy, optim, replay, replay_updates, written
from jaxrl_pg.components.critics import q_of
from jaxrl_pg.components.off_policy import DelayedPolicyConfig, Rows
from jaxrl_pg.components.replay_updates import Draws
from jaxrl_pg.components.soft_networks import SoftNetworks
from jaxrl_pg.config import Fraction, Positive, Range
from jaxrl_pg.ops import losses, soft
from jaxrl_pg.types import Agent, EnvSpec, Metrics, Obs, OptState, TrainState

__all__ = [
    "AGENT",
    "Config",
    "Learner",
    "Params",
    "act",
    "adopt",
    "algorithm_1",
    "init",
    "iterate",
    "value",
]

_LOG_ALPHA_RANGE = (-9.2, 4.6)  # a learned temperature stays between 1e-4 and 1e2


class Config(DelayedPolicyConfig):
    """Hyper-parameters of SAC; floats are pytree leaves, everything else is static."""

    variant: Literal["twin", "value"] = "twin"
    """critic: target networks of Q (twin), or a value network and its target (value)"""
    num_critics: Annotated[int, Positive] = 2
    """Q networks, of which the least value counts"""
    policy_loss: Literal["reparameterised", "kl_projection"] = "reparameterised"
    """reparameterised is exact over finite action sets; kl_projection is for those only"""
    value_learning_rate: Annotated[float, Positive] | None = None
    """Adam's step size for the value network (variant value); None: learning_rate"""
    alpha: Annotated[float, Positive] = 1.0
    """temperature, at the start if learned"""
    learn_alpha: bool = True
    """adapt the temperature until the policy has the target entropy"""
    target_entropy: Annotated[float, Range(float("-inf"))] | None = None
    """target entropy in nats; None: -1 an action dimension, or by the ratio below"""
    target_entropy_ratio: Annotated[float, Fraction] = 0.5
    """target entropy over a finite action set, as a share of the largest possible"""

    def check(self) -> None:
        """Refuse a rate for no network."""
        super().check()
        if self.value_learning_rate is not None and self.variant != "value":
            raise ValueError(
                f"value_learning_rate={self.value_learning_rate} and variant={self.variant!r} has "
                "no value network: give variant='value'"
            )


def algorithm_1(env: Any = "Pendulum-v1", **fields: Any) -> Config:
    """Return the config of the first paper's algorithm 1 (arXiv 1801.01290), at temperature 1.

        psi   <- psi   - lambda_V  grad J_V     J_V  = (V - E_a[Q - log pi])^2 / 2
        w     <- w     - lambda_Q  grad J_Q     J_Q  = (Q - r - gamma V'(s'))^2 / 2
        theta <- theta - lambda_pi grad J_pi    J_pi = E_a[log pi - Q + log Z]
        psi'  <- tau psi + (1 - tau) psi'

    where J_pi is KL(pi || exp(Q) / Z). The first two steps are taken at once, which is the same:
    neither reads what the other one changes. Adam stands in for plain steps. `reward_scale` decides
    how random the policy is. The authors' own code has two Q networks: `num_critics=2`.

    Args:
        env: environment, as in `Config`.
        fields: others of `Config`, which go before the preset's. lambda_V is `value_learning_rate`,
            lambda_Q `learning_rate`, and lambda_pi `policy_learning_rate`.
    """
    preset: dict[str, Any] = {"variant": "value", "num_critics": 1, "learn_alpha": False}
    rates = dict.fromkeys(("value_learning_rate", "learning_rate", "policy_learning_rate"), 1e-3)
    return Config(env=env, **{**preset, **rates, **fields})


class Params(NamedTuple):
    """What is learned by gradients.

    Attributes:
        policy: parameters of the policy network.
        critics: parameters of the Q networks.
        value: parameters of the value network; `()` in the twin variant.
    """

    policy: Any
    critics: Any
    value: Any


class Learner(NamedTuple):
    """SAC's own state.

    Attributes:
        params: parameters of the networks.
        target: averaged parameters: of the Q networks (twin) or of the value network (value).
        log_alpha: `[]` logarithm of the temperature.
        policy_opt: Adam's moments of the policy.
        critic_opt: Adam's moments of Q and value networks together.
        alpha_opt: Adam's moments of the temperature.
        value_opt: Adam's moments of a value network with a rate of its own, then not in critic_opt.
    """

    params: Params
    target: Any
    log_alpha: jax.Array
    policy_opt: OptState
    critic_opt: OptState
    alpha_opt: OptState
    value_opt: OptState = ()


def build(config: Config) -> SoftNetworks:
    """Make the environment and the networks that a config names.

    Raises:
        ValueError: for a policy loss that the environment's actions do not have.
    """
    env = envs.of(config)
    if config.policy_loss == "kl_projection" and not env.spec.discrete:
        raise ValueError(
            f"policy_loss='kl_projection' sums over a finite action set and {config.env!r} has "
            "none: give policy_loss='reparameterised'"
        )
    policy = off_policy.policy_network(config, env.spec)
    critics = off_policy.q_network(config, env.spec, config.num_critics)
    value = off_policy.value_network(config, env.spec) if config.variant == "value" else None
    return SoftNetworks(env, policy, critics, value)


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimisers, an empty replay, first observations."""
    model = build(config)
    obs_shape, action_shape = model.env.spec.obs_shape, model.env.spec.action_shape
    params_key, actor, memory, train_key = off_policy.start(config, model.env, key)
    policy_key, critic_key, value_key = jax.random.split(params_key, 3)
    params = Params(
        networks.init_params(model.policy, policy_key, obs_shape),
        networks.init_params(model.critics, critic_key, obs_shape, action_shape),
        networks.init_params(model.value, value_key, obs_shape)
        if config.variant == "value"
        else (),
    )
    log_alpha = jnp.log(jnp.asarray(config.alpha, jnp.float32))
    learner = _fresh(config, params, log_alpha)
    return TrainState(learner, actor, memory, train_key, jnp.zeros((), jnp.int32))


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return a fresh learner with the networks of another, and its temperature if one is learned.

    The values that the critics give contain the entropy at that temperature.
    """
    log_alpha = given.log_alpha if config.learn_alpha else learner.log_alpha
    return _fresh(config, given.params, log_alpha)


def _fresh(config: Config, params: Params, log_alpha: jax.Array) -> Learner:
    """A learner with these networks that has not learned anything yet."""
    apart = config.value_learning_rate is not None
    together = params.critics if apart else (params.critics, params.value)
    return Learner(
        params=params,
        target=_averaged_part(config, params),
        log_alpha=log_alpha,
        policy_opt=optim.init(params.policy, config.optimizer),
        critic_opt=optim.init(together, config.optimizer),
        alpha_opt=optim.init(log_alpha, config.optimizer),
        value_opt=optim.init(params.value, config.optimizer) if apart else (),
    )


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Step the environments into the replay and learn from it."""
    model, delay = build(config), config.policy_delay
    experience = off_policy.gather(
        config, model.env, state, lambda obs: model.policy.apply(state.learner.params.policy, obs)
    )
    draws = replay_updates.draw(
        config, model.env.spec, experience, config.num_updates // delay, delay, delay + 1
    )

    def update(learner: Learner, draws: Draws) -> tuple[Learner, Metrics]:
        """Take `policy_delay` gradient steps of the critics and one of the policy."""
        rows = replay.take(experience.memory, draws.places)
        learner, metrics = jax.lax.scan(
            lambda learner, xs: _critic_step(config, model, learner, *xs),
            learner,
            (rows, draws.noise[:-1]),
        )
        obs = jax.tree.map(lambda x: x[-1], rows.obs)
        learner, policy_metrics = _policy_step(config, model, learner, obs, draws.noise[-1])
        return learner, {**jax.tree.map(jnp.mean, metrics), **policy_metrics}

    learner, metrics = replay_updates.learn(config, state, experience, update, draws)
    metrics["alpha"] = jnp.exp(learner.log_alpha)
    return off_policy.advance(state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: Obs, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return raw actions for observations `[N, ...]`: sampled, or the policy's mode."""
    model = build(config)
    obs = envs.batch(model.env, obs)
    params = model.policy.apply(learner.params.policy, obs)
    return off_policy.act(model.env.spec, params, key, deterministic)


def value(config: Config, learner: Learner, obs: Obs) -> jax.Array:
    """Return the critic's soft value `[N]` of observations `[N, ...]`, entropy included.

    Of Box actions in the twin variant it is the least Q at the mean action, without the entropy
    of this step.
    """
    model = build(config)
    obs = envs.batch(model.env, obs)
    if config.variant == "value":
        return model.state_value(learner.params.value, obs)
    num = jax.tree.leaves(obs)[0].shape[0]
    noise = jnp.zeros((num, *model.env.spec.action_shape))
    actions = model.actions(learner.params.policy, learner.params.critics, obs, noise)
    alpha = jnp.exp(learner.log_alpha) if model.env.spec.discrete else 0.0
    return soft.expected_value(actions, alpha)


def _critic_step(
    config: Config, model: SoftNetworks, learner: Learner, rows: Rows, noise: jax.Array
) -> tuple[Learner, Metrics]:
    """Take one gradient step of the Q networks (and the value network); the target follows."""
    params, value_opt = (learner.params.critics, learner.params.value), learner.value_opt
    grads, metrics = jax.grad(_critic_loss, has_aux=True)(
        params, config, model, learner, rows, noise
    )
    step, rate = partial(off_policy.gradient_step, config), config.value_learning_rate
    if rate is None:
        (critics, values), critic_opt, norm = step(params, learner.critic_opt, grads)
    else:
        critics, critic_opt, norm = step(params[0], learner.critic_opt, grads[0])
        values, value_opt, _ = step(params[1], value_opt, grads[1], rate)
    new = learner.params._replace(critics=critics, value=values)
    target = soft.polyak_update(learner.target, _averaged_part(config, new), config.tau)
    learner = learner._replace(params=new, target=target, critic_opt=critic_opt)
    return learner._replace(value_opt=value_opt), {**metrics, "grad_norm": norm}


def _policy_step(
    config: Config, model: SoftNetworks, learner: Learner, obs: Obs, noise: jax.Array
) -> tuple[Learner, Metrics]:
    """Take one gradient step of the policy, then one of the temperature if it is learned."""
    grads, (policy_loss, entropy) = jax.grad(_policy_loss, has_aux=True)(
        learner.params.policy, config, model, learner, obs, noise
    )
    policy, policy_opt, norm = off_policy.gradient_step(
        config, learner.params.policy, learner.policy_opt, grads, config.policy_learning_rate
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
        learner.log_alpha, entropy, _target_entropy(config, model.env.spec, obs)
    )
    log_alpha, alpha_opt, _ = off_policy.gradient_step(
        config, learner.log_alpha, learner.alpha_opt, grad
    )
    log_alpha = jnp.clip(log_alpha, *_LOG_ALPHA_RANGE)
    learner = learner._replace(log_alpha=log_alpha, alpha_opt=alpha_opt)
    return learner, {**metrics, "loss/alpha": alpha_loss}


def _critic_loss(
    params: tuple[Any, Any],
    config: Config,
    model: SoftNetworks,
    learner: Learner,
    rows: Rows,
    noise: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """J_Q, and J_V where there is a value network."""
    critics, values = params
    alpha, policy = jnp.exp(learner.log_alpha), learner.params.policy
    if config.variant == "twin":
        actions = model.actions(policy, learner.target, rows.next_obs, noise)
        next_value = soft.expected_value(actions, alpha)
    else:
        next_value = model.state_value(learner.target, rows.next_obs)
    discount = off_policy.discount(config, rows)
    target = soft.backup(rows.reward, rows.terminated, next_value, discount)
    q = q_of(model.critics, critics, rows.obs, rows.action)
    q_loss = soft.q_loss(q, target)
    metrics = {"loss/q": q_loss, "q/mean": jnp.mean(q)}
    if config.variant == "twin":
        return q_loss, metrics
    actions = model.actions(policy, learner.params.critics, rows.obs, noise)
    value_loss = losses.value_loss(
        model.state_value(values, rows.obs), soft.expected_value(actions, alpha)
    )
    return q_loss + value_loss, {**metrics, "loss/value": value_loss}


def _policy_loss(
    policy: Any, config: Config, model: SoftNetworks, learner: Learner, obs: Obs, noise: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    actions = model.actions(policy, learner.params.critics, obs, noise)
    alpha = jnp.exp(learner.log_alpha)
    if config.policy_loss == "kl_projection":
        loss = soft.kl_projection_loss(actions, alpha)
    else:
        loss = soft.expected_policy_loss(actions, alpha)
    return loss, (loss, soft.entropy(actions))


def _averaged_part(config: Config, params: Params) -> Any:
    """The parameters that the target network averages."""
    return params.value if config.variant == "value" else params.critics


def _target_entropy(config: Config, spec: EnvSpec, obs: Obs) -> jax.Array | float:
    """The target entropy in nats; with illegal actions, `[N]`, by the number of legal ones."""
    if config.target_entropy is not None:
        return config.target_entropy
    if not spec.discrete:
        return -1.0 * spec.num_actions
    mask = networks.legal(obs)
    if mask is None:
        return config.target_entropy_ratio * jnp.log(1.0 * spec.num_actions)
    return config.target_entropy_ratio * jnp.log(1.0 * jnp.sum(mask, axis=-1))


AGENT = Agent("sac", Config, init, iterate, act, value, adopt=adopt, written=written.policy)
