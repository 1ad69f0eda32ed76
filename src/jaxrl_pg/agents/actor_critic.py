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

Box actions are clipped to their bounds, and a wide policy can gain by hiding behind one; why, and
what `std_rate` and `bound_coef` do about it, is said in `components.on_policy_config`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from jaxrl_pg.components import on_policy, rollout
from jaxrl_pg.components.memory import MemoryFields
from jaxrl_pg.components.on_policy import (
    MEMORY,
    ActorCriticModel,
    Batch,
    Experience,
    Learner,
    SingleStepConfig,
    act,
    init,
    value,
)
from jaxrl_pg.components.written import policy_and_value
from jaxrl_pg.config import Fraction, Positive
from jaxrl_pg.ops import collectives, losses, returns
from jaxrl_pg.types import Agent, Metrics, Params, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "gradient", "init", "iterate", "value"]


class Config(MemoryFields, SingleStepConfig):
    """Hyper-parameters of the actor-critic; floats are pytree leaves, everything else static."""

    num_envs: Annotated[int, Positive] = 16
    """environments stepped side by side"""
    num_steps: Annotated[int, Positive] = 64
    """steps of each environment per iteration"""
    learning_rate: Annotated[float, Positive] = 3e-3
    """Adam's step size, at the start if annealed"""
    target: Literal["monte_carlo", "td0", "n_step", "td_lambda"] = "td_lambda"
    """what the critic learns"""
    gae_lambda: Annotated[float, Fraction] = 0.98
    """decay of the advantage estimate's trace (target td_lambda)"""
    bootstrap_steps: Annotated[int, Positive] = 5
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
        """Refuse online steps on anything but TD errors."""
        super().check()
        if self.online and self.target != "td0":
            raise ValueError(
                f"online=True learns from TD errors and target={self.target!r}: give target='td0'"
            )
        if self.online and self.core is not None:
            raise ValueError(
                f"online=True learns from single steps and core={self.core!r} from sequences: give "
                "online=False"
            )


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Collect one rollout and learn from it, at its end or (online) at every step."""
    model = on_policy.build(config)
    rate = on_policy.learning_rate(config, state.iteration)
    if config.online:
        single = config.replace(num_steps=1)
        state, (metrics, episodes) = jax.lax.scan(
            lambda state, _: _learn(single, model, rate, state), state, length=config.num_steps
        )
        metrics = jax.tree.map(jnp.mean, metrics)
        episodes = jax.tree.map(jnp.sum, episodes)
    else:
        state, (metrics, episodes) = _learn(config, model, rate, state)
    metrics = rollout.episode_means({**metrics, "learning_rate": rate, **episodes})
    return state._replace(iteration=state.iteration + 1), metrics


def _learn(
    config: Config, model: ActorCriticModel, rate: jax.Array, state: TrainState[Learner]
) -> tuple[TrainState[Learner], tuple[Metrics, Metrics]]:
    """Take one rollout and one gradient step; return metrics, and sums over the ended episodes."""
    experience = on_policy.gather(config, model, state)
    learner = state.learner
    grads, metrics = gradient(config, model, learner, experience)
    learner, norm = on_policy.gradient_step(
        config, learner, experience, grads, rate, config.std_rate
    )
    state = state._replace(learner=learner, actor=experience.actor, key=experience.next_key)
    return state, ({**metrics, "grad_norm": norm}, experience.episodes)


def gradient(
    config: Config, model: ActorCriticModel, learner: Learner, experience: Experience
) -> tuple[Params, Metrics]:
    """Return the loss's gradient with respect to the learner's parameters, and the loss's parts."""
    rows = _rows(config, model, learner, experience)
    grads, metrics = jax.grad(_loss, has_aux=True)(learner.params, config, model, rows)
    metrics["value/explained_variance"] = losses.explained_variance(rows.value, rows.target)
    return grads, metrics


def _rows(
    config: Config, model: ActorCriticModel, learner: Learner, experience: Experience
) -> Batch:
    """The rollout as rows, with advantages by the config's `target`."""
    value, next_value = on_policy.values(model, learner, experience)
    steps = experience.steps
    ends = (steps.terminated, steps.truncated)
    if config.target == "n_step":
        target = returns.n_step_returns(
            steps.reward, next_value, *ends, config.gamma, config.bootstrap_steps
        )
        advantage = target - value
    else:
        trace = {"monte_carlo": 1.0, "td0": 0.0, "td_lambda": config.gae_lambda}[config.target]
        advantage = returns.gae(steps.reward, value, next_value, *ends, config.gamma, trace)
    return on_policy.as_rows(model, learner.normalizer, experience, value, advantage)


def _loss(
    params: Params, config: Config, model: ActorCriticModel, rows: Batch
) -> tuple[jax.Array, Metrics]:
    dist, values = model.read(params, rows)
    advantage = rows.advantage
    if config.normalize_advantage:
        every = advantage.reshape(-1)
        advantage = collectives.standardize(every[None])[0].reshape(advantage.shape)
    log_prob = model.family.log_prob(dist, rows.action)
    policy_loss = losses.policy_gradient_loss(log_prob, advantage)
    value_loss = losses.value_loss(values, rows.target)
    entropy = jnp.mean(model.family.entropy(dist))
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    if not model.env.spec.discrete:
        total = total + config.bound_coef * on_policy.bound_loss(model, dist)
    return total, {
        "loss/total": total,
        "loss/policy": policy_loss,
        "loss/value": value_loss,
        "policy/entropy": entropy,
    }


AGENT = Agent(
    "actor_critic",
    Config,
    init,
    iterate,
    act,
    value,
    MEMORY,
    on_policy.adopt,
    written=policy_and_value,
)
