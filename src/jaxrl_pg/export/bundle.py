"""The loader as one file: what two modules of this package hold, without what imports the other."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["bundled"]


def bundled() -> str:
    """Return the source of `policy.py`, which imports NumPy and the standard library only."""
    here = Path(__file__).parent
    network, policy = (
        (here / f"numpy_{name}.py").read_text(encoding="utf-8") for name in ("network", "policy")
    )
    imports, rest = set(), []
    for source in (network, policy):
        body = ast.parse(source).body
        imports |= {ast.unparse(x) for x in body if isinstance(x, ast.Import | ast.ImportFrom)}
        names = next(x for x in body if isinstance(x, ast.Assign) and "__all__" in ast.unparse(x))
        rest.append("".join(source.splitlines(keepends=True)[names.end_lineno :]).strip())
    future = "from __future__ import annotations"
    lines = sorted(
        (x for x in imports if x != future and "jaxrl_pg" not in x),
        key=lambda x: ("numpy" in x, x.startswith("from"), x),
    )
    docstring = ast.get_source_segment(policy, ast.parse(policy).body[0])
    given = '__all__ = ["Policy", "load"]'
    heading = "\n\n".join([str(docstring), future, "\n".join(lines), given])
    return "\n\n\n".join([heading, *rest]) + "\n"
