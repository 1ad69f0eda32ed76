"""The zoo: settings that are known to work, what they reach, and small policies trained with them.

    from jaxrl_pg import zoo

    config = zoo.config("CartPole-v1", "ppo")        # the settings, as a config to train with
    zoo.find("CartPole-v1", "ppo").recorded["iqm"]   # what they were measured to reach
    policy = jaxrl_pg.load("zoo:CartPole-v1/ppo")    # trained already

Each entry is a file `zoo/<suite>/<environment>.<agent>.toml` of this package. The project's
`experiments/zoo_entries.py` writes them from recorded studies. Importing this needs no JAX.
"""

from types import ModuleType

from jaxrl_pg.lazy import submodule
from jaxrl_pg.zoo.entries import PREFIX, Entry, config, entries, find
from jaxrl_pg.zoo.listing import table

__all__ = ["PREFIX", "Entry", "config", "entries", "find", "table"]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
