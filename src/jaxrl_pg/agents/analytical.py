"""The analytical update rule as a deep agent (Li, Clavette and He 2022, arXiv 2112.02045).

One iteration collects a rollout, estimates advantages with GAE, writes the improved policy down
in closed form, and fits the network to it:

    pi_target(a|s) = pi_old(a|s) exp(A(s,a) / C) / Z(s)
    L = KL(pi_target || pi) + vf_coef * L_value - ent_coef * H[pi]      (up to a constant)

With `target="sampled"` the first term is a likelihood of the taken actions, weighted by exp(A / C).
With `target="all_actions"` (finite action sets) a critic judges every action, corrected by GAE at
the taken one, and the term is an exact sum over actions.

C is the one knob, `step`: `kl` solves for the C at which KL(pi_target || pi_old) is `kl_target`;
`paper` takes gamma^2 eps / (1 - gamma)^3, with eps = max |A|; `tight` the smallest constant with a
proved bound, about 4 eps / (1 - gamma); `scheduled` goes from `c_start` to `c_end` times eps. With
exact advantages the update improves for every C > 0: a large C only makes it slow (the paper's
moves ratios by 1e-6 at gamma = 0.99). With estimated ones there is no guarantee at any.

Where it differs from the paper: Z is the batch's (sampled), eps is a running mean of the
iterations' largest |A|, and Gaussians may pay for the KL from the old policy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import epochs, networks, normalize, on_policy, optim, step_size
from jaxrl_pg.components.epochs import EpochsConfig
from jaxrl_pg.components.on_policy import act, value
from jaxrl_pg.components.step_size import STEPS, StepFields, TrustFields
from jaxrl_pg.config import agent_config, check_choice
from jaxrl_pg.ops import closed_form, collectives, losses
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import Agent, Metrics, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]

Carry = tuple[Any, Any]  # all parameters, and the optimiser's state
_BAND = 0.2  # ratios outside [0.8, 1.2], PPO's band, are counted
_OVER_A_PASS = {"analytical/ratio_min": jnp.min, "analytical/ratio_max": jnp.max}


@agent_config
class Config(StepFields, TrustFields, EpochsConfig):
    """Hyper-parameters of the analytical update; floats are pytree leaves."""

    target: str = "sampled"
    """what is fitted: sampled (weights of taken actions) or all_actions (the whole target)"""
    kl_target: float = 0.1
    """KL of the target from the old policy, in nats (step kl); 0.01 to 0.03 for all_actions"""
    correction_clip: float = 1.0
    """largest weight of GAE's correction of the critic; 0 believes the critic (all_actions)"""
    vf_coef: float = 0.5
    """weight of the value loss, and of the critic's"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        super().check()
        check_choice("target", self.target, AIMS)
        check_choice("step", self.step, STEPS)


class Learner(NamedTuple):
    """The agent's own state.

    Attributes:
        params: of the policy and value networks.
        critic: parameters of the critic of all actions, `()` where only taken ones are judged.
        opt_state: Adam's moments, of both.
        normalizer: statistics of observations and rewards.
        eps: `[]` running mean of the iterations' largest |A|.
    """

    params: Any
    critic: Any
    opt_state: Any
    normalizer: normalize.Normalizer
    eps: jax.Array


class Rows(NamedTuple):
    """What the networks are fitted to, `[N, ...]`.

    Attributes:
        batch: the rollout.
        log_target: log pi_target `[N, A]` (all_actions), or log weights `[N]` (sampled).
        old: parameters of the old policy, normalised logits for all_actions.
    """

    batch: on_policy.Batch
    log_target: jax.Array
    old: Any


def init(config: Config, key: jax.Array) -> TrainState:
    """A fresh train state: parameters, optimiser, statistics, first observations."""
    start_key, critic_key = jax.random.split(key)
    params, normalizer, actor, train_key = on_policy.start(config, start_key)
    critic: Any = ()
    if config.target == "all_actions":
        network = _critic(config)
        critic = networks.init_params(network, critic_key, network.spec.obs_shape)
    learner = Learner(params, critic, optim.init((params, critic)), normalizer, jnp.zeros(()))
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """Collect one rollout and learn from it."""
    experience = on_policy.gather(config, state)
    batch = on_policy.make_batch(config, state.learner, experience)
    rows, eps, metrics = AIMS[config.target](config, state.learner, batch, state.iteration)
    learner = state.learner._replace(normalizer=experience.normalizer, eps=eps)
    learner, fitted = _fit(config, learner, rows, experience.update_key, state.iteration)
    metrics["value/explained_variance"] = losses.explained_variance(batch.value, batch.target)
    return on_policy.advance(config, state, experience, learner, {**metrics, **fitted})


def _aim_sampled(
    config: Config, learner: Learner, batch: on_policy.Batch, iteration: jax.Array
) -> tuple[Rows, jax.Array, Metrics]:
    """Weights of the taken actions, eps after this rollout, and what is predicted."""
    eps = step_size.running_eps(config, learner.eps, batch.advantage, iteration)
    solve = partial(closed_form.constant_for_weights, batch.advantage)
    constant = step_size.constant(config, eps, iteration, solve)
    log_weight = closed_form.log_weights(batch.advantage, constant, _mean(config))
    gain = jnp.mean(jnp.expm1(log_weight) * batch.advantage)
    divergence = closed_form.weights_kl(log_weight)
    metrics = step_size.predict(config, constant, eps, gain, divergence)
    return Rows(batch, log_weight, _policy(config, learner, batch)), eps, metrics


def _aim_all_actions(
    config: Config, learner: Learner, batch: on_policy.Batch, iteration: jax.Array
) -> tuple[Rows, jax.Array, Metrics]:
    """The same for all actions, by the critic's advantages corrected at the taken ones."""
    old = jax.nn.log_softmax(_policy(config, learner, batch))
    judged = networks.apply(_critic(config), learner.critic, batch.obs)[0]
    taken = (batch.action, batch.advantage)
    advantage = closed_form.all_action_advantage(judged, old, *taken, config.correction_clip)
    eps = step_size.running_eps(config, learner.eps, advantage, iteration)
    log_target, metrics = step_size.aim(config, old, advantage, eps, iteration)
    return Rows(batch, log_target, old), eps, metrics


def _fit(
    config: Config, learner: Learner, rows: Rows, key: jax.Array, iteration: jax.Array
) -> tuple[Learner, Metrics]:
    """All gradient steps of one iteration; metrics are of the last pass."""
    learning_rate = on_policy.learning_rate(config, iteration)
    carry = ((learner.params, learner.critic), learner.opt_state)
    loss = partial(_loss, config)
    carry, metrics = epochs.fit(config, loss, rows, carry, key, learning_rate)
    for name, x in metrics.items():
        metrics[name] = _OVER_A_PASS.get(name, jnp.mean)(x)
    (params, critic), opt_state = carry
    learner = Learner(params, critic, opt_state, learner.normalizer, learner.eps)
    return learner, {**metrics, "learning_rate": learning_rate}


def _loss(config: Config, rows: Rows, params: tuple[Any, Any]) -> tuple[jax.Array, Metrics]:
    batch, family = rows.batch, on_policy.family(config)
    dist, values = networks.apply(on_policy.network(config), params[0], batch.obs)
    log_ratio = family.log_prob(dist, batch.action) - batch.log_prob
    policy_loss, projection_kl = FITS[config.target](config, rows, dist, log_ratio)
    value_loss = losses.value_loss(values, batch.target)
    if config.target == "all_actions":
        value_loss += _critic_loss(config, rows, params[1])
    entropy = jnp.mean(family.entropy(dist))
    gain = closed_form.surrogate_gain(log_ratio, batch.advantage, config.gamma)
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    return total, {
        "loss/total": total,
        "loss/policy": policy_loss,
        "loss/value": value_loss,
        "policy/entropy": entropy,
        "policy/approx_kl": losses.approx_kl(log_ratio),
        "policy/clip_fraction": losses.clip_fraction(log_ratio, _BAND),
        "analytical/surrogate": gain,
        "analytical/projection_kl": projection_kl,
        "analytical/ratio_min": jnp.exp(jnp.min(log_ratio)),
        "analytical/ratio_max": jnp.exp(jnp.max(log_ratio)),
    }


def _fit_sampled(
    config: Config, rows: Rows, dist: Any, log_ratio: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Weighted likelihood, what Gaussians pay for moving, and KL(target || new) by samples."""
    weight = jnp.exp(rows.log_target)
    loss = losses.policy_gradient_loss(rows.batch.log_prob + log_ratio, weight)
    if isinstance(dist, Normal):
        loss += step_size.move_cost(config, on_policy.family(config).kl, rows.old, dist)
    return loss, jnp.mean(weight * (rows.log_target - log_ratio))


def _fit_all_actions(
    config: Config, rows: Rows, dist: jax.Array, log_ratio: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy from the target and KL(target || new), exact over actions."""
    del config, log_ratio
    log_policy = jax.nn.log_softmax(dist)
    loss = -jnp.mean(jnp.sum(jnp.exp(rows.log_target) * log_policy, axis=1))
    return loss, closed_form.target_kl(rows.log_target, log_policy)


def _critic_loss(config: Config, rows: Rows, params: Any) -> jax.Array:
    """Half the squared error of what the critic gives the taken actions, against GAE."""
    judged = networks.apply(_critic(config), params, rows.batch.obs)[0]
    taken = jax.nn.one_hot(rows.batch.action, judged.shape[1], dtype=judged.dtype)
    found = jnp.sum(closed_form.centred(judged, rows.old) * taken, axis=1)
    return losses.value_loss(found, rows.batch.advantage)


def _policy(config: Config, learner: Learner, batch: on_policy.Batch) -> Any:
    return networks.apply(on_policy.network(config), learner.params, batch.obs, "policy")


def _critic(config: Config) -> networks.Critics:
    """The critic of all actions: what it says of a state is read up to a shift."""
    spec = envs.make(config.env).spec
    if not spec.discrete:
        raise ValueError(
            f"target='all_actions' sums over a finite action set and {config.env!r} has none: "
            "give target='sampled'"
        )
    torso = (config.hidden_sizes, config.activation, config.conv_features)
    return networks.Critics(1, spec, spec.num_actions, *torso)


def _mean(config: Config) -> Callable[[jax.Array], jax.Array]:
    return partial(collectives.mean, num_devices=config.num_devices)


AIMS = {"sampled": _aim_sampled, "all_actions": _aim_all_actions}
FITS = {"sampled": _fit_sampled, "all_actions": _fit_all_actions}
AGENT = Agent("analytical", Config, init, iterate, act, value)
