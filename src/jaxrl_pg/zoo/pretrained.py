"""Policies that come with the zoo: the arrays of one in a file of a few kilobytes.

`zoo/<suite>/<environment>.<agent>.npz` holds the arrays by their names in the train state, such as
`learner.params.params.policy.kernel`, and `iteration`. `numpy.load` reads it. The config is the
entry's, with the changes that its table `pretrained` gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.agents import config_class
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.training import devices, priors
from jaxrl_pg.types import TrainState
from jaxrl_pg.zoo.entries import Entry, find_policy

__all__ = ["config_of", "place", "read", "write"]


def config_of(entry: Entry) -> BaseConfig:
    """Return the config with which an entry's policy was trained."""
    trained = entry.pretrained or {}
    changes = {
        name: trained[name] for name in ("total_timesteps",) if name in trained
    } | trained.get("settings", {})
    return config_class(entry.agent)(**{**entry.values, **changes})


def place(entry: Entry) -> Path:
    """Return the file that holds an entry's policy."""
    return entry.path.with_suffix(".npz")


def read(name: str) -> tuple[BaseConfig, TrainState[Any]]:
    """Return the config and the train state of a policy.

    Parts of the state that a policy does not read are empty.

    Args:
        name: such as `zoo:CartPole-v1/ppo`.

    Raises:
        ValueError: if there is no such policy, or its environment is not installed.
    """
    entry = find_policy(name)
    config = config_of(entry)
    with np.load(place(entry)) as file:
        arrays = dict(file)
    nothing: Any = ()
    shapes = devices.state_shapes(config)._replace(actor=nothing, memory=nothing, key=nothing)
    fields = {part.split(".")[1] for part in arrays if part.startswith("learner.")}

    def filled(path: Any, shape: Any) -> Any:
        if path[0].name == "learner" and path[1].name not in fields:
            return nothing
        array = arrays[_name(path)]
        assert array.shape == shape.shape, f"{name} has {_name(path)} {array.shape}"
        return jnp.asarray(array, shape.dtype)

    return config, jax.tree_util.tree_map_with_path(filled, shapes)


def write(path: Path, config: BaseConfig, state: TrainState[Any]) -> None:
    """Write what a policy reads of a train state, for `read`.

    Args:
        path: the file, whose name ends in `.npz`.
        config: the agent's.
        state: one that was trained.
    """
    read_by_policy = priors.leaves_read(config, state.learner)
    fields = {leaf[0] for leaf, is_read in read_by_policy if is_read}
    arrays: dict[str, Any] = {
        _name((jax.tree_util.GetAttrKey("learner"), *leaf)): np.asarray(array)
        for leaf, array in jax.tree_util.tree_leaves_with_path(state.learner)
        if leaf[0] in fields
    }
    np.savez_compressed(path, iteration=np.asarray(state.iteration), **arrays)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
