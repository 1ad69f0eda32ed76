"""Hook of mkdocs: reference pages that are read off the code when the site is built.

`reference/fields/<agent>.md` has every field of an agent's config, and `reference/api/<package>.md`
every public name of a package, which mkdocstrings fills in.
"""

import ast
import dataclasses
import inspect
import itertools
import textwrap
import typing
from pathlib import Path

from mkdocs.structure.files import File

import jaxrl_pg
from jaxrl_pg import fields
from jaxrl_pg.running.options import Options, Processes
from jaxrl_pg.sweeps.batch import SweepOptions

SOURCE = Path(jaxrl_pg.__file__).parent
HIDDEN = {"lazy", "__main__"}
FRONT = ("train", "init", "iterate", "run", "resume", "load", "evaluate", "value", "sweep")
# A page is found by its own headings, and not by each name that it has in common with all others.
HEAD = "---\ntitle: {title}\n---\n\n# {title}\n\n"


def on_files(files, config):
    """Add the pages that are made here."""
    for uri, content in pages().items():
        files.append(File.generated(config, uri, content=content))
    return files


def pages():
    """Return every page that is made, by its place among the pages."""
    made = {f"reference/fields/{name}.md": config_page(name) for name in jaxrl_pg.AGENT_NAMES}
    made["reference/fields/options.md"] = options_page()
    made["reference/api/index.md"] = front_page()
    made |= {f"reference/api/{room}.md": api_page(room) for room in rooms()}
    return made


# --- fields ---------------------------------------------------------------------------------------


def config_page(name):
    """Return the page of an agent's config: its own fields, then those of each class above it."""
    cls = getattr(jaxrl_pg, name).Config
    text = HEAD.format(title=f"{name}.Config")
    text += (
        f"Every field of `{name}.Config`, and so every option of `jaxrl-pg train {name}`. A "
        "`float` is a leaf: it may be traced, mapped over and swept in one compiled program. "
        "Everything else shapes the program.\n"
    )
    shown = set()
    for base in cls.__mro__:  # a field is described where it was last given another default
        text += table(base, cls, without=shown)
        shown |= set(texts(base))
    return text


def options_page():
    """Return the page of what runs, processes and sweeps take besides a config."""
    text = HEAD.format(title="Options of runs and sweeps")
    text += (
        "What `jaxrl_pg.run`, `jaxrl_pg.sweep` and the commands take besides a config. In Python "
        "they are keyword arguments, on the command line options.\n"
    )
    return text + "".join(table(cls, cls) for cls in (Options, Processes, SweepOptions))


def table(base, cls, without=()):
    """Return the fields that a class describes, as their values are in another that inherits it."""
    described = {name: text for name, text in texts(base).items() if name not in without}
    by_name = {field.name: field for field in dataclasses.fields(cls)}
    rows = [row(by_name[name], fields.kinds(cls)[name], described[name]) for name in described]
    if not rows:
        return ""
    title, _, rest = (ast.get_docstring(definition_of(base)) or "").partition("\n")
    heading = f"\n## {title.removesuffix('.')}\n{rest}\n\n"
    return heading + "| field | default | what it is |\n|---|---|---|\n" + "".join(rows)


def row(field, kind, text):
    """Return the line of a table that says what a field is."""
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    shown = f"`{default!r}`" if default is not dataclasses.MISSING else "required"
    text = f"{' '.join(text.split())}<br><small>{allowed(kind)}</small>"
    return f"| `{field.name}` | {shown} | {text} |\n".replace("||", r"\|\|")


def allowed(kind):
    """Say in words what a field may hold."""
    if typing.get_origin(kind.base) is typing.Literal:
        words = "one of " + ", ".join(f"`{x}`" for x in typing.get_args(kind.base))
    elif kind.base in (int, float):
        words = f"`{kind.base.__name__}`: {kind.range.describe(kind.base is int)}"
    else:
        words = f"`{getattr(kind.base, '__name__', kind.base)}`"
        words = f"`{kind.base}`" if typing.get_args(kind.base) else words
    words = "an object, or a name" if kind.base is typing.Any else words.replace("typing.", "")
    return f"{words}; or `None`" if kind.optional else words


def texts(cls):
    """Return the text below each field that a class's own body describes."""
    if not dataclasses.is_dataclass(cls):
        return {}
    pairs = itertools.pairwise(definition_of(cls).body)
    names = {field.name for field in dataclasses.fields(cls)}
    return {
        node.target.id: inspect.cleandoc(ast.literal_eval(below.value))
        for node, below in pairs
        if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr)
        if node.target.id in names
    }


def definition_of(cls):
    """Return a class as it is written: what it says of itself at run time may be more."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    return definition


# --- names ----------------------------------------------------------------------------------------


def rooms():
    """Return the packages, those inside packages, and the modules at the root, by dotted name."""
    packages = [path.parent for path in SOURCE.rglob("__init__.py")]
    names = [path.relative_to(SOURCE).as_posix().replace("/", ".") for path in packages]
    names += [path.stem for path in SOURCE.glob("*.py")]
    return sorted(set(names) - HIDDEN - {".", "__init__"})


def front_page():
    """Return the page of what `jaxrl_pg` itself gives."""
    text = HEAD.format(title="jaxrl_pg")
    text += "The functions that `import jaxrl_pg` gives. Everything else is in a package.\n"
    found = [(getattr(jaxrl_pg, name).__module__, name) for name in FRONT]
    found = [(module, getattr(jaxrl_pg, name).__name__) for module, name in found]
    return text + "".join(f"\n::: {module}.{name}\n" for module, name in found)


def api_page(room):
    """Return the page of a package: its modules, one after the other."""
    path = SOURCE.joinpath(*room.split("."))
    inner = sorted(x.stem for x in path.glob("*.py") if x.stem not in {"__init__", *HIDDEN})
    names = [room, *(f"{room}.{stem}" for stem in inner)]
    text = HEAD.format(title=room)
    return text + "".join(f"\n::: jaxrl_pg.{name}\n" for name in names)
