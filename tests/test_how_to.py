"""The code of the how-to pages runs as it is printed."""

import re
import sys
import types
from pathlib import Path

import pytest

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"
# Pages on running have a test of their own, which looks at the files that they leave.
OTHERS = {"checkpoints", "early-stopping", "loggers"}
PAGES = [page for page in sorted(HOW_TO.glob("*.md")) if page.stem not in OTHERS]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# What a page shows in fewer lines than these, beside imports and blank lines.
MAX_LINES = {"agent": 24, "export": 16, "memory": 22, "observations": 35, "watch": 16}
# What a page shows of extras.
NEEDED = {"export": ["onnx", "onnxruntime"]}


def code_of(page):
    return "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs(page, tmp_path, monkeypatch):
    for package in NEEDED.get(page.stem, []):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    # A module of its own, so that what it defines has a path that a run's folder can record.
    module = types.ModuleType(f"how_to_{page.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code_of(page), page.name, "exec"), vars(module))
    if hasattr(module, "metrics"):
        assert module.metrics["timesteps"][-1] >= 20_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short(page):
    lines = [line for line in code_of(page).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("import ", "from "))]
    assert 0 < len(lines) <= MAX_LINES.get(page.stem, 15)
