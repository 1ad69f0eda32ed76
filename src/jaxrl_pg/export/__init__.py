"""Trained policies for other programs: plain arrays, NumPy, StableHLO and ONNX.

    jaxrl_pg.load("runs/demo").export("exported")

writes a folder with all that acting needs: the normaliser before the networks, and the actions'
bounds behind them. Programs read it without this package.
"""

from types import ModuleType

from jaxrl_pg.export.folder import Exported, write
from jaxrl_pg.lazy import submodule

__all__ = ["Exported", "write"]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
