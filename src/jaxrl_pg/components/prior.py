"""A prior that the analytical update keeps in its target: the policy that the run began with.

    pi_target = pi_old^(1-b) pi_prior^b exp(A / C) / Z

It maximises E A - C [(1-b) KL(pi || pi_old) + b KL(pi || pi_prior)]; see `theory.updates.prior`.
"""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxrl_pg.components import on_policy
from jaxrl_pg.components.kin import FitFields
from jaxrl_pg.components.models import ActorCriticModel
from jaxrl_pg.config import Fraction
from jaxrl_pg.ops import mixture
from jaxrl_pg.types import Metrics

__all__ = ["PriorFields", "at_rollout", "kept", "mixed"]


class PriorFields(FitFields):
    """Fields of an agent whose target may keep a prior."""

    prior_coef: Annotated[float, Fraction] | None = None
    """share of the policy that the run starts from in what the target starts from; None keeps
    none"""

    def check(self) -> None:
        """Refuse a prior of what is no closed form of exp(A / C)."""
        super().check()
        if self.prior_coef is None:
            return
        for name, taken in {"weighting": "exp", "projection": "forward"}.items():
            if getattr(self, name) != taken:
                raise ValueError(
                    f"prior_coef={self.prior_coef} is of the target by exp(A / C) and {name}="
                    f"{getattr(self, name)!r}: give {name}={taken!r}, or no prior"
                )


def kept(config: PriorFields, learner: Any) -> Any:
    """Return an analytical learner that keeps its policy as its prior, if the config has one."""
    if config.prior_coef is None:
        return learner
    return learner._replace(prior=on_policy.Learner(learner.params, (), learner.normalizer))


def at_rollout(config: PriorFields, model: ActorCriticModel, prior: Any, obs: Any) -> Any:
    """Return the prior's distributions at raw observations `[T, B, ...]` of a rollout, or `()`."""
    if config.prior_coef is None:
        return ()
    return model.policy(prior, jax.tree.map(on_policy.flatten, obs))


def mixed(
    coef: jax.Array | float, model: ActorCriticModel, old: Any, prior: Any
) -> tuple[Any, Metrics]:
    """Return `pi_old^(1-b) pi_prior^b / Z` and how far the old policy is from the prior."""
    kl = jnp.mean(model.family.kl(old, prior))
    return mixture.geometric(old, prior, coef), {"analytical/prior_kl": kl}
