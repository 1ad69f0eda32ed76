"""Several devices: one run split over its environments, or many members shared out.

On a CPU a "device" is a share of the cores: ask for them before JAX starts, with `prepare` or
the environment variable `JAX_NUM_CPU_DEVICES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.ops import collectives
from jaxrl_pg.training.program import STATE_SPECS
from jaxrl_pg.types import TrainState

__all__ = [
    "members_sharding",
    "on_every_process",
    "over_members",
    "prepare",
    "require_devices",
    "state_shapes",
    "state_shardings",
]

# Not the axis that devices share a batch on: every member has its devices to itself.
_MEMBERS = "members"


def prepare(num_devices: int) -> None:
    """Make the settings of a whole process, before JAX is used, as the command line does.

    On a CPU as many devices as are wanted, and programs of one device run where they are called:
    in the background such a program holds a thread that two devices then lack to meet in an
    all-reduce, and JAX ends the process after 40 seconds. Compiled programs are kept on disk, so
    that the same program is compiled once and not in every process (`JAX_COMPILATION_CACHE_DIR`
    says where, else `~/.cache/jaxrl_pg`).
    """
    if num_devices > 1:
        jax.config.update("jax_num_cpu_devices", num_devices)
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined, unused-ignore]
        folder = Path("~/.cache/jaxrl_pg").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def require_devices(num_devices: int) -> None:
    """Refuse more devices than JAX has.

    Raises:
        ValueError: saying how many there are and how to get more.
    """
    collectives.mesh(num_devices)


def state_shardings(num_devices: int) -> Any:
    """Return where the parts of a train state live, for `jit`'s `out_shardings`.

    None on one device.
    """
    if num_devices == 1:
        return None
    mesh = collectives.mesh(num_devices)
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), STATE_SPECS, is_leaf=lambda x: isinstance(x, P)
    )


def state_shapes(config: BaseConfig, num_devices: int = 1) -> TrainState[Any]:
    """Return the `ShapeDtypeStruct`s of a config's train state, laid out over `num_devices`."""
    shapes = jax.eval_shape(lambda key: agent_of(config).init(config, key), jax.random.key(0))
    if num_devices == 1:
        return shapes

    def place(sharding: NamedSharding, part: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), part
        )

    return jax.tree.map(place, state_shardings(num_devices), shapes)


def on_every_process(num_devices: int) -> NamedSharding | None:
    """Return where what all processes are to read must be, for `out_shardings`.

    None for one process.
    """
    if jax.process_count() == 1:
        return None
    return NamedSharding(collectives.mesh(num_devices), P())


def over_members(
    fn: Callable[..., Any],
    in_axes: tuple[Any, ...],
    num_devices: int | None = None,
    out_axes: Any = 0,
) -> Callable[..., Any]:
    """Share out the members of a vmapped function over devices, without communication.

    `jax.jit(over_members(jax.vmap(train, (None, 0)), (None, 0)))(config, keys)` trains the members
    of `keys` on every device at once; their number must be a multiple of the devices'.

    Args:
        fn: takes and returns arrays with the members on the first axis.
        in_axes: 0 for the arguments that have that axis, None for the others; or trees of these.
        num_devices: the first so many of JAX's; all unless given.
        out_axes: the same for the results.
    """

    def specs(axes: Any) -> Any:
        return jax.tree.map(
            lambda axis: P() if axis is None else P(_MEMBERS), axes, is_leaf=lambda x: x is None
        )

    num = jax.device_count() if num_devices is None else num_devices
    return collectives.split(fn, num, specs(in_axes), specs(out_axes), axis=_MEMBERS)


def members_sharding(num_devices: int | None = None) -> NamedSharding | None:
    """Return where `over_members` leaves its members; None on one device."""
    num = jax.device_count() if num_devices is None else num_devices
    return NamedSharding(collectives.mesh(num, _MEMBERS), P(_MEMBERS)) if num > 1 else None
