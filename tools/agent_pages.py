"""Write what the agents' pages say of the code and of recorded results.

    .venv/bin/python tools/agent_pages.py

In a page under docs/agents, what stands between one of these comments and `<!-- end -->` is made
here, for the agent that the page is named after:

    <!-- fields: clip_eps target_kl -->   fields of its config: default, range, meaning
    <!-- gates -->                        its learning gates, and what they measured
    <!-- recorded: pg_ladder ppo -->      a table of experiments/tables.py

The first is read off the config class, the second off tests/learn and the recorded `gates.csv`.
Links into source get their lines from `anchor_links`. A test asks for pages that this leaves as
they are.
"""

import ast
import csv
import dataclasses
import functools
import importlib
import inspect
import itertools
import re
import sys
import textwrap
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("tools", "experiments", "tests/learn")]

import anchor_links  # noqa: E402
import classic_tables  # noqa: E402
import tables  # noqa: E402

from jaxrl_pg import agents, fields  # noqa: E402
from jaxrl_pg.config import BaseConfig, agent_of  # noqa: E402

PAGES = ROOT / "docs" / "agents"
INDEX = "index"
BLOCK = re.compile(r"(<!-- (fields|gates)(?:: ([\w ]+))? -->\n).*?(<!-- end -->)", re.DOTALL)
GATES = ("test_learning", "test_sac_learning", "test_q_learning")
SEEDS = "10 seeds"


def rebuilt(page: Path, text: str) -> str:
    """Return a page's text with all that is made, made anew.

    Raises:
        ValueError: for a field, a row or a line of source that is not there.
    """

    def anew(found: re.Match[str]) -> str:
        begin, kind, words, end = found.groups()
        return f"{begin}{made(kind, page.stem, (words or '').split())}\n{end}"

    return anchor_links.anchored(page, tables.rebuilt(BLOCK.sub(anew, text)))


def made(kind: str, agent: str, words: Sequence[str]) -> str:
    """Return a block, as Markdown."""
    if kind == "fields":
        return field_table(agents.by_name(agent).Config, words)
    return gate_table(agent)


def field_table(config_class: type[BaseConfig], names: Sequence[str]) -> str:
    """Say of some fields of a config what they are by default, may be, and mean."""
    kinds, docs, default = fields.kinds(config_class), documented(config_class), config_class()
    unknown = [name for name in names if name not in kinds]
    if unknown:
        raise ValueError(f"{config_class.__module__}.Config has no fields {', '.join(unknown)}")
    rows = [
        [f"`{name}`", f"`{getattr(default, name)}`", allowed(kinds[name]), docs[name]]
        for name in names
    ]
    rows = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return tables.markdown(["field", "default", "may be", "what it is"], rows)


def allowed(kind: fields.Kind) -> str:
    """Say in words what a field may hold."""
    base = kind.base
    if typing.get_origin(base) is typing.Literal:
        what = ", ".join(f"`{choice}`" for choice in typing.get_args(base))
    elif base in (int, float):
        what = kind.range.describe(whole=base is int)
    else:
        what = {bool: "True or False", tuple[int, ...]: "whole numbers"}.get(base, "-")
    return f"{what}, or None" if kind.optional else what


@functools.cache
def documented(config_class: type) -> dict[str, str]:
    """Return the string below each field of a dataclass and of its bases, on one line."""
    docs = {}
    for base in filter(dataclasses.is_dataclass, reversed(config_class.__mro__)):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                docs[ast.unparse(field.target)] = " ".join(ast.literal_eval(below.value).split())
    return docs


def gates() -> Iterator[tuple[str, str, Any]]:
    """Yield every learning gate: its file, its name there, and the gate."""
    for file in GATES:
        for name, gate in importlib.import_module(file).GATES.items():
            yield file, name, gate


def gate_table(agent: str) -> str:
    """Give an agent's gates, or those of all agents on the index."""
    with (tables.RESULTS / "gates.csv").open(newline="", encoding="utf-8") as file:
        measured = {(row["file"], row["gate"]): row for row in csv.DictReader(file)}
    rows = []
    for where, name, gate in gates():
        config, found = gate.config, measured[where, name]
        of, cells = agent_of(config).name, [f"`{agent_of(config).name}`", config.env]
        cells += [f"{config.total_timesteps:,}"]
        cells += [f"{found['iqm']} [{found['low']}, {found['high']}]", found["worst"]]
        cells += [f"{gate.level:g}", classic_tables.differences(config)]
        if agent in (INDEX, of):
            rows.append(cells if agent == INDEX else cells[1:])
    if not rows:
        raise ValueError(f"{agent} has no learning gate: take the block out of its page")
    header = ["agent", "environment", "steps", f"IQM of {SEEDS} [95% interval]", "worst seed"]
    header += ["gate", "settings, beside the defaults"]
    order = [f"`{name}`" for name in agents.AGENTS]
    if agent == INDEX:
        return tables.markdown(header, sorted(rows, key=lambda row: order.index(row[0])))
    return tables.markdown(header[1:], rows)


if __name__ == "__main__":
    sys.exit(anchor_links.rewrite(PAGES.glob("*.md"), rebuilt))
