"""The analytical update's kin: the choices that make each of them, as fields of its configuration.

All of them improve the policy to `pi_target = pi_old f(A, C) / Z` or towards it, and differ in what
chooses C (`step_size`), what is fitted (`weighting`, `projection`) and what holds the policy to the
old one (`trust`):

    kin     C                                f                    held by
    V_MPO   its dual's minimum               exp, the top half    learned multipliers
    MPO     its dual's minimum               exp                  learned multipliers
    AWR     a constant                       exp, clipped         nothing
    CRR     a constant, or none              1[A > 0], or AWR's   nothing
    MDPO    rises: 1 / C falls linearly      exp, projected by    C KL(pi || pi_old)
            to 0                             the other KL

A dual's minimum is the C at which a KL is `kl_target`, so that step_size kl is it already.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from jaxrl_pg.config import BaseConfig, Positive
from jaxrl_pg.ops.weighting import Weighting

__all__ = ["AWR", "CRR", "MDPO", "MPO", "V_MPO", "FitFields"]

Fields = dict[str, Any]


class FitFields(BaseConfig):
    """Fields of an agent that fits a network to the target of a rollout."""

    target: Literal["sampled", "all_actions"] = "sampled"
    """what is fitted: weights of taken actions (sampled), or the whole target (all_actions)"""
    weighting: Weighting = "exp"
    """factor of an action's weight: exp(A / C), that of the batch's larger half of advantages alone
    (top_half), at most weight_clip (clipped), or 1 where A > 0 (binary)"""
    weight_clip: Annotated[float, Positive] = 20.0
    """largest exp(A / C) (weighting clipped)"""
    projection: Literal["forward", "reverse"] = "forward"
    """what is minimised: KL(pi_target || pi) (forward), or C KL(pi || pi_target) (reverse)"""
    normalize_advantage: bool = False
    """give a rollout's advantages mean 0 and standard deviation 1, so that C is in units of it"""

    def check(self) -> None:
        """Refuse choices that exclude each other."""
        super().check()
        for name, taken in {"weighting": "top_half", "normalize_advantage": True}.items():
            if self.target == "all_actions" and getattr(self, name) == taken:
                raise ValueError(
                    f"{name}={taken!r} is of the actions taken and target='all_actions': give "
                    "target='sampled'"
                )
        if self.projection == "reverse" and self.weighting != "exp":
            raise ValueError(
                f"projection='reverse' is of the factor exp(A / C) and weighting="
                f"{self.weighting!r}: give weighting='exp'"
            )


V_MPO: Fields = {
    "step_size": "kl",
    "kl_target": 0.01,
    "weighting": "top_half",
    "trust": "multipliers",
    "ent_coef": 0.0,
}
"""V-MPO (Song et al. 2020, arXiv 1909.12238), on the actions of a rollout.

    L = -sum_{A >= median} w log pi + m KL(pi_old || pi),    w = exp(A / C) / sum exp(A / C),
    C = argmin_c c kl_target + c log mean_{A >= median} exp(A / c)

m is learned so that the KL is `max_kl`; normals have one KL by mean and one by covariance.

Where it differs: the dual is minimised in every iteration (the paper takes a step of Adam a batch);
median and Z are the whole rollout's, which is passed over in minibatches and several times; GAE
instead of n-step returns, without PopArt; multipliers descend by their logarithms.
"""

MPO: Fields = {"step_size": "kl", "kl_target": 0.1, "trust": "multipliers", "num_critics": 1}
"""MPO (Abdolmaleki et al. 2018, arXiv 1806.06920 and 1812.02256), from a replay.

    pi_target = pi_old exp(Q / C) / Z,    C = argmin_c c kl_target + c E_s log Z,
    L = KL(pi_target || pi) + m KL(pi_old || pi)

with m as for V-MPO.

Where it differs: the dual is minimised in every round (the paper takes a step of Adam); expected
SARSA instead of Retrace; averaged critics instead of copies; Box actions are squashed by tanh;
multipliers descend by their logarithms; the likelihood is that of mean and covariance together
(1812.02256 fits the mean with the old covariance, and the covariance with the old mean).
"""

AWR: Fields = {
    "step_size": "fixed",
    "weighting": "clipped",
    "normalize_advantage": True,
    "ent_coef": 0.0,
}
"""Advantage-weighted regression (Peng et al. 2019, arXiv 1910.00177), on the actions of a rollout.

    L = -E w log pi,    w = min(exp(A / temperature), weight_clip)

on advantages of mean 0 and standard deviation 1, as in the authors' code.

Where it differs: the newest rollout alone is learned from, and not a replay of older ones; one Adam
for policy and value instead of momentum for each; weights have mean 1 over the rollout, which
scales the policy's loss. The authors' normals have a constant covariance; here `std_coef` holds it.
"""

CRR: Fields = {"step_size": "fixed", "weighting": "binary", "std_coef": 0.0}
"""The weights of critic-regularised regression (Wang et al. 2020, arXiv 2006.15134), from a replay.

    pi_target = pi_old f(A) / Z,    f = 1[A > 0], or min(exp(A / temperature), weight_clip)

The former, or the latter with `weighting="clipped"`.

Where it differs: CRR learns from data that are given, and weighs the actions in them. Here those
that pi_old takes are weighed, data are gathered by the policy, and weights sum to 1 in every state.
"""

MDPO: Fields = {
    "step_size": "annealed_step",
    "projection": "reverse",
    "normalize_advantage": True,
    "std_coef": 0.0,
    "ent_coef": 0.0,
}
"""On-policy mirror descent policy optimisation (Tomar et al. 2020, arXiv 2005.09814).

    L = -E (pi / pi_old) A + C KL(pi || pi_old),    C = temperature / (1 - k / K)

in iteration k of K: the paper's step size t_k = 1 / C falls linearly to 0. Up to a constant L is
C KL(pi || pi_target): the same target, from the other side. Advantages have mean 0 and standard
deviation 1, as in the authors' code.

Where it differs: minibatches, and one Adam for policy and value.
"""
