"""The sections in the order they run, and how they share the time."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Section(NamedTuple):
    """Where a section stands, and what it is given.

    Attributes:
        title: its heading on the page.
        module: the module of this folder with a function of the section's name.
        process: sections of the same name after each other share a process.
        share: of the time, beside the others' shares; what it leaves goes to the later ones.
        flags: XLA's flags in its process.
    """

    title: str
    module: str
    process: str
    share: float
    flags: str = ""


DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
SECTIONS = {
    "device": Section("Device", "hardware", "speed", 25),
    "smoke": Section("Every agent against the CPU", "smoke", "speed", 80),
    "ppo": Section("PPO: agents side by side", "speed", "speed", 100),
    "sac": Section("SAC with a large replay", "speed", "speed", 50),
    "brax": Section("Brax", "speed", "speed", 40),
    "throughput": Section("Speed against environments", "speed", "speed", 65),
    "compile": Section("Compile times", "costs", "speed", 25),
    # A process's peak of memory never falls again, so it is measured in a new one.
    "memory": Section("Memory against its estimate", "costs", "memory", 30),
    "checkpoint": Section("Checkpoints across devices", "states", "memory", 20),
    "resume": Section("Resume, bit for bit", "states", "deterministic", 25, DETERMINISTIC),
    "precision": Section("Precision of matrix products", "precision", "precision", 40),
    "peers": Section("Beside published figures", "peers", "precision", 50),
    "beside": Section("Beside rejax and PureJaxRL, here", "beside", "beside", 70),
}
NAMES = tuple(SECTIONS)
START = 8.0  # seconds to start a process
FEW = 5  # iterations after which the section `precision` compares parameters


def seconds_of(name: str, wanted: Sequence[str], left: float) -> float:
    """What a section is given of the seconds that are left for it and all later ones."""
    later = wanted[list(wanted).index(name) :]
    processes = [process for process, _ in itertools.groupby(SECTIONS[x].process for x in later)]
    shared = max(0.0, left - START * (len(processes) - 1))
    return shared * SECTIONS[name].share / sum(SECTIONS[x].share for x in later)
