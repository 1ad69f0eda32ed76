"""What the README and the other pages print exists: names, imports, links, the tree of packages."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrl_pg

ROOT = Path(__file__).parents[1]
SOURCE = Path(jaxrl_pg.__file__).parent
README = ROOT / "README.md"
# Every page of the repository, wherever it is; what is installed or hidden is not of it. The
# changelog also names what is gone.
CHANGELOG = ROOT / "CHANGELOG.md"
FOLDERS = ("docs", "examples", "experiments", "src", "tests", "tools")
FOUND = [*ROOT.glob("*.md"), *(page for name in FOLDERS for page in ROOT.glob(f"{name}/**/*.md"))]
PAGES = sorted(page for page in FOUND if page != CHANGELOG)
LINKING = [*PAGES, CHANGELOG]
# What a dotted name in lower case may begin with, beside the package's own packages and modules:
# libraries, and objects of other libraries on the pages for those who come from them.
LIBRARIES = {"algo", "flax", "jax", "jnp", "lax", "model", "orbax", "pandas"}
# What pages call an object, and its class.
OBJECTS = {"policy": ["running.trained_policy.Policy"]}

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
FULL_NAME = re.compile(r"\bjaxrl_pg(?:\.[A-Za-z_]\w*)+")
SHORT_NAME = re.compile(r"([a-z_]+(?:\.[A-Za-z_*][\w*]*)+)(?:\(.*\))?")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# What makes a run's or a policy's folder, in Python and in a shell.
MAKES_FOLDER = re.compile(
    r"""(?:\brun\([^()]*?|\bsweep\(.*?, |\.save\(|run_dir=)"(?P<run>(?:runs|policies)/[^"]+)"|"""
    r"""--run-dir (?P<shell>\S+)|\.export\("(?P<export>[^"]+)"|\bexport .*?--out (?P<out>\S+)"""
)
NO_LINKS = re.compile(r"\$[^$\n]+\$|`[^`\n]+`")  # formulas and code
IS_FILE = re.compile(
    r"\.(csv|gif|html|ipynb|jaxexport|json|jsonl|lock|md|onnx|owner|png|py|safetensors|tex|toml|txt|yml)$"
)

# Resolves in a process of its own, where nothing but `import jaxrl_pg` came before.
RESOLVE = """
import fnmatch, functools, json, sys
import jaxrl_pg

def resolve(name):
    *path, last = name.split(".")[1:]
    owner = functools.reduce(getattr, path, jaxrl_pg)
    if "*" not in last:
        getattr(owner, last)
    elif not fnmatch.filter(owner.__all__, last):
        raise AttributeError(f"nothing in {owner.__name__} is called {last}")

names, imports = json.load(sys.stdin)
problems = {}
for name in names:
    try:
        resolve(name)
    except Exception as error:
        problems[name] = f"{type(error).__name__}: {error}"
for line in imports:
    try:
        exec(line, {})
    except Exception as error:
        problems[line] = f"{type(error).__name__}: {error}"
json.dump(problems, sys.stdout)
"""


def module_names():
    """Dotted names below `jaxrl_pg` of all packages and modules, by their last part."""
    by_last = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = [p for p in path.relative_to(SOURCE).with_suffix("").parts if p != "__init__"]
        if parts:
            by_last.setdefault(parts[-1], []).append(".".join(parts))
    return by_last


MODULES = module_names()


def names_in(text):
    """The dotted names that a page prints, and for each the full names that it may stand for.

    `ops.losses` stands for `jaxrl_pg.ops.losses`; `solve.evaluate` for `evaluate` in any module
    called `solve`; `solve.finite_*` for whatever a module exports that begins so.
    """
    names = {}
    spans = SPAN.findall(FENCED.sub("", text))
    names.update({name: [name] for name in FULL_NAME.findall(text)})
    for span in spans:
        match = SHORT_NAME.fullmatch(span)
        if not match or IS_FILE.search(match.group(1)):
            continue
        first, _, rest = match.group(1).partition(".")
        if first not in LIBRARIES | {"jaxrl_pg"}:
            rooms = OBJECTS.get(first) or MODULES.get(first, [first])
            names[match.group(1)] = [f"jaxrl_pg.{room}.{rest}" for room in rooms]
    return names


def imports_in(text):
    """The statements of a page that import from the package, in Python blocks and in its text."""
    blocks = [body for language, body in FENCED.findall(text) if language == "python"]
    spans = [
        span
        for span in SPAN.findall(FENCED.sub("", text))
        if span.startswith(("from jaxrl_pg", "import jaxrl_pg"))
    ]
    found = []
    for node in (node for code in [*blocks, *spans] for node in ast.walk(ast.parse(code))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        if any(module.split(".")[0] == "jaxrl_pg" for module in modules):
            found.append(ast.unparse(node))
    return found


def anchors_in(text):
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def page_id(page):
    return page.relative_to(ROOT).as_posix()


NAMES = {page: names_in(page.read_text(encoding="utf-8")) for page in PAGES}
IMPORTS = {page: imports_in(page.read_text(encoding="utf-8")) for page in PAGES}


@pytest.fixture(scope="module")
def problems():
    """By name or import, why it fails in a fresh process; a name that resolves is not in it."""
    names = sorted({full for page in NAMES.values() for given in page.values() for full in given})
    imports = sorted({line for page in IMPORTS.values() for line in page})
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE],
        input=json.dumps([names, imports]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_name_that_a_page_prints_resolves_after_importing_the_package(page, problems):
    broken = {
        name: problems[candidates[0]]
        for name, candidates in NAMES[page].items()
        if all(full in problems for full in candidates)
    }
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_import_that_a_page_prints_runs(page, problems):
    assert not {line: problems[line] for line in IMPORTS[page] if line in problems}


@pytest.mark.parametrize("page", LINKING, ids=page_id)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    broken = []
    for link in LINK.findall(NO_LINKS.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            broken.append(link)
        elif anchor and target.suffix == ".md":  # lines of code are known to the site
            anchors = anchors_in(target.read_text(encoding="utf-8"))
            broken += [] if anchor in anchors else [link]
    assert not broken


def folders_made_in(text):
    """The folders that a page's blocks make; several processes of one run make one together."""
    blocks = "\n".join(body for _, body in FENCED.findall(text)).replace("\\\n", " ")
    lines = "\n".join(x for x in blocks.splitlines() if not re.search(r"--process-id [1-9]", x))
    return [found.group(found.lastgroup) for found in MAKES_FOLDER.finditer(lines)]


def test_no_two_blocks_of_all_pages_make_the_same_folder():
    """A new run is refused where another one is: who copies all blocks must not come to that."""
    found = [
        (folder, page_id(page))
        for page in PAGES
        if page_id(page).startswith(("docs/", "README"))
        for folder in folders_made_in(page.read_text(encoding="utf-8"))
    ]
    folders = [folder for folder, _ in found]
    assert len(folders) > 20
    assert not [pair for pair in found if folders.count(pair[0]) > 1]


def test_contributing_shows_every_room_and_no_other():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = next(b for _, b in FENCED.findall(page) if b.startswith("src/"))
    shown = set(re.findall(r"^  (\w+)(?:/|\.py) ", tree, re.MULTILINE))
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    modules = {path.stem for path in SOURCE.glob("*.py") if path.stem != "__init__"}
    assert shown == packages | modules


def test_the_theorys_index_names_functions_of_every_sub_package():
    names = NAMES[ROOT / "docs" / "theory.md"]
    assert len(names) > 50
    assert {name.split(".")[0] for name in names} >= {"learning", "bounds", "updates", "soft"}


def test_the_patterns_find_what_a_page_prints():
    page = (
        "Call `jaxrl_pg.running.hosts.start` with `ops.losses`; `config.json`, `jax.lax.scan`.\n"
        "`tabular.mdp` is gone, and `linear.solve_*` is not: `from jaxrl_pg import ops`.\n"
        "Without marks: jaxrl_pg.lazy.submodule. Or `import jaxrl_pg.ops.losses`.\n"
        "```python\nfrom jaxrl_pg.theory import mdp\nx = jaxrl_pg.train(c)\n```\n"
    )
    assert names_in(page) == {
        "jaxrl_pg.running.hosts.start": ["jaxrl_pg.running.hosts.start"],
        "jaxrl_pg.lazy.submodule": ["jaxrl_pg.lazy.submodule"],
        "jaxrl_pg.ops.losses": ["jaxrl_pg.ops.losses"],
        "jaxrl_pg.theory": ["jaxrl_pg.theory"],
        "jaxrl_pg.train": ["jaxrl_pg.train"],
        "ops.losses": ["jaxrl_pg.ops.losses"],
        "tabular.mdp": ["jaxrl_pg.tabular.mdp"],
        "linear.solve_*": ["jaxrl_pg.theory.linear.solve_*"],
    }
    assert imports_in(page) == [
        "from jaxrl_pg.theory import mdp",
        "from jaxrl_pg import ops",
        "import jaxrl_pg.ops.losses",
    ]
    assert folders_made_in(
        "```python\nx = jaxrl_pg.run(a, 'no', 1)\njaxrl_pg.run(config, \"runs/a\", seed=0)\n```\n"
        "```bash\ntrain --num 3 \\\n  --run-dir runs/b --process-id 0\n"
        "train --run-dir runs/b --process-id 1\n```\n"
    ) == ["runs/a", "runs/b"]
    assert anchors_in("# A page: `code`, and more\n") == {"a-page-code-and-more"}
