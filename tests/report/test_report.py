"""Reports: the numbers in the tables, the figures, and a page that works on its own."""

import base64
import dataclasses
import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxrl_pg import report
from jaxrl_pg.report import axes as drawn_axes
from jaxrl_pg.report import drawing, pages, sources, summary
from jaxrl_pg.report.statistics import Interval
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.sweeps import results

EXPERIMENT = {
    "agent": "ppo",
    "env": ["Pole", "Hill"],
    "seeds": 8,
    "grid": {"learning_rate": [0.001, 0.1]},
    "sample": {"gamma": {"low": 0.9, "high": 0.99}},
    "study": [{"name": "main", "fixed": {"target_kl": None}}],
}
SWEEP = {
    "name": "demo",
    "experiment": EXPERIMENT,
    "versions": {"jax": "0.10.2", "numpy": "2.3.4"},
    "device": "1 x cpu",
    "seconds": 3725.4,
}
VOID = {"meta", "link", "img"}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch, tmp_path):
    monkeypatch.setattr(summary, "_NUM_RESAMPLES", 100)
    monkeypatch.chdir(tmp_path)  # where a comparison of several folders is written


def rows_of(env, finals, study="main", agent="ppo", steps=(100, 200), **hyper):
    """Yield rows of a setting that rises to its finals; None diverges, "short" stops, halfway."""
    measured = dict.fromkeys(("return_mean", "return_std", "length_mean", "num_episodes"))
    for seed, final in enumerate(finals):
        names = {"id": f"{agent}{seed}", "study": study, "agent": agent, "env": env, "seed": seed}
        for i, timesteps in enumerate(steps):
            row = {**names, **hyper, "timesteps": timesteps, **measured, "status": "ok"}
            if i == len(steps) - 1 and final == "short":
                continue
            if i == len(steps) - 1 and final is None:
                yield row | {"status": "diverged"}
                continue
            value = final if isinstance(final, int | float) else 4
            yield row | {"return_mean": value * (i + 1) / len(steps), "num_episodes": 8}


def sweep(folder, rows, facts=None):
    folder.mkdir(parents=True)
    results.write(folder / "results.csv", rows)
    (folder / "sweep.json").write_text(json.dumps(facts or {**SWEEP, "name": folder.name}))
    return folder


def grid():
    """Yield two learning rates on two environments, of which 0.001 diverges once."""
    yield from rows_of("Pole", [1, 2, 3, 4, 5, 6, 7, 8], learning_rate=0.1, gamma=0.9)
    yield from rows_of("Pole", [8, 9, 10, 11, 12, 13, 14, None], learning_rate=0.001, gamma=0.9)
    yield from rows_of("Hill", [-100] * 8, learning_rate=0.1, gamma=0.99)
    yield from rows_of("Hill", [-300] * 4 + [-200] * 4, learning_rate=0.001, gamma=0.99)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = sweep(tmp_path_factory.mktemp("runs") / "demo", grid())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "_NUM_RESAMPLES", 100)
        path = report.write([folder])
    assert path == folder / "report" / "report.html"
    return path


def results_of(*folders):
    return summary.summarise(*sources.load(folders))


def markdown_rows(path, number=0):
    """Return the cells of a table in a Markdown file, its header first."""
    block = path.read_text().split("\n## ")[number + 1]
    lines = [line for line in block.splitlines() if line.startswith("|")]
    cells = [[x.strip().replace("\\", "") for x in line.strip("|").split(" | ")] for line in lines]
    return [cells[0], *cells[2:]]


# --- numbers ------------------------------------------------------------------------------------


def test_the_table_has_the_numbers(written):
    header, *rows = markdown_rows(written.parent / "table.md")
    assert ", ".join(header) == (
        "environment, agent, learning_rate, IQM, 95% interval, mean, std, worst, best, seeds, "
        "diverged, steps"
    )
    first, second, third, fourth = (dict(zip(header, row, strict=True)) for row in rows)
    # Pole, 0.001: the lowest return there is 1 / 2, which the diverged seed scores.
    # Of 0.5, 8, 9, .., 14 the middle four are 9, 10, 11, 12: 10.5; the mean is 77.5 / 8 = 9.69.
    assert (first["environment"], first["learning_rate"]) == ("Pole", "0.001")
    assert (first["IQM"], first["mean"]) == ("**10.5**", "9.7")
    assert (first["worst"], first["best"]) == ("0.5", "14.0")
    assert (first["seeds"], first["diverged"], first["steps"]) == ("8", "1", "200")
    # Pole, 0.1: (3 + 4 + 5 + 6) / 4; the squares of 1..8 about 4.5 sum to 42, 42 / 7 = 2.45^2.
    assert (second["IQM"], second["mean"], second["std"]) == ("4.5", "4.5", "2.4")
    # Hill, 0.1: all seeds alike.
    assert (third["learning_rate"], third["IQM"], third["std"]) == ("0.1", "**-100.0**", "0.0")
    assert third["95% interval"] == "[-100.0, -100.0]"
    # Hill, 0.001: the middle four of four -300 and four -200.
    assert (fourth["IQM"], fourth["worst"], fourth["best"]) == ("-250.0", "-300.0", "-200.0")
    for row in (first, second, fourth):
        low, high = map(float, row["95% interval"].strip("[]").split(","))
        assert low < float(row["IQM"].strip("*")) < high


def test_the_environments_are_pooled_on_one_scale(written):
    header, best, worst = markdown_rows(written.parent / "table.md", 1)
    assert header[:2] == ["setting", "IQM"]
    # Hill: from -300 (0) to -100 (1). Pole: from 0.5 (0) to 10.5 (1).
    # 0.1: eight 1s and (x - 0.5) / 10 of 1..8, so .05 .. .75; the middle eight of all sixteen are
    # .45 .55 .65 .75 and four 1s: 6.4 / 8. The mean is (1 + .4) / 2, as every gap is 1 - x.
    assert best[0] == "learning_rate=0.1"
    assert (best[1], best[3], best[5], best[7]) == ("**0.800**", "0.700", "0.700", "0.300")
    # 0.001: four 0s and four .5s; 0, .75, .85, .., 1.35. Sorted, the middle eight are the fifth 0,
    # the four .5s, .75, .85 and .95.
    assert float(worst[1]) == pytest.approx((4 * 0.5 + 0.75 + 0.85 + 0.95) / 8, abs=6e-4)


def test_an_environment_that_few_seeds_solve_does_not_make_all_settings_perfect(tmp_path):
    rows = [
        *rows_of("Hard", [10, 10, *[0] * 8], gamma=0.9),
        *rows_of("Hard", [0] * 10, gamma=0.5),
        *rows_of("Flat", [3] * 10, gamma=0.9),
        *rows_of("Flat", [3] * 10, gamma=0.5),
    ]
    found = results_of(sweep(tmp_path / "x", rows))
    assert all(one.iqm.value == 0 for one in found.by_env["Hard"])
    scores = {one.label: dict(zip(found.by_env, one.scores, strict=True)) for one in found.across}
    np.testing.assert_array_equal(scores["gamma=0.9"]["Hard"], [1, 1, *[0] * 8])
    np.testing.assert_array_equal(scores["gamma=0.5"]["Hard"], np.zeros(10))
    assert {label: set(each["Flat"]) for label, each in scores.items()} == {
        "gamma=0.9": {1.0},
        "gamma=0.5": {1.0},
    }


def test_the_best_is_compared_with_the_others(written):
    header, pole, hill = markdown_rows(written.parent / "table.md", 2)
    assert header[1:4] == ["best setting", "other setting", "probability"]
    # Pole: 9..14 beat all of 1..8 (6 x 8), 8 beats seven and ties once, the diverged 0.5 none:
    # 55.5 / 64 = 0.867.
    assert pole[:4] == ["Pole", "learning_rate=0.001", "learning_rate=0.1", "0.87"]
    assert hill == ["Hill", "learning_rate=0.1", "learning_rate=0.001", "1.00", "[1.00, 1.00]"]


def test_the_curve_holds_seeds_while_they_last_and_the_floor_after(tmp_path):
    finals = [8, 8, None, "short"]
    (found,) = results_of(sweep(tmp_path / "x", rows_of("Pole", finals))).summaries
    assert found.label == "ppo"
    # First evaluation: 4, 4 and twice 4 / 2 (of 4): sorted 2 2 4 4, the middle two. Then 8, 8
    # and the lowest return, 2: their mean is 6; the seed that stopped has no score.
    np.testing.assert_allclose(summary.curve(found).value, [3, 6])
    assert found.num_unfinished == 1
    np.testing.assert_array_equal(found.scores, [8, 8, 2])


def test_a_setting_that_never_was_evaluated_has_no_number(tmp_path):
    rows = [*rows_of("Pole", [None], steps=(100,)), *rows_of("Hill", [1, 2], steps=(100,))]
    path = report.write([sweep(tmp_path / "x", rows)])
    header, pole, _ = markdown_rows(path.parent / "table.md")
    row = dict(zip(header, pole, strict=True))
    assert (row["IQM"], row["95% interval"], row["seeds"], row["diverged"]) == ("-", "-", "0", "1")


def test_a_setting_without_a_score_stands_last(tmp_path):
    rows = [*rows_of("Pole", [1, 2], gamma=0.5), *rows_of("Pole", [3, 4], gamma=0.9)]
    rows = [row | {"return_mean": None} if row["gamma"] == 0.5 else row for row in rows]
    path = report.write([sweep(tmp_path / "x", rows)])
    header, first, last = markdown_rows(path.parent / "table.md")
    assert first[header.index("gamma")] == "0.9"
    assert [last[header.index(name)] for name in ("IQM", "seeds", "unfinished")] == ["-", "0", "2"]


def test_an_interval_does_not_depend_on_the_other_settings(tmp_path):
    alone = sweep(tmp_path / "alone", rows_of("Pole", [1, 5, 9, 2], gamma=0.9))
    both = sweep(
        tmp_path / "both",
        [*rows_of("Pole", [3, 4], gamma=0.5), *rows_of("Pole", [1, 5, 9, 2], gamma=0.9)],
    )
    same = results_of(alone).summaries[0].iqm
    assert same == next(s for s in results_of(both).summaries if s.label == "gamma=0.9").iqm
    assert same.low < same.high


# --- names --------------------------------------------------------------------------------------


def test_labels_say_what_differs_and_nothing_else(tmp_path):
    rows = [
        *rows_of("Pole", [1], gamma=0.9, width=8, num_envs=4),
        *rows_of("Pole", [2], gamma=0.99, width=8, num_envs=4),
        *rows_of("Hill", [3], gamma=0.9, width=8, num_envs=64),  # differs between environments
        *rows_of("Hill", [4], agent="other", tau=0.5),
    ]
    found = results_of(sweep(tmp_path / "x", rows))
    assert [s.label for s in found.summaries] == [
        "ppo, gamma=0.99",
        "ppo, gamma=0.9",
        "other",
        "ppo, gamma=0.9",
    ]
    assert found.varying == ["gamma"]
    assert [across.label for across in found.across] == ["ppo, gamma=0.9"]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.99999, 0.99995), ("0.99999", "0.99995")),
        ((3e-4, 3.0004e-4), ("0.0003", "0.00030004")),
        ((0.1 + 0.2, 0.3), ("0.30000000000000004", "0.29999999999999999")),
        ((0.123456, 0.5), ("0.1235", "0.5")),
    ],
)
def test_values_are_shown_with_as_many_digits_as_tell_them_apart(tmp_path, values, texts):
    rows = [row for i, x in enumerate(values) for row in rows_of("Pole", [9 - i], gamma=x)]
    path = report.write([sweep(tmp_path / "x", rows)])
    assert [s.label for s in results_of(tmp_path / "x").summaries] == [f"gamma={x}" for x in texts]
    header, *lines = markdown_rows(path.parent / "table.md")
    assert [line[header.index("gamma")] for line in lines] == list(texts)


def test_settings_that_no_name_tells_apart_are_numbered():
    """In memory a number and its text differ, in a table they look the same."""
    setting = results.settings(results.of_rows([*rows_of("Pole", [1], gamma=0.5)], "here"))[0]
    alike = [dataclasses.replace(setting, hyper={"gamma": x}) for x in (0.5, "0.5")]
    elsewhere = [dataclasses.replace(one, env="Hill") for one in alike]
    labels, varying = summary._labels([*alike, *elsewhere])
    assert labels == ["#1", "#2", "#1", "#2"]
    assert varying == ["gamma"]


def test_equal_settings_are_told_apart_by_study_then_by_folder(tmp_path):
    rows = [*rows_of("Pole", [1], study="a"), *rows_of("Pole", [2], study="b")]
    one = sweep(tmp_path / "one", rows)
    assert [s.label for s in results_of(one).summaries] == ["b", "a"]
    two = sweep(tmp_path / "two", rows_of("Pole", [3], study="a"))
    labels = [s.label for s in results_of(one, two).summaries]
    assert labels == ["a, ppo (two)", "b, ppo (one)", "a, ppo (one)"]
    far = sweep(tmp_path / "elsewhere" / "one", rows_of("Pole", [3], study="a"))
    path = report.write([one, far])
    header, *lines = markdown_rows(path.parent / "table.md")
    assert header[:4] == ["environment", "setting", "study", "folder"]
    assert [line[1:4] for line in lines] == [
        ["#2", "a", str(far)],
        ["#3", "b", str(one)],
        ["#1", "a", str(one)],
    ]


def test_names_of_studies_stand_for_settings_that_take_long_to_tell_apart(tmp_path):
    rows = [
        row
        for study, value, name in (("a", 1.0, "long"), ("b", 2.0, "long" * 9))
        for env in ("Pole", "Hill")
        for row in rows_of(env, [value], study=study, a_rather_long_name=name)
    ]
    labels = [s.label for s in results_of(sweep(tmp_path / "x", rows)).summaries]
    assert labels == ["b", "a", "b", "a"]


def test_long_labels_become_numbers_and_the_figures_bear_many(tmp_path):
    rows = [
        row
        for env in ("Pole", "Hill")
        for i in range(12)
        for row in rows_of(
            env, [(7 * i) % 12 + len(env), i], a_rather_long_name=i / 7, another_rather_long_name=-i
        )
    ]
    path = report.write([sweep(tmp_path / "x", rows)])
    header, *lines = markdown_rows(path.parent / "table.md")
    assert header[:2] == ["environment", "setting"]
    found = {line[1]: line[header.index("another_rather_long_name")] for line in lines}
    assert found == {f"#{i + 1}": str(-i) for i in range(12)}
    assert "Of up to 12 settings the best 8 are drawn." in path.read_text()


# --- runs ---------------------------------------------------------------------------------------


def make_run(path, seed, finals, last_loss=0.5, **fields):
    config = {"env": "Pole", "env_params": {"g": 5.0}, "hidden_sizes": [64, 64], "num_devices": 1}
    config |= fields
    facts = {"agent": "ppo", "env": "Pole", "seed": seed, "config": config}
    with RunFolder.create(path, facts) as run:
        for i, value in enumerate(finals, start=1):
            last = last_loss if i == len(finals) else 0.5
            run.append([{"iteration": i, "timesteps": 100 * i, "loss/total": last}])
            if np.isfinite(last):
                measured = {"return_mean": value, "return_std": 1.0, "num_episodes": 8}
                both = {f"eval/{name}": x for name, x in measured.items()}
                run.append([{"iteration": i, "timesteps": 100 * i, **both}])
    return path


def test_single_runs_are_seeds_of_one_setting(tmp_path):
    runs = [make_run(tmp_path / f"run{seed}", seed, [1.0, 10.0 + seed]) for seed in (0, 1, 2)]
    (found,) = results_of(*runs).summaries
    assert found.setting.hyper == {"hidden_sizes": "64x64", "env_params.g": 5.0}
    np.testing.assert_array_equal(found.scores, [10, 11, 12])
    path = report.write(runs, tmp_path / "out")
    page = path.read_text()
    assert path == tmp_path / "out" / "report.html"
    assert "run0 and run1 and run2" in page
    assert "jaxrl-pg train ppo --env Pole --seed 1" in page
    assert f"jaxrl-pg report {runs[0]} {runs[1]} {runs[2]} --out {tmp_path / 'out'}" in page
    assert "hidden_sizes = [64, 64]" in page


def test_runs_that_were_ended_early_have_a_curve_and_no_score(tmp_path):
    runs = [make_run(tmp_path / f"run{i}", i, [1.0 + i, 2], total_timesteps=1000) for i in range(3)]
    (found,) = results_of(*runs).summaries
    assert (found.num_unfinished, len(found.scores)) == (3, 0)
    np.testing.assert_array_equal(found.setting.timesteps, [100, 200, 1000])
    np.testing.assert_array_equal(summary.curve(found).value, [2, 2, np.nan])
    path = report.write(runs, tmp_path / "out")
    header, line = markdown_rows(path.parent / "table.md")
    row = dict(zip(header, line, strict=True))
    assert (row["return"], row["unfinished"], row["steps"]) == ("-", "3", "1,000")
    assert "no seed was trained to the end" in path.read_text()
    assert len(drawing._drawn(results_of(*runs))["Pole"]) == 1


def test_an_environment_is_one_whether_given_by_name_or_as_an_object(tmp_path):
    named = sweep(tmp_path / "named", rows_of("python:maze:Maze", [1, 2]))
    as_object = sweep(tmp_path / "object", rows_of("maze:Maze", [3, 4], agent="dqn"))
    assert list(results_of(named, as_object).by_env) == ["maze:Maze"]


@pytest.mark.parametrize(
    ("finals", "steps", "bold"),
    [([8, 9], (100, 200), True), ([9], (100, 200), False), ([8, 9], (100, 400), False)],
)
def test_what_was_trained_longer_or_once_is_not_called_the_best(tmp_path, finals, steps, bold):
    rows = [*rows_of("Pole", [1, 2, 3]), *rows_of("Pole", finals, agent="dqn", steps=steps)]
    report.write([sweep(tmp_path / "run", rows)])
    table = (tmp_path / "run" / "report" / "table.md").read_text().split("## Prob")[0]
    assert ("| **" in table) == bold


def test_a_run_whose_loss_is_not_finite_has_diverged(tmp_path):
    good = make_run(tmp_path / "good", 0, [1.0, 10.0])
    bad = make_run(tmp_path / "bad", 1, [2.0, 3.0], last_loss=np.nan)
    (found,) = results_of(good, bad).summaries
    np.testing.assert_array_equal(found.setting.diverged, [False, True])
    np.testing.assert_array_equal(found.scores, [10, 1])


def test_folders_that_cannot_be_reported_are_refused(tmp_path):
    run = make_run(tmp_path / "run", 0, [])
    for folders, message in (
        ([], "no folder given"),
        ([tmp_path / "none"], r"none holds neither results.csv nor .* of those in .*: run$"),
        ([tmp_path], r"holds neither results.csv nor .* of those in .*: run$"),
        ([run, str(run)], "run is given twice: give each folder once"),
        ([run], "no evaluation in .*run yet: train with num_evals >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            report.write(folders)
    (tmp_path / "file").write_text("")
    done = make_run(tmp_path / "done", 0, [1.0])
    with pytest.raises(ValueError, match=r"cannot write .*/file/x .*: give another --out"):
        report.write([done], tmp_path / "file" / "x")


def test_a_sweep_without_its_description_is_still_reported(tmp_path):
    folder = sweep(tmp_path / "x", rows_of("Pole", [1, 2]))
    (folder / "sweep.json").unlink()
    assert "<title>x</title>" in report.write([folder]).read_text()


# --- files --------------------------------------------------------------------------------------


def test_latex_is_plain_and_escaped(tmp_path):
    rows = [*rows_of("50%_$x$", [1500, 2500], a_b="c&d"), *rows_of("50%_$x$", [9, 9], a_b="e#")]
    text = (report.write([sweep(tmp_path / "x", rows)]).parent / "table.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    header = next(line for line in text.splitlines() if line.startswith(r"\hline environment"))
    assert r"environment & agent & a\_b & IQM & 95\% interval & mean" in header
    row = next(line for line in text.splitlines() if line.startswith("50"))
    # The best of 1500 and 2500: mean 2000, standard deviation 1000 / sqrt(2) = 707.
    assert row.startswith(r"50\%\_\$x\$ & ppo & c\&d & $\mathbf{2{,}000}$ & ")
    assert "& $2{,}000$ & $707$ & $1{,}500$ & $2{,}500$ & $2$ & $200$ " in row
    for line in text.splitlines():
        if line.endswith(r"\\") and not line.startswith(r"\hline"):
            columns = re.split(r"(?<!\\)&", line)
            assert len(columns) in (header.count(" & ") + 1, 5)


def test_figures_are_files_and_old_ones_go(written, tmp_path):
    found = {path.name for path in written.parent.iterdir()}
    keys = ("curves", "profiles", "improvement", "sensitivity")
    begins = {"png": b"\x89PNG\r\n", "pdf": b"%PDF"}
    pictures = {f"{key}.{kind}": begin for kind, begin in begins.items() for key in keys}
    assert found == {*pictures, "report.html", "table.md", "table.tex"}
    for name, begin in pictures.items():
        assert (written.parent / name).read_bytes().startswith(begin)
    (tmp_path / "sensitivity.png").write_bytes(b"old")
    (tmp_path / "sensitivity.pdf").write_bytes(b"old")
    (tmp_path / "mine.png").write_bytes(b"kept")
    report.write([sweep(tmp_path / "x", rows_of("Pole", [1, 2]))], tmp_path)
    names = {path.name for path in tmp_path.glob("*.p*")}
    drawn = {"curves.png", "curves.pdf", "profiles.png", "profiles.pdf"}
    assert names == {*drawn, "mine.png"}  # one setting: nothing to compare


def test_names_that_are_markup_stay_text(tmp_path):
    env, value = '<script>alert("x")</script>', "a|b</td>$x^2$"
    rows = [*rows_of(env, [1, 2], note=value), *rows_of(env, [3, 4], note="_c*d*")]
    path = report.write([sweep(tmp_path / "<i>&", rows, {**SWEEP, "name": "<i>&"})])
    page = Page(path.read_text())
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert env in page.cells
    assert value in page.cells
    header, *lines = markdown_rows(path.parent / "table.md")
    assert [len(line) for line in lines] == [len(header)] * 2
    text = (path.parent / "table.md").read_text()
    assert r"a\|b\</td>" in text
    assert r"\_c\*d\*" in text


def test_of_one_seed_nothing_is_said_but_its_return(tmp_path):
    rows = [*rows_of("Pole", [3], study="a"), *rows_of("Pole", [5], study="b", agent="sac")]
    path = report.write([sweep(tmp_path / "x", rows)])
    assert {file.stem for file in path.parent.glob("*.png")} == {"curves"}
    (header, *lines), *others = [markdown_rows(path.parent / "table.md")]
    assert header == ["environment", "study", "agent", "return", "steps"]
    assert [line[3] for line in lines] == ["5.00", "3.00"]
    assert not others
    page = Page(path.read_text())
    assert "one seed, no interval" in page.text
    for word in ("IQM", "95% interval", "Probability of improvement"):
        assert word not in page.cells
    # Beside settings of several seeds, one seed is left out where an interval is needed.
    more = [*rows, *rows_of("Pole", [7, 8, 9], study="c", agent="td3")]
    path = report.write([sweep(tmp_path / "y", more)])
    assert {file.stem for file in path.parent.glob("*.png")} == {"curves", "profiles"}
    assert len(re.findall("(?m)^## ", (path.parent / "table.md").read_text())) == 1


def test_a_comparison_lands_beside_the_runs_it_compares(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = (sweep(tmp_path / "runs" / name, rows_of("Pole", [1])) for name in "ab")
    same = sweep(tmp_path / "runs" / "other" / "a", rows_of("Pole", [2]))
    monkeypatch.setattr(report, "figures", lambda results: [])
    assert report.write([a]) == a / "report" / "report.html"
    assert report.write([a, b]) == Path("reports", "a_vs_b", "report.html")
    # Folders of the same name: a checksum says which they are, whatever else is compared.
    assert re.fullmatch(r"reports/a_and_1_more-[0-9a-f]{8}/.*", str(report.write([a, same])))
    assert not (b / "report").exists()
    assert report.write([a, b], tmp_path / "mine") == tmp_path / "mine" / "report.html"


# --- axes ---------------------------------------------------------------------------------------


def summary_of(value, score, **hyper):
    setting = results.Setting("", "ppo", "Pole", {"x": value, **hyper}, "", *[np.zeros(1)] * 4)
    scores = np.array([score, score + 2.0])
    return summary.Summary(
        setting, str(value), scores, Interval(*np.array([score + 1, score, score + 2])), 0.0, 0
    )


def sensitivity(*found):
    axes = Figure().add_subplot()
    drawn_axes.draw_sensitivity(found, "Pole", "x", axes)
    return axes


@pytest.mark.parametrize(
    ("values", "scale"), [([1, 2, 31], "log"), ([1, 2, 29], "linear"), ([-1, 0, 3], "linear")]
)
def test_sensitivity_axis_is_logarithmic_where_values_span_much(values, scale):
    axes = sensitivity(*(summary_of(v, 10.0 * v) for v in values))
    assert axes.get_xscale() == scale
    line = max(axes.lines, key=lambda line: len(line.get_xdata()))
    np.testing.assert_array_equal(sorted(line.get_xdata()), values)
    means = axes.containers[0].lines[0]
    np.testing.assert_array_equal(means.get_xdata(), values)
    np.testing.assert_array_equal(means.get_ydata(), [10 * v + 1 for v in values])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["tanh", None, "relu"], ["None", "relu", "tanh"]),
        ([True, False], ["False", "True"]),
        ([0.0, 1e-4, 1e-1], ["0", "0.0001", "0.1"]),  # no logarithm of 0, no room on a line
    ],
)
def test_sensitivity_axis_has_names_where_values_are_no_scale(values, names):
    axes = sensitivity(*(summary_of(v, i) for i, v in enumerate(values)))
    assert [label.get_text() for label in axes.get_xticklabels()] == names


def test_sensitivity_pools_a_grid_and_does_not_join_a_random_search():
    grid = [summary_of(x, 4.0 * x + y, y=y) for x in (1, 2) for y in (0, 1)]
    means = sensitivity(*grid).containers[0].lines[0]
    # x=1: 4 6 5 7, the middle two of four are 5 and 6; x=2: 4 more
    np.testing.assert_array_equal(means.get_ydata(), [5.5, 9.5])
    assert not sensitivity(*(summary_of(x, x, y=-x) for x in (1, 2, 3, 4))).containers


# --- the page -----------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """Collect tags and cells of a page; every tag must be closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.open, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data

    def column(self, table_id, name):
        """Return the cells of a column, from top to bottom."""
        at = next(i for i, (_, attrs) in enumerate(self.tags) if attrs.get("id") == table_id)
        before = sum(tag in ("td", "th") for tag, _ in self.tags[:at])
        inside = [tag for tag, _ in self.tags[at + 1 :]]
        inside = inside[: inside.index("table") if "table" in inside else None]
        width = inside.count("th")
        cells = self.cells[before : before + width + inside.count("td")]
        return cells[width + cells.index(name) :: width]


def tag_of_panel(tags, at):
    """Return how many images follow the tag at a place."""
    after = [tag for tag, _ in tags[at + 1 :]]
    return next((i for i, tag in enumerate(after) if tag != "img"), len(after))


def test_the_page_stands_alone(written):
    page = Page(written.read_text())
    for tag, attrs in page.tags:
        assert tag not in ("iframe", "object", "embed")
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("data:", "#")), (tag, attrs[name][:80])
    policy = next(a["content"] for t, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "url(" not in written.read_text()
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert links <= ids
    assert {"curves", "sensitivity", "settings", "sources"} <= links
    begins = "data:image/svg+xml;base64,"
    for picture in [attrs["src"] for tag, attrs in page.tags if tag == "img"]:
        svg = base64.b64decode(picture.removeprefix(begins), validate=True).decode()
        assert "prefers-color-scheme:dark" in svg
        drawn = re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)
        assert "#1d2126" not in drawn  # ink is dark on paper, and light in the dark
    # Two environments have a panel each in every figure; profiles and chances one for both.
    figures = [(attrs["class"], i) for i, (tag, attrs) in enumerate(page.tags) if tag == "figure"]
    assert [kind for kind, _ in figures] == ["panels"] * 4
    panels = [tag_of_panel(page.tags, at) for _, at in figures]
    assert panels == [2, 3, 3, 2]


def test_the_page_says_how_it_was_made(written):
    page = Page(written.read_text())
    for words in (
        "2 environments \N{MIDDLE DOT} 4 settings \N{MIDDLE DOT} 32 trained agents "
        "\N{MIDDLE DOT} 1 diverged \N{MIDDLE DOT} 1 h 2 min",
        "jaxrl-pg sweep demo",
        f"jaxrl-pg report {written.parent.parent}",
        "jax 0.10.2, numpy 2.3.4",
        "1 x cpu",
        "0-7",
        "[grid]\nlearning_rate = [0.001, 0.1]",
        "gamma = { low = 0.9, high = 0.99 }",
        '[[study]]\nname = "main"\n\n[study.fixed]\ntarget_kl = "none"',
    ):
        assert words in page.text, words
    assert page.column("table-settings", "IQM") == ["10.5", "4.5", "-100.0", "-250.0"]


@pytest.mark.parametrize(
    ("seeds", "shown"), [((0,), "0"), ((0, 1, 2, 5), "0-2, 5"), ((3, 5, 6), "3, 5-6")]
)
def test_seeds_are_shown_as_ranges(tmp_path, seeds, shown):
    rows = [row | {"seed": seeds[row["seed"]]} for row in rows_of("Pole", range(1, len(seeds) + 1))]
    found = results_of(sweep(tmp_path / "x", rows))
    page = pages.page("t", found, [], report.tables.sheets(found), "c")
    assert f"<dt>seeds</dt><dd>{shown}</dd>" in page


# --- in a browser -------------------------------------------------------------------------------


def browse(path, tmp_path):
    """Return the page as a browser leaves it, and what the browser's console said."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium or google-chrome on the PATH")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --enable-logging=stderr --v=0 "
        "--virtual-time-budget=2000 --dump-dom"
    )
    done = subprocess.run(
        [browser, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", path],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return Page(done.stdout), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


# What the page cannot show of itself, said in its console by a script that only the test adds.
PROBE = """<script>
const names = performance.getEntriesByType("resource").map((entry) => entry.name);
console.log("requested", names.filter((name) => !name.startsWith("data:")).length);
console.log("pictures", Array.from(document.images).filter((x) => x.naturalWidth > 30).length);
for (const name of CLICKS) {
  Array.from(document.querySelectorAll("#table-settings button"))
    .find((x) => x.textContent === name).click();
}
console.log("address", location.hash);
</script>"""


def probed(written, tmp_path, clicks):
    copy = tmp_path / "copy.html"
    probe = PROBE.replace("CLICKS", json.dumps(clicks))
    copy.write_text(written.read_text().replace("</body>", f"{probe}</body>"))
    return browse(copy.as_uri(), tmp_path)


def test_an_address_sorts_the_page_and_nothing_is_amiss(written, tmp_path):
    page, console = browse(f"{written.as_uri()}#sort=settings.-worst", tmp_path)
    # As numbers: as text, -300.0 would come before 0.5 and 1.0 before -100.0.
    assert page.column("table-settings", "worst") == ["1.0", "0.5", "-100.0", "-300.0"]
    assert page.column("table-settings", "IQM") == ["4.5", "10.5", "-100.0", "-250.0"]
    sorts = [attrs["aria-sort"] for tag, attrs in page.tags if "aria-sort" in attrs]
    assert sorts == ["descending"]
    assert console == []


def test_clicks_sort_and_reverse_and_nothing_is_fetched(written, tmp_path):
    page, console = probed(written, tmp_path, ["IQM", "IQM", "environment"])
    # Twice IQM is ascending; environment then keeps that order within each.
    assert page.column("table-settings", "environment") == ["Hill", "Hill", "Pole", "Pole"]
    assert page.column("table-settings", "IQM") == ["-250.0", "-100.0", "4.5", "10.5"]
    said = [re.search(r'"(.*)", source', line).group(1) for line in console]
    assert said == ["requested 0", "pictures 14", "address #sort=settings.environment"]


# --- weight -------------------------------------------------------------------------------------


def test_a_report_starts_neither_jax_nor_pyplot(tmp_path):
    folder = sweep(tmp_path / "x", rows_of("Pole", [1, 2, 3]))
    code = (
        "import sys; from jaxrl_pg import report; from jaxrl_pg.sweeps import results; "
        "assert not {'jax', 'matplotlib'} & set(sys.modules); "
        f"report.write([{str(folder)!r}]); "
        "assert not {'jax', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
    assert Path(folder / "report" / "report.html").is_file()
