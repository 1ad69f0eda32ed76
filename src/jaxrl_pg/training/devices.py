"""Several devices: one run split over its environments, or many agents shared out.

On a CPU a "device" is a share of the cores: ask for them before JAX starts, with `prepare` or
the environment variable `JAX_NUM_CPU_DEVICES`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl_pg.ops.collectives import AXIS
from jaxrl_pg.types import TrainState

__all__ = [
    "agents_sharding",
    "on_every_process",
    "over_agents",
    "over_environments",
    "place_shapes",
    "prepare",
    "require_devices",
    "state_shardings",
]

_PART_SPECS: dict[str, Any] = {
    "learner": P(),
    "actor": P(AXIS),
    "memory": P(AXIS),
    "key": P(),
    "iteration": P(),
}
_STATE_SPECS = TrainState(**_PART_SPECS)


def prepare(num_devices: int) -> None:
    """Settings for a whole process, to be made before JAX is used: the command line's.

    On a CPU as many devices as are wanted; and compiled programs are kept on disk, so that the
    same program is compiled once and not in every process (`JAX_COMPILATION_CACHE_DIR` says
    where, else `~/.cache/jaxrl_pg`).
    """
    if num_devices > 1:
        jax.config.update("jax_num_cpu_devices", num_devices)
    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined, unused-ignore]
        folder = Path("~/.cache/jaxrl_pg").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def over_environments(
    step: Callable[[TrainState], tuple[TrainState, Any]], num_devices: int
) -> Callable[[TrainState], tuple[TrainState, Any]]:
    """Split the environment axis of a train state over devices; the learner is replicated.

    `step` then sees `num_envs / num_devices` environments and may call `mean` and `device_key`.
    What it returns beside the state must be equal on all devices.
    """
    if num_devices == 1:
        return step
    return jax.shard_map(
        step,
        mesh=_mesh(num_devices),
        in_specs=(_STATE_SPECS,),
        out_specs=(_STATE_SPECS, P()),
        check_vma=False,
    )


def state_shardings(num_devices: int) -> Any:
    """Where the parts of a train state live, for `jit`'s `out_shardings`; None on one device."""
    if num_devices == 1:
        return None
    place = partial(NamedSharding, _mesh(num_devices))
    return jax.tree.map(place, _STATE_SPECS, is_leaf=lambda x: isinstance(x, P))


def on_every_process(num_devices: int) -> NamedSharding | None:
    """Where what all processes are to read must be, for `out_shardings`; None for one process."""
    return NamedSharding(_mesh(num_devices), P()) if jax.process_count() > 1 else None


def place_shapes(shapes: TrainState, num_devices: int) -> TrainState:
    """The `ShapeDtypeStruct`s of a train state with the shardings that belong to them."""
    if num_devices == 1:
        return shapes
    return jax.tree.map(_place, state_shardings(num_devices), shapes)


def over_agents(fn: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """Share out the agents of a vmapped function over all devices, without communication.

    `jax.jit(over_agents(jax.vmap(train, (None, 0)), (None, 0)))(config, keys)` trains the agents
    of `keys` on every device at once; their number must be a multiple of the devices'.

    Args:
        fn: takes and returns arrays with the agents on the first axis.
        in_axes: 0 for the arguments that have that axis, None for the others.
    """
    specs = tuple(P() if axis is None else P(AXIS) for axis in in_axes)
    mesh = _mesh(len(jax.devices()))
    return jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False)


def agents_sharding() -> NamedSharding | None:
    """Where `over_agents` leaves its agents; None on one device."""
    num = jax.device_count()
    return NamedSharding(_mesh(num), P(AXIS)) if num > 1 else None


def require_devices(num_devices: int) -> None:
    """Refuse more devices than JAX has.

    Raises:
        ValueError: saying how many there are and how to get more.
    """
    have = jax.device_count()
    if have < num_devices:
        raise ValueError(
            f"num_devices={num_devices} but JAX has {have} ({jax.default_backend()}): give at most "
            f"{have}, or on CPU set JAX_NUM_CPU_DEVICES={num_devices} before Python starts"
        )


def _place(sharding: NamedSharding, part: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), part)


def _mesh(num_devices: int) -> Mesh:
    require_devices(num_devices)
    return jax.make_mesh(
        (num_devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:num_devices]
    )
