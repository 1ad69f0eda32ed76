"""What acting reads of a learner, under plain names: for policies that other programs run.

An agent's `Agent` says it by a function of its config and learner, `written=`; those that are here
serve agents that are built of this package's networks in the usual way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxrl_pg import envs
from jaxrl_pg.components.exploration import EpsilonFields
from jaxrl_pg.config import BaseConfig

__all__ = ["Written", "greedy", "network", "policy", "policy_and_value"]


class Written(NamedTuple):
    """A policy in plain parts.

    Attributes:
        distribution: how actions follow from the head's outputs, as JSON values; `kind` is
            categorical, epsilon_greedy, normal, tanh_normal, tanh_full_normal, clipped_normal,
            sampler or players.
        parts: parameters by name: `torso`, `head` and what there is besides, such as `core` and
            `log_std`; where there are several networks, by `player_0/torso` and the like.
        normalizer: a `normalize.Normalizer`; `()` without one.
    """

    distribution: dict[str, Any]
    parts: dict[str, Any]
    normalizer: Any = ()


def network(params: Any, head: str, at: str = "") -> dict[str, Any]:
    """Return the parts of a `networks.Policy` or of the only one of `critics.Critics`.

    Args:
        params: its parameters, as flax has them.
        head: what it calls its last layer.
        at: what the names are to begin with.
    """
    own = params["params"]
    own = own.get("critic_0", own)
    return {f"{at}torso": own.get("torso", {}), f"{at}head": own[head]}


def policy_and_value(config: BaseConfig, learner: Any) -> Written:
    """Write out the policy of a `networks.ActorCritic` or a `memory.Recurrent`.

    Args:
        config: the agent's.
        learner: with `params` and `normalizer`.
    """
    discrete, params = envs.of(config).spec.discrete, learner.params["params"]
    body = params.get("body", params)
    torso = body.get("policy_torso", body.get("encoder", {}))
    parts = {"torso": torso, "head": body["policy_head"]}
    parts |= {name: (params | body)[name] for name in ("core", "log_std") if name in params | body}
    return Written({"kind": "categorical" if discrete else "normal"}, parts, learner.normalizer)


def policy(config: BaseConfig, learner: Any) -> Written:
    """Write out a `networks.Policy`, at `learner.params.policy`; tanh squashes Box actions."""
    full = getattr(config, "covariance", "diagonal") == "full"
    kind = "tanh_full_normal" if full else "tanh_normal"
    kind = "categorical" if envs.of(config).spec.discrete else kind
    return Written({"kind": kind}, network(learner.params.policy, "policy_head"))


def greedy(config: EpsilonFields, learner: Any) -> Written:
    """Write out a Q network, at `learner.params`, whose best action is taken, or a random one."""
    distribution = {"kind": "epsilon_greedy", "epsilon": float(config.epsilon_end)}
    normalizer = getattr(learner, "normalizer", ())
    return Written(distribution, network(learner.params, "value_head"), normalizer)
