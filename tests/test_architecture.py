"""The house, read off its imports: who may know whom, and one room for each library."""

import ast
import graphlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

import jaxrl_pg

SOURCE = Path(jaxrl_pg.__file__).parent
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
MOST_LINES = 320

# Who may know whom. A name stands for a module, or for a package and everything in it.
MAY_IMPORT = {
    "types": [],
    "config": [],
    "ops": ["ops", "types"],
    "envs": ["envs", "config", "types"],
    "networks": ["ops", "types"],
    "optim": [],
    "rollout": ["envs", "types"],
    "parallel": ["ops.running_stats", "types"],
    "normalize": ["ops", "parallel", "types"],
    "on_policy": [
        *("config", "envs", "networks", "normalize", "ops", "optim", "parallel", "rollout"),
        "types",
    ],
    "closed_form_step": ["ops", "parallel", "types"],
    "minibatches": ["on_policy", "ops", "optim", "parallel", "types"],
    "factored": [
        *("envs", "networks", "normalize", "on_policy", "ops", "parallel", "rollout", "types"),
    ],
    "replay": [],
    "off_policy": [
        *("config", "envs", "networks", "ops", "optim", "parallel", "replay", "rollout", "types"),
    ],
    "rounds": ["off_policy", "replay", "types"],
    "evaluation": ["agents", "envs", "types"],
    "training": ["agents", "parallel", "evaluation", "types"],
    "packing": [],
    "storage": [],
    "checkpoint": ["packing", "storage"],
    "tabular": ["tabular", "ops", "types"],
    "plot": [],
    "files": [],
    "record": ["files", "plot"],
    "population": ["agents", "evaluation", "parallel", "types"],
    "interrupt": [],
    "memory": ["agents"],
    "work": ["agents", "memory"],
    "policy": ["agents", "checkpoint", "config", "envs", "parallel", "record", "types"],
    "options": ["config"],
    "hosts": ["options"],
    "journal": ["checkpoint", "config", "hosts", "options", "record", "types"],
    "running": [
        *("agents", "checkpoint", "config", "envs", "evaluation", "hosts", "interrupt", "journal"),
        *("memory", "options", "parallel", "policy", "record", "training", "types"),
    ],
    "arguments": [],
    "study": ["agents", "config"],
    "statistics": [],
    "table": ["files"],
    "report": ["files", "record", "report", "statistics", "table"],
    "search": ["config", "population", "study", "types"],
    "experiment": ["agents", "config", "envs", "study"],
    "batch": [
        *("agents", "checkpoint", "config", "experiment", "memory", "parallel", "population"),
        "training",
    ],
    "sweep": [
        *("batch", "experiment", "files", "hosts", "interrupt", "memory", "options", "record"),
        *("table", "work"),
    ],
    "launch_ray": [
        *("experiment", "interrupt", "options", "parallel", "sweep"),
    ],
    "cli": [
        *(
            "",
            "arguments",
            "experiment",
            "hosts",
            "launch_ray",
            "options",
            "parallel",
            "record",
            "report",
            "running",
            "sweep",
        ),
    ],
}
AN_AGENT_MAY_IMPORT = [
    "closed_form_step",
    "config",
    "envs",
    "factored",
    "minibatches",
    "networks",
    "normalize",
    "off_policy",
    "on_policy",
    "ops",
    "optim",
    "parallel",
    "replay",
    "rollout",
    "rounds",
    "types",
]
# Third-party packages that have one room; None means everywhere.
ROOMS = {
    "jax": None,
    "numpy": [
        *("checkpoint", "cli", "config", "hosts", "journal", "packing", "plot", "record"),
        *("report", "running", "statistics", "table"),
        "storage",
    ],
    "chex": ["ops"],
    "filelock": ["running.files"],
    "flax": ["networks"],
    "optax": ["optim"],
    "gymnax": ["envs"],
    "jaxmarl": ["envs.jaxmarl"],
    "orbax": ["storage"],
    "tyro": ["arguments"],
    "rich": ["plot"],
    "matplotlib": ["plot", "report.drawing"],
    "tensorboardX": ["plot", "report.export"],
    "ray": ["launch_ray"],
}
UNDECLARED_BY_GYMNAX = {"six", "absl-py"}


def module_name(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


TREES = {module_name(path): ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}
LINES = {module_name(path): path.read_text().count("\n") for path in SOURCE.rglob("*.py")}
AGENTS = [name for name in TREES if name.startswith("agents.")]
REGISTRY = {"", "agents"}  # the package's own front door, and the registry


def imports(tree):
    """Every import, inside functions too, as `(module, name or None, alias)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, alias.asname or alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                yield node.module, alias.name, alias.asname or alias.name


def internal_imports(tree):
    """`(module of this package, name taken from it or None, alias)`."""
    for module, name, alias in imports(tree):
        if module.split(".")[0] == "jaxrl_pg":
            inner = module.removeprefix("jaxrl_pg").removeprefix(".")
            deeper = ".".join(part for part in (inner, name) if part)
            if name is not None and deeper in TREES:
                yield deeper, None, alias
            else:
                yield inner, name, alias


def third_party_imports(tree):
    packages = {module.split(".")[0] for module, _, _ in imports(tree)}
    return packages - set(sys.stdlib_module_names) - {"jaxrl_pg"}


def within(name, rooms):
    return any(name == room or (room and name.startswith(f"{room}.")) for room in rooms)


def exported(name):
    for node in TREES[name].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return None


def room_of(name):
    return next((room for room in MAY_IMPORT if within(name, [room])), None)


# --- who knows whom -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TREES))
def test_imports_point_one_way(name):
    if name == "":
        return  # the front door is every room's
    if name in AGENTS:
        allowed = AN_AGENT_MAY_IMPORT
    elif name == "agents":
        allowed = ["agents", "types"]
    else:
        assert room_of(name) is not None, f"say in MAY_IMPORT whom {name} may know"
        allowed = MAY_IMPORT[room_of(name)]
    wrong = {
        module for module, _, _ in internal_imports(TREES[name]) if not within(module, allowed)
    }
    assert not wrong, f"{name} may not import {sorted(wrong)}"


def test_there_is_no_circle():
    graph = {
        name: {module for module, _, _ in internal_imports(tree)} - {name}
        for name, tree in TREES.items()
        if name  # the front door imports when it is asked to
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_the_table_names_only_what_exists():
    for names in (MAY_IMPORT, *MAY_IMPORT.values(), AN_AGENT_MAY_IMPORT):
        assert set(names) <= set(TREES)


def test_the_command_line_imports_nothing_before_it_is_needed():
    at_once = ast.Module([node for node in TREES["cli"].body if not is_def(node)], [])
    assert {module for module, _, _ in internal_imports(at_once)} <= {""}
    assert not third_party_imports(at_once)


def is_def(node):
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


def test_only_the_registry_and_the_front_door_name_an_agent():
    assert AGENTS
    for agent in AGENTS:
        short = agent.removeprefix("agents.")
        for name, tree in TREES.items():
            if name in REGISTRY or name == agent or within(name, ["tabular"]):
                continue  # the theory has functions of the same names, and knows no agent
            words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            words |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            words |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            words |= {alias for _, _, alias in imports(tree)}
            assert short not in words, f"{name} names {short}"


@pytest.mark.parametrize("name", sorted(TREES))
def test_rooms_use_of_each_other_only_what_is_exported(name):
    modules = {a: m for m, taken, a in internal_imports(TREES[name]) if taken is None}
    taken = {(m, attribute) for m, attribute, _ in internal_imports(TREES[name]) if attribute}
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module and f"{module}.{node.attr}" not in TREES:
                taken.add((module, node.attr))
    hidden = {f"{m}.{attribute}" for m, attribute in taken if attribute not in exported(m)}
    assert not hidden


# --- libraries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_each_library_has_one_room(package):
    users = {name for name, tree in TREES.items() if package in third_party_imports(tree)}
    assert users
    rooms = ROOMS[package]
    assert rooms is None or all(within(name, rooms) for name in users), users


def test_every_library_is_in_the_table():
    assert set().union(*map(third_party_imports, TREES.values())) == set(ROOMS)


def test_of_flax_only_linen_is_used():
    found = {(module, name) for module, name, _ in imports(TREES["networks"]) if "flax" in module}
    assert found == {("flax", "linen")}


def requirements():
    project = tomllib.loads(PROJECT.read_text())["project"]
    groups = project["optional-dependencies"]
    return project["dependencies"], [text for group in groups.values() for text in group]


def package_of(requirement):
    return re.match(r"[\w-]+", requirement).group()


def test_every_requirement_has_a_lower_and_an_upper_bound():
    for text in [*requirements()[0], *requirements()[1]]:
        assert re.fullmatch(r"[\w-]+(\[[\w-]+\])?>=[\d.]+,<[\d.]+", text), text


def test_what_is_required_is_what_is_imported():
    required = {package_of(text) for text in requirements()[0]}
    imported = {"orbax-checkpoint" if name == "orbax" else name for name in ROOMS}
    extras = {"jaxmarl", "ray", "tensorboardX"}
    assert required == (imported - extras) | UNDECLARED_BY_GYMNAX
    assert extras <= {package_of(text) for text in requirements()[1]}


# --- form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TREES))
def test_no_module_is_too_long_to_read(name):
    assert LINES[name] <= MOST_LINES


@pytest.mark.parametrize("name", sorted(TREES))
def test_every_module_says_what_it_is_and_what_it_gives(name):
    tree = TREES[name]
    assert ast.get_docstring(tree)
    names = exported(name)
    if len(tree.body) == 1:  # a package that is only its docstring
        return
    assert names == sorted(names)
    assert len(names) == len(set(names))
    defined = {alias for _, _, alias in imports(tree)}
    for node in tree.body:
        if is_def(node):
            defined.add(node.name)
        for target in [*getattr(node, "targets", []), getattr(node, "target", None)]:
            if isinstance(target, ast.Name):
                defined.add(target.id)
    if name:  # the front door imports lazily
        assert set(names) <= defined
    else:
        assert all(getattr(jaxrl_pg, exported_name) is not None for exported_name in names)
