"""What a section is given: sizes, the device and its companion, and the time that is left."""

import os
import time
from pathlib import Path
from typing import NamedTuple

import jax


class Sizes(NamedTuple):
    """How large everything is.

    Attributes:
        num_envs, num_steps: environments and steps of PPO's rollout.
        members: trained side by side by PPO.
        replay: rows of SAC's replay.
        replay_members: trained side by side by SAC.
        envs: environments of the section `throughput`, and of Brax.
        matrix: rows and columns of a square product, on a GPU and on a CPU.
        copied: numbers in an array that is copied.
        loops: iterations of a loop of one small operation.
        timed: seconds that a timed call should take; it is called twice.
    """

    num_envs: int = 64
    num_steps: int = 128
    members: tuple[int, ...] = (1, 64, 1024, 4096)
    replay: int = 1_000_000
    replay_members: tuple[int, ...] = (1, 50)
    envs: tuple[int, ...] = (2**6, 2**9, 2**12, 2**15, 2**17)
    brax_envs: tuple[int, ...] = (2048, 8192)
    matrix: tuple[int, int] = (8192, 1024)
    copied: int = 2**27
    loops: int = 10_000
    timed: float = 0.5


FULL = Sizes()
TINY = Sizes(
    num_envs=4,
    num_steps=8,
    members=(1, 2),
    replay=64,
    replay_members=(2,),
    envs=(4,),
    brax_envs=(2,),
    matrix=(64, 64),
    copied=2**10,
    loops=10,
    timed=0.0,
)


class Job(NamedTuple):
    """One section's work.

    Attributes:
        sizes: of everything in it.
        end: `time.time()` at which it should be through.
        agents: those that the section `smoke` tries; None for all.
        peers: a folder of packages with rejax and PureJaxRL in it, for the section `beside`.
    """

    sizes: Sizes
    end: float
    agents: list[str] | None = None
    peers: Path | None = None

    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.time()

    @property
    def tiny(self) -> bool:
        """Whether the sizes are those of a test."""
        return self.sizes is TINY

    @property
    def device(self) -> jax.Device:
        """The device that is measured: JAX's first."""
        return jax.devices()[0]

    @property
    def cpu(self) -> jax.Device:
        """The CPU of the same process; where a CPU is measured itself, its last device."""
        return jax.local_devices(backend="cpu")[-1]

    @property
    def processes(self) -> int:
        """How many processes compile at a time.

        On an H200 with 16 cores, 3 took 11 s and 20 took 160 s: each tries kernels on the one GPU,
        and keeps the memory for it.
        """
        return max(2, min(4, (os.cpu_count() or 1) // 2))

    @property
    def compilers(self) -> int:
        """How many programs a process compiles at a time."""
        return max(1, min(8, (os.cpu_count() or 1) // 2))
