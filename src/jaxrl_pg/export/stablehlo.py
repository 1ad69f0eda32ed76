"""A policy as a function that `jax.export` has written down: StableHLO, for any batch size.

    act = export.deserialize(bytearray(Path("exported/act.jaxexport").read_bytes()))
    action = act.call(obs)                                  # obs [N, ...]: for any N
    action, hidden = act.call(obs, hidden)                  # with a recurrent core

The parameters are constants in it. It runs on CPUs, CUDA GPUs and TPUs, without this package.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import export

from jaxrl_pg import envs
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.training import acting

__all__ = ["PLATFORMS", "serialized"]

PLATFORMS = ("cpu", "cuda", "tpu")


def serialized(config: BaseConfig, learner: Any, parts: Any, deterministic: bool) -> bytes:
    """Return the bytes that `jax.export.deserialize` reads.

    Args:
        config: the agent's.
        learner: its learner.
        parts: of the observation, from `interface.observation`.
        deterministic: of a function `(obs[, hidden])` that gives the most probable actions;
            otherwise of one of `(obs, key[, hidden])` that samples them.
    """
    agent, env = agent_of(config), envs.of(config)
    (num,) = export.symbolic_shape("num")
    by_name = {
        part["name"]: jax.ShapeDtypeStruct((num, *part["shape"]), part["dtype"]) for part in parts
    }
    memory = agent.memory.start(config, 1) if agent.memory else ()
    hidden = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num, *x.shape[1:]), x.dtype), memory)
    remembers, key = bool(jax.tree.leaves(memory)), jax.random.key(0)

    def act(obs: Any, *rest: Any) -> Any:
        drawn = key if deterministic else rest[0]
        rows, _ = envs.as_rows(env, obs)
        before = rest[-1] if remembers else None
        action, after = acting.act(config, learner, rows, drawn, deterministic, before)
        return (action, after) if remembers else action

    rest = [] if deterministic else [jax.ShapeDtypeStruct(key.shape, key.dtype)]
    rest += [hidden] if remembers else []
    lowered = export.export(jax.jit(act), platforms=PLATFORMS)
    return bytes(lowered(by_name.get("", by_name), *rest).serialize())
