"""A trained policy as plain names: what its networks are, and their arrays.

What a policy computes follows from the function by which its agent acts. So an agent of one's own
that acts by one of these, such as `components.on_policy.act`, is described like this package's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg import envs
from jaxrl_pg.agents import (
    analytical_replay,
    dqn,
    multi_agent,
    pqn,
    sac,
    soft_q_learning,
    td3,
)
from jaxrl_pg.components import layers, on_policy
from jaxrl_pg.config import BaseConfig, agent_of, path_of
from jaxrl_pg.ops import running_stats
from jaxrl_pg.types import EnvSpec

__all__ = ["Description", "describe", "why_not"]

Json = dict[str, Any]


class Description(NamedTuple):
    """What policy.json and policy.safetensors say of the networks.

    Attributes:
        network: the layers in front of every head, and the core behind them.
        distribution: how actions follow from the head's outputs.
        tensors: float32 arrays by name.
    """

    network: Json
    distribution: Json
    tensors: dict[str, np.ndarray]


class _Found(NamedTuple):
    """How an agent acts, and the parameters that it reads, by what their names begin with."""

    distribution: Json
    trees: dict[str, Any]
    normalizer: Any = ()


def why_not(config: BaseConfig) -> str | None:
    """Return why a policy has no description, in one line; None if it has one."""
    for name in ("network", "core"):
        own = getattr(config, name, None)
        if own is not None and not isinstance(own, str):
            return (
                f"{name}={path_of(own)} is your own, and only layers of this package can be "
                "written out: use act.jaxexport"
            )
    agent = agent_of(config)
    if agent.act not in _ACTING:
        return (
            f"{agent.name} acts by a function of its own, and only those of this package can be "
            "written out: use act.jaxexport"
        )
    return None


def describe(config: BaseConfig, learner: Any) -> Description:
    """Describe a policy for which `why_not` gives None.

    Args:
        config: the agent's.
        learner: its learner, on any device.
    """
    spec, fields = envs.of(config).spec, layers.torso_fields(config)
    found = _ACTING[agent_of(config).act](config, learner, spec)
    core = getattr(config, "core", None)
    network = {
        "hidden_sizes": list(fields.hidden_sizes),
        "activation": fields.activation,
        "layer_norm": fields.layer_norm,
        "residual": fields.residual,
        "convolutions": _convolutions(fields, spec),
        "core": core,
        "core_size": getattr(config, "core_size", 0) if core else 0,
    }
    trees = {f"{at}{name}": tree for at, parts in found.trees.items() for name, tree in parts}
    tensors = {**_flat(trees), **_normalizer(found.normalizer)}
    host = {name: np.asarray(x, np.float32) for name, x in jax.device_get(tensors).items()}
    return Description(network, found.distribution, host)


def _convolutions(fields: layers.TorsoFields, spec: EnvSpec) -> Any:
    """`[features, kernel, stride, padding]` of each convolution that images pass, or impala."""
    shapes = envs.observations.shapes(spec.obs_shape).values()
    stack = layers.convolutions(fields) if any(len(shape) == 3 for shape in shapes) else ()
    if stack == "impala":
        return stack
    return [[*layer, *(1, 0)[len(layer) - 2 :]] for layer in stack]


def _actor_critic(config: BaseConfig, learner: Any, spec: EnvSpec) -> _Found:
    params = learner.params["params"]
    body = params.get("body", params)
    torso = body.get("encoder" if "body" in params else "policy_torso", {})
    parts = [("torso", torso), ("head", body["policy_head"])]
    parts += [("core", params["core"])] if "core" in params else []
    parts += [] if spec.discrete else [("log_std", body["log_std"])]
    kind = "categorical" if spec.discrete else "normal"
    return _Found({"kind": kind}, {"": parts}, learner.normalizer)


def _policy(config: BaseConfig, learner: Any, spec: EnvSpec) -> _Found:
    full = getattr(config, "covariance", "diagonal") == "full"
    kind = "tanh_full_normal" if full else "tanh_normal"
    distribution = {"kind": "categorical" if spec.discrete else kind}
    return _Found(distribution, {"": _parts(learner.params.policy["params"], "policy_head")})


def _deterministic(config: td3.Config, learner: Any, spec: EnvSpec) -> _Found:
    distribution = {"kind": "clipped_normal", "std": float(config.exploration_noise)}
    return _Found(distribution, {"": _parts(learner.params.policy["params"], "policy_head")})


def _greedy(config: Any, learner: Any, spec: EnvSpec) -> _Found:
    distribution = {"kind": "epsilon_greedy", "epsilon": float(config.epsilon_end)}
    normalizer = getattr(learner, "normalizer", ())
    return _Found(distribution, {"": _critic(learner.params)}, normalizer)


def _soft_q(config: soft_q_learning.Config, learner: Any, spec: EnvSpec) -> _Found:
    if spec.discrete:
        distribution = {"kind": "categorical", "temperature": float(config.alpha)}
        return _Found(distribution, {"": _critic(learner.params)})
    particles = soft_q_learning.particles(config, spec)
    return _Found(
        {"kind": "sampler"},
        {
            "sampler/": _critic(learner.sampler),
            "q/": _critic(learner.params),
            "": [("particles", particles)],
        },
    )


def _players(config: multi_agent.Config, learner: Any, spec: EnvSpec) -> _Found:
    """Cut each player's network out of the stack, without inputs and outputs that it has not."""
    stacked, trees = learner.params.policies["params"], {}
    for i, num in enumerate(config.factors):
        torso, head = (
            dict(x)
            for x in jax.tree.map(
                lambda x, i=i: x[i], (stacked.get("torso", {}), stacked["policy_head"])
            )
        )
        head = {name: x[..., :num] for name, x in head.items()}
        if config.views:
            first = torso.get("Dense_0", head)
            cut = {**first, "kernel": first["kernel"][: config.views[i]]}
            torso, head = ({**torso, "Dense_0": cut}, head) if torso else (torso, cut)
        trees[f"player_{i}/"] = [("torso", torso), ("head", head)]
    distribution = {
        "kind": "players",
        "factors": list(config.factors),
        "views": list(config.views),
    }
    return _Found(distribution, trees, learner.normalizer)


_ACTING: dict[Any, Callable[[Any, Any, EnvSpec], _Found]] = {
    on_policy.act: _actor_critic,
    sac.act: _policy,
    analytical_replay.act: _policy,
    td3.act: _deterministic,  # and ddpg's
    dqn.act: _greedy,
    pqn.act: _greedy,
    soft_q_learning.act: _soft_q,
    multi_agent.act: _players,
}


def _critic(params: Any) -> list[tuple[str, Any]]:
    """The parts of the first of several critics, which has no other."""
    return _parts(params["params"]["critic_0"], "value_head")


def _parts(params: Any, head: str) -> list[tuple[str, Any]]:
    return [("torso", params.get("torso", {})), ("head", params[head])]


def _normalizer(normalizer: Any) -> dict[str, Any]:
    """Mean and standard deviation of each array that is normalised."""
    stats = normalizer.obs if normalizer else ()
    by_name = stats if isinstance(stats, dict) else {"": stats} if stats else {}
    tensors: dict[str, Any] = {}
    for name, x in by_name.items():
        at = f"normalizer/{name}/" if name else "normalizer/"
        tensors |= {f"{at}mean": x.mean, f"{at}std": running_stats.std(x)}
    return tensors


def _flat(tree: Any) -> dict[str, Any]:
    """The arrays of nested dicts, under names such as `torso/layer_norm_0/scale`."""
    names = jax.tree_util.tree_leaves_with_path(tree)
    plain = {"/".join(str(entry.key) for entry in path): x for path, x in names}
    return {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): x for name, x in plain.items()}
