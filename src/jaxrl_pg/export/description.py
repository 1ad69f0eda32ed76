"""A trained policy as plain names: what its networks are, and their arrays."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg import envs
from jaxrl_pg.components import layers
from jaxrl_pg.config import BaseConfig, agent_of, path_of
from jaxrl_pg.ops import running_stats

__all__ = ["Description", "describe", "why_not"]

Json = dict[str, Any]


class Description(NamedTuple):
    """What policy.json and policy.safetensors say of the networks.

    Attributes:
        network: the layers in front of every head, and the core behind them.
        distribution: how actions follow from the head's outputs; see `components.written`.
        tensors: float32 arrays by name.
    """

    network: Json
    distribution: Json
    tensors: dict[str, np.ndarray]


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
    if agent.written is None:
        return (
            f"agent {agent.name!r} does not say what acting reads: use act.jaxexport, or give its "
            "Agent written=..., such as components.written.policy_and_value"
        )
    return None


def describe(config: BaseConfig, learner: Any) -> Description:
    """Describe a policy for which `why_not` gives None.

    Args:
        config: the agent's.
        learner: its learner, on any device.
    """
    fields, core = layers.torso_fields(config), getattr(config, "core", None)
    written = agent_of(config).written(config, learner)
    network = {
        "hidden_sizes": list(fields.hidden_sizes),
        "activation": fields.activation,
        "layer_norm": fields.layer_norm,
        "residual": fields.residual,
        "convolutions": _convolutions(config, fields),
        "core": core,
        "core_size": getattr(config, "core_size", 0) if core else 0,
    }
    tensors = {**_flat(written.parts), **_normalizer(written.normalizer)}
    host = {name: np.asarray(x, np.float32) for name, x in jax.device_get(tensors).items()}
    return Description(network, written.distribution, host)


def _convolutions(config: BaseConfig, fields: layers.TorsoFields) -> Any:
    """`[features, kernel, stride, padding]` of each convolution that images pass, or impala."""
    shapes = envs.observations.shapes(envs.of(config).spec.obs_shape).values()
    stack = layers.convolutions(fields) if any(len(shape) == 3 for shape in shapes) else ()
    if stack == "impala":
        return stack
    return [[*layer, *(1, 0)[len(layer) - 2 :]] for layer in stack]


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
