"""Cooperating players that take turns at the analytical update (Li, Clavette and He 2022).

Players share a reward; each has a policy, and a network, of its own:

    pi(a|s) = prod_i pi_i(a_i|s),    A_i(s, a_i) = E_{a_-i ~ pi_-i} A(s, a)
    pi_i <- pi_i exp(A_i / C) / Z    fitted by cross-entropy over the player's actions

One iteration collects a rollout and estimates advantages with GAE. A critic gives every joint
action a value, corrected at the taken one. Then the players update. With `order="sequential"` they
take turns, in another random order every iteration, and A_i is an average over the policies that
the others have by then: with advantages that are exact at every turn no turn loses, whatever C is.
With `order="simultaneous"` all targets follow from the policies that made the rollout; two players
who would each do well to act may then both act, and do badly. C is chosen as in the analytical
agent, with the largest |A_i| as eps. The critic has an output for every joint action, which limits
the number of players.

Each player sees the whole observation or, with `views`, a part of its own, and the critic sees all
of it. Fitted to parts, a policy is the mean of the targets of the states that look alike, and no C
promises that a turn does not lose (`theory.updates.local_observations`).

The environment's actions are the joint ones; the first player's is the most significant digit in
the mixed radix of `factors`. With one player this is the analytical agent with
`target="all_actions"`.

Where it differs from the source: advantages are those of the rollout's joint policy during all
turns of an iteration (only averages over others are renewed), and estimated.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import (
    epochs,
    layers,
    networks,
    normalize,
    on_policy,
    optim,
    rollout,
    step_size,
)
from jaxrl_pg.components.critics import Critics
from jaxrl_pg.components.epochs import Fit
from jaxrl_pg.components.on_policy import Batch, EpochsConfig
from jaxrl_pg.components.players import Players
from jaxrl_pg.components.step_size import StepFields
from jaxrl_pg.components.written import Written, network
from jaxrl_pg.config import Positive
from jaxrl_pg.ops import closed_form, distributions, joint_actions, losses
from jaxrl_pg.types import Agent, Metrics, Params, TrainState

__all__ = [
    "AGENT",
    "Config",
    "Learner",
    "Parts",
    "act",
    "adopt",
    "init",
    "iterate",
    "value",
    "written",
]


class Config(StepFields, EpochsConfig):
    """Hyper-parameters of players that take turns; floats are pytree leaves."""

    factors: tuple[int, ...] = (2,)
    """actions of each player; their product is the environment's number of actions"""
    views: tuple[int, ...] = ()
    """numbers of the observation that each player sees, one's after the other's; () shows all"""
    order: Literal["sequential", "simultaneous"] = "sequential"
    """who updates when: in turn, by random order (sequential), or all at once (simultaneous)"""
    kl_target: Annotated[float, Positive] = 0.02
    """KL of a player's target from its old policy, in nats (step_size kl)"""
    correction_clip: float = 1.0
    """largest weight of GAE's correction of the critic; 0 believes the critic"""

    def check(self) -> None:
        """Refuse a shared torso, and views that are not one of each player's."""
        super().check()
        if self.views and len(self.views) != len(self.factors):
            raise ValueError(
                f"views={self.views} are for {len(self.views)} players and factors={self.factors} "
                f"for {len(self.factors)}: give as many views, or none"
            )
        if self.shared_torso:
            raise ValueError("shared_torso=True: every player has its own network; give False")
        if self.network is not None:
            raise ValueError(
                f"network={self.network!r}: players have networks of this package's; leave it out"
            )


class Parts(NamedTuple):
    """What there is of the policies and of the critic: parameters, an optimiser's state.

    Attributes:
        policies: stacked, `[I, ...]`.
        critic: of V and of every joint action.
    """

    policies: Any
    critic: Any


class Learner(NamedTuple):
    """The players' own state.

    Attributes:
        params: of the policies, stacked `[I, ...]`, and of the critic.
        opt_state: Adam's moments of each, likewise.
        normalizer: statistics of observations and rewards.
        eps: `[]` running mean of the iterations' largest |A_i|.
    """

    params: Parts
    opt_state: Parts
    normalizer: normalize.Normalizer
    eps: jax.Array


class Plan(NamedTuple):
    """What all turns of an iteration have in common.

    Attributes:
        obs: `[N, ...]`, as networks see them.
        advantage: `[N, A]`, of joint actions under the policies of the rollout.
        old: `[I, N, K]`, logarithms of those policies.
        eps: `[]`, the size of the advantages.
        progress: `[]`, from 0 to 1.
        rate: `[]`, the learning rate.
    """

    obs: jax.Array
    advantage: jax.Array
    old: jax.Array
    eps: jax.Array
    progress: jax.Array
    rate: jax.Array


def build(config: Config) -> Players:
    """Make the environment and the networks that a config names.

    Raises:
        ValueError: for real actions, factors whose product is not the number of actions, or views
            that are not parts of the observation.
    """
    env = envs.of(config)
    spec, num_joint = env.spec, math.prod(config.factors)
    if isinstance(spec.obs_shape[0], tuple) or spec.factors:
        raise ValueError(
            f"multi_agent numbers the joint actions of players that see one array, and "
            f"{config.env!r} has structured observations, masks or MultiDiscrete actions: use "
            "another agent, such as ppo"
        )
    if not spec.discrete:
        raise ValueError(
            f"env={config.env!r}: players who take turns need a finite action set; give another"
        )
    if num_joint != spec.num_actions:
        raise ValueError(
            f"factors={config.factors} make {num_joint} joint actions and {config.env!r} has "
            f"{spec.num_actions}: give factors with that product"
        )
    torso = layers.torso_fields(config)
    own = spec._replace(num_actions=max(config.factors))
    if config.views:
        if len(spec.obs_shape) != 1 or sum(config.views) > spec.obs_shape[0]:
            raise ValueError(
                f"views={config.views} are {sum(config.views)} numbers in a row and {config.env!r} "
                f"has observations of shape {spec.obs_shape}: give parts of such a row, or none"
            )
        own = own._replace(obs_shape=(max(config.views),))
    critic = Critics(1, spec, 1 + spec.num_actions, torso)
    family = distributions.CATEGORICAL
    return Players(env, family, networks.Policy(own, torso), critic, config.factors, config.views)


def init(config: Config, key: jax.Array) -> TrainState[Learner]:
    """Return a fresh train state: parameters, optimisers, statistics, first observations."""
    model = build(config)
    spec = model.env.spec
    params_key, reset_key, train_key = jax.random.split(key, 3)
    policy_key, critic_key = jax.random.split(params_key)
    own_shape = model.player.spec.obs_shape
    policies = jax.vmap(lambda key: networks.init_params(model.player, key, own_shape))(
        jax.random.split(policy_key, len(config.factors))
    )
    params = Parts(policies, networks.init_params(model.critic, critic_key, spec.obs_shape))
    opt_state = Parts(
        jax.vmap(lambda params: optim.init(params, config.optimizer))(params.policies),
        optim.init(params.critic, config.optimizer),
    )
    normalizer = normalize.init(spec, config.normalize_obs, config.normalize_reward)
    learner = Learner(params, opt_state, normalizer, jnp.zeros(()))
    actor = rollout.start(model.env, reset_key, config.num_envs)
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def adopt(config: Config, learner: Learner, given: Learner) -> Learner:
    """Return fresh players with the networks and statistics of others."""
    params = given.params
    opt_state = Parts(
        jax.vmap(lambda params: optim.init(params, config.optimizer))(params.policies),
        optim.init(params.critic, config.optimizer),
    )
    return learner._replace(params=params, opt_state=opt_state, normalizer=given.normalizer)


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Collect one rollout and learn from it."""
    model = build(config)
    key, order_key = jax.random.split(state.key)
    experience = on_policy.gather(config, model, state._replace(key=key))
    batch = on_policy.make_batch(config, model, state.learner, experience)
    learner = state.learner
    plan = _plan(config, model, learner, batch, state.iteration)
    policy_key, critic_key = jax.random.split(experience.update_key)
    policies, turns = _take_turns(config, model, learner, plan, order_key, policy_key)
    critic, fitted = epochs.fit(
        config,
        lambda rows, params: _critic_loss(model, rows, params),
        (batch, joint_actions.joint_log_policy(plan.old, config.factors)),
        (learner.params.critic, learner.opt_state.critic),
        critic_key,
        plan.rate,
    )
    params, opt_state = map(Parts, policies, critic)
    learner = Learner(params, opt_state, experience.normalizer, plan.eps)
    metrics = {
        **jax.tree.map(jnp.mean, fitted),
        "value/explained_variance": losses.explained_variance(batch.value, batch.target),
        "learning_rate": plan.rate,
        **turns,
    }
    return on_policy.advance(state, experience, learner, metrics)


def act(
    config: Config, learner: Learner, obs: jax.Array, key: jax.Array, deterministic: bool
) -> jax.Array:
    """Return joint actions for observations `[N, ...]`: sampled, or the most probable ones."""
    model = build(config)
    return on_policy.choose(model, learner, envs.batch(model.env, obs), key, deterministic)


def value(config: Config, learner: Learner, obs: jax.Array) -> jax.Array:
    """Return the critic's value `[N]` of observations `[N, ...]`."""
    model = build(config)
    return model.value(learner, envs.batch(model.env, obs))


def written(config: Config, learner: Learner) -> Written:
    """Write out each player's network, without inputs and outputs that the player does not have."""
    parts: dict[str, Any] = {}
    for i, num in enumerate(config.factors):
        own = jax.tree.map(lambda x, i=i: x[i], learner.params.policies)
        torso, head = network(own, "policy_head").values()
        head = {name: x[..., :num] for name, x in head.items()}
        if config.views:
            first = torso.get("Dense_0", head)
            cut = {**first, "kernel": first["kernel"][: config.views[i]]}
            torso, head = ({**torso, "Dense_0": cut}, head) if torso else (torso, cut)
        parts |= {f"player_{i}/torso": torso, f"player_{i}/head": head}
    joint = {"kind": "players", "factors": list(config.factors), "views": list(config.views)}
    return Written(joint, parts, learner.normalizer)


def _plan(
    config: Config, model: Players, learner: Learner, batch: Batch, iteration: jax.Array
) -> Plan:
    """Joint advantages, and their size as the players see them."""
    old = model.log_policies(learner.params.policies, batch.obs)
    q = model.critic.apply(learner.params.critic, batch.obs)[0][:, 1:]
    advantage = closed_form.all_action_advantage(
        q,
        joint_actions.joint_log_policy(old, config.factors),
        batch.action,
        batch.advantage,
        config.correction_clip,
    )
    own = joint_actions.marginals(advantage, old, config.factors)
    eps = step_size.running_eps(learner.eps, own, iteration, config.eps_decay)
    progress = step_size.progress(config, iteration)
    rate = on_policy.learning_rate(config, iteration)
    return Plan(batch.obs, advantage, old, eps, progress, rate)


def _take_turns(
    config: Config,
    model: Players,
    learner: Learner,
    plan: Plan,
    order_key: jax.Array,
    key: jax.Array,
) -> tuple[Fit, Metrics]:
    """Update every player once; metrics are means over the players."""

    def turn(stacked: Fit, xs: tuple[jax.Array, jax.Array]) -> tuple[Fit, Metrics]:
        """Update one player by what the others do now (sequential) or did (simultaneous)."""
        player, key = xs
        others = plan.old
        if config.order == "sequential":
            others = model.log_policies(stacked[0], plan.obs)
        own = plan.old[player]
        advantage = joint_actions.marginals(plan.advantage, others, config.factors)[player]
        advantage = jnp.where(own > joint_actions.RARE, closed_form.centred(advantage, own), 0.0)
        log_target, metrics = step_size.improve(
            config, config.gamma, own, advantage, plan.eps, plan.progress
        )
        num_own = jnp.array(config.factors)[player]
        fit, fitted = epochs.fit(
            config,
            lambda rows, params: _policy_loss(config, model, num_own, rows, params),
            (model.seen(plan.obs)[player] if model.views else plan.obs, log_target),
            jax.tree.map(lambda x: x[player], stacked),
            key,
            plan.rate,
        )
        stacked = jax.tree.map(lambda x, new: x.at[player].set(new), stacked, fit)
        return stacked, {**metrics, **fitted}

    num_players = len(config.factors)
    order = jax.random.permutation(order_key, num_players)
    start = (learner.params.policies, learner.opt_state.policies)
    fit, metrics = jax.lax.scan(turn, start, (order, jax.random.split(key, num_players)))
    entropy = num_players * jnp.mean(metrics.pop("entropy"))
    return fit, {"policy/entropy": entropy, **jax.tree.map(jnp.mean, metrics)}


def _policy_loss(
    config: Config,
    model: Players,
    num_own: jax.Array,
    rows: tuple[jax.Array, jax.Array],
    params: Params,
) -> tuple[jax.Array, Metrics]:
    """Cross-entropy from a player's target, less its entropy."""
    obs, log_target = rows
    log_policy = joint_actions.only_own(model.player.apply(params, obs), num_own)
    loss = -jnp.mean(jnp.sum(jnp.exp(log_target) * log_policy, axis=1))
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_policy) * log_policy, axis=1))
    return loss - config.ent_coef * entropy, {
        "loss/policy": loss,
        "entropy": entropy,
        "analytical/projection_kl": closed_form.target_kl(log_target, log_policy),
    }


def _critic_loss(
    model: Players, rows: tuple[Batch, jax.Array], params: Params
) -> tuple[jax.Array, Metrics]:
    """Squared errors of V against lambda-returns, and of the taken actions against GAE."""
    batch, log_policy = rows
    outputs = model.critic.apply(params, batch.obs)[0]
    taken = jax.nn.one_hot(batch.action, log_policy.shape[1], dtype=outputs.dtype)
    advantage = jnp.sum(closed_form.centred(outputs[:, 1:], log_policy) * taken, axis=1)
    value_loss = losses.value_loss(outputs[:, 0], batch.target)
    q_loss = losses.value_loss(advantage, batch.advantage)
    return value_loss + q_loss, {"loss/value": value_loss, "loss/q": q_loss}


AGENT = Agent(
    "multi_agent", Config, init, iterate, act, value, None, adopt, written, actions="discrete"
)
