"""Natural policy gradient (Kakade 2001) and trust-region policy optimisation (Schulman et al.
2015, arXiv 1502.05477).

One iteration collects `num_steps` steps of `num_envs` environments, estimates advantages with
GAE, and moves the policy once, over all rows:

    L(theta) = E[pi_theta(a|s) / pi_old(a|s) A(s,a)] + ent_coef E[H(pi_theta)]
    x ~ (F + cg_damping I)^-1 grad L        by conjugate gradient, F the Fisher information
    theta <- theta + k sqrt(2 max_kl / x^T (F + cg_damping I) x) x

With `method="npg"` k is 1. With `method="trpo"` it is the first of 1, backtrack_coef,
backtrack_coef^2, ... at which L has grown and the mean KL(pi_old || pi_theta) is at most
`max_kl`; if none of `line_search_steps` is, the policy stays as it was (appendix C). By
`kl_direction` it is KL(pi_theta || pi_old) instead; F, the Hessian of both, and with it the step,
stay the same. The value function is fitted by Adam, in minibatches.

Where it differs from the papers, as the field does: advantages are GAE, standardised over the
batch; the Fisher information is damped, and the damping is part of the step's length, so that a
policy that has become nearly deterministic (F near 0) still takes bounded steps. Where it differs
from most of the field: a step cut off by a time limit bootstraps from the value of its own final
observation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxrl_pg.components import epochs, on_policy
from jaxrl_pg.components.on_policy import (
    ActorCriticModel,
    Batch,
    EpochsConfig,
    Learner,
    act,
    init,
    value,
)
from jaxrl_pg.components.written import policy_and_value
from jaxrl_pg.config import Positive, Range
from jaxrl_pg.ops import collectives, losses, trust_region
from jaxrl_pg.ops.losses import KlDirection
from jaxrl_pg.types import Agent, Metrics, Params, TrainState

__all__ = ["AGENT", "Config", "Learner", "act", "init", "iterate", "value"]


class Config(EpochsConfig):
    """Hyper-parameters of natural and trust-region policy gradients; floats are pytree leaves."""

    learning_rate: Annotated[float, Positive] = 1e-3
    """Adam's step size for the value function, at the start if annealed; the policy has none"""
    ent_coef: float = 0.0
    """weight of the entropy bonus"""
    method: Literal["trpo", "npg"] = "trpo"
    """policy step: with a line search (trpo), or the whole natural step (npg)"""
    max_kl: Annotated[float, Positive] = 0.01
    """KL divergence of a policy step, in nats, a mean over the rollout"""
    kl_direction: KlDirection = "old_new"
    """which KL the line search holds below that: KL(old || new), as in the paper, or the other"""
    cg_iterations: Annotated[int, Positive] = 15
    """largest number of iterations of conjugate gradient"""
    cg_tolerance: float = 1e-5
    """residual, as a share of the gradient, at which conjugate gradient stops sooner"""
    cg_damping: float = 0.1
    """added to the diagonal of the Fisher information"""
    fisher_stride: Annotated[int, Positive] = 1
    """take the Fisher information from every so many rows of the rollout"""
    line_search_steps: Annotated[int, Positive] = 10
    """largest number of lengths that the line search tries (method trpo)"""
    backtrack_coef: Annotated[float, Range(0.0, 1.0, open_low=True, open_high=True)] = 0.8
    """ratio of a length to the one tried before (method trpo)"""
    num_epochs: Annotated[int, Positive] = 10
    """passes over a rollout that fit the value function"""

    def check(self) -> None:
        """Refuse a shared torso, coarse numbers, and a stride that leaves out every row."""
        super().check()
        if self.dtype != "float32":
            raise ValueError(
                f"dtype={self.dtype!r}: conjugate gradient and the line search follow differences "
                "that its 8 bits round away; give dtype='float32'"
            )
        if self.shared_torso:
            raise ValueError(
                "shared_torso=True: a natural step must move the policy alone; give False"
            )
        if self.fisher_stride > self.steps_per_iteration // self.num_devices:
            raise ValueError(
                f"fisher_stride={self.fisher_stride} leaves out every row of a rollout of "
                f"num_envs={self.num_envs} x num_steps={self.num_steps}: give less"
            )


def iterate(config: Config, state: TrainState[Learner]) -> tuple[TrainState[Learner], Metrics]:
    """Collect one rollout and learn from it."""
    model = on_policy.build(config)
    experience = on_policy.gather(config, model, state)
    batch = on_policy.make_batch(config, model, state.learner, experience)
    advantage = collectives.standardize(batch.advantage[None])[0]
    params, improved = _improve(
        config, model, state.learner.params, batch._replace(advantage=advantage)
    )
    rate = on_policy.learning_rate(config, state.iteration)

    def value_loss(rows: tuple[jax.Array, jax.Array], params: Params) -> tuple[jax.Array, Metrics]:
        """The value function's loss, without a gradient in the policy's parameters."""
        obs, target = rows
        values = model.network.apply(params, obs, method="value")
        loss = losses.value_loss(values, target)
        return loss, {"loss": loss}

    rows = (batch.obs, batch.target)
    start = (params, state.learner.opt_state)
    (stepped, opt_state), fitted = epochs.fit(
        config, value_loss, rows, start, experience.update_key, rate
    )
    params = epochs.hold(config, model.network, "value", batch.obs, params, stepped)
    metrics = {
        "loss/value": jnp.mean(fitted["loss"]),
        "learning_rate": rate,
        "value/explained_variance": losses.explained_variance(batch.value, batch.target),
        **improved,
    }
    learner = Learner(params, opt_state, experience.normalizer)
    return on_policy.advance(state, experience, learner, metrics)


def _improve(
    config: Config, model: ActorCriticModel, params: Params, rows: Batch
) -> tuple[Params, Metrics]:
    """Take one natural step of the policy; its gradient is 0 in the value's parameters.

    Conjugate gradient starts from 0 and adds multiples of what it is given, so those parameters
    stay exactly where they are.
    """
    start, unravel = ravel_pytree(params)
    family = model.family

    def policy(obs: jax.Array, point: jax.Array) -> Any:
        return model.network.apply(unravel(point), obs, method="policy")

    def objective(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        dist = policy(rows.obs, point)
        log_ratio = family.log_prob(dist, rows.action) - rows.log_prob
        entropy = jnp.mean(family.entropy(dist))
        surrogate = -losses.surrogate_loss(log_ratio, rows.advantage)
        return surrogate + config.ent_coef * entropy, entropy

    (gain, entropy), gradient = jax.value_and_grad(objective, has_aux=True)(start)
    gain, entropy, gradient = collectives.mean((gain, entropy, gradient))
    some_obs = jax.tree.map(lambda x: x[:: config.fisher_stride], rows.obs)
    fisher = trust_region.fisher_vector_product(
        lambda point: policy(some_obs, point), family.kl, start
    )
    full = _natural_step(config, fisher, gradient)
    old = policy(rows.obs, start)

    def evaluate(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The objective and the mean KL between pi_old and pi over the rows of all devices."""
        gain, _ = objective(point)
        new = policy(rows.obs, point)
        kl = family.kl(old, new) if config.kl_direction == "old_new" else family.kl(new, old)
        return collectives.mean((gain, jnp.mean(kl)))

    step = _searched(config, evaluate, start, full, gain)
    return unravel(step.point), {
        "loss/policy": -step.objective,
        "policy/entropy": entropy,
        "policy/kl": step.divergence,
        "policy/step_fraction": step.fraction,
        "policy/line_search_accepted": step.accepted.astype(jnp.float32),
        "grad_norm": jnp.linalg.norm(gradient),
    }


def _natural_step(
    config: Config, fisher: Callable[[jax.Array], jax.Array], gradient: jax.Array
) -> jax.Array:
    """The damped natural gradient, as long as `max_kl` allows to second order."""
    solution = trust_region.conjugate_gradient(
        lambda vector: collectives.mean(fisher(vector)) + config.cg_damping * vector,
        gradient,
        config.cg_iterations,
        config.cg_tolerance,
    )
    curvature = jnp.vdot(solution.x, gradient - solution.residual)  # of x, as residual = g - F x
    return trust_region.scale_to_divergence(solution.x, curvature, config.max_kl)


def _searched(
    config: Config,
    evaluate: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    start: jax.Array,
    full: jax.Array,
    gain: jax.Array,
) -> trust_region.LineSearch:
    """The whole step (npg), or the longest part of it that the line search accepts (trpo)."""
    if config.method == "npg":
        whole = (jnp.ones(()), *evaluate(start + full), jnp.ones((), bool))
        return trust_region.LineSearch(start + full, *whole)
    limits = (config.max_kl, config.backtrack_coef, config.line_search_steps)
    return trust_region.backtracking_line_search(evaluate, start, full, gain, *limits)


AGENT = Agent(
    "natural_gradient",
    Config,
    init,
    iterate,
    act,
    value,
    adopt=on_policy.adopt,
    written=policy_and_value,
)
