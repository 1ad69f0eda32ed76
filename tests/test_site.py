"""The documentation's site: what is made for it, where links lead, and what its tables say."""

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import jaxrl_pg
from jaxrl_pg.cli import exits

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCE = Path(jaxrl_pg.__file__).parent
AGENTS = jaxrl_pg.AGENT_NAMES
# Pages of decisions, a section each.
DECISIONS = sorted((DOCS / "explanation").glob("*.md"))


def hook(name):
    """A module of tools/site, which mkdocs loads by its path."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("latex2mathml")
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(page):
    return page.read_text(encoding="utf-8")


# --- formulas -------------------------------------------------------------------------------------


def test_formulas_become_mathml():
    formulas = hook("formulas")
    page = (
        r'<p>In a line <span class="arithmatex">\(a &lt; b\)</span>, and</p>'
        r'<div class="arithmatex">\[V \mathrel{+}= \alpha\]</div>'
    )
    made = formulas.on_page_content(page)
    assert "arithmatex" not in made
    assert made.count("<math ") == 2
    assert "&#x0003C;" in made  # the smaller sign, which was escaped
    assert "<mo>+=</mo>" in made
    assert '<div class="formula"><math' in made
    with pytest.raises(ValueError, match="no formula"):
        formulas.mathml("span", "a < b")


def test_every_formula_of_the_theory_is_understood():
    formulas = hook("formulas")
    found = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text_of(DOCS / "theory.md"), re.DOTALL)
    assert len(found) > 300
    for display, inline in found:
        marked = rf"\[{display}\]" if display else rf"\({inline}\)"
        made = formulas.mathml("div" if display else "span", marked)
        assert not re.search(r"<m\w+>\\", made), inline or display  # a name that it does not know


# --- links ----------------------------------------------------------------------------------------


def moved(page, markdown):
    """A page's Markdown as the site has it."""
    config = SimpleNamespace(config_file_path=str(ROOT / "mkdocs.yml"), docs_dir=str(DOCS))
    uri = page.relative_to(DOCS) if page.is_relative_to(DOCS) else page.relative_to(ROOT)
    uri = uri.as_posix() if page.is_relative_to(DOCS) else f"repository/{uri.as_posix()}"
    file = SimpleNamespace(abs_src_path=str(page), src_uri=uri)
    return hook("links").on_page_markdown(markdown, SimpleNamespace(file=file), config, None)


def test_links_out_of_the_docs_lead_to_copies_in_the_site():
    page = DOCS / "how-to" / "agent.md"
    source = "../../src/jaxrl_pg/agents/ppo.py"
    there = "../repository/src/jaxrl_pg/agents/ppo.py.md"
    assert moved(page, f"[code]({source}#L12)") == f"[code]({there}#__codelineno-0-12)"
    assert moved(page, f'[`f`]({source} "f(x)")') == f'[`f`]({there} "f(x)")'
    assert moved(page, "[x](../../experiments)") == "[x](../repository/experiments.md)"
    for kept in ("[y](network.md#a)", "[z](https://x.org)", "`[c](../../src)`", "[t](#here)"):
        assert moved(page, kept) == kept


def test_pages_outside_the_docs_find_their_neighbours_and_the_docs():
    page = ROOT / "experiments" / "README.md"
    assert moved(page, "[x](masks.toml)") == "[x](masks.toml.md)"
    assert moved(page, "[x](../docs/theory.md)") == "[x](../../theory.md)"
    assert moved(page, "![x](minatar.png)") == "![x](minatar.png)"


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loaded",
    [
        '<script src="https://unpkg.com/x"></script>',
        '<img alt="a" src="//x.org/y.png">',
        '<link href="https://fonts.org/f" rel="stylesheet">',
        '<link rel="preconnect" href="https://fonts.org">',
    ],
)
def test_a_page_loads_nothing_from_the_network(loaded):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    with pytest.raises(ValueError, match=r"index\.md loads from the network"):
        hook("offline").on_post_page(f"<p>{loaded}</p>", page=page)
    kept = '<a href="https://x.org">x</a><script src="../a.js"></script><link href="a.css">'
    assert hook("offline").on_post_page(kept, page=page) == kept


# --- what is read off the code --------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    return hook("reference").pages()


@pytest.mark.parametrize("agent", AGENTS)
def test_every_field_is_described_once_with_its_default(agent, made):
    page, cls = made[f"reference/fields/{agent}.md"], getattr(jaxrl_pg, agent).Config
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+)<br><small>(.+)</small> \|$", page, re.M)
    assert sorted(row[0] for row in rows) == sorted(f.name for f in dataclasses.fields(cls))
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    for name, default, text, allowed in rows:
        if defaults[name] is not dataclasses.MISSING:
            assert default == f"`{defaults[name]!r}`"
        assert text
        assert allowed


def test_ranges_and_choices_are_said(made):
    page = made["reference/fields/ppo.md"]
    assert "| `clip_eps` | `0.2` |" in page
    assert "`float`: a number > 0; or `None`" in page
    assert "one of `clip`, `kl`" in page
    assert "`int`: a whole number >= 1" in page
    assert "| `num_evals` | `10` |" in made["reference/fields/options.md"]


def test_every_module_is_on_one_page_of_the_api(made):
    shown = re.findall(r"^::: (jaxrl_pg[\w.]*)$", "".join(made.values()), re.MULTILINE)
    paths = [path.relative_to(SOURCE).with_suffix("") for path in SOURCE.rglob("*.py")]
    parts = [[part for part in path.parts if part != "__init__"] for path in paths]
    modules = {"jaxrl_pg." + ".".join(x) for x in parts if x and x[-1] not in ("lazy", "__main__")}
    functions = [name for name in shown if name not in modules]
    assert sorted(set(shown) - set(functions)) == sorted(modules)
    assert len(shown) == len(set(shown))
    assert len(functions) == 9  # of the front door


# --- what is written by hand ----------------------------------------------------------------------


def test_pages_that_the_navigation_names_are_there():
    named = re.findall(r"^ *- (?:[\w ]+: )?([\w/-]+\.md)$", text_of(DOCS / ".nav.yml"), re.M)
    assert len(named) > 40
    assert [name for name in named if not (DOCS / name).is_file()] == []
    assert len(named) == len(set(named))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_each_decision_is_said_in_one_line_and_listed(page):
    text, index = text_of(page), text_of(DOCS / "decisions.md")
    sections = re.findall(r"^## (.+)\n(.*)", text, re.MULTILINE)
    assert sections
    for title, first in sections:
        assert first.startswith("**"), title
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        assert f"\n### {title}\n" in index, title
        assert f"[Why](explanation/{page.name}#{anchor})" in index, title


def test_exit_codes_are_those_of_the_command_line():
    rows = re.findall(r"^\| (\d+) \|", text_of(DOCS / "reference" / "exit-codes.md"), re.MULTILINE)
    names = ("DONE", "DIVERGED", "WRONG", "SYSTEM", "BUG", "INTERRUPTED")
    assert [int(row) for row in rows] == [*(getattr(exits, name) for name in names), 143]


def test_the_page_on_fields_says_who_has_them():
    page = text_of(DOCS / "reference" / "fields.md")
    of_all = re.search(r"^\| (`env`.*) \| every agent \|$", page, re.MULTILINE)[1]
    shared = set.intersection(
        *({f.name for f in dataclasses.fields(getattr(jaxrl_pg, a).Config)} for a in AGENTS)
    )
    rest = re.search(r"^\| (`learning_rate`.*) \| every agent \|$", page, re.MULTILINE)[1]
    assert set(re.findall(r"`(\w+)`", of_all + rest)) == shared
