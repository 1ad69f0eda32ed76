"""Every table of numbers in the pages is made from kept results, or listed with its source."""

import re
from pathlib import Path

import pytest

from test_pages import FENCED, LINK, anchors_in
from test_project_files import is_target

ROOT = Path(__file__).parents[1]
NUMBERS = ROOT / "docs" / "reference" / "numbers.md"
PAGES = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/**/*.md")]
# Beginnings of headers of tables that say what there is, and not what was measured.
FACTS = (
    *("field |", "option |", "code |", "key |", "metric |", "package |", "`cnn` |", "when |"),
    *("what | equation", "method | field", "agents | steps | except", "chooses C by"),
    *("if the last step is followed by", "the environment has", "H100 (SXM)"),
)
NUMBER = re.compile(r"(?<![\w.-])-?\d[\d,.]*")
NAME = re.compile(r"`[^`]*`|\]\([^)]*\)|\b[A-Za-z][\w-]*\d[\w-]*")


def tables(text):
    """Tables of numbers outside the parts that are made, each with the heading above it."""
    heading, made, lines = "", False, FENCED.sub("", text).splitlines()
    for i, line in enumerate(lines):
        if mark := re.fullmatch(r"<!-- (.*) -->", line):
            made = not mark[1].endswith("end")
        elif found := re.match(r"#+ (.*)", line):
            heading = found[1]
        elif line.startswith("|") and not lines[i - 1].startswith("|") and not made:
            end = next((j for j in range(i, len(lines)) if not lines[j].startswith("|")), None)
            body = NAME.sub("", "\n".join(lines[i + 2 : end]))
            if len(NUMBER.findall(body)) >= 2 and not line.strip("| ").startswith(FACTS):
                yield heading, line


def listed():
    """Pages that the list names, each with the anchors of its sections; "" for all of them."""
    found = {}
    for link in LINK.findall(NUMBERS.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        found.setdefault((NUMBERS.parent / path).resolve(), set()).add(anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_table_of_numbers_is_made_again_or_listed(page):
    if page == NUMBERS:
        return
    sections = listed().get(page.resolve(), set())
    whole = page in (ROOT / "docs" / "benchmarks.md",)
    missing = [
        (heading, header)
        for heading, header in tables(page.read_text(encoding="utf-8"))
        if not whole and not anchors_in(f"# {heading}") <= sections
    ]
    assert not missing, f"make them from kept results, or name their source in {NUMBERS.name}"


def test_what_is_listed_as_not_made_again_is_there():
    text = NUMBERS.read_text(encoding="utf-8")
    for link in LINK.findall(text.partition("## Printed")[2].partition("## Figures")[0]):
        path, _, anchor = link.partition("#")
        page = (NUMBERS.parent / path).resolve()
        headings = [heading for heading, _ in tables(page.read_text(encoding="utf-8"))]
        if anchor and "sensitive" not in anchor:  # of which there is a figure alone
            assert any(anchor in anchors_in(f"# {heading}") for heading in headings), link


def test_every_command_of_the_list_exists():
    text = NUMBERS.read_text(encoding="utf-8")
    targets = re.findall(r"`make ([\w-]+)", text)
    assert len(targets) > 12
    assert [name for name in targets if not is_target(name)] == []
    for path in re.findall(r"`(?:[.\w/]*python )?((?:tests|tools|experiments)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


def test_tables_are_told_apart():
    page = "\n".join(
        [
            *("# Page", "| a | b |", "|---|---|", "| 1.5 | 2 |", "| x | -3 |", ""),
            *("| field | default |", "|---|---|", "| `x` | 1 2 3 |", ""),
            *("<!-- recorded: x y -->", "| a | b |", "|---|---|", "| 1 | 2 3 |", "<!-- end -->"),
            *("## Words", "| a | b |", "|---|---|", "| TD3 | CartPole-v1 `1` `2` |"),
            *("```", "| a |", "|---|", "| 1 2 3 |", "```"),
        ]
    )
    assert list(tables(page)) == [("Page", "| a | b |")]
