"""The page about the command line names what there is, and its commands can be read."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from jaxrl_pg.cli import arguments, commands, exits

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command_line.md"
TEXT = PAGE.read_text(encoding="utf-8")
LINES = re.findall(r"^\$ (jaxrl-pg .*)$", TEXT, re.MULTILINE)


def rows(heading):
    """Return the first cells of the table below a heading, without its own heading."""
    section = TEXT.partition(f"{heading}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [line.split("|")[1].strip(" `") for line in lines[1:]]


def test_every_command_has_a_row():
    shown = {row.split()[0] for row in rows("# The command line")}
    assert shown <= set(commands.COMMANDS)
    here = ("training", "policies", "studies", "listings", "completion")
    assert shown >= {name for name, command in commands.COMMANDS.items() if command.module in here}


def test_every_exit_code_has_a_row():
    codes = {exits.DONE, exits.DIVERGED, exits.WRONG, exits.SYSTEM, exits.BUG, exits.INTERRUPTED}
    assert set(map(int, rows("## Exit codes"))) == {*codes, 143}


@pytest.mark.parametrize("line", LINES)
def test_the_options_of_every_command_are_there(line):
    _, name, *words = shlex.split(line, comments=True)
    module = importlib.import_module(f"jaxrl_pg.cli.{commands.COMMANDS[name].module}")
    with pytest.raises(arguments.Help) as shown:
        getattr(module, f"run_{name}")([*words, "--help"])
    flags = {flag for option in shown.value.options for flag in option.flags}
    assert {word for word in words if word.startswith("--")} <= flags


def test_the_page_has_commands_to_look_at():
    assert len(LINES) >= 4
