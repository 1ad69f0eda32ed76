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

Its kin choose otherwise what chooses C, what is fitted (`weighting`, `projection`) and what holds
the policy (`trust`): `v_mpo`, `awr` and `mdpo` return their configurations.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import (
    epochs,
    kin,
    models,
    networks,
    normalize,
    on_policy,
    optim,
    prior,
    step_size,
    trust,
)
from jaxrl_pg.components.critics import q_network
from jaxrl_pg.components.memory import MemoryFields
from jaxrl_pg.components.on_policy import MEMORY, ActorCriticModel, Batch, EpochsConfig, act, value
from jaxrl_pg.components.prior import PriorFields
from jaxrl_pg.components.step_size import StepFields
from jaxrl_pg.components.trust import ConstraintFields
from jaxrl_pg.components.written import policy_and_value
from jaxrl_pg.config import Positive
from jaxrl_pg.ops import closed_form, collectives, losses, metric_names, weighting
from jaxrl_pg.ops.distributions import CATEGORICAL, Normal
from jaxrl_pg.types import Agent, Metrics, OptState, Params, TrainState

__all__ = [
    "AGENT",
    "Config",
    "Learner",
    "act",
    "adopt",
    "awr",
    "init",
    "iterate",
    "mdpo",
    "v_mpo",
    "value",
]

_BAND = 0.2  # ratios outside [0.8, 1.2], PPO's band, are counted


class Config(MemoryFields, StepFields, ConstraintFields, PriorFields, EpochsConfig):
    """Hyper-parameters of the analytical update; floats are pytree leaves."""

    kl_target: Annotated[float, Positive] = 0.1
    """KL of the target from the old policy, in nats (step_size kl); 0.01 to 0.03 for all_actions"""
    correction_clip: float = 1.0
    """largest weight of GAE's correction of the critic; 0 believes the critic (all_actions)"""
    vf_coef: float = 0.5
    """weight of the value loss, and of the critic's"""

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
        multipliers: logarithms of learned multipliers in a tuple, an empty one without.
    """

    params: Params
    critic: Params
    opt_state: OptState
    normalizer: normalize.Normalizer
    eps: jax.Array
    prior: Any = ()
    multipliers: tuple[jax.Array, ...] = ()


class Rows(NamedTuple):
    """What the networks are fitted to, `[N, ...]`.

    Attributes:
        batch: the rollout.
        log_target: log pi_target `[N, A]` (all_actions), or log weights `[N]` (sampled).
        old: parameters of the old policy, normalised logits for all_actions.
        constant: C of every row (projection reverse).
    """

    batch: Batch
    log_target: jax.Array
    old: Any
    constant: Any = ()


def v_mpo(env: Any, **fields: Any) -> Config:
    """Return the configuration of V-MPO; see `components.kin.V_MPO`."""
    return Config(env=env, **{**kin.V_MPO, **fields})


def awr(env: Any, **fields: Any) -> Config:
    """Return the configuration of advantage-weighted regression; see `components.kin.AWR`."""
    return Config(env=env, **{**kin.AWR, **fields})


def mdpo(env: Any, **fields: Any) -> Config:
    """Return the configuration of on-policy MDPO; see `components.kin.MDPO`."""
    return Config(env=env, **{**kin.MDPO, **fields})


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimiser, statistics, first observations."""
    start_key, critic_key = jax.random.split(key)
    params, normalizer, actor, train_key = on_policy.start(config, start_key)
    critic: Params = ()
    model = on_policy.build(config)
    if config.target == "all_actions":
        network = _critic(config, model)
        critic = networks.init_params(network, critic_key, network.spec.obs_shape)
    multipliers = trust.start(config, model.env.spec.discrete)
    opt_state = optim.init((params, critic, *multipliers), config.optimizer)
    learner = Learner(params, critic, opt_state, normalizer, jnp.zeros(()), (), multipliers)
    fresh, count = prior.kept(config, learner), jnp.zeros((), jnp.int32)
    return TrainState(fresh, actor, (), train_key, count)


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return a fresh learner with the networks and statistics of another, which are its prior."""
    params, critic = given.params, given.critic
    opt_state = optim.init((params, critic, *learner.multipliers), config.optimizer)
    learner = learner._replace(
        params=params, critic=critic, opt_state=opt_state, normalizer=given.normalizer
    )
    return prior.kept(config, learner)


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Collect one rollout and learn from it."""
    model = on_policy.build(config)
    experience = on_policy.gather(config, model, state)
    batch = on_policy.make_batch(config, model, state.learner, experience)
    plan = _weigh_taken_actions if config.target == "sampled" else _weigh_all_actions
    kept = prior.at_rollout(config, model, state.learner.prior, experience.steps.obs)
    rows, eps, metrics = plan(config, model, state.learner, batch, state.iteration, kept)
    if config.projection == "reverse":
        rows = rows._replace(constant=jnp.broadcast_to(metrics["analytical/c"], batch.value.shape))
    learner, rate = state.learner, on_policy.learning_rate(config, state.iteration)
    ((params, critic, *multipliers), opt_state), fitted = epochs.fit(
        config,
        lambda rows, params: _loss(config, model, rows, params),
        rows,
        ((learner.params, learner.critic, *learner.multipliers), learner.opt_state),
        experience.update_key,
        rate,
        lambda rows: rows.batch.obs,
    )
    for name, x in fitted.items():
        metrics[name] = getattr(jnp, metric_names.reduction(name))(x)
    metrics["learning_rate"] = rate
    metrics["value/explained_variance"] = losses.explained_variance(batch.value, batch.target)
    metrics |= trust.report(tuple(multipliers))
    learner = learner._replace(
        params=params,
        critic=critic,
        opt_state=opt_state,
        normalizer=experience.normalizer,
        eps=eps,
        multipliers=tuple(multipliers),
    )
    return on_policy.advance(state, experience, learner, metrics)


def _weigh_taken_actions(
    config: Config,
    model: ActorCriticModel,
    learner: Learner,
    batch: Batch,
    iteration: jax.Array,
    kept: Any = (),
) -> tuple[Rows, jax.Array, Metrics]:
    """Return weights of the taken actions, eps after this rollout, and what is predicted."""
    kind, advantage = config.weighting, batch.advantage.reshape(-1)
    if config.normalize_advantage:
        advantage = collectives.standardize(advantage[None])[0]
        batch = batch._replace(advantage=advantage.reshape(batch.advantage.shape))
    eps = step_size.running_eps(learner.eps, advantage, iteration, config.eps_decay)
    constant = step_size.constant(
        config,
        config.gamma,
        eps,
        step_size.progress(config, iteration),
        lambda kl_target, scale: weighting.constant(kind, advantage, kl_target, scale),
    )
    if models.remembers(model):
        old, _ = model.read(learner.params, batch)
    else:
        old = model.network.apply(learner.params, batch.obs, method="policy")
    log_weight = weighting.log_weights(kind, advantage, constant, config.weight_clip)
    more = Metrics()
    if config.prior_coef is not None:
        mixed, more = prior.mixed(config.prior_coef, model, old, kept)
        shift = model.family.log_prob(mixed, batch.action) - batch.log_prob
        log_weight = closed_form.log_weights(advantage / constant + shift, 1.0)
    gain = jnp.mean(jnp.expm1(log_weight) * advantage)
    kl = closed_form.weights_kl(log_weight)
    metrics = {**step_size.predict(config.gamma, constant, eps, gain, kl), **more}
    return Rows(batch, log_weight.reshape(batch.advantage.shape), old), eps, metrics


def _weigh_all_actions(
    config: Config,
    model: ActorCriticModel,
    learner: Learner,
    batch: Batch,
    iteration: jax.Array,
    kept: Any = (),
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
    begin, more = old, Metrics()
    if config.prior_coef is not None:
        begin, more = prior.mixed(config.prior_coef, model, old, kept)
    log_target, metrics = step_size.improve(
        config,
        config.gamma,
        begin,
        advantage,
        eps,
        progress,
        config.weighting,
        config.weight_clip,
    )
    if config.prior_coef is not None:
        # The promise is about the way from the old policy, to which the mixture belongs.
        gain = jnp.mean(jnp.sum(jnp.exp(log_target) * advantage, axis=1))
        kl = closed_form.target_kl(log_target, old)
        metrics = step_size.predict(config.gamma, metrics["analytical/c"], eps, gain, kl)
        metrics |= more
    return Rows(batch, log_target, old), eps, metrics


def _loss(
    config: Config, model: ActorCriticModel, rows: Rows, params: tuple[Params, ...]
) -> tuple[jax.Array, Metrics]:
    batch, family = rows.batch, model.family
    dist, values = model.read(params[0], batch)
    log_ratio = family.log_prob(dist, batch.action) - batch.log_prob
    value_loss = losses.value_loss(values, batch.target)
    if config.target == "all_actions":
        policy_loss, projection_kl = _fit_all_actions(config, rows, dist)
        value_loss += _critic_loss(_critic(config, model), rows, params[1])
    else:
        policy_loss, projection_kl = _fit_taken_actions(config, model, rows, dist, log_ratio)
    if config.trust == "multipliers":
        policy_loss += trust.holding_loss(config, family.kl, rows.old, dist, params[2])
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
    """The fit, what Gaussians pay for moving, and KL(target || new) by samples."""
    weight = jnp.exp(rows.log_target)
    if config.projection == "forward":
        loss = losses.policy_gradient_loss(rows.batch.log_prob + log_ratio, weight)
    else:
        loss = losses.surrogate_loss(log_ratio, rows.batch.advantage)
        loss += jnp.mean(rows.constant * model.family.kl(dist, rows.old))
    if isinstance(dist, Normal) and config.trust == "coefficients":
        loss += step_size.move_cost(config, model.family.kl, rows.old, dist)
    return loss, jnp.mean(weight * (rows.log_target - log_ratio))


def _fit_all_actions(config: Config, rows: Rows, dist: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The fit and KL(target || new), exact over actions."""
    log_policy = jax.nn.log_softmax(dist)
    if config.projection == "forward":
        loss = -jnp.mean(jnp.sum(jnp.exp(rows.log_target) * log_policy, axis=1))
    else:
        loss = jnp.mean(rows.constant * CATEGORICAL.kl(dist, rows.log_target))
    return loss, closed_form.target_kl(rows.log_target, log_policy)


def _critic_loss(critic: Any, rows: Rows, params: Params) -> jax.Array:
    """Half the squared error of the critic's advantages of the taken actions, against GAE."""
    q = critic.apply(params, rows.batch.obs)[0]
    taken = jax.nn.one_hot(rows.batch.action, q.shape[1], dtype=q.dtype)
    advantage = jnp.sum(closed_form.centred(q, rows.old) * taken, axis=1)
    return losses.value_loss(advantage, rows.batch.advantage)


def _critic(config: Config, model: ActorCriticModel) -> Any:
    """The critic of all actions: what it says of a state is read up to a shift."""
    if not model.env.spec.discrete:
        raise ValueError(
            f"target='all_actions' sums over a finite action set and {config.env!r} has none: "
            "give target='sampled'"
        )
    return q_network(config, model.env.spec, 1)


AGENT = Agent("analytical", Config, init, iterate, act, value, MEMORY, adopt, policy_and_value)
