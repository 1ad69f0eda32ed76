"""The folder of an exported policy: what is in it, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

import jaxrl_pg
from jaxrl_pg import agents, envs, files
from jaxrl_pg import config as configs
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.export import bundle, description, interface, numpy_policy, onnx_file, stablehlo
from jaxrl_pg.training.arguments import require_config, require_state
from jaxrl_pg.types import TrainState

__all__ = ["Exported", "described", "write"]

Json = dict[str, Any]

_FILES = {
    "policy.json": "what the policy is: agent, environment, spaces, layers",
    "policy.safetensors": "its arrays, under plain names",
    "policy.py": "acts with NumPy alone: `from policy import load`",
    "act.jaxexport": "the most probable actions, for jax.export.deserialize",
    "sample.jaxexport": "the same with a key, for sampled actions",
    "policy.onnx": "the most probable actions, for ONNX runtimes",
}


class Exported(NamedTuple):
    """What an export wrote.

    Attributes:
        path: the folder.
        files: what each file in it is, by name.
        left_out: why a file is not there, by name.
    """

    path: Path
    files: dict[str, str]
    left_out: dict[str, str]


def write(
    config: BaseConfig,
    state: TrainState[Any],
    step: int,
    path: str | os.PathLike[str],
    onnx: bool = False,
) -> Exported:
    """Write a policy to a new folder, which appears only once it is complete.

    Args:
        config: the agent's.
        state: a train state of it; of the learner only what acting reads is needed.
        step: the training iteration that it is from.
        path: a folder that does not exist yet; those above it are made.
        onnx: write policy.onnx as well (extra: onnx).

    Returns:
        What is in the folder. Networks and cells of one's own are not in the files for NumPy.

    Raises:
        ValueError: if there is something at the path, the state is not this config's, or ONNX is
            asked for and cannot be had.
    """
    place = files.as_path(path)
    require_config(config)
    require_state(config, state, learner_only=True)
    if os.path.lexists(place):
        raise ValueError(f"{place} exists: choose another path, or remove it first")
    if onnx:
        onnx_file.require_possible(description.why_not(config))
    document, tensors = described(config, state.learner, step)
    content = {}
    if not document["left_out"]:
        data = safetensors.numpy.save(tensors)
        document["sha256"] = hashlib.sha256(data).hexdigest()
        content = {"policy.safetensors": data, "policy.py": bundle.bundled().encode()}
    if onnx:
        content["policy.onnx"] = onnx_file.serialized(document, tensors)
    for name, deterministic in (("act", True), ("sample", False)):
        parts = document["observation"]["parts"]
        function = stablehlo.serialized(config, state.learner, parts, deterministic)
        content[f"{name}.jaxexport"] = function
    content["policy.json"] = (json.dumps(document, indent=2) + "\n").encode()
    files.write_folder(place, content)
    names = {name: what for name, what in _FILES.items() if name in content}
    return Exported(place, names, document["left_out"])


def described(config: BaseConfig, learner: Any, step: int) -> tuple[Json, dict[str, np.ndarray]]:
    """Return what policy.json says, but for the checksum, and the arrays of policy.safetensors.

    Without a description of the networks there are no arrays, and `left_out` says why.

    Args:
        config: the agent's.
        learner: its learner.
        step: the training iteration that it is from.
    """
    env, values, missing = envs.of(config), configs.to_dict(config), description.why_not(config)
    document = {
        "format": numpy_policy.FORMAT,
        "version": numpy_policy.VERSION,
        **agents.names_of(config),
        "iteration": step,
        "env": {"name": values["env"], "params": values["env_params"]},
        "observation": interface.observation(config, env),
        "action": interface.action(env),
        "left_out": {},
        "config": values,
        "versions": {"jaxrl_pg": jaxrl_pg.__version__, "jax": jax.__version__},
    }
    if missing is not None:
        document["left_out"] = dict.fromkeys(("policy.safetensors", "policy.py"), missing)
        return document, {}
    plain = description.describe(config, learner)
    networks = {"network": plain.network, "distribution": plain.distribution}
    return {**document, **networks}, plain.tensors
