"""Advantage actor-critic, the synchronous A2C (Mnih et al. 2016, arXiv 1602.01783).

One iteration collects `num_steps` steps of `num_envs` environments and takes one gradient step on

    L = -mean(log pi(a|s) A) + vf_coef * mean((V(s) - G)^2) / 2 - ent_coef * H[pi]

with `A = G - V(s)`, a constant in the policy's part. What the critic learns, `G`, is a choice:

- `monte_carlo`: rewards to the episode's end, or to the rollout's and then the critic's value;
- `td0`: one reward and then the critic's value, so `A` is the TD error;
- `n_step`: `bootstrap_steps` rewards and then the critic's value;
- `td_lambda`: all of these mixed, so `A` is GAE with `gae_lambda`.

With `online` the same number of environment steps is taken one at a time, and after each one
gradient step on its `num_envs` transitions with their TD errors: the online actor-critic of the
textbooks (Sutton and Barto 2018, section 13.5, without its factor gamma^t), in lockstep.

A3C has workers that each send gradients when they are done. Here all environments step together
and one gradient is taken over all of them, so no gradient is computed with parameters that others
have since changed, and a run is reproducible; nothing is gained from waiting for nobody, since in
one compiled program no environment is later than another. Adam stands in for RMSProp.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.components import networks, on_policy, optim
from jaxrl_pg.components.on_policy import Learner, OnPolicyConfig, act, init, value
from jaxrl_pg.config import agent_config, check_choice
from jaxrl_pg.ops import collectives, losses, returns
from jaxrl_pg.types import Agent, Metrics, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "gradient", "init", "iterate", "value"]

TARGETS = ("monte_carlo", "td0", "n_step", "td_lambda")


@agent_config
class Config(OnPolicyConfig):
    """Hyper-parameters of the actor-critic; floats are pytree leaves, everything else static."""

    num_envs: int = 16
    """environments stepped side by side"""
    num_steps: int = 64
    """steps of each environment per iteration"""
    learning_rate: float = 3e-3
    """Adam's step size, at the start if annealed"""
    target: str = "td_lambda"
    """what the critic learns: monte_carlo, td0, n_step or td_lambda"""
    gae_lambda: float = 0.98
    """decay of the advantage estimate's trace (target td_lambda)"""
    bootstrap_steps: int = 5
    """rewards before the critic's value (target n_step)"""
    ent_coef: float = 0.003
    """weight of the entropy bonus"""
    vf_coef: float = 0.5
    """weight of the value loss"""
    normalize_advantage: bool = False
    """give the advantages of every gradient mean 0 and standard deviation 1"""
    online: bool = False
    """a gradient step after every environment step, on TD errors (needs target td0)"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        super().check()
        check_choice("target", self.target, TARGETS)
        if self.online and self.target != "td0":
            raise ValueError(
                f"online=True learns from TD errors and target={self.target!r}: give target='td0'"
            )


def iterate(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """Collect one rollout and learn from it, at its end or (online) at every step."""
    learning_rate = on_policy.learning_rate(config, state.iteration)
    if config.online:
        one_step = partial(_learn, replace(config, num_steps=1), learning_rate)
        state, (metrics, episodes) = jax.lax.scan(one_step, state, length=config.num_steps)
        metrics = jax.tree.map(jnp.mean, metrics)
        episodes = jax.tree.map(jnp.sum, episodes)
    else:
        state, (metrics, episodes) = _learn(config, learning_rate, state)
    metrics = on_policy.report(config, {**metrics, "learning_rate": learning_rate}, episodes)
    return state._replace(iteration=state.iteration + 1), metrics


def _learn(
    config: Config, learning_rate: jax.Array, state: TrainState, _: None = None
) -> tuple[TrainState, tuple[Metrics, Metrics]]:
    """One rollout and one gradient step; metrics, and sums over the episodes that ended."""
    experience = on_policy.gather(config, state)
    learner = state.learner
    grads, metrics = gradient(config, learner, experience)
    params, opt_state, norm = optim.apply_gradients(
        learner.params, learner.opt_state, grads, learning_rate, config.max_grad_norm
    )
    learner = Learner(params, opt_state, experience.normalizer)
    state = state._replace(learner=learner, actor=experience.actor, key=experience.next_key)
    return state, ({**metrics, "grad_norm": norm}, experience.episodes)


def gradient(
    config: Config, learner: Learner, experience: on_policy.Experience
) -> tuple[Any, Metrics]:
    """Gradient of the loss with respect to the learner's parameters, and the loss's parts."""
    rows = _rows(config, learner, experience)
    grads, metrics = jax.grad(partial(_loss, config, rows), has_aux=True)(learner.params)
    metrics["value/explained_variance"] = losses.explained_variance(rows.value, rows.target)
    return collectives.mean(grads, config.num_devices), metrics


def _rows(config: Config, learner: Learner, experience: on_policy.Experience) -> on_policy.Batch:
    before, following = on_policy.values(config, learner, experience)
    steps = experience.steps
    flags = (steps.terminated, steps.truncated)
    if config.target == "n_step":
        target = returns.n_step_returns(
            steps.reward, following, *flags, config.gamma, config.bootstrap_steps
        )
        advantage = target - before
    else:
        trace = {"monte_carlo": 1.0, "td0": 0.0, "td_lambda": config.gae_lambda}[config.target]
        advantage = returns.gae(steps.reward, before, following, *flags, config.gamma, trace)
    return on_policy.as_rows(learner, steps, before, advantage)


def _loss(config: Config, rows: on_policy.Batch, params: Any) -> tuple[jax.Array, Metrics]:
    dist, values = networks.apply(on_policy.network(config), params, rows.obs)
    family = on_policy.family(config)
    advantage = rows.advantage
    if config.normalize_advantage:
        advantage = collectives.standardize(advantage[None], config.num_devices)[0]
    policy_loss = losses.policy_gradient_loss(family.log_prob(dist, rows.action), advantage)
    value_loss = losses.value_loss(values, rows.target)
    entropy = jnp.mean(family.entropy(dist))
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    return total, {
        "loss/total": total,
        "loss/policy": policy_loss,
        "loss/value": value_loss,
        "policy/entropy": entropy,
    }


AGENT = Agent("actor_critic", Config, init, iterate, act, value)
