"""The code of the pages runs as it is printed, but for numbers that would take long."""

import re
import sys
import types
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Pages on running and on the theory have tests of their own, which look at what they leave; so have
# those in agents/.
OTHERS = {"how-to/checkpoints", "how-to/early-stopping", "how-to/loggers", "theory"}
# What a how-to page shows in fewer lines than these, beside imports and blank lines.
MAX_LINES = {
    **{"agent": 24, "environment": 33, "figures": 20, "memory": 22, "observations": 35},
    **{"export": 16, "policy": 16, "watch": 16},
}
# What a page shows of extras.
NEEDED = {"how-to/export": ["onnx", "onnxruntime"]}
# Other settings are traced, and not compiled.
TRACED = ("jax.jit(jaxrl_pg.train)(config, ", "jax.eval_shape(jaxrl_pg.train, config, ")
# What a page prints, and what runs here instead.
SMALLER = {
    "how-to/figures": [("seeds = 10", "seeds = 2"), ("40_960", "640")],
    "how-to/migrate/cleanrl": [TRACED],
    "how-to/migrate/purejaxrl": [TRACED],
    "how-to/migrate/rejax": [
        (
            "= train(config, jax.random.key(0), num_evals=32)",
            "= jax.eval_shape(lambda key: jaxrl_pg.train(config, key, 32), jax.random.key(0))",
        ),
    ],
    "how-to/migrate/sb3": [("20_480", "64"), ("num_steps=2048", "num_steps=64")],
    "index": [("100_000", "2_048")],
    "tutorials/first-run": [("100_000", "4_096"), ("200_000", "8_192"), ("=1000", "=16")],
    "tutorials/seeds-and-rates": [
        *[("20_480", "2_048"), ("-1.5, 8)", "-1.5, 2)"), ("key(0), 30)", "key(0), 2)")],
        ("num_episodes=32", "num_episodes=2"),
    ],
    "tutorials/sweep": [
        *[("seeds = 10", "seeds = 2"), ("40_960", "2_048")],
        *[("[3e-4, 1e-3, 3e-3]", "[1e-3]"), ("[16, 64]", "[16]")],
    ],
    "tutorials/theorem": [("key(0), 1000)", "key(0), 10)")],
}
# Where a page says to save its first block of TOML.
SAVED = {
    "how-to/figures": "experiments/paper.toml",
    "tutorials/sweep": "experiments/rollouts.toml",
}


def name_of(page):
    return page.relative_to(DOCS).with_suffix("").as_posix()


def blocks(page, language):
    """The blocks of a page in some language, with the numbers that run here."""
    text = page.read_text(encoding="utf-8")
    for printed, smaller in SMALLER.get(name_of(page), []):
        text = text.replace(printed, smaller)
    return [body for name, body in BLOCK.findall(text) if name == language]


FOUND = [page for page in sorted(DOCS.rglob("*.md")) if blocks(page, "python")]
PAGES = [page for page in FOUND if name_of(page) not in OTHERS and page.parent.name != "agents"]
SHORT = [page for page in PAGES if page.parent.name == "how-to"]


@pytest.fixture(autouse=True)
def _precision():
    """A page may switch to float64; those after it do not."""
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_runs(page, tmp_path, monkeypatch):
    for package in NEEDED.get(name_of(page), []):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    if name_of(page) in SAVED:
        path = Path(SAVED[name_of(page)])
        assert f"{path}" in page.read_text(encoding="utf-8")
        path.parent.mkdir()
        path.write_text(blocks(page, "toml")[0])
    # A module of its own, so that what it defines has a path that a run's folder can record.
    module = types.ModuleType(f"how_to_{re.sub(r'[/-]', '_', name_of(page))}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile("\n".join(blocks(page, "python")), page.name, "exec"), vars(module))
    if hasattr(module, "metrics") and name_of(page) in {name_of(page) for page in SHORT}:
        assert module.metrics["timesteps"].max() >= 20_000


@pytest.mark.parametrize("page", SHORT, ids=name_of)
def test_a_page_is_short(page):
    lines = [line for line in "\n".join(blocks(page, "python")).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("import ", "from "))]
    assert 0 < len(lines) <= MAX_LINES.get(page.stem, 15)


def test_what_runs_instead_is_for_what_is_printed():
    for name, pairs in SMALLER.items():
        text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        assert [printed for printed, _ in pairs if printed not in text] == []
