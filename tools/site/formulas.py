"""Hook of mkdocs: formulas become MathML when a page is built.

Browsers draw MathML themselves. So the site needs no script for them, and no network.
"""

import html
import re

from latex2mathml import converter

FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
# How the extension `arithmatex` marks a formula in a line, and one of its own.
MARKS = {"span": (r"\(", r"\)"), "div": (r"\[", r"\]")}
# What becomes of `\mathrel{+}=`, and what is meant.
APART = "<mo><mrow><mo>&#x0002B;</mo></mrow></mo><mo>&#x0003D;</mo>"
TOGETHER = "<mo>+=</mo>"


def on_page_content(content, **_):
    """Replace the formulas of a page, which `arithmatex` has marked, by MathML."""
    return FORMULA.sub(lambda match: mathml(match[1], match[2]), content)


def mathml(tag, marked):
    """Return the MathML of a marked formula: in a line (`span`) or on lines of its own (`div`).

    Raises:
        ValueError: if what is marked is no formula.
    """
    first, last = MARKS[tag]
    text = html.unescape(marked).strip()
    if not (text.startswith(first) and text.endswith(last)):
        raise ValueError(f"no formula: {text!r}")
    display = "block" if tag == "div" else "inline"
    formula = converter.convert(text.removeprefix(first).removesuffix(last), display=display)
    formula = formula.replace(APART, TOGETHER)
    return f'<div class="formula">{formula}</div>' if tag == "div" else formula
