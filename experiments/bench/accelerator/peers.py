"""The section `peers`: what others have published, and the same sizes measured here.

The published figures are of other machines, and of the authors' own programs. They were read off
the pictures that are named (and the text beside them), and stand beside ours, not against it.
"""

from typing import Any, NamedTuple

from accelerator import speed
from accelerator.job import Job
from accelerator.programs import Program, Rung
from accelerator.turns import Row, Task, rung_task
from jaxrl_pg import ppo, sac
from jaxrl_pg.config import BaseConfig

PURE = "github.com/luchris429/purejaxrl at 31756b1"
REJAX = "github.com/keraJLi/rejax at d751095"


class Published(NamedTuple):
    """A figure that others have published.

    Attributes:
        library: whose.
        env: its environment.
        agents: trained side by side.
        timesteps: environment steps of each.
        seconds: for all of them together.
        hardware: as stated.
        source: where, and how it was read.
        settings: of the same work here.
    """

    library: str
    env: str
    agents: int
    timesteps: int
    seconds: float
    hardware: str
    source: str
    settings: dict[str, Any]


_MACHINE = "A100 80G, Xeon 4215R"
_LINE = "the end of the line for the A100, read off the picture to about a second; the picture has"
_BREAKOUT = (
    f"{PURE}, docs/minatar_plot_parallel.png: {_LINE} no number of steps, the steps and settings "
    "are those of examples/brax_minatar.ipynb"
)
_CARTPOLE = (
    f"{PURE}, docs/cartpole_plot_parallel.png: {_LINE} no number of steps, the steps and settings "
    "are those of purejaxrl/ppo.py"
)
_REJAX = (
    f"{REJAX}, img/speedup_minatar.png: the seconds an agent that stand at the points, times the "
    "agents; settings of benchmark/breakout_1m.yaml, machine of README.md"
)
_FLAT = {"conv_features": 0, "hidden_sizes": (64, 64)}
_MINATAR = {**_FLAT, "activation": "relu", "num_envs": 64, "num_steps": 128, "num_minibatches": 8}
_REJAX_PPO = {**_FLAT, "num_envs": 32, "num_steps": 32, "num_minibatches": 4}
_REJAX_SAC = {"num_envs": 5, "num_steps": 1, "num_updates": 5, "batch_size": 100}
_REJAX_SAC |= {**_FLAT, "buffer_size": 100_000, "learning_starts": 0}
_CLASSIC = {"num_envs": 4, "num_steps": 128, "num_minibatches": 4}

PUBLISHED = (
    Published("rejax", "Breakout-MinAtar", 1, 1_000_000, 10.5, _MACHINE, _REJAX, _REJAX_PPO),
    Published("rejax", "Breakout-MinAtar", 300, 1_000_000, 300 * 0.2, _MACHINE, _REJAX, _REJAX_PPO),
    Published("PureJaxRL", "Breakout-MinAtar", 256, 10_000_000, 325, "A100", _BREAKOUT, _MINATAR),
    Published("PureJaxRL", "CartPole-v1", 2048, 500_000, 98, "A100", _CARTPOLE, _CLASSIC),
    Published(
        "rejax SAC", "Breakout-MinAtar", 50, 1_000_000, 50 * 178.7, _MACHINE, _REJAX, _REJAX_SAC
    ),
)


def rungs_of(job: Job) -> list[Rung]:
    """The same sizes here."""
    chosen = PUBLISHED[:1] if job.tiny else PUBLISHED
    return [Rung({"ours": x.library, **_labels(x)}, config_of(x), x.agents) for x in chosen]


def peers_tasks(job: Job) -> list[Task]:
    """Each published figure, and then the same number of agents here."""
    published = [
        Task(
            {
                "published": x.library,
                **_labels(x),
                "seconds": x.seconds,
                "hardware": x.hardware,
                "source": x.source,
            }
        )
        for x in PUBLISHED
    ]
    here = [rung_task("peers", i, job, rung.labels) for i, rung in enumerate(rungs_of(job))]
    return [*published, *here]


def measure(job: Job, program: Program, rung: Rung) -> Row:
    """Its speed, and what all its steps would take with it."""
    row = speed.measure(job, program, rung)
    whole = rung.labels["agents"] * rung.labels["timesteps"] / row["steps_per_s"]
    return {**row, "seconds": float(f"{whole + row['lower_s'] + row['compile_s']:.3g}")}


def config_of(one: Published) -> BaseConfig:
    """Our config of the same work."""
    settings = {**one.settings, "env": one.env, "total_timesteps": one.timesteps}
    return (sac if "SAC" in one.library else ppo).Config(**settings)


def _labels(one: Published) -> dict[str, Any]:
    return {"env": one.env, "agents": one.agents, "timesteps": one.timesteps}
