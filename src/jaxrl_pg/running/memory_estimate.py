"""How much memory an iteration will want, estimated before anything is compiled."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from typing import Any

import jax
import jax.extend

from jaxrl_pg import agents

__all__ = ["available", "estimate", "inner_jaxprs", "require"]

_SIZES = ("num_envs", "num_steps", "buffer_size")  # what makes an iteration large
_SHARED = ("num_envs", "buffer_size")  # and is split over devices


def require(config: Any) -> None:
    """Refuse a config whose iteration does not fit this machine.

    Raises:
        ValueError: naming both sizes and what to lower.
    """
    needed, have = estimate(config), available()
    if needed > have:
        sizes = _counts(config, _SIZES)
        raise ValueError(
            f"one iteration needs about {needed / 2**30:,.1f} GiB per device and there are "
            f"{have / 2**30:,.1f}: lower {' or '.join(f'{k}={v}' for k, v in sizes.items())}"
        )


def estimate(config: Any) -> int:
    """Bytes alive at the worst moment of one iteration, on each device.

    Read off the traced program: an array counts from the operation that makes it to the last
    that reads it. The compiler fuses and reuses, so the truth is usually lower.
    """
    share = {k: v // config.num_devices for k, v in _counts(config, _SHARED).items()}
    one_device = config.replace(num_devices=1, **share)
    agent = agents.find(config)
    state = jax.eval_shape(partial(agent.init, one_device), jax.random.key(0))
    return _peak(jax.make_jaxpr(partial(agent.iterate, one_device))(state).jaxpr)


def available() -> int:
    """Bytes of memory of this process's first device, or of its machine when that is a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _counts(config: Any, names: tuple[str, ...]) -> dict[str, int]:
    """Those of the fields that the config has, with their values."""
    has = {field.name for field in dataclasses.fields(config)}
    return {name: getattr(config, name) for name in names if name in has}


def _peak(jaxpr: Any) -> int:
    """Largest sum of the sizes of live arrays; an inner program's own peak adds to it."""
    last_use = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if _is_var(v)}
    last_use |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if _is_var(v)}
    live = {v: _size(v) for v in (*jaxpr.invars, *jaxpr.constvars)}
    peak = now = sum(live.values())
    for i, eqn in enumerate(jaxpr.eqns):
        made = sum(_size(v) for v in eqn.outvars)
        inner = max((_peak(j) - _inputs(j) for j in inner_jaxprs(eqn)), default=0)
        peak = max(peak, now + max(made, inner))
        live |= {v: _size(v) for v in eqn.outvars}
        now += made
        for v in [v for v in eqn.invars if _is_var(v) and last_use[v] == i]:
            now -= live.pop(v, 0)
    return peak


def inner_jaxprs(eqn: Any) -> list[Any]:
    """The programs inside one equation of a traced program: bodies, branches, calls."""
    values = jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_closed)
    return [value.jaxpr for value in values if _is_closed(value)]


def _is_closed(value: Any) -> bool:
    return isinstance(value, jax.extend.core.ClosedJaxpr)


def _inputs(jaxpr: Any) -> int:
    return sum(_size(v) for v in jaxpr.invars)


def _is_var(v: Any) -> bool:
    return isinstance(v, jax.extend.core.Var)


def _size(v: Any) -> int:
    aval = v.aval
    if jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key):
        return 8 * aval.size
    return aval.size * aval.dtype.itemsize
