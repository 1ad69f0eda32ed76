"""Text from outside, made safe for each format that a report is written in.

Names of sweeps, studies, environments and hyper-parameters may hold anything. What is not printed
(the ends of lines above all, which end a comment of LaTeX) becomes a space everywhere.
"""

from __future__ import annotations

import html
import unicodedata

__all__ = ["in_html", "in_latex", "in_markdown", "one_line"]

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_MARKDOWN = "\\|*_`<[&$~"


def one_line(text: str) -> str:
    """Return a text with a space for every character that is not printed."""
    return "".join(" " if _unprinted(character) else character for character in text)


def in_html(text: str) -> str:
    """Return a text as it stands in a page or in an attribute."""
    return html.escape(one_line(text), quote=True)


def in_markdown(text: str) -> str:
    """Return a text as it stands in a cell or a heading: without markup, formulas or HTML."""
    return "".join(f"\\{x}" if x in _MARKDOWN else x for x in one_line(text))


def in_latex(text: str) -> str:
    """Return a text as it stands in a cell; brackets too, which `\\\\` takes for its own."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def _unprinted(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")
