"""Several devices: one run split over its environments, or many agents shared out.

On a CPU a "device" is a share of the cores: ask for them before JAX starts, with
`use_cpu_devices` or `JAX_NUM_CPU_DEVICES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from jaxrl_pg.ops.running_stats import RunningStats
from jaxrl_pg.types import TrainState

__all__ = ["device_key", "mean", "merge_moments", "over_agents", "over_environments", "use_cpu_devices"]

AXIS = "devices"


def use_cpu_devices(num_devices: int) -> None:
    """Split the CPU into `num_devices` JAX devices; call it before any array is made.

    Raises:
        ValueError: if JAX has started with fewer devices already.
    """
    try:
        jax.config.update("jax_num_cpu_devices", num_devices)
    except RuntimeError:
        _check_available(num_devices)


def over_environments(
    step: Callable[[TrainState], tuple[TrainState, Any]], num_devices: int
) -> Callable[[TrainState], tuple[TrainState, Any]]:
    """Split the environment axis of a train state over devices; the learner is replicated.

    `step` then sees `num_envs / num_devices` environments and may call `mean` and `device_key`.
    What it returns beside the state must be equal on all devices.
    """
    if num_devices == 1:
        return step
    state = TrainState(learner=P(), actor=P(AXIS), memory=P(AXIS), key=P(), iteration=P())
    return jax.shard_map(
        step, mesh=_mesh(num_devices), in_specs=(state,), out_specs=(state, P()), check_vma=False
    )


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


def mean(tree: Any, num_devices: int) -> Any:
    """Average a float pytree over devices, as one message however many leaves it has."""
    if num_devices == 1:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.pmean(flat, AXIS))


def merge_moments(stats: RunningStats, num_devices: int) -> RunningStats:
    """Statistics of all devices' equally large batches together."""
    if num_devices == 1:
        return stats
    average = mean(stats.mean, num_devices)
    m2 = stats.m2 + stats.count * jnp.square(stats.mean - average)
    return RunningStats(stats.count * num_devices, average, mean(m2, num_devices) * num_devices)


def device_key(key: jax.Array, num_devices: int) -> jax.Array:
    """This device's own stream of a key that is the same on all of them."""
    if num_devices == 1:
        return key
    return jax.random.fold_in(key, jax.lax.axis_index(AXIS))


def _mesh(num_devices: int) -> Mesh:
    _check_available(num_devices)
    return jax.make_mesh(
        (num_devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:num_devices]
    )


def _check_available(num_devices: int) -> None:
    have = jax.device_count()
    if have < num_devices:
        raise ValueError(
            f"num_devices={num_devices} but JAX has {have} ({jax.default_backend()}): give at most "
            f"{have}, or on CPU set JAX_NUM_CPU_DEVICES={num_devices} before Python starts"
        )


