"""Names may hold anything: no format takes them for markup, a formula or a path."""

import csv
import json
import re

import pytest
from sweep_folders import snapshot

from jaxrl_pg import report
from jaxrl_pg.report import escaping, export, summary, tables
from jaxrl_pg.sweeps import cells, results

START = {"id": "a", "study": "s", "agent": "ppo", "env": "Pole", "seed": 0}
REST = {"timesteps": 1, "return_mean": 1.0, "return_std": None, "length_mean": None}
TYPES = {"num_episodes": 1, "status": "ok"}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(summary, "_NUM_RESAMPLES", 20)


def row(**names):
    hyper = {name: names.pop(name) for name in list(names) if name not in START}
    return {**START, **names, **hyper, **REST, **TYPES}


def folder_of(place, *rows, name="demo"):
    place.mkdir(parents=True)
    results.write(place / "results.csv", rows)
    (place / "sweep.json").write_text(json.dumps({"name": name}))
    return place


# --- formulas in CSV ------------------------------------------------------------------------------

FORMULAS = [
    '=HYPERLINK("http://example.org","x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "'=1",
    "''",
    "'",
]


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("column", ["study", "agent", "env", "note"])
def test_no_cell_is_a_formula_and_what_is_read_is_what_was_written(tmp_path, text, column):
    results.write(tmp_path / "results.csv", [row(**{column: text}), row(seed=1, note="plain")])
    with (tmp_path / "results.csv").open(newline="") as file:
        for line in csv.reader(file):
            for cell in line:
                assert cell[:1] not in list("=+@\t\r\n\uff1d")
                assert not cell.startswith("-")
    assert results.read(tmp_path / "results.csv").columns[column][0] == text


def test_a_columns_name_is_no_formula(tmp_path):
    results.write(tmp_path / "results.csv", [row(**{"=1+1": 3})])
    header = (tmp_path / "results.csv").read_text().splitlines()[0]
    assert ",'=1+1," in header
    assert results.read(tmp_path / "results.csv").hyper == ("=1+1",)


def test_numbers_are_written_as_they_are(tmp_path):
    results.write(tmp_path / "results.csv", [{**row(shift=-2.5, low=-3), "return_mean": -80.25}])
    assert ",-2.5,-3,1,-80.25," in (tmp_path / "results.csv").read_text()
    found = results.read(tmp_path / "results.csv")
    assert (found.columns["shift"][0], found.columns["low"][0]) == (-2.5, -3)
    assert cells.written((-5, 64)) == "'-5x64"


# --- ids are names of files -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../../x", "/etc/x", "a/b", "..", ".", ".hidden", "a\\b", "a\0", "", "a\nb", "c:x"]
)
def test_an_id_that_is_no_file_name_is_refused_and_nothing_is_written(tmp_path, name):
    place = folder_of(tmp_path / "deep" / "er" / "demo", row(id="good"), row(id=name, seed=1))
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=r"results\.csv line 3: id .*: give a plain name"):
        report.write([place], jsonl=True, tensorboard=True)
    table = results.of_rows([row(id=name)], "here")  # made without a file
    with pytest.raises(ValueError, match=r"here: id .*: give a plain name"):
        export.runs(table)
    assert snapshot(tmp_path) == before


def test_ids_that_would_be_one_file_get_files_of_their_own():
    tabled = [results.of_rows([row(id=x) for x in ids], f"f{i}") for i, ids in enumerate(IDS)]
    names = [run.name for run in export.runs(results.merge(tabled))]
    assert len({name.casefold() for name in names}) == len(names) == 6
    assert names[:2] == ["a", "a-2"]


IDS = (["a", "a-2"], ["a"], ["A"], ["a", "b"])


# --- what a table holds ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",1,1.0,", f",{10**30},1.0,", "timesteps '1000000.*': give a whole number from 0"),
        (",1,1.0,", ",-1,1.0,", "timesteps '-1': give a whole number from 0"),
        (",1,1.0,", f",1,{'9' * 5000}x,", "return_mean '999.*': give a number"),
        ("Pole,0", f"Pole,{'9' * 9000}", "seed '999.*': give a whole number"),
        ("env,seed", "env,seed,seed", "has two columns 'seed'"),
    ],
)
def test_a_cell_that_cannot_be_is_said_with_its_line(tmp_path, old, new, message):
    path = tmp_path / "results.csv"
    results.write(path, [row()])
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as raised:
        results.read(path)
    assert len(str(raised.value)) < 300 + len(str(path))


def test_a_hyper_parameter_of_thousands_of_digits_is_text(tmp_path):
    results.write(tmp_path / "results.csv", [row(size="9" * 9000)])
    (found,) = results.read(tmp_path / "results.csv").columns["size"]
    assert found in ("9" * 9000, float("inf"))


# --- markup ---------------------------------------------------------------------------------------

BREAKS = "\r\n\x0b\x0c\x85\u2028\u2029\0\x1b\u202e"


@pytest.mark.parametrize("character", BREAKS)
def test_nothing_ends_a_line_or_turns_it_round(character):
    text = f"a{character}b"
    for escape in (escaping.in_html, escaping.in_latex, escaping.in_markdown, escaping.one_line):
        assert escape(text) == "a b"


def test_a_name_with_a_line_end_is_no_live_latex(tmp_path):
    live = r"\immediate\write18{touch x}"
    place = folder_of(
        tmp_path / "demo",
        row(env=f"e\r{live}", study=f"t\u2028{live}", note=f"%\r{live}"),
        row(env=f"e\r{live}", study="u", seed=1, note="[9cm]"),
        name=f"sweep\r{live}",
    )
    written = report.write([place]).parent
    text = (written / "table.tex").read_bytes().decode()
    for line in re.split(r"[\r\n\u2028]", text):
        assert line.startswith("%") or "\\immediate" not in line
    assert "{[}9cm{]}" in text
    assert r"\textbackslash{}immediate" in text


@pytest.mark.parametrize("name", ["[1cm]", "*", "a & b", "x_1^2~{}", "<b>|$x$", "#1\\"])
def test_a_row_of_latex_has_as_many_cells_as_its_header(name):
    sheet = tables.Sheet("k", name, name, [name, "n"], [[tables.Cell(name), tables.Cell("1", 1.0)]])
    text = tables.latex([sheet], name)
    rows = [line for line in text.splitlines() if "& $1$" in line]
    assert len(rows) == 1
    assert not rows[0].startswith(("[", "*"))
    assert len(re.findall(r"(?<!\\)&", rows[0])) == 1
    assert not re.search(r"(?<!\\)[#$^~_](?![^$]*\$)", rows[0].split("&")[0])


@pytest.mark.parametrize("name", ["a | b", "**b**", "[x](y)", "![x](y)", "$x$", "&lt;", "~~a~~"])
def test_markdown_stays_text(name):
    sheet = tables.Sheet("k", name, name, [name, "n"], [[tables.Cell(name), tables.Cell("1", 1.0)]])
    text = tables.markdown([sheet], name)
    assert not re.search(r"(?<!\\)(\*\*b|\[x|\$x|&lt|~~|`)", text)
    assert text.splitlines()[0] == f"# {escaping.in_markdown(name)}"
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3]


def test_a_page_holds_names_as_text_wherever_they_stand(tmp_path):
    live = "<script>x</script>\"'>"
    place = folder_of(
        tmp_path / "demo", row(env=live, note=live), row(env=live, note="b", seed=1), name=live
    )
    facts = {
        "name": live,
        "command": live,
        "device": live,
        "versions": {live: live},
        "experiment": {live: {live: [live]}, "study": [{"name": live}]},
    }
    (place / "sweep.json").write_text(json.dumps(facts))
    page = report.write([place]).read_text()
    assert page.count("<script>") == 1
    assert "&lt;script&gt;x&lt;/script&gt;&quot;&#x27;&gt;" in page


def test_names_of_ticks_are_no_formulas(tmp_path):
    rows = [row(note=note, seed=seed) for note in ("$\\frac{$", "a", "b") for seed in (0, 1)]
    assert (report.write([folder_of(tmp_path / "demo", *rows)]).parent / "sensitivity.png").exists()


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["report", "report/curves.png", "report/report.html", "report/table.md", "results.csv"]
)
def test_a_report_follows_no_link(tmp_path, name):
    place = folder_of(tmp_path / "demo", row())
    outside = tmp_path / "outside"
    outside.mkdir()
    path = place / name
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.replace(outside / "file")
        path.symlink_to(outside / "file")
    else:
        path.symlink_to(outside if name == "report" else outside / "file")
    before = snapshot(outside)
    with pytest.raises(ValueError, match=f"{path} is a link to"):
        report.write([place])
    assert snapshot(outside) == before


@pytest.mark.parametrize("name", ["agents", "agents/a.jsonl", "tensorboard", "tensorboard/a"])
def test_an_export_follows_no_link(tmp_path, name):
    place = folder_of(tmp_path / "demo", row())
    (tmp_path / "outside").mkdir()
    path = place / "report" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match=f"{path} is a link to"):
        report.write([place], jsonl=True, tensorboard=True)
    assert not list((tmp_path / "outside").iterdir())
