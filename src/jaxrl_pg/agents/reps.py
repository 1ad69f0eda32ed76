"""Relative entropy policy search (Peters, Mulling and Altun 2010), with networks.

One iteration collects a rollout of distribution q, minimises the dual of the problem "largest E_p r
with KL(p || q) <= kl_target",

    g(eta, V) = eta kl_target + eta log E_q exp(delta / eta) + (1 - gamma) E_{s0} V,
    delta = r + gamma (1 - terminated) V(s') - V(s),

and fits the policy to `p = q exp(delta / eta) / Z` by weighted likelihood. eta is solved for in
every pass over the rollout (at its minimum the divergence is `kl_target`), V takes gradient steps.

That is REPS proper: `critic="dual"` and `gae_lambda=0`, the defaults. The V that minimises the
dual makes p a distribution that a policy can have. With a lambda above 0, weights are from that
V's generalised advantages. With `critic="returns"` V is fitted to the lambda-returns instead and is
that of the policy; eta is then the C of the analytical update of taken actions by a KL target.

Where it differs from the paper: discounted; networks instead of features, gradient steps instead
of BFGS; one successor for each step instead of the expected one, which adds the noise of
transitions to delta (none where they are deterministic); Gaussians may pay for the KL from the old
policy. A step cut off by a time limit bootstraps from the value of its own final observation, as
V was when the step was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import epochs, networks, normalize, on_policy, optim, step_size
from jaxrl_pg.components.epochs import Carry, EpochsConfig
from jaxrl_pg.components.on_policy import act, value
from jaxrl_pg.components.step_size import TrustFields
from jaxrl_pg.config import agent_config, check_choice
from jaxrl_pg.ops import batching, collectives, losses, reps
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import Agent, Metrics, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]


@agent_config
class Config(TrustFields, EpochsConfig):
    """Hyper-parameters of REPS; floats are pytree leaves."""

    kl_target: float = 0.1
    """bound on KL(p || q), epsilon in the paper, in nats"""
    critic: str = "dual"
    """what V is fitted to: dual (minimise it, REPS proper) or returns (the policy's value)"""
    critic_epochs: int = 4
    """passes over a rollout that fit V"""
    gae_lambda: float = 0.0
    """decay of the advantage estimate's trace: 0 weighs by delta alone, as REPS proper does"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        super().check()
        check_choice("critic", self.critic, CRITICS)
        if self.shared_torso:
            raise ValueError(
                "shared_torso=True: the dual's steps must leave the policy; give False"
            )


class Learner(NamedTuple):
    """The agent's own state.

    Attributes:
        params: of the policy and value networks.
        opt_state: Adam's moments of the policy's steps.
        critic_opt_state: Adam's moments of V's steps.
        normalizer: statistics of observations and rewards.
    """

    params: Any
    opt_state: Any
    critic_opt_state: Any
    normalizer: normalize.Normalizer


class Steps(NamedTuple):
    """The rollout as V is fitted to it, `[N, ...]`.

    Attributes:
        obs: observations as networks see them.
        following: their successors; anything where an episode ended.
        reward: the rewards.
        discount: gamma where `following` is the successor, 0 where the episode ended.
        final: gamma V of the step's own final observation where it was cut off, 0 elsewhere.
        target: lambda-returns.
    """

    obs: jax.Array
    following: jax.Array
    reward: jax.Array
    discount: jax.Array
    final: jax.Array
    target: jax.Array


class Rows(NamedTuple):
    """What the policy is fitted to, `[N, ...]`.

    Attributes:
        batch: the rollout.
        log_weight: log w, of mean 1 over the batch.
        old: parameters of the old policy.
    """

    batch: on_policy.Batch
    log_weight: jax.Array
    old: Any


def init(config: Config, key: jax.Array) -> TrainState:
    """A fresh train state: parameters, optimisers, statistics, first observations."""
    params, normalizer, actor, train_key = on_policy.start(config, key)
    learner = Learner(params, optim.init(params), optim.init(params), normalizer)
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """Collect one rollout and learn from it."""
    experience = on_policy.gather(config, state)
    batch = on_policy.make_batch(config, state.learner, experience)
    learner = state.learner._replace(normalizer=experience.normalizer)
    learning_rate = on_policy.learning_rate(config, state.iteration)
    critic_key, policy_key = jax.random.split(experience.update_key)
    steps = _steps(config, learner, experience, batch.target)
    absorbed = _absorbed(config, experience)
    learner, fitted = _fit_critic(config, learner, steps, absorbed, critic_key, learning_rate)
    if config.critic == "dual":  # weights by the V that has been found
        batch = on_policy.make_batch(config, learner, experience)
    rows, metrics = _aim(config, learner, batch, absorbed)
    learner, projected = _fit_policy(config, learner, rows, policy_key, learning_rate)
    metrics["value/explained_variance"] = losses.explained_variance(batch.value, batch.target)
    metrics["learning_rate"] = learning_rate
    return on_policy.advance(config, state, experience, learner, {**metrics, **fitted, **projected})


def _steps(
    config: Config, learner: Learner, experience: on_policy.Experience, target: jax.Array
) -> Steps:
    steps = experience.steps
    every = jnp.concatenate([steps.obs, experience.actor.obs[None]])
    every = normalize.observe(learner.normalizer, every)
    goes_on = ~(steps.terminated | steps.truncated)
    discount, final = config.gamma * goes_on, config.gamma * steps.final_value
    flat = on_policy.flatten
    now, later = flat(every[:-1]), flat(every[1:])
    return Steps(now, later, flat(steps.reward), flat(discount), flat(final), target)


def _absorbed(config: Config, experience: on_policy.Experience) -> jax.Array:
    if config.critic == "returns":
        return jnp.zeros(())
    return reps.absorbed_mass(experience.steps.terminated, config.gamma, _mean(config))


def _fit_critic(
    config: Config,
    learner: Learner,
    steps: Steps,
    absorbed: jax.Array,
    key: jax.Array,
    learning_rate: jax.Array,
) -> tuple[Learner, Metrics]:
    """V's gradient steps, with the best eta of every pass; metrics are of the last."""
    num, epochs = steps.reward.shape[0], config.critic_epochs
    indices = batching.minibatch_indices(key, num, epochs, config.num_minibatches)
    indices = indices.reshape(epochs, config.num_minibatches, -1)
    one_pass = partial(_critic_pass, config, steps, absorbed, learning_rate)
    carry = (learner.params, learner.critic_opt_state)
    (params, opt_state), metrics = jax.lax.scan(one_pass, carry, indices)
    learner = learner._replace(params=params, critic_opt_state=opt_state)
    return learner, jax.tree.map(lambda x: x[-1], metrics)


def _critic_pass(
    config: Config,
    steps: Steps,
    absorbed: jax.Array,
    learning_rate: jax.Array,
    carry: Carry,
    indices: jax.Array,
) -> tuple[Carry, Metrics]:
    delta = _bellman_error(config, steps, carry[0])
    eta = reps.temperature(delta, config.kl_target, absorbed, _mean(config))
    loss = partial(CRITICS[config.critic], config, eta, absorbed)
    step = partial(epochs.step, config, learning_rate, loss, steps)
    carry, metrics = jax.lax.scan(step, carry, indices)
    return carry, {"loss/value": jnp.mean(metrics["loss"])}


def _dual_loss(
    config: Config, eta: jax.Array, absorbed: jax.Array, steps: Steps, params: Any
) -> tuple[jax.Array, Metrics]:
    """The dual in V, of the rows at hand."""
    delta = _bellman_error(config, steps, params)
    loss = reps.dual(delta, steps.reward, eta, config.kl_target, absorbed)
    return loss, {"loss": loss}


def _returns_loss(
    config: Config, eta: jax.Array, absorbed: jax.Array, steps: Steps, params: Any
) -> tuple[jax.Array, Metrics]:
    """Half the squared distance from the lambda-returns."""
    del eta, absorbed
    values = networks.apply(on_policy.network(config), params, steps.obs, "value")
    loss = losses.value_loss(values, steps.target)
    return loss, {"loss": loss}


CRITICS = {"dual": _dual_loss, "returns": _returns_loss}


def _bellman_error(config: Config, steps: Steps, params: Any) -> jax.Array:
    """`r + gamma (1 - terminated) V(s') - V(s)`, `[N]`."""
    network = on_policy.network(config)
    now = networks.apply(network, params, steps.obs, "value")
    later = networks.apply(network, params, steps.following, "value")
    return steps.reward + steps.final + steps.discount * later - now


def _aim(
    config: Config, learner: Learner, batch: on_policy.Batch, absorbed: jax.Array
) -> tuple[Rows, Metrics]:
    """The weights of the taken actions, scaled to mean 1 over the batch."""
    mean = _mean(config)
    eta = reps.temperature(batch.advantage, config.kl_target, absorbed, mean)
    old = networks.apply(on_policy.network(config), learner.params, batch.obs, "policy")
    metrics = {
        "reps/eta": eta,
        "reps/kl": reps.weights_kl(batch.advantage, eta, absorbed, mean),
        "reps/absorbed": absorbed,
    }
    return Rows(batch, reps.log_weights(batch.advantage, eta, 0.0, mean), old), metrics


def _fit_policy(
    config: Config, learner: Learner, rows: Rows, key: jax.Array, learning_rate: jax.Array
) -> tuple[Learner, Metrics]:
    """The policy's gradient steps; metrics are of the last pass."""
    carry, loss = (learner.params, learner.opt_state), partial(_policy_loss, config)
    (params, opt_state), metrics = epochs.fit(config, loss, rows, carry, key, learning_rate)
    learner = learner._replace(params=params, opt_state=opt_state)
    return learner, jax.tree.map(jnp.mean, metrics)


def _policy_loss(config: Config, rows: Rows, params: Any) -> tuple[jax.Array, Metrics]:
    """Weighted likelihood, less entropy, and what Gaussians pay for moving."""
    dist = networks.apply(on_policy.network(config), params, rows.batch.obs, "policy")
    family, old = on_policy.family(config), rows.old
    log_prob = family.log_prob(dist, rows.batch.action)
    loss = losses.policy_gradient_loss(log_prob, jnp.exp(rows.log_weight))
    if isinstance(dist, Normal):
        loss += step_size.move_cost(config, family.kl, old, dist)
    entropy = jnp.mean(family.entropy(dist))
    return loss - config.ent_coef * entropy, {
        "loss/policy": loss,
        "policy/entropy": entropy,
        "policy/approx_kl": losses.approx_kl(log_prob - rows.batch.log_prob),
    }


def _mean(config: Config) -> Callable[[jax.Array], jax.Array]:
    return partial(collectives.mean, num_devices=config.num_devices)


AGENT = Agent("reps", Config, init, iterate, act, value)
