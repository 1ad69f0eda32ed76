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
MAX_LINES = 380

# Whom a room may know, one row a room: those above it. A module may know the others of its room,
# but for a circle.
MAY_IMPORT = {
    "lazy": [],
    "files": ["lazy"],
    "spelling": [],
    "fields": ["spelling"],
    "config_text": ["fields"],
    "precision": [],
    "config": ["config_text", "fields", "precision", "spelling"],
    "types": ["config", "precision"],
    "ops": ["lazy"],
    "checkpoint": ["files", "lazy"],
    "envs": ["config", "lazy", "types"],
    "theory": ["lazy", "ops"],
    "components": ["config", "envs", "lazy", "ops", "precision", "types"],
    "agents": ["components", "config", "envs", "lazy", "ops", "types"],
    "training": [
        *("components", "config", "envs", "fields", "lazy", "ops", "precision", "types"),
    ],
    "export": [
        "agents",
        "components",
        "config",
        "envs",
        "files",
        "lazy",
        "ops",
        "training",
        "types",
    ],
    "watch": ["config", "envs", "fields", "files", "lazy", "training", "types"],
    "zoo": ["agents", "config", "lazy", "training", "types"],
    "figures": ["lazy"],
    "running": [
        "agents",
        "checkpoint",
        "config",
        "envs",
        "export",
        "fields",
        "figures",
        "files",
        "lazy",
        "ops",
        "training",
        "types",
        "watch",
        "zoo",
    ],
    "sweeps": [
        "agents",
        "checkpoint",
        "config",
        "envs",
        "fields",
        "files",
        "lazy",
        "running",
        "training",
        "types",
    ],
    "report": ["figures", "files", "lazy", "ops", "running", "sweeps"],
    "cli": [
        "config",
        "envs",
        "files",
        "report",
        "running",
        "spelling",
        "sweeps",
        "training",
        "watch",
        "zoo",
    ],
}
# Third-party packages that have one room; None means everywhere.
ROOMS = {
    "jax": None,
    "numpy": [
        "checkpoint",
        "cli",
        "config",
        "config_text",
        "envs.adapters.envpool",
        "envs.adapters.gymnasium",
        "envs.adapters.craftax",
        "envs.adapters.gymnasium_spaces",
        "envs.adapters.jumanji",
        "envs.host",
        "envs.kept",
        "envs.observations",
        "export",
        "fields",
        "report",
        "running",
        "sweeps",
        "theory.arguments",
        "theory.checks",
        "training.recording",
        "watch",
        "zoo.pretrained",
    ],
    "chex": ["ops"],
    "flax": [
        "components.critics",
        "components.layers",
        "components.memory",
        "components.networks",
        "components.own_network",
    ],
    "optax": ["components.optim"],
    "gymnax": ["envs.adapters.gymnax"],
    "jaxmarl": ["envs.adapters.jaxmarl"],
    "brax": ["envs.adapters.brax"],
    "craftax": ["envs.adapters.craftax"],
    "jumanji": ["envs.adapters.jumanji"],
    "envpool": ["envs.adapters.envpool"],
    "gymnasium": ["envs.adapters.envpool", "envs.adapters.gymnasium"],
    "navix": ["envs.adapters.navix"],
    "pgx": ["envs.adapters.pgx"],
    "mujoco": ["envs.adapters.brax", "envs.adapters.playground"],
    "mujoco_playground": ["envs.adapters.playground"],
    "xminigrid": ["envs.adapters.xminigrid"],
    "orbax": ["checkpoint.orbax_file"],
    "tensorstore": ["checkpoint.orbax_file"],
    "filelock": ["files.locking"],
    "msgspec": ["files.schema"],
    "safetensors": ["export.folder"],
    "onnx": ["export.onnx_graph"],
    "rich": ["running.progress"],
    "matplotlib": ["figures.canvas", "watch.canvas", "watch.colors"],
    "PIL": ["watch.canvas", "watch.movie"],
    "tensorboardX": ["running.loggers", "report.export"],
    "wandb": ["running.loggers"],
    "mlflow": ["running.loggers"],
    "ray": ["sweeps.launch_ray"],
}
UNDECLARED = {"six", "absl-py", "flatbuffers"}  # what gymnax and jax.export import besides
SUITES = {
    "brax",
    "craftax",
    "envpool",
    "gymnasium",
    "jumanji",
    "navix",
    "pgx",
    "playground",
    "xminigrid",
}
EXTRAS = {"jaxmarl", "mlflow-skinny", "mujoco", "onnx", "ray", "tensorboardX", "wandb"} | SUITES
PACKAGES = {  # that have another name
    "mujoco_playground": "playground",
    "mlflow": "mlflow-skinny",
    "orbax": "orbax-checkpoint",
    "PIL": "pillow",
}
# The package's own front door, the registry, and the colours of the agents.
REGISTRY = {"", "agents", "figures.looks"}
SPECIAL_CASES = {"agents.ddpg": "agents.td3"}  # agents that are another one with other defaults


def module_name(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


TREES = {module_name(path): ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}
LINES = {module_name(path): path.read_text().count("\n") for path in SOURCE.rglob("*.py")}
AGENTS = [name for name in TREES if name.startswith("agents.")]


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
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def exported(name):
    for node in TREES[name].body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if ast.unparse(target) == "__all__":
                return ast.literal_eval(node.value)
    return None


def is_def(node):
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


# --- who knows whom -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(name for name in TREES if name))
def test_imports_point_one_way(name):
    room = name.split(".")[0]
    assert room in MAY_IMPORT, f"say in MAY_IMPORT whom {room} may know"
    # What needs the front door takes from it the names of the agents, and functions by name.
    known = {module for module, _, _ in internal_imports(TREES[name]) if module}
    wrong = {module for module in known if not within(module, [room, *MAY_IMPORT[room]])}
    assert not wrong, f"{name} may not import {sorted(wrong)}"


def test_the_table_is_in_order():
    rooms = list(MAY_IMPORT)
    assert {name.split(".")[0] for name in TREES if name} == set(rooms)
    for room, others in MAY_IMPORT.items():
        assert others == sorted(others), room
        assert all(rooms.index(other) < rooms.index(room) for other in others), room


def test_there_is_no_circle():
    graph = {
        name: {module for module, _, _ in internal_imports(tree)} - {name, ""}
        for name, tree in TREES.items()
        if name  # the front door imports when it is asked to
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_an_agent_knows_no_other_agent():
    for agent in AGENTS:
        known = {module for module, _, _ in internal_imports(TREES[agent])}
        assert not within("agents", known), agent
        assert not known & (set(AGENTS) - {agent, SPECIAL_CASES.get(agent)}), agent


def test_the_command_line_imports_nothing_before_it_is_needed():
    """Its modules know each other and the front door at once, the other rooms inside functions."""
    for name in (name for name in TREES if within(name, ["cli"])):
        body = [node for node in TREES[name].body if not is_def(node)]
        for_types = [node for node in body if isinstance(node, ast.If)]
        tests = {ast.unparse(node.test) for node in for_types}
        assert tests <= {"TYPE_CHECKING"}, name
        at_once = ast.Module([node for node in body if node not in for_types], [])
        known = {module for module, _, _ in internal_imports(at_once)}
        assert all(within(module, ["cli"]) for module in known if module), name
        assert not third_party_imports(at_once), name
    assert not [x for x in TREES["cli"].body if isinstance(x, ast.Import | ast.ImportFrom)]


def test_only_the_registry_and_the_front_door_name_an_agent():
    assert AGENTS
    for agent in AGENTS:
        short = agent.removeprefix("agents.")
        for name, tree in TREES.items():
            if name in REGISTRY or agent in (name, SPECIAL_CASES.get(name)):
                continue
            if within(name, ["theory"]):
                continue  # the theory has functions of the same names, and knows no agent
            words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            words |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            words |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            words |= {alias for _, _, alias in imports(tree)}
            own = {"reps"} if within(name, ["ops"]) else set()  # the mathematics has its name
            assert short not in words - own, f"{name} names {short}"


@pytest.mark.parametrize("name", sorted(TREES))
def test_rooms_use_of_each_other_only_what_is_exported(name):
    modules = {a: m for m, taken, a in internal_imports(TREES[name]) if taken is None}
    taken = {(m, attribute) for m, attribute, _ in internal_imports(TREES[name]) if attribute}
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module and f"{module}.{node.attr}" not in TREES:
                taken.add((module, node.attr))
    front_door = set(jaxrl_pg.__all__)
    hidden = {
        f"{m}.{attribute}"
        for m, attribute in taken
        if attribute not in ((exported(m) or ()) if m else front_door)
    }
    assert not hidden


@pytest.mark.parametrize("name", sorted(TREES))
def test_no_local_name_shadows_an_imported_module(name):
    modules = {a for m, taken, a in internal_imports(TREES[name]) if taken is None}
    modules |= {alias.split(".")[0] for m, taken, alias in imports(TREES[name]) if taken is None}
    fields = {
        id(getattr(statement, "target", None))
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ClassDef)
        for statement in node.body
    }
    for node in ast.walk(TREES[name]):
        bound = set()
        if id(node) in fields:  # named through its object, and so no local name
            continue
        if isinstance(node, ast.arg):
            bound = {node.arg}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound = {node.id}
        elif is_def(node):
            bound = {node.name}
        assert not bound & modules, f"{name}:{node.lineno} gives {bound & modules} another meaning"


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
    for module in ROOMS["flax"]:
        used = {(source, name) for source, name, _ in imports(TREES[module]) if "flax" in source}
        assert used == {("flax", "linen")}


def test_what_only_some_systems_have_is_not_imported_at_the_top():
    for name, tree in TREES.items():
        at_once = ast.Module([node for node in tree.body if not is_def(node)], [])
        modules = {module.split(".")[0] for module, _, _ in imports(at_once)}
        assert not modules & {"fcntl", "msvcrt", "pwd", "grp", "resource", "termios"}, name


def requirements():
    project = tomllib.loads(PROJECT.read_text())["project"]
    groups = project["optional-dependencies"]
    return project["dependencies"], [text for group in groups.values() for text in group]


def package_of(requirement):
    return re.match(r"[\w-]+", requirement).group()


def test_every_requirement_has_a_lower_and_an_upper_bound():
    for text in [*requirements()[0], *requirements()[1]]:
        assert re.fullmatch(r"[\w-]+(\[[\w,-]+\])?>=[\d.]+,<[\d.]+( ?;.*)?", text), text


def test_what_is_required_is_what_is_imported():
    required = {package_of(text) for text in requirements()[0]}
    imported = {PACKAGES.get(name, name) for name in ROOMS}
    assert required == (imported - EXTRAS) | UNDECLARED
    assert {package_of(text) for text in requirements()[1]} >= EXTRAS


# --- form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TREES))
def test_no_module_is_too_long_to_read(name):
    assert LINES[name] <= MAX_LINES


@pytest.mark.parametrize("name", sorted(TREES))
def test_every_module_says_what_it_is_and_what_it_gives(name):
    tree = TREES[name]
    assert ast.get_docstring(tree)
    if not name:  # the front door imports lazily
        assert all(getattr(jaxrl_pg, given) is not None for given in jaxrl_pg.__all__)
        return
    names = exported(name)
    if names is None:  # a package that gives its modules and nothing else
        own = [node for node in tree.body[1:] if not isinstance(node, ast.ImportFrom)]
        assert [getattr(node, "name", None) for node in own] in ([], ["__getattr__"])
        return
    assert len(names) == len(set(names))
    defined = {alias for _, _, alias in imports(tree)}
    for node in tree.body:
        if is_def(node):
            defined.add(node.name)
        for target in [*getattr(node, "targets", []), getattr(node, "target", None)]:
            if isinstance(target, ast.Name):
                defined.add(target.id)
    assert set(names) <= defined


def test_partials_are_few_and_no_config_goes_without_its_class():
    text = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    assert len(re.findall(r"\bpartial\(", text)) <= 4 * text.count("\n") / 1000
    assert not re.findall(r"\bconfig: Any\b", text)
