"""Modules that are imported when they are first used."""

import subprocess
import sys

import pytest

from jaxrl_pg import lazy

DRAWING = "loaded = True\ndef line():\n    return 'drawn'\n"
LIBRARY = """
import slow_drawing
import slow_drawing.pens as pens
from slow_drawing import pens as same

def draw():
    return pens.line() + same.line()
"""


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    """A library that imports at once what it draws with."""
    (tmp_path / "slow_drawing").mkdir()
    (tmp_path / "slow_drawing" / "__init__.py").write_text(DRAWING)
    (tmp_path / "slow_drawing" / "pens.py").write_text(DRAWING)
    (tmp_path / "some_library.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("slow_drawing", "slow_drawing.pens", "some_library"):
        sys.modules.pop(name, None)


def test_a_deferred_module_is_imported_when_it_is_used(libraries):
    with lazy.deferred("slow_drawing", "slow_drawing.pens"):
        import some_library
    assert not [name for name in sys.modules if name.startswith("slow_drawing")]
    assert some_library.draw() == "drawndrawn"
    assert vars(sys.modules["slow_drawing.pens"])["loaded"]
    assert some_library.slow_drawing.loaded  # the package forwards, too
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = some_library.pens.nothing


def test_a_module_that_is_used_while_the_library_is_imported_is_imported_then(libraries, tmp_path):
    (tmp_path / "some_library.py").write_text("import slow_drawing\nx = slow_drawing.loaded\n")
    with lazy.deferred("slow_drawing"):
        import some_library
    assert some_library.x is True
    assert vars(sys.modules["slow_drawing"])["loaded"]


def test_a_module_that_is_in_memory_stays(libraries):
    import slow_drawing

    with lazy.deferred("slow_drawing", "slow_drawing.pens"):
        import some_library
    assert some_library.slow_drawing is slow_drawing
    assert sys.modules["slow_drawing"] is slow_drawing
    assert some_library.draw() == "drawndrawn"


def test_an_environment_is_made_without_what_it_is_drawn_with():
    code = (
        "import sys; from jaxrl_pg import envs; envs.make('CartPole-v1')\n"
        "slow = {'seaborn', 'pandas', 'scipy.stats', 'matplotlib', 'orbax'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
