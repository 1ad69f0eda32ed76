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
TURNS = "turns"  # a process that leaves the device to others, which it starts
SECTIONS = {
    "device": Section("Device", "hardware", "device", 20),
    "smoke": Section("Every agent against the CPU", "smoke", "device", 60),
    "ppo": Section("PPO: agents side by side", "speed", TURNS, 50),
    "throughput": Section("Speed against environments", "speed", TURNS, 60),
    "beside": Section("Beside rejax and PureJaxRL, here", "beside", TURNS, 60),
    "loops": Section("Loops in the rollout", "loops", TURNS, 40),
    "precision": Section("Precision of matrix products", "precision", TURNS, 40),
    "sac": Section("SAC with a large replay", "speed", TURNS, 15),
    "brax": Section("Brax", "speed", TURNS, 15),
    "memory": Section("Memory against its estimate", "costs", TURNS, 25),
    "peers": Section("Beside published figures", "peers", TURNS, 25),
    "checkpoint": Section("Checkpoints across devices", "states", "states", 50),
    "compile": Section("Compile times", "costs", "states", 50),
    "resume": Section("Resume, bit for bit", "states", "deterministic", 40, DETERMINISTIC),
}
NAMES = tuple(SECTIONS)
START = 8.0  # seconds to start a process
FEW = 5  # iterations after which the section `precision` compares parameters


def seconds_of(names: Sequence[str], wanted: Sequence[str], left: float) -> float:
    """What sections in a row are given of the seconds that are left for them and all later ones."""
    later = wanted[list(wanted).index(names[0]) :]
    processes = [process for process, _ in itertools.groupby(SECTIONS[x].process for x in later)]
    shared = max(0.0, left - START * (len(processes) - 1))
    mine = sum(SECTIONS[x].share for x in names)
    return shared * mine / sum(SECTIONS[x].share for x in later)
