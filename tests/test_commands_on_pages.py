"""The commands that pages print: `jaxrl-pg` takes their arguments, and make has their targets."""

import re
import shlex
from pathlib import Path

import pytest

from jaxrl_pg.cli import arguments, commands

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "experiments", "examples", "notebooks")
FOUND = [ROOT / "README.md", *(page for name in FOLDERS for page in ROOT.glob(f"{name}/**/*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`((?:make|jaxrl-pg [^\s`]+) [^`\n]+)`")  # and not the bare name of a command
ANY_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
RULE = re.compile(r"^([\w%-]+):(?!=)", re.MULTILINE)
TARGETS = RULE.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
PAGES = sorted(FOUND)


class Parsed(BaseException):
    """Raised as soon as a command has read its arguments, before it does anything."""


def commands_in(text):
    """The words of each command of a page, whatever stands before it on the line (`srun`, `A=1`).

    A variable of the shell is 0, and what a page leaves out (`...`) ends a command.
    """
    shell = (body for language, body in FENCED.findall(text) if language in ("bash", "sh", ""))
    lines = "\n".join(shell).replace("\\\n", " ").splitlines()
    lines += SPAN.findall(ANY_FENCE.sub("", text))
    for line in lines:
        line = re.sub(r"\$\{?\w+\}?", "0", line)
        if not re.search(r"\b(make|jaxrl-pg) ", line.partition("#")[0]):
            continue
        words = shlex.split(re.sub(r";( |$)", " ;", line), comments=True)
        start = next((i for i, x in enumerate(words) if x in ("make", "jaxrl-pg")), len(words))
        words = words[start:]
        ends = [i for i, word in enumerate(words) if word in ("...", "&&", ";", "|")]
        if words and "..." not in words:
            yield words[: min(ends, default=len(words))]


def refused(argv, monkeypatch, capsys):
    """What the command line says of the arguments; nothing where it takes them."""
    read = arguments.read

    def stop(*args, **kwargs):
        read(*args, **kwargs)
        raise Parsed

    monkeypatch.setattr(arguments, "read", stop)
    try:
        code = commands.main(argv)
    except Parsed:
        code = 0
    finally:
        monkeypatch.setattr(arguments, "read", read)
    return capsys.readouterr().err if code else ""


def wrong(words, monkeypatch, capsys):
    """What is wrong with a command; nothing where all is right."""
    if words[0] == "jaxrl-pg":
        return refused(words[1:], monkeypatch, capsys)
    given = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    names = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
    rules = [re.escape(rule).replace("%", ".+") for rule in TARGETS]
    unknown = [x for x in names if not any(re.fullmatch(rule, x) for rule in rules)]
    if unknown:
        return f"make has no {unknown}"
    if names == ["train"] and "ARGS" in given:
        return refused(["train", *shlex.split(given["ARGS"])], monkeypatch, capsys)
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_taken_as_they_are_printed(page, monkeypatch, capsys):
    found = list(commands_in(page.read_text(encoding="utf-8")))
    problems = {" ".join(words): wrong(words, monkeypatch, capsys) for words in found}
    assert not {command: line for command, line in problems.items() if line}


def test_the_pages_have_commands():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert sum(len(list(commands_in(text))) for text in texts) > 60


def test_what_is_wrong_is_found(monkeypatch, capsys):
    page = (
        "```bash\nsrun jaxrl-pg train ppo --gama 0.9 \\\n  --seed 3\nmake tset\n```\n`make test`\n"
    )
    first, second, third = commands_in(page)
    assert "--gamma" in wrong(first, monkeypatch, capsys)
    assert "tset" in wrong(second, monkeypatch, capsys)
    assert wrong(third, monkeypatch, capsys) == ""
