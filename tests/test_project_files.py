"""The files around the code: versions agree, YAML parses, commands and paths exist."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import jaxrl_pg

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))

import strip_notebooks  # noqa: E402
import try_dist  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PATTERNS = re.findall(r"^([a-z-]+-)%:", MAKEFILE, re.MULTILINE)  # such as smoke-3.12
YAML = [*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]


def read(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def is_target(word):
    return word in TARGETS or any(re.fullmatch(f"{p}[\\w.]+", word) for p in PATTERNS)


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_a_file_is_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_the_version_is_the_same_everywhere():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)[0]
    citation = str(read("CITATION.cff")["version"])
    assert {PROJECT["version"], jaxrl_pg.__version__, citation, newest} == {newest}


def test_breaking_changes_come_first():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for part in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:]:
        marked = ["**Breaking:**" in entry for entry in re.findall(r"^- .*$", part, re.MULTILINE)]
        assert marked == sorted(marked, reverse=True), part.partition("\n")[0]


def test_the_citation_has_what_its_format_asks_for():
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert {"message", "title", "authors"} <= set(citation)
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert [author["family-names"] for author in paper["authors"]] == ["Li", "Clavette", "He"]


def test_the_workflow_runs_what_everyone_runs():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert "bash .ci/run" in commands
    assert (ROOT / ".ci" / "run").exists()
    tried = jobs["smoke"]["strategy"]["matrix"]["python"]
    supported = {path.stem for path in ROOT.glob("constraints/*.txt")}
    assert {*tried, "3.11"} == supported
    made = [command.replace("${{ matrix.python }}", tried[0]).split() for command in commands]
    assert all(is_target(words[1]) for words in made if words[0] == "make")
    assert all("timeout-minutes" in job for job in jobs.values())


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=str)
def test_an_issue_form_has_what_github_asks_for(path):
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
    assert all(field["attributes"]["label"] for field in form["body"])
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_hooks_fetch_nothing_and_call_what_there_is():
    (repo,) = read(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    for hook in repo["hooks"]:
        program, *words = hook["entry"].split()
        assert hook["language"] == "system"
        assert program in {".venv/bin/python", ".venv/bin/ruff", ".venv/bin/mypy"}
        assert all((ROOT / word).exists() for word in words if "/" in word)


def test_every_make_target_that_a_page_names_exists():
    for page in ("CONTRIBUTING.md", "RELEASING.md", "examples/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        named = re.findall(r"(?:^|`)make((?: [a-z][\w.-]*)+)", text, re.MULTILINE)
        words = {word for group in named for word in group.split()}
        assert all(is_target(word) or word == "theory-NAME" for word in words), (page, words)


def test_make_explains_every_target_of_its_own():
    shown = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE).group(1).split()
    explained = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
    assert explained <= set(phony)
    assert all(f"  make {name} " in shown for name in explained)
    assert "dist" in explained


def test_the_source_distribution_names_what_exists():
    for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines():
        kind, *names = line.split()
        if kind in ("include", "graft"):
            assert all((ROOT / name).exists() for name in names), line


def test_a_file_that_the_wheel_lacks_is_found(tmp_path):
    wheel = tmp_path / "x.whl"
    files = [p for p in (ROOT / "src" / "jaxrl_pg").rglob("*") if p.is_file()]
    names = [p.relative_to(ROOT / "src").as_posix() for p in files if p.name != "py.typed"]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    assert try_dist.missing(wheel) == ["jaxrl_pg/py.typed"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("runs/x.csv", "holds ['runs']"), (".venv/x", "holds ['.venv']"), ("y", "lacks ['src']")],
)
def test_a_source_distribution_with_too_much_or_too_little_is_refused(tmp_path, name, said):
    place = tmp_path / "jaxrl_pg-0"
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for wanted in [*try_dist.NEEDED, ".ci/run", name]:
            if wanted != "src" or name != "y":
                path = place / wanted
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                archive.add(path, f"jaxrl_pg-0/{wanted}")
    with pytest.raises(SystemExit, match=re.escape(said)):
        try_dist.require_sound(tmp_path / "x.tar.gz")


def test_a_notebook_is_stripped_once(tmp_path, capsys):
    code = {
        "cell_type": "code",
        "id": "a",
        "source": ["1 + 1"],
        "metadata": {"tags": ["small"], "collapsed": False},
        "execution_count": 3,
        "outputs": [{"output_type": "stream", "text": ["2"]}],
    }
    text = {"cell_type": "markdown", "id": "b", "source": ["é"], "metadata": {}}
    language = {"name": "python", "version": "3.11.7"}
    book = {
        "cells": [code, text],
        "metadata": {"language_info": language, "widgets": {}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = tmp_path / "book.ipynb"
    path.write_text(json.dumps(book), encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    assert strip_notebooks.main(["--check", str(path)]) == 1
    assert path.read_text(encoding="utf-8") == before
    assert strip_notebooks.main([str(path)]) == 1
    assert "book.ipynb was not clean" in capsys.readouterr().out
    assert strip_notebooks.main([str(path)]) == 0
    after = json.loads(path.read_text(encoding="utf-8"))
    empty = {"metadata": {"tags": ["small"]}, "execution_count": None, "outputs": []}
    assert after["cells"] == [{**code, **empty}, text]
    assert after["metadata"] == {"language_info": {"name": "python"}}


def test_notebooks_are_committed_without_outputs():
    books = [str(p) for name in ("docs", "notebooks") for p in ROOT.glob(f"{name}/**/*.ipynb")]
    assert strip_notebooks.main(["--check", *books]) == 0
