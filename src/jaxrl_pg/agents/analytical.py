"""The analytical update rule as a deep agent (Li, Clavette and He 2022, arXiv 2112.02045).

One iteration collects a rollout, estimates advantages with GAE, writes the improved policy down
in closed form, and fits the network to it:

    pi_target(a|s) = pi_old(a|s) exp(A(s,a) / C) / Z(s)
    L = KL(pi_target || pi) + vf_coef * L_value - ent_coef * H[pi]      (up to a constant)

With `target="sampled"` the first term is a likelihood of the taken actions, weighted by exp(A / C).
With `target="all_actions"` (finite action sets) a critic gives every action a value, corrected by
GAE at the taken one, and the term is an exact sum over actions.

`step_size` says how C is chosen: `kl` solves for the C at which KL(pi_target || pi_old) is
`kl_target`; `paper` takes gamma^2 eps / (1 - gamma)^3, with eps = max |A|; `tight` takes the
smallest constant with a proved bound, 1.7811 eps / (1 - gamma); `scheduled` goes from `c_start` to
`c_end` times eps. With exact advantages the update improves the policy for every C > 0: a large C
only makes it slow (the paper's moves ratios by 1e-6 at gamma = 0.99). With estimated advantages no
C has a guarantee.

With `prior_coef=b` the target keeps a prior, the policy that the run starts from (an old one, with
`initial_policy`):

    pi_target = pi_old^(1-b) pi_prior^b exp(A / C) / Z,

the maximiser of E A - C [(1-b) KL(pi || pi_old) + b KL(pi || pi_prior)]. Where it moves no more,
pi = pi_prior exp(A / (b C)) / Z: see `theory.updates.prior`. C is chosen as without a prior, for
the tilt by exp(A / C) alone.

Where it differs from the paper: Z is the batch's (sampled), eps is a running mean of the
iterations' largest |A|, and Gaussians may pay for the KL from the old policy.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import (
    epochs,
    layers,
    models,
    networks,
    normalize,
    on_policy,
    optim,
    own_network,
    step_size,
)
from jaxrl_pg.components.critics import Critics
from jaxrl_pg.components.memory import MemoryFields
from jaxrl_pg.components.on_policy import (
    MEMORY,
    ActorCriticModel,
    Batch,
    EpochsConfig,
    act,
    value,
)
from jaxrl_pg.components.step_size import StepFields, TrustFields
from jaxrl_pg.config import Fraction, Positive
from jaxrl_pg.ops import closed_form, losses, mixture
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.types import Agent, Metrics, OptState, Params, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "adopt", "init", "iterate", "value"]

_BAND = 0.2  # ratios outside [0.8, 1.2], PPO's band, are counted
_OVER_A_PASS = {"analytical/ratio_min": jnp.min, "analytical/ratio_max": jnp.max}


class Config(MemoryFields, StepFields, TrustFields, EpochsConfig):
    """Hyper-parameters of the analytical update; floats are pytree leaves."""

    target: Literal["sampled", "all_actions"] = "sampled"
    """what is fitted: weights of taken actions (sampled), or the whole target (all_actions)"""
    kl_target: Annotated[float, Positive] = 0.1
    """KL of the target from the old policy, in nats (step_size kl); 0.01 to 0.03 for all_actions"""
    correction_clip: float = 1.0
    """largest weight of GAE's correction of the critic; 0 believes the critic (all_actions)"""
    vf_coef: float = 0.5
    """weight of the value loss, and of the critic's"""
    prior_coef: Annotated[float, Fraction] | None = None
    """share of the policy that the run starts from in what the target starts from; None keeps
    none"""

    def check(self) -> None:
        """Refuse a memory of the critic of all actions."""
        super().check()
        if self.core is not None and self.target == "all_actions":
            raise ValueError(
                f"target='all_actions' has a critic without a memory and core={self.core!r}: give "
                "target='sampled'"
            )
        if self.core is not None and self.prior_coef is not None:
            raise ValueError(
                f"prior_coef={self.prior_coef} is of a policy without a memory and core="
                f"{self.core!r}: leave one of them out"
            )


class Learner(NamedTuple):
    """The agent's own state.

    Attributes:
        params: parameters of the policy and value networks.
        critic: parameters of the critic of all actions, `()` where it is not needed.
        opt_state: Adam's moments, of both.
        normalizer: statistics of observations and rewards.
        eps: `[]` running mean of the iterations' largest |A|.
        prior: parameters and statistics of the prior, as an `on_policy.Learner`; `()` without one.
    """

    params: Params
    critic: Params
    opt_state: OptState
    normalizer: normalize.Normalizer
    eps: jax.Array
    prior: Any = ()


class Rows(NamedTuple):
    """What the networks are fitted to, `[N, ...]`.

    Attributes:
        batch: the rollout.
        log_target: log pi_target `[N, A]` (all_actions), or log weights `[N]` (sampled).
        old: parameters of the old policy, normalised logits for all_actions.
    """

    batch: Batch
    log_target: jax.Array
    old: Any


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimiser, statistics, first observations."""
    start_key, critic_key = jax.random.split(key)
    params, normalizer, actor, train_key = on_policy.start(config, start_key)
    critic: Params = ()
    if config.target == "all_actions":
        network = _critic(config, on_policy.build(config))
        critic = networks.init_params(network, critic_key, network.spec.obs_shape)
    opt_state = optim.init((params, critic), config.optimizer)
    learner = Learner(params, critic, opt_state, normalizer, jnp.zeros(()))
    learner = _with_prior(config, learner)
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return a fresh learner with the networks and statistics of another, which are its prior."""
    params, critic = given.params, given.critic
    opt_state = optim.init((params, critic), config.optimizer)
    learner = learner._replace(
        params=params, critic=critic, opt_state=opt_state, normalizer=given.normalizer
    )
    return _with_prior(config, learner)


def _with_prior(config: Config, learner: Learner) -> Learner:
    """Keep a learner's policy as its prior, if the config has one."""
    if config.prior_coef is None:
        return learner
    return learner._replace(prior=on_policy.Learner(learner.params, (), learner.normalizer))


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Collect one rollout and learn from it."""
    model = on_policy.build(config)
    experience = on_policy.gather(config, model, state)
    batch = on_policy.make_batch(config, model, state.learner, experience)
    plan = _weigh_taken_actions if config.target == "sampled" else _weigh_all_actions
    prior: Any = ()
    if config.prior_coef is not None:
        raw_obs = jax.tree.map(on_policy.flatten, experience.steps.obs)
        prior = model.policy(state.learner.prior, raw_obs)
    rows, eps, metrics = plan(config, model, state.learner, batch, state.iteration, prior)
    learner = state.learner
    rate = on_policy.learning_rate(config, state.iteration)
    ((params, critic), opt_state), fitted = epochs.fit(
        config,
        lambda rows, params: _loss(config, model, rows, params),
        rows,
        ((learner.params, learner.critic), learner.opt_state),
        experience.update_key,
        rate,
    )
    for name, x in fitted.items():
        metrics[name] = _OVER_A_PASS.get(name, jnp.mean)(x)
    metrics["learning_rate"] = rate
    metrics["value/explained_variance"] = losses.explained_variance(batch.value, batch.target)
    learner = Learner(params, critic, opt_state, experience.normalizer, eps, learner.prior)
    return on_policy.advance(state, experience, learner, metrics)


def _weigh_taken_actions(
    config: Config,
    model: ActorCriticModel,
    learner: Learner,
    batch: Batch,
    iteration: jax.Array,
    prior: Any = (),
) -> tuple[Rows, jax.Array, Metrics]:
    """Return weights of the taken actions, eps after this rollout, and what is predicted."""
    advantage = batch.advantage.reshape(-1)
    eps = step_size.running_eps(learner.eps, advantage, iteration, config.eps_decay)
    constant = step_size.constant(
        config,
        config.gamma,
        eps,
        step_size.progress(config, iteration),
        lambda kl_target, scale: closed_form.constant_for_weights(advantage, kl_target, scale),
    )
    if models.remembers(model):
        old, _ = model.read(learner.params, batch)
    else:
        old = model.network.apply(learner.params, batch.obs, method="policy")
    log_weight, prior_kl = closed_form.log_weights(advantage, constant), {}
    if config.prior_coef is not None:
        mixed = mixture.geometric(old, prior, config.prior_coef)
        shift = model.family.log_prob(mixed, batch.action) - batch.log_prob
        log_weight = closed_form.log_weights(advantage / constant + shift, 1.0)
        prior_kl = {"analytical/prior_kl": jnp.mean(model.family.kl(old, prior))}
    gain = jnp.mean(jnp.expm1(log_weight) * advantage)
    kl = closed_form.weights_kl(log_weight)
    metrics = {**step_size.predict(config.gamma, constant, eps, gain, kl), **prior_kl}
    return Rows(batch, log_weight.reshape(batch.advantage.shape), old), eps, metrics


def _weigh_all_actions(
    config: Config,
    model: ActorCriticModel,
    learner: Learner,
    batch: Batch,
    iteration: jax.Array,
    prior: Any = (),
) -> tuple[Rows, jax.Array, Metrics]:
    """Do the same for all actions, by the critic's advantages corrected at the taken ones."""
    old = jax.nn.log_softmax(model.network.apply(learner.params, batch.obs, method="policy"))
    q = _critic(config, model).apply(learner.critic, batch.obs)[0]
    advantage = closed_form.all_action_advantage(
        q, old, batch.action, batch.advantage, config.correction_clip
    )
    advantage = networks.legal_only(batch.obs, advantage)
    eps = step_size.running_eps(learner.eps, advantage, iteration, config.eps_decay)
    progress = step_size.progress(config, iteration)
    if config.prior_coef is None:
        log_target, metrics = step_size.improve(config, config.gamma, old, advantage, eps, progress)
        return Rows(batch, log_target, old), eps, metrics
    mixed = mixture.geometric(old, prior, config.prior_coef)
    log_target, metrics = step_size.improve(config, config.gamma, mixed, advantage, eps, progress)
    # The promise is about the way from the old policy, to which the mixture belongs.
    gain = jnp.mean(jnp.sum(jnp.exp(log_target) * advantage, axis=1))
    kl = closed_form.target_kl(log_target, old)
    metrics = step_size.predict(config.gamma, metrics["analytical/c"], eps, gain, kl)
    metrics["analytical/prior_kl"] = jnp.mean(model.family.kl(old, prior))
    return Rows(batch, log_target, old), eps, metrics


def _loss(
    config: Config, model: ActorCriticModel, rows: Rows, params: tuple[Params, Params]
) -> tuple[jax.Array, Metrics]:
    batch, family = rows.batch, model.family
    dist, values = model.read(params[0], batch)
    log_ratio = family.log_prob(dist, batch.action) - batch.log_prob
    value_loss = losses.value_loss(values, batch.target)
    if config.target == "all_actions":
        policy_loss, projection_kl = _fit_all_actions(rows, dist)
        value_loss += _critic_loss(_critic(config, model), rows, params[1])
    else:
        policy_loss, projection_kl = _fit_taken_actions(config, model, rows, dist, log_ratio)
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


def _fit_taken_actions(
    config: Config, model: ActorCriticModel, rows: Rows, dist: Any, log_ratio: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Weighted likelihood, what Gaussians pay for moving, and KL(target || new) by samples."""
    weight = jnp.exp(rows.log_target)
    loss = losses.policy_gradient_loss(rows.batch.log_prob + log_ratio, weight)
    if isinstance(dist, Normal):
        loss += step_size.move_cost(config, model.family.kl, rows.old, dist)
    return loss, jnp.mean(weight * (rows.log_target - log_ratio))


def _fit_all_actions(rows: Rows, dist: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy from the target and KL(target || new), exact over actions."""
    log_policy = jax.nn.log_softmax(dist)
    loss = -jnp.mean(jnp.sum(jnp.exp(rows.log_target) * log_policy, axis=1))
    return loss, closed_form.target_kl(rows.log_target, log_policy)


def _critic_loss(critic: Any, rows: Rows, params: Params) -> jax.Array:
    """Half the squared error of the critic's advantages of the taken actions, against GAE."""
    q = critic.apply(params, rows.batch.obs)[0]
    taken = jax.nn.one_hot(rows.batch.action, q.shape[1], dtype=q.dtype)
    advantage = jnp.sum(closed_form.centred(q, rows.old) * taken, axis=1)
    return losses.value_loss(advantage, rows.batch.advantage)


def _critic(config: Config, model: ActorCriticModel) -> Any:
    """The critic of all actions: what it says of a state is read up to a shift."""
    spec = model.env.spec
    if not spec.discrete:
        raise ValueError(
            f"target='all_actions' sums over a finite action set and {config.env!r} has none: "
            "give target='sampled'"
        )
    if config.network is not None:
        return own_network.critics(config, spec, "q", 1)
    return Critics(1, spec, spec.num_actions, layers.torso_fields(config))


AGENT = Agent("analytical", Config, init, iterate, act, value, MEMORY, adopt)
