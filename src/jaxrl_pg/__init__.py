"""Functional reinforcement learning in JAX.

Agents are pure functions over one train state; training is one compiled program.

    import jax, jaxrl_pg
    from jaxrl_pg import ppo

    config = ppo.Config(env="CartPole-v1", num_envs=1024, total_timesteps=2_000_000)
    state, metrics = jax.jit(jaxrl_pg.train)(config, jax.random.key(0))

Names are imported when first used, so that importing the package costs next to nothing.
"""

# Not even typing and importlib are imported: until the command line has taken Ctrl-C, each module
# is time in which Python answers it with a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jaxrl_pg import agents as agents
    from jaxrl_pg import checkpoint as checkpoint
    from jaxrl_pg import cli as cli
    from jaxrl_pg import components as components
    from jaxrl_pg import config as config
    from jaxrl_pg import envs as envs
    from jaxrl_pg import export as export
    from jaxrl_pg import figures as figures
    from jaxrl_pg import files as files
    from jaxrl_pg import ops as ops
    from jaxrl_pg import report as report
    from jaxrl_pg import running as running
    from jaxrl_pg import sweeps as sweeps
    from jaxrl_pg import theory as theory
    from jaxrl_pg import training as training
    from jaxrl_pg import types as types
    from jaxrl_pg import watch as watch
    from jaxrl_pg import zoo as zoo
    from jaxrl_pg.agents import actor_critic as actor_critic
    from jaxrl_pg.agents import analytical as analytical
    from jaxrl_pg.agents import analytical_replay as analytical_replay
    from jaxrl_pg.agents import ddpg as ddpg
    from jaxrl_pg.agents import dqn as dqn
    from jaxrl_pg.agents import multi_agent as multi_agent
    from jaxrl_pg.agents import natural_gradient as natural_gradient
    from jaxrl_pg.agents import off_policy_actor_critic as off_policy_actor_critic
    from jaxrl_pg.agents import ppo as ppo
    from jaxrl_pg.agents import pqn as pqn
    from jaxrl_pg.agents import reinforce as reinforce
    from jaxrl_pg.agents import reps as reps
    from jaxrl_pg.agents import sac as sac
    from jaxrl_pg.agents import soft_q_learning as soft_q_learning
    from jaxrl_pg.agents import td3 as td3
    from jaxrl_pg.running.loop import resume as resume
    from jaxrl_pg.running.loop import run as run
    from jaxrl_pg.running.trained_policy import load as load
    from jaxrl_pg.sweeps.sweep import sweep as sweep
    from jaxrl_pg.training.evaluation import evaluate as evaluate
    from jaxrl_pg.training.evaluation import value as value
    from jaxrl_pg.training.program import init as init
    from jaxrl_pg.training.program import iterations as iterate  # noqa: F401
    from jaxrl_pg.training.program import train as train

__version__ = "0.2.0"

# A name of the front door, the module that it is in, and its name there.
_FUNCTIONS = {
    "evaluate": ("jaxrl_pg.training.evaluation", "evaluate"),
    "init": ("jaxrl_pg.training.program", "init"),
    "iterate": ("jaxrl_pg.training.program", "iterations"),
    "load": ("jaxrl_pg.running.trained_policy", "load"),
    "resume": ("jaxrl_pg.running.loop", "resume"),
    "run": ("jaxrl_pg.running.loop", "run"),
    "sweep": ("jaxrl_pg.sweeps.sweep", "sweep"),
    "train": ("jaxrl_pg.training.program", "train"),
    "value": ("jaxrl_pg.training.evaluation", "value"),
}
AGENT_NAMES = (
    "ppo",
    "actor_critic",
    "reinforce",
    "natural_gradient",
    "off_policy_actor_critic",
    "sac",
    "soft_q_learning",
    "td3",
    "ddpg",
    "pqn",
    "dqn",
    "analytical",
    "analytical_replay",
    "reps",
    "multi_agent",
)
_ROOMS = (
    "agents",
    "checkpoint",
    "cli",
    "components",
    "config",
    "envs",
    "export",
    "figures",
    "files",
    "ops",
    "report",
    "running",
    "sweeps",
    "theory",
    "training",
    "types",
    "watch",
    "zoo",
)
__all__ = ["AGENT_NAMES", *sorted([*_FUNCTIONS, *AGENT_NAMES, *_ROOMS])]


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name in _FUNCTIONS:
        module, inner = _FUNCTIONS[name]
        return getattr(import_module(module), inner)
    if name in AGENT_NAMES:
        return import_module(f"jaxrl_pg.agents.{name}")
    if name in _ROOMS:
        return import_module(f"jaxrl_pg.{name}")
    raise AttributeError(f"module 'jaxrl_pg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
