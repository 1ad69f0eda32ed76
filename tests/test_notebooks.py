"""The notebooks: every cell runs, with a tiny budget, and none carries an output."""

import ast
import json
from pathlib import Path

import jax
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("first_run", "sweep", "theory")


@pytest.fixture(autouse=True)
def _precision():
    """A notebook may switch to float64; what is tested after it does not."""
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


def cells(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def shown(value):
    """Return what a notebook shows of the value of a cell's last line."""
    kinds = ("_repr_html_", "_repr_png_")
    rich = [getattr(value, kind)() for kind in kinds if hasattr(value, kind)]
    return rich or [repr(value)]


def run(source, scope):
    """Run a cell as a notebook does, and return the value of its last line, None if it has none."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), scope) if last else None


def test_these_are_all():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_stripped(name):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags", "tiny"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
        for line in cell["source"]:
            assert len(line.rstrip("\n")) <= 110
    assert notebook["cells"][0]["source"][0].startswith("# ")
    assert sum("tiny" in cell["metadata"] for cell in notebook["cells"]) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope, pictures = {"__name__": "__main__"}, 0
    for cell in cells(name):
        if cell["cell_type"] == "code":
            value = run(cell["metadata"].get("tiny", "".join(cell["source"])), scope)
            if value is not None:
                pictures += any(isinstance(x, bytes) or "<i" in x for x in shown(value))
    assert capsys.readouterr().err == "" or name != "theory"
    assert pictures >= 1
