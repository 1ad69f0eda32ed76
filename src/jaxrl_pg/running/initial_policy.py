"""The old policy that a run starts from: read, looked at, and written down in the run's folder.

A run reads it once. Its first checkpoint, of iteration 0, holds what was taken, so that a run is
resumed from its own folder alone.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg import checkpoint, files, zoo
from jaxrl_pg import config as configs
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.running import hosts
from jaxrl_pg.running.rows import Row
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.running.trained_policy import load
from jaxrl_pg.training import devices, priors
from jaxrl_pg.training.arguments import require_config

__all__ = ["Start", "described", "read"]


class Start(NamedTuple):
    """What a run starts from.

    Attributes:
        source: the old policy, as NumPy's arrays.
        row: what config.json says of it: `path` (None if it was given itself), `agent` and `step`
            (None if they are not known), `networks` (all, or policy: that one alone), and `digest`,
            the SHA-256 of the parameters and statistics that are taken.
    """

    source: priors.Source
    row: Row


def read(config: BaseConfig, initial_policy: Any) -> Start | None:
    """Return what a run starts from, None for a run from scratch.

    With several processes each reads it, and all go on or none.

    Args:
        config: the agent's.
        initial_policy: the folder of a run or of a saved policy, `zoo:ENV/AGENT`, or what
            `program.init` takes.

    Raises:
        ValueError: if there is no such policy, it is damaged or not finite, or it does not fit.
    """
    if initial_policy is None:
        return None
    found: list[Start] = []
    hosts.require_agreement(lambda: found.append(_read(config, initial_policy)), {})
    return found[0]


def described(start: Start) -> str:
    """Say in a line what a run starts from."""
    row = start.row
    of = f" ({row['agent']}, iteration {row['step']})" if row["agent"] else ""
    networks = "all its networks" if row["networks"] == "all" else "its policy alone"
    return f"starting from {row['path'] or 'a given policy'}{of}: {networks}"


def _read(config: BaseConfig, initial_policy: Any) -> Start:
    require_config(config)
    folder = None
    is_path = isinstance(initial_policy, str | os.PathLike)
    if is_path and str(initial_policy).startswith(zoo.PREFIX):
        folder, initial_policy = str(initial_policy), load(initial_policy)
    elif is_path:
        place = files.as_path(initial_policy, "initial_policy")
        initial_policy = load(place, **_objects(config, place))
        folder = os.path.abspath(place)
    source = priors.source_of(initial_policy)
    source = source._replace(learner=jax.device_get(source.learner))
    learner = devices.state_shapes(config).learner
    taken = priors.paths_taken(config, learner, source)
    own = {path for path in priors.arrays_of(priors.Source(learner), learner) if _is_learned(path)}
    arrays, digest = priors.arrays_of(source, learner), hashlib.sha256()
    for name, path in sorted((jax.tree_util.keystr(path), path) for path in own & taken):
        array = np.asarray(arrays[path])
        if not np.all(np.isfinite(array)):
            raise ValueError(
                f"{folder or 'initial_policy'} has {name} that is not finite: give an earlier "
                "checkpoint, by jaxrl_pg.load(..., step=...)"
            )
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    networks = {path for path in own if path[0].name == "params"}
    row = {
        "path": folder,
        "agent": agent_of(source.config).name if source.config is not None else None,
        "step": getattr(initial_policy, "step", None),
        "networks": "all" if networks <= taken else "policy",
        "digest": digest.hexdigest(),
    }
    return Start(source, row)


def _is_learned(path: Any) -> bool:
    """Say whether an array is a network's parameter or a statistic; the rest is made anew."""
    return path[0].name in ("params", "normalizer")


def _objects(config: BaseConfig, place: Path) -> dict[str, Any]:
    """Return those of a config's objects with which the old policy was trained as well."""
    is_alone = checkpoint.is_checkpoint(place)
    saved = checkpoint.host_of(place) if is_alone else RunFolder.open(place).config
    values = saved.get("config")
    recorded = values if isinstance(values, dict) else {}
    own = {name: getattr(config, name, None) for name in configs.OBJECTS}
    return {
        name: value
        for name, value in own.items()
        if not isinstance(value, str | None) and recorded.get(name) == configs.path_of(value)
    }
