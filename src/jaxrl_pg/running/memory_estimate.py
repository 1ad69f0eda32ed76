"""The memory that a run will need: estimated before anything is compiled, then as compiled.

The estimate is read off the traced program: an array counts from the operation that makes it to the
last that reads it. The compiler fuses operations and reuses buffers, but it also reorders them and
copies. Measured for the ten agents at three sizes each, on a CPU: the temporaries of the compiled
program are 0.24 to 2.4 times those of the trace. So there are two figures: `estimate` is not below
the compiler's, for choosing sizes that fit; `require` refuses what cannot fit even if the compiler
does well; and what lies between, `require_compiled` decides, with the compiler's own figure.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.running import sizes
from jaxrl_pg.training import population, program
from jaxrl_pg.training.evaluation import evaluation_metrics

__all__ = [
    "available",
    "estimate",
    "inner_jaxprs",
    "require",
    "require_compiled",
    "require_evaluation",
]

_SIZES = ("num_envs", "num_steps", "buffer_size")  # the fields that make an iteration large
_SPLIT = ("num_envs", "buffer_size")  # those of them that are split over devices
_FEW_EPISODES = 1024  # too few to fill a machine, and tracing them takes as long as an iteration
_MOST, _LEAST = 2.5, 0.2  # compiled temporaries by traced ones: see above
# Where Linux says how much memory a container may use, as a number of bytes.
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class _Traced(NamedTuple):
    """Bytes of a traced program: of its arguments, and of what is alive beside them at the peak."""

    arguments: int
    temporaries: int

    @property
    def least(self) -> int:
        """What the compiled program takes at least."""
        return int(self.arguments + _LEAST * self.temporaries)

    @property
    def most(self) -> int:
        """What the compiled program takes at most."""
        return int(self.arguments + _MOST * self.temporaries)


def require(
    config: BaseConfig, num_eval_episodes: int = 0, num_seeds: int = 1, num_iterations: int = 1
) -> None:
    """Refuse a config whose sizes cannot be counted, or that cannot fit this machine.

    Args:
        config: the agent's config.
        num_eval_episodes: episodes in an evaluation; 0 for none.
        num_seeds: trained side by side.
        num_iterations: of the program that is run: that of one device is then traced just once.

    Raises:
        ValueError: naming both sizes and what to lower.
    """
    lower = " or ".join(f"{name}={x}" for name, x in _counts(config, _SIZES).items())
    if num_seeds > 1:
        lower = f"num_seeds={num_seeds} or {lower}"
    shared_out = 1 if num_seeds == 1 else config.num_devices  # seeds, then, not environments
    once = _iteration(config.replace(num_devices=config.num_devices // shared_out), num_iterations)
    what = "one iteration" if num_seeds == 1 else f"one iteration of {num_seeds} seeds"
    _require(_side_by_side(once, num_seeds // shared_out).least, config, what, lower)
    if num_eval_episodes > _FEW_EPISODES:
        require_evaluation(config, num_eval_episodes)


def require_evaluation(config: BaseConfig, num_episodes: int) -> None:
    """Refuse an evaluation with more episodes side by side than fit this machine.

    Raises:
        ValueError: naming both sizes and what to lower.
    """
    if num_episodes > sizes.LARGEST:
        raise ValueError(
            f"{num_episodes} episodes in an evaluation: give at most {sizes.LARGEST:,} (indices "
            "are 32-bit numbers)"
        )
    needed = _evaluation(config, num_episodes).least
    what = f"an evaluation of {num_episodes:,} episodes"
    _require(needed, config, what, "the number of episodes")


def require_compiled(compiled: Any, config: BaseConfig) -> None:
    """Refuse to start a compiled program that does not fit this machine, by the compiler's figure.

    Args:
        compiled: from `jax.jit(...).lower(...).compile()`; not every backend knows its figure.
        config: the agent's config.

    Raises:
        ValueError: naming both sizes and what to lower.
    """
    plan = compiled.memory_analysis()
    if plan is None:
        return
    outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
    needed = plan.argument_size_in_bytes + plan.temp_size_in_bytes + outputs
    lower = " or ".join(f"{name}={x}" for name, x in _counts(config, _SIZES).items())
    _require(needed, config, "the compiled program", f"{lower}, in a new run_dir")


def estimate(config: BaseConfig, num_eval_episodes: int = 0) -> int:
    """Return the bytes that a run needs at most on each device, for one iteration after the other.

    Args:
        config: the agent's config.
        num_eval_episodes: episodes in an evaluation; 0 for none.
    """
    programs = [_iteration(config)]
    if num_eval_episodes:
        programs.append(_evaluation(config, num_eval_episodes))
    return max(traced.most for traced in programs)


def _require(needed: int, config: BaseConfig, what: str, lower: str) -> None:
    have = available()
    if jax.default_backend() == "cpu":  # whose devices share one memory
        have //= max(1, min(config.num_devices, jax.local_device_count()))
    if needed > have:
        raise ValueError(
            f"{what} needs at least {_gib(needed)} GiB per device and there are {_gib(have)}: "
            f"lower {lower}"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f}"


def _iteration(config: BaseConfig, num_iterations: int = 1) -> _Traced:
    """Trace one iteration on one device, with its share of the environments and of the replay.

    It is the body of the program that a run calls, as a run traces it, so that JAX knows that trace
    already when the run begins.
    """
    if config.num_devices > 1:
        share = {k: v // config.num_devices for k, v in _counts(config, _SPLIT).items()}
        config = config.replace(num_devices=1, **share)
    jaxpr = _traced(config, program.iterations, num_iterations)
    (loop,) = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
    return _counted(loop.params["jaxpr"].jaxpr)


def _side_by_side(once: _Traced, num_seeds: int) -> _Traced:
    """Return what several seeds take of which one takes so much, in the layout of this machine.

    All their states are there. One after the other they work in the same memory, and leave their
    new states beside the old ones.
    """
    if num_seeds == 1:
        return once
    arguments = num_seeds * once.arguments
    if population.layout_here() == "vmap":
        return _Traced(arguments, num_seeds * once.temporaries)
    return _Traced(arguments, once.temporaries + arguments)


def _evaluation(config: BaseConfig, num_episodes: int) -> _Traced:
    """Trace an evaluation, which every device does whole."""
    return _counted(_traced(config, evaluation_metrics, num_episodes))


def _traced(config: BaseConfig, function: Any, number: int) -> Jaxpr:
    """Trace a function of a config, a train state and a static number."""
    try:
        state = jax.eval_shape(agent_of(config).init, config, jax.eval_shape(jax.random.key, 0))
        jaxpr: Jaxpr = jax.jit(function, static_argnums=2).trace(config, state, number).jaxpr.jaxpr
    except OverflowError as error:
        raise ValueError(
            f"an array of this config is too large to be counted ({error}): lower its sizes"
        ) from None
    return jaxpr


def _counted(jaxpr: Jaxpr) -> _Traced:
    arguments = sum(_size(v) for v in (*jaxpr.invars, *jaxpr.constvars))
    return _Traced(arguments, _peak(jaxpr) - arguments)


def available() -> int:
    """Return the bytes of memory of this process's first device, or of the machine for a CPU.

    In a container they are what the container may use.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if sys.platform == "win32":
        kilobytes = ctypes.c_ulonglong()
        ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
        return 1024 * kilobytes.value
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *filter(None, map(_container_limit, _CONTAINER_LIMITS))])


def _container_limit(path: str) -> int | None:
    """Return the limit that a file states, None if there is no such file or it states none."""
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdecimal() else None


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
        inside = max([0, *extra])
        # A loop's results are alive while its body runs; another program's are made in it.
        loop = eqn.primitive.name in ("scan", "while")
        peak = max(peak, now + (made + inside if loop else max(made, inside)))
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
