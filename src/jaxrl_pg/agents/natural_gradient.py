"""Natural policy gradient (Kakade 2001) and trust-region policy optimisation (Schulman et al.
2015, arXiv 1502.05477).

One iteration collects `num_steps` steps of `num_envs` environments, estimates advantages with
GAE, and moves the policy once, over all rows:

    L(theta) = E[pi_theta(a|s) / pi_old(a|s) A(s,a)] + ent_coef E[H(pi_theta)]
    x ~ (F + cg_damping I)^-1 grad L        by conjugate gradient, F the Fisher information
    theta <- theta + k sqrt(2 max_kl / x^T (F + cg_damping I) x) x

With `step="npg"` k is 1. With `step="trpo"` it is the first of 1, backtrack_coef,
backtrack_coef^2, ... at which L has grown and the mean KL(pi_old || pi_theta) is at most
`max_kl`; if none of `line_search_steps` is, the policy stays as it was (appendix C). The value
function is fitted by Adam, in minibatches.

Where it differs from the papers, as the field does: advantages are GAE, standardised over the
batch; the Fisher information is damped, and the damping is part of the step's length, so that a
policy that has become nearly deterministic (F near 0) still takes bounded steps. Where it differs
from most of the field: a step cut off by a time limit bootstraps from the value of its own final
observation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxrl_pg.components import epochs, networks, on_policy
from jaxrl_pg.components.epochs import EpochsConfig
from jaxrl_pg.components.on_policy import Learner, act, init, value
from jaxrl_pg.config import agent_config, check_choice
from jaxrl_pg.ops import collectives, losses, trust_region
from jaxrl_pg.types import Agent, Metrics, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]


@agent_config
class Config(EpochsConfig):
    """Hyper-parameters of natural and trust-region policy gradients; floats are pytree leaves."""

    learning_rate: float = 1e-3
    """Adam's step size for the value function, at the start if annealed; the policy has none"""
    ent_coef: float = 0.0
    """weight of the entropy bonus"""
    step: str = "trpo"
    """policy step: trpo (with a line search) or npg (the whole natural step)"""
    max_kl: float = 0.01
    """KL divergence of a policy step, in nats, a mean over the rollout"""
    cg_iterations: int = 15
    """most iterations of conjugate gradient"""
    cg_tolerance: float = 1e-5
    """residual, as a share of the gradient, at which conjugate gradient stops sooner"""
    cg_damping: float = 0.1
    """added to the diagonal of the Fisher information"""
    fisher_stride: int = 1
    """take the Fisher information from every so many rows of the rollout"""
    line_search_steps: int = 10
    """most lengths that the line search tries (step trpo)"""
    backtrack_coef: float = 0.8
    """ratio of a length to the one tried before (step trpo)"""
    num_epochs: int = 10
    """passes over a rollout that fit the value function"""

    def check(self) -> None:
        """Refuse combinations that cannot run."""
        super().check()
        check_choice("step", self.step, STEPS)
        if self.shared_torso:
            raise ValueError(
                "shared_torso=True: a natural step must move the policy alone; give False"
            )
        if self.fisher_stride > self.steps_per_iteration // self.num_devices:
            raise ValueError(
                f"fisher_stride={self.fisher_stride} leaves out every row of a rollout of "
                f"num_envs={self.num_envs} x num_steps={self.num_steps}: give less"
            )


def iterate(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """Collect one rollout and learn from it."""
    experience = on_policy.gather(config, state)
    batch = on_policy.make_batch(config, state.learner, experience)
    learner = state.learner._replace(normalizer=experience.normalizer)
    learner, metrics = _update(config, learner, batch, experience.update_key, state.iteration)
    metrics["value/explained_variance"] = losses.explained_variance(batch.value, batch.target)
    return on_policy.advance(config, state, experience, learner, metrics)


def _update(
    config: Config, learner: Learner, batch: on_policy.Batch, key: jax.Array, iteration: jax.Array
) -> tuple[Learner, Metrics]:
    """One step of the policy, and all gradient steps of the value function."""
    advantage = collectives.standardize(batch.advantage[None], config.num_devices)[0]
    params, policy_metrics = _improve(config, learner.params, batch._replace(advantage=advantage))
    learning_rate = on_policy.learning_rate(config, iteration)
    carry, rows = (params, learner.opt_state), (batch.obs, batch.target)
    loss = partial(_value_loss, config)
    (params, opt_state), fitted = epochs.fit(config, loss, rows, carry, key, learning_rate)
    value_loss = jnp.mean(fitted["loss"])
    metrics = {"loss/value": value_loss, "learning_rate": learning_rate, **policy_metrics}
    return Learner(params, opt_state, learner.normalizer), metrics


def _improve(config: Config, params: Any, rows: on_policy.Batch) -> tuple[Any, Metrics]:
    """One natural step of the policy; its gradient is 0 in the value's parameters.

    Conjugate gradient starts from 0 and adds multiples of what it is given, so those parameters
    stay exactly where they are.
    """
    start, unravel = ravel_pytree(params)
    policy = partial(_policy, config, unravel)
    objective = partial(_objective, config, policy, rows)
    (gain, entropy), gradient = jax.value_and_grad(objective, has_aux=True)(start)
    gain, entropy, gradient = collectives.mean((gain, entropy, gradient), config.num_devices)
    few = partial(policy, rows.obs[:: config.fisher_stride])
    fisher = trust_region.fisher_vector_product(few, on_policy.family(config).kl, start)
    damped = partial(_damped, config, fisher)
    solution = trust_region.conjugate_gradient(
        damped, gradient, config.cg_iterations, config.cg_tolerance
    )
    curvature = jnp.vdot(solution.x, gradient - solution.residual)  # of x, as residual = g - F x
    full = trust_region.scale_to_divergence(solution.x, curvature, config.max_kl)
    evaluate = partial(_evaluate, config, policy, rows, policy(rows.obs, start))
    found = STEPS[config.step](config, evaluate, start, full, gain)
    return unravel(found.point), {
        "loss/policy": -found.objective,
        "policy/entropy": entropy,
        "policy/kl": found.divergence,
        "policy/step_fraction": found.fraction,
        "policy/line_search_accepted": found.accepted.astype(jnp.float32),
        "grad_norm": jnp.linalg.norm(gradient),
    }


def _damped(
    config: Config, fisher: Callable[[jax.Array], jax.Array], vector: jax.Array
) -> jax.Array:
    return collectives.mean(fisher(vector), config.num_devices) + config.cg_damping * vector


def _line_search(
    config: Config, evaluate: Evaluate, start: jax.Array, full: jax.Array, gain: jax.Array
) -> trust_region.LineSearch:
    return trust_region.backtracking_line_search(
        evaluate, start, full, gain, config.max_kl, config.backtrack_coef, config.line_search_steps
    )


def _whole_step(
    config: Config, evaluate: Evaluate, start: jax.Array, full: jax.Array, gain: jax.Array
) -> trust_region.LineSearch:
    del config, gain
    point = start + full
    return trust_region.LineSearch(point, jnp.ones(()), *evaluate(point), jnp.ones((), bool))


Evaluate = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
STEPS = {"trpo": _line_search, "npg": _whole_step}


def _evaluate(
    config: Config, policy: Callable[..., Any], rows: on_policy.Batch, old: Any, point: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Objective and mean KL(pi_old || pi) over the rows of all devices."""
    gain, _ = _objective(config, policy, rows, point)
    kl = jnp.mean(on_policy.family(config).kl(old, policy(rows.obs, point)))
    return collectives.mean((gain, kl), config.num_devices)


def _objective(
    config: Config, policy: Callable[..., Any], rows: on_policy.Batch, point: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What the policy step is to raise, and the mean entropy."""
    dist, family = policy(rows.obs, point), on_policy.family(config)
    log_ratio = family.log_prob(dist, rows.action) - rows.log_prob
    entropy = jnp.mean(family.entropy(dist))
    surrogate = -losses.surrogate_loss(log_ratio, rows.advantage)
    return surrogate + config.ent_coef * entropy, entropy


def _policy(
    config: Config, unravel: Callable[[jax.Array], Any], obs: jax.Array, point: jax.Array
) -> Any:
    """Parameters of the action distributions, from one vector of all parameters."""
    return networks.apply(on_policy.network(config), unravel(point), obs, "policy")


def _value_loss(
    config: Config, rows: tuple[jax.Array, jax.Array], params: Any
) -> tuple[jax.Array, Metrics]:
    """Its gradient is 0 in the policy's parameters."""
    obs, target = rows
    values = networks.apply(on_policy.network(config), params, obs, "value")
    loss = losses.value_loss(values, target)
    return loss, {"loss": loss}


AGENT = Agent("natural_gradient", Config, init, iterate, act, value)
