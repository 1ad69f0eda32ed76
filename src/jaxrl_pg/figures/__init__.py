"""The one style of every figure: a look for each method, and the canvas that is drawn on.

looks     colour, dash and marker of each method, the same in every figure
canvas    a matplotlib figure in this style, and its bytes as PNG, PDF and SVG
"""

from types import ModuleType

from jaxrl_pg.lazy import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
