"""Point the pages' links into source files at the lines where the code is now.

    .venv/bin/python tools/anchor_links.py

A link names a definition, and may quote a piece of one of its lines, which readers see when they
point at the link:

    [`_loss`](../../src/jaxrl_pg/agents/ppo.py#L153)
    [`_loss`](../../src/jaxrl_pg/agents/ppo.py#L159 "losses.clipped_surrogate_loss")

A name is that of a function, a class, a field (`Config.clip_eps`) or a constant; a function inside
another needs its own name alone. The number after `#L` is this program's work, so write `#L0` for a
new link. A name or a piece that is no longer there is an error: then the page's words need a look.
"""

import ast
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "experiments")
LINK = re.compile(
    r"\[`(?P<name>[\w.]+)`\]\((?P<path>[^)\s#]+\.py)#L(?P<line>\d+)(?: \"(?P<piece>[^\"\n]+)\")?\)"
)


def anchored(page: Path, text: str) -> str:
    """Return a page's text with every link into source at the line of what it names.

    Args:
        page: path of the page, to which its links are relative.
        text: what it says.

    Raises:
        ValueError: for a file, a name or a piece of a line that is not there.
    """

    def at_its_line(link: re.Match[str]) -> str:
        source = Path(os.path.normpath(page.parent / link["path"]))
        try:
            line = line_of(source, link["name"], link["piece"])
        except (LookupError, OSError) as error:
            raise ValueError(f"{link[0]} leads nowhere: {error}") from None
        piece = f' "{link["piece"]}"' if link["piece"] else ""
        return f"[`{link['name']}`]({link['path']}#L{line}{piece})"

    return LINK.sub(at_its_line, text)


def line_of(source: Path, name: str, piece: str | None = None) -> int:
    """Return the line of a definition, or the first of its lines with a piece of code.

    Raises:
        LookupError: if there is no such definition, more than one, or no such line in it.
        OSError: if there is no such file.
    """
    lines, found = parsed(source)
    named = [node for path, node in found if path == name]
    named = named or [node for path, node in found if path.endswith(f".{name}")]
    if len(named) != 1:
        raise LookupError(f"{source.name} has {len(named)} definitions of {name}")
    (node,) = named
    if piece is None:
        return node.lineno
    first = after_docstring(node)
    for number in range(first, (node.end_lineno or first) + 1):
        if piece in lines[number - 1]:
            return number
    raise LookupError(f"{name} in {source.name} has no line with {piece!r}")


@functools.cache
def parsed(source: Path) -> tuple[list[str], list[tuple[str, ast.stmt]]]:
    """Return a file's lines, and its definitions by their dotted names."""
    text = source.read_text(encoding="utf-8")
    return text.splitlines(), list(definitions(ast.parse(text).body))


def definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Yield every definition with its dotted name, those inside others but for local variables."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
            inner: list[ast.stmt] = [x for x in node.body if isinstance(x, ast.FunctionDef)]
            yield from definitions(inner, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id, node
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from ((prefix + name, node) for name in names)


def after_docstring(node: ast.stmt) -> int:
    """Return the first line of a definition that is not its docstring's."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        return (node.body[0].end_lineno or node.lineno) + 1
    return node.lineno


def rewrite(pages: Iterable[Path], anew: Callable[[Path, str], str]) -> int:
    """Write pages anew, name those that change, and return the exit code of a program.

    Args:
        pages: the files.
        anew: from a page and its text to what it is to say; a ValueError ends the work.
    """
    for page in sorted(pages):
        before = page.read_text(encoding="utf-8")
        try:
            after = anew(page, before)
        except ValueError as error:
            print(f"{page.relative_to(ROOT)}: {error}", file=sys.stderr)
            return 1
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"rewrote {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(rewrite((page for name in FOLDERS for page in ROOT.glob(f"{name}/**/*.md")), anchored))
