"""What goes into an exported policy and what comes out: the spaces, in plain JSON values."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxrl_pg import envs
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.envs import frames, structure
from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.ops import running_stats
from jaxrl_pg.training import devices

__all__ = ["action", "observation"]

Json = dict[str, Any]


def observation(config: BaseConfig, env: envs.Env) -> Json:
    """Describe one observation.

    Returns:
        `parts`, one for each array: the name by which agents know it (empty for the only one), the
        `path` that leads to it in the environment's own structure, its `kind` (box, discrete or
        mask), `shape`, `dtype`, and the `num` of a discrete one. `clip`, of normalised ones.
        `frame_stack`; where it is more than 1, `frames` are the parts of a single frame.
    """
    seen = devices.state_shapes(config).actor.obs
    described: Json = {
        "frame_stack": config.frame_stack,
        "clip": running_stats.CLIP,
        "parts": _parts(env.core.observation_space(env.params), seen),
    }
    if isinstance(env.core, frames.Stacked):
        described["frames"] = _parts(env.core.inner.observation_space(env.params), seen)
    return described


def action(env: envs.Env) -> Json:
    """Describe one action: `kind` and `num` (discrete), `nvec` (multi_discrete), or a box.

    A box has a `shape`, and `low` and `high` of each dimension, None where there is no bound.
    """
    if env.spec.factors:
        return {"kind": "multi_discrete", "nvec": list(env.spec.factors)}
    if env.spec.discrete:
        return {"kind": "discrete", "num": env.spec.num_actions}
    space, shape = env.core.action_space(env.params), env.spec.action_shape
    described: Json = {"kind": "box", "shape": list(shape)}
    for name in ("low", "high"):
        bounds = np.broadcast_to(jax.device_get(getattr(space, name)), shape)
        infinite = np.abs(bounds.astype(np.float32)) >= envs.spaces.INFINITE
        pairs = zip(bounds.tolist(), infinite.tolist(), strict=True)
        described[name] = [None if none else float(np.float32(x)) for x, none in pairs]
    return described


def _parts(space: Any, seen: Any) -> list[Json]:
    """The arrays that an observation of a space is made of; `seen` has their types."""
    described = []
    for part in structure.parts(space):
        is_index = gymnax.is_discrete(part.space)
        kind = "mask" if part.is_mask else "discrete" if is_index else "box"
        dtype = (seen[part.name] if part.name else seen).dtype
        row: Json = {
            "name": part.name,
            "path": list(part.path),
            "kind": kind,
            "shape": [] if is_index else list(part.space.shape),
            "dtype": "int32" if is_index else str(dtype),
        }
        described.append({**row, "num": int(part.space.n)} if is_index else row)
    return described
