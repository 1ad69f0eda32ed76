"""Measure how far a reader walks from `train` to an agent's gradient.

    .venv/bin/python tools/reading_distance.py

For each agent: the files that hold what is reached by name from `training.program.train` and from
the agent's own functions, the functions and classes among it, their lines of code (without
docstrings, comments and blank lines), and the calls of this package that are open when the first
gradient of an iteration is asked for. docs/explanation/house.md keeps the table.
"""

import ast
import inspect
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax

import jaxrl_pg

SOURCE = Path(jaxrl_pg.__file__).parent
PACKAGE = "jaxrl_pg"
# What an agent is made of, and where a reader begins.
ENTRY = ("Config", "Learner", "init", "iterate", "act", "value")
# Behind the door of environments, each is another world.
BEHIND_A_DOOR = ("envs.adapters", "envs.games", "envs.from_mdp")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


class Name(NamedTuple):
    """A definition at the top of a module."""

    module: str
    name: str


class House:
    """The package's modules, their definitions, and the names each has imported."""

    def __init__(self) -> None:
        """Read and parse every module."""
        self.lines: dict[str, list[str]] = {}
        self.definitions: dict[Name, ast.stmt] = {}
        self.modules: dict[str, dict[str, str]] = {}  # alias of a module, by the module it is in
        self.imported: dict[str, dict[str, Name]] = {}  # alias of a definition, likewise
        trees = {}
        for path in sorted(SOURCE.rglob("*.py")):
            parts = [p for p in path.relative_to(SOURCE).with_suffix("").parts if p != "__init__"]
            text = path.read_text()
            trees[".".join(parts)] = ast.parse(text)
            self.lines[".".join(parts)] = text.splitlines()
        for module, tree in trees.items():
            self.modules[module], self.imported[module] = {}, {}
            for statement in tree.body:
                for name in _defined(statement):
                    self.definitions[Name(module, name)] = statement
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                    inner = (node.module or "").removeprefix(PACKAGE).removeprefix(".")
                    for alias in node.names:
                        full = f"{inner}.{alias.name}".removeprefix(".")
                        if full in trees:
                            self.modules[module][alias.asname or alias.name] = full
                        else:
                            name = Name(inner, alias.name)
                            self.imported[module][alias.asname or alias.name] = name

    def find(self, module: str, name: str) -> Name | None:
        """Return where a name that is used in a module is defined, through re-exports."""
        while Name(module, name) not in self.definitions:
            if name not in self.imported.get(module, {}):
                return None
            module, name = self.imported[module][name]
        return Name(module, name)

    def used_by(self, place: Name) -> set[Name]:
        """Return the definitions that a definition names."""
        used = set()
        for node in ast.walk(self.definitions[place]):
            target = None
            if isinstance(node, ast.Name):
                target = self.find(place.module, node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = self.modules[place.module].get(node.value.id)
                target = self.find(module, node.attr) if module is not None else None
            if target is not None:
                used.add(target)
        return used

    def reached(self, agent: str) -> set[Name]:
        """Return all definitions that a reader meets between `train` and the agent's gradient."""
        entries = [self.find(f"agents.{agent}", name) for name in ENTRY]
        todo = [entry for entry in [self.find("training.program", "train"), *entries] if entry]
        seen: set[Name] = set()
        while todo:
            place = todo.pop()
            if place not in seen and not place.module.startswith(BEHIND_A_DOOR):
                seen.add(place)
                todo.extend(self.used_by(place))
        return seen

    def code_lines(self, place: Name) -> int:
        """Return a definition's lines without docstrings, comments and blank lines."""
        node, lines = self.definitions[place], self.lines[place.module]
        prose: set[int] = set()
        for inner in ast.walk(node):
            if isinstance(inner, DOCUMENTED) and ast.get_docstring(inner, clean=False):
                prose.update(range(inner.body[0].lineno, (inner.body[0].end_lineno or 0) + 1))
        counted = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        texts = [lines[i - 1].strip() for i in counted if i not in prose]
        return sum(bool(text) and not text.startswith("#") for text in texts)


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def frames(agent: str) -> int:
    """Return the calls of this package, from `train` on, that are open at the first gradient."""
    depths: list[int] = []
    originals = {name: getattr(jax, name) for name in ("grad", "value_and_grad", "vjp")}

    def counted(name):
        def call(*args, **kwargs):
            stack = [f.function for f in inspect.stack(0)[1:] if str(SOURCE) in f.filename]
            depths.append(stack.index("train") + 1)
            return originals[name](*args, **kwargs)

        return call

    config_class = getattr(jaxrl_pg, agent).Config
    fields = {"num_envs": 8, "num_steps": 512, "total_timesteps": 4096}
    for name in originals:
        setattr(jax, name, counted(name))
    try:
        jax.eval_shape(jaxrl_pg.train, config_class(**fields), jax.random.key(0))
    finally:
        for name, original in originals.items():
            setattr(jax, name, original)
    return depths[0]


def main() -> None:
    """Print the table, of one agent or of all."""
    house = House()
    print("| agent | files | definitions | code lines | frames |")
    print("|---|---|---|---|---|")
    for agent in sys.argv[1:] or jaxrl_pg.AGENT_NAMES:
        reached = house.reached(agent)
        code = sum(map(house.code_lines, reached))
        files = len({place.module for place in reached})
        print(f"| `{agent}` | {files} | {len(reached)} | {code} | {frames(agent)} |")
    if len(sys.argv) == 2:
        for module, count in Counter(place.module for place in reached).most_common():
            code = sum(house.code_lines(p) for p in reached if p.module == module)
            print(f"{module:28}{count:4} definitions {code:4} lines")


if __name__ == "__main__":
    main()
