"""The memory that an iteration will need, estimated before anything is compiled."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from jaxrl_pg.config import BaseConfig, agent_of

__all__ = ["available", "estimate", "inner_jaxprs", "require"]

_SIZES = ("num_envs", "num_steps", "buffer_size")  # the fields that make an iteration large
_SPLIT = ("num_envs", "buffer_size")  # those of them that are split over devices


def require(config: BaseConfig) -> None:
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


def estimate(config: BaseConfig) -> int:
    """Return the bytes alive at the worst moment of one iteration, on each device.

    They are read off the traced program: an array counts from the operation that makes it to
    the last that reads it. The compiler fuses and reuses, so the truth is usually lower.
    """
    share = {k: v // config.num_devices for k, v in _counts(config, _SPLIT).items()}
    one_device = config.replace(num_devices=1, **share)
    agent = agent_of(config)
    state = jax.eval_shape(lambda key: agent.init(one_device, key), jax.random.key(0))
    return _peak(jax.make_jaxpr(lambda state: agent.iterate(one_device, state))(state).jaxpr)


def available() -> int:
    """Return the bytes of memory of this process's first device, or of the machine for a CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if sys.platform == "win32":
        kilobytes = ctypes.c_ulonglong()
        ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
        return 1024 * kilobytes.value
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _counts(config: BaseConfig, names: tuple[str, ...]) -> dict[str, int]:
    """Return the values of those of the fields that this agent's config has."""
    fields = {field.name for field in dataclasses.fields(config)}
    return {name: getattr(config, name) for name in names if name in fields}


def _peak(jaxpr: Jaxpr) -> int:
    """Return the largest sum of the sizes of live arrays; an inner program's peak adds to it."""
    last_use = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if isinstance(v, Var)}
    last_use |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if isinstance(v, Var)}
    live = {v: _size(v) for v in (*jaxpr.invars, *jaxpr.constvars)}
    peak = now = sum(live.values())
    for i, eqn in enumerate(jaxpr.eqns):
        made = sum(_size(v) for v in eqn.outvars)
        extra = [_peak(inner) - sum(map(_size, inner.invars)) for inner in inner_jaxprs(eqn)]
        peak = max(peak, now + max(made, *extra, 0))
        live |= {v: _size(v) for v in eqn.outvars}
        now += made
        for v in [v for v in eqn.invars if isinstance(v, Var) and last_use[v] == i]:
            now -= live.pop(v, 0)
    return peak


def inner_jaxprs(eqn: JaxprEqn) -> list[Jaxpr]:
    """Return the programs inside one equation of a traced program: bodies, branches, calls."""
    leaves = jax.tree.leaves(
        list(eqn.params.values()), is_leaf=lambda value: isinstance(value, ClosedJaxpr)
    )
    return [value.jaxpr for value in leaves if isinstance(value, ClosedJaxpr)]


def _size(v: Var | Literal) -> int:
    """Return the bytes of one array of a traced program."""
    aval: Any = v.aval  # an array's; its base class declares neither dtype nor size
    if jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key):
        return 8 * aval.size
    return aval.size * aval.dtype.itemsize
