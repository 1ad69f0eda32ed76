"""Cooperating agents that take turns at the analytical update (Li, Clavette and He 2022).

Agents share a reward and see the same observation; each has a policy, and a network, of its own:

    pi(a|s) = prod_i pi_i(a_i|s),    A_i(s, a_i) = E_{a_-i ~ pi_-i} A(s, a)
    pi_i <- pi_i exp(A_i / C) / Z    fitted by cross-entropy over the agent's actions

One iteration collects a rollout, estimates advantages with GAE, and lets a critic judge every joint
action, corrected at the taken one. Then the agents update. With `order="sequential"` they take
turns, in another random order every iteration, and A_i is an average over what the others have
become by then: with advantages that are exact at every turn none loses, whatever C is. With
`order="simultaneous"` all aim by the policies that made the rollout; two agents who would each do
well to act may then both act, and do badly. C is chosen as in the analytical agent, eps being the
largest |A_i|. The critic has an output for every joint action, which limits the number of agents.

The environment's actions are the joint ones, the first agent's being the most significant digit
in the mixed radix of `factors`. One agent is the analytical agent that judges all actions.

Where it differs from the source: advantages are those of the rollout's joint policy during all
turns of an iteration (only averages over others are renewed), and estimated.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.components import epochs, factored, networks, normalize, on_policy, optim, step_size
from jaxrl_pg.components.epochs import Carry, EpochsConfig
from jaxrl_pg.components.factored import Parts, act, value
from jaxrl_pg.components.step_size import STEPS, StepFields
from jaxrl_pg.config import agent_config, check_choice
from jaxrl_pg.ops import closed_form, joint_actions, losses
from jaxrl_pg.types import Agent, Metrics, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]

ORDERS = ("sequential", "simultaneous")


@agent_config
class Config(StepFields, EpochsConfig):
    """Hyper-parameters of agents that take turns; floats are pytree leaves."""

    factors: tuple[int, ...] = (2,)
    """actions of each agent; their product is the environment's number of actions"""
    order: str = "sequential"
    """who updates when: sequential (in turn, by random order) or simultaneous"""
    kl_target: float = 0.02
    """KL of an agent's target from its old policy, in nats (step kl)"""
    correction_clip: float = 1.0
    """largest weight of GAE's correction of the critic; 0 believes the critic"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        super().check()
        check_choice("order", self.order, ORDERS)
        check_choice("step", self.step, STEPS)
        if self.shared_torso:
            raise ValueError("shared_torso=True: every agent has its own network; give False")


class Learner(NamedTuple):
    """The agents' own state.

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
        iteration: `[]`, iterations done.
        learning_rate: `[]`.
    """

    obs: jax.Array
    advantage: jax.Array
    old: jax.Array
    eps: jax.Array
    iteration: jax.Array
    learning_rate: jax.Array


def init(config: Config, key: jax.Array) -> TrainState:
    """A fresh train state: parameters, optimisers, statistics, first observations."""
    params, normalizer, actor, train_key = factored.start(config, key)
    opt_state = Parts(jax.vmap(optim.init)(params.policies), optim.init(params.critic))
    learner = Learner(params, opt_state, normalizer, jnp.zeros(()))
    return TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))


def iterate(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """Collect one rollout and learn from it."""
    key, order_key = jax.random.split(state.key)
    experience = factored.gather(config, state._replace(key=key))
    batch = factored.make_batch(config, state.learner, experience)
    learner = state.learner._replace(normalizer=experience.normalizer)
    plan = _plan(config, learner, batch, state.iteration)
    policy_key, critic_key = jax.random.split(experience.update_key)
    policies, turns = _take_turns(config, learner, plan, order_key, policy_key)
    rows = (batch, joint_actions.joint_log_policy(plan.old, config.factors))
    critic = (learner.params.critic, learner.opt_state.critic)
    critic, judged = epochs.fit(
        config, partial(_critic_loss, config), rows, critic, critic_key, plan.learning_rate
    )
    params, opt_state = map(Parts, policies, critic)
    learner = Learner(params, opt_state, learner.normalizer, plan.eps)
    metrics = {
        **jax.tree.map(jnp.mean, judged),
        "value/explained_variance": losses.explained_variance(batch.value, batch.target),
        "learning_rate": plan.learning_rate,
    }
    return on_policy.advance(config, state, experience, learner, {**metrics, **turns})


def _plan(config: Config, learner: Learner, batch: on_policy.Batch, iteration: jax.Array) -> Plan:
    """Joint advantages, and their size as the agents see them."""
    old = factored.log_policies(config, learner.params.policies, batch.obs)
    judged = networks.apply(factored.critic(config), learner.params.critic, batch.obs)[0][:, 1:]
    advantage = closed_form.all_action_advantage(
        judged,
        joint_actions.joint_log_policy(old, config.factors),
        batch.action,
        batch.advantage,
        config.correction_clip,
    )
    own = joint_actions.marginals(advantage, old, config.factors)
    eps = step_size.running_eps(config, learner.eps, own, iteration)
    learning_rate = on_policy.learning_rate(config, iteration)
    return Plan(batch.obs, advantage, old, eps, iteration, learning_rate)


def _take_turns(
    config: Config, learner: Learner, plan: Plan, order_key: jax.Array, key: jax.Array
) -> tuple[Carry, Metrics]:
    """Every agent once; metrics are means over the agents."""
    num_agents = len(config.factors)
    agents = jax.random.permutation(order_key, num_agents)
    carry = (learner.params.policies, learner.opt_state.policies)
    turn = partial(_turn, config, plan)
    carry, metrics = jax.lax.scan(turn, carry, (agents, jax.random.split(key, num_agents)))
    entropy = num_agents * jnp.mean(metrics.pop("entropy"))
    return carry, {"policy/entropy": entropy, **jax.tree.map(jnp.mean, metrics)}


def _turn(
    config: Config, plan: Plan, carry: Carry, xs: tuple[jax.Array, jax.Array]
) -> tuple[Carry, Metrics]:
    """One agent's update, by what the others do now (sequential) or did (simultaneous)."""
    stacked, (agent, key) = carry, xs
    in_turn = config.order == "sequential"
    others = factored.log_policies(config, stacked[0], plan.obs) if in_turn else plan.old
    own = plan.old[agent]
    advantage = joint_actions.marginals(plan.advantage, others, config.factors)[agent]
    advantage = jnp.where(own > joint_actions.RARE, closed_form.centred(advantage, own), 0.0)
    log_target, metrics = step_size.aim(config, own, advantage, plan.eps, plan.iteration)
    loss = partial(_policy_loss, config, jnp.array(config.factors)[agent])
    mine = jax.tree.map(lambda x: x[agent], stacked)
    rows, rate = (plan.obs, log_target), plan.learning_rate
    mine, fitted = epochs.fit(config, loss, rows, mine, key, rate)
    return jax.tree.map(lambda x, new: x.at[agent].set(new), stacked, mine), {**metrics, **fitted}


def _policy_loss(
    config: Config, num_own: jax.Array, rows: tuple[jax.Array, jax.Array], params: Any
) -> tuple[jax.Array, Metrics]:
    """Cross-entropy from an agent's target, less its entropy."""
    obs, log_target = rows
    log_policy = joint_actions.only_own(
        networks.apply(factored.policy(config), params, obs), num_own
    )
    loss = -jnp.mean(jnp.sum(jnp.exp(log_target) * log_policy, axis=1))
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_policy) * log_policy, axis=1))
    return loss - config.ent_coef * entropy, {
        "loss/policy": loss,
        "entropy": entropy,
        "analytical/projection_kl": closed_form.target_kl(log_target, log_policy),
    }


def _critic_loss(
    config: Config, rows: tuple[on_policy.Batch, jax.Array], params: Any
) -> tuple[jax.Array, Metrics]:
    """Squared errors of V against lambda-returns, and of the taken actions against GAE."""
    batch, log_policy = rows
    judged = networks.apply(factored.critic(config), params, batch.obs)[0]
    taken = jax.nn.one_hot(batch.action, log_policy.shape[1], dtype=judged.dtype)
    found = jnp.sum(closed_form.centred(judged[:, 1:], log_policy) * taken, axis=1)
    value_loss = losses.value_loss(judged[:, 0], batch.target)
    q_loss = losses.value_loss(found, batch.advantage)
    return value_loss + q_loss, {"loss/value": value_loss, "loss/q": q_loss}


AGENT = Agent("multi_agent", Config, init, iterate, act, value)
