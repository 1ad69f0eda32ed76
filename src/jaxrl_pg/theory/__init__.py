"""Finite Markov decision processes, solved exactly: executable theory, and the agents' oracle.

Everything here works in the precision of the arrays it is given. The theorems need float64:
`jax.config.update("jax_enable_x64", True)`, or `with jax.enable_x64(True):` around the work.
"""

from types import ModuleType

from jaxrl_pg.lazy import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
