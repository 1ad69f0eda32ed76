"""A report on a run's folder that may hold anything: one line says what is wrong."""

import functools
import json

import pytest
from sweep_folders import snapshot

from jaxrl_pg import report
from jaxrl_pg.report import sources
from jaxrl_pg.sweeps import results

CONFIG = {"agent": "ppo", "env": "Pole", "seed": 3, "config": {"env": "Pole", "gamma": 0.9}}
ROWS = [
    {"iteration": 1, "timesteps": 64, "loss/total": 0.5},
    {"iteration": 1, "timesteps": 64, "eval/return_mean": 7.0, "eval/num_episodes": 4},
]


def run(place, config=CONFIG, rows=ROWS):
    place.mkdir()
    text = config if isinstance(config, str) else json.dumps(config)
    (place / "config.json").write_text(text)
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    (place / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return place


def refused(place, *words):
    before = snapshot(place)
    with pytest.raises(ValueError) as raised:
        report.write([place])
    for word in words:
        assert word in str(raised.value), raised.value
    assert "\n" not in str(raised.value)
    assert snapshot(place) == before


def test_a_run_is_read(tmp_path):
    table = sources.run_table(run(tmp_path / "r"))
    assert (table.columns["seed"][0], table.columns["return_mean"][0]) == (3, 7.0)
    assert table.hyper == ("gamma",)


def evaluated(timesteps, *returns):
    each = {f"eval/return_mean/seed_{3 + i}": x for i, x in enumerate(returns)}
    return {
        "iteration": 1,
        "timesteps": timesteps,
        "eval/return_mean": sum(returns) / len(returns),
        **each,
    }


@pytest.mark.parametrize(("named", "lost"), [({"diverged/seed": 4}, [4]), ({}, [])])
def test_of_several_seeds_the_one_that_the_last_row_names_has_diverged(tmp_path, named, lost):
    bad = {"iteration": 2, "timesteps": 128, "loss/total": None, **named}
    rows = [ROWS[0], evaluated(64, 7.0, 8.0, 9.0), bad]
    table = sources.run_table(run(tmp_path / "r", {**CONFIG, "num_seeds": 3}, rows))
    (found,) = results.settings(table)
    assert found.seeds.tolist() == [3, 4, 5]
    assert found.seeds[found.diverged].tolist() == lost
    assert found.returns[:, 0].tolist() == [7, 8, 9]
    pairs = zip(table.columns["id"], table.columns["seed"], strict=True)
    assert set(pairs) == {("r-3", 3), ("r-4", 4), ("r-5", 5)}


@pytest.mark.parametrize(
    "change",
    [
        {"env": None},
        {"agent": 5},
        {"agent": None},
        {"seed": "3"},
        {"seed": -1},
        {"seed": 2.5},
        {"seed": True},
        {"num_seeds": 0},
        {"num_seeds": "2"},
        {"config": None},
        {"config": [1]},
        {"config": 5},
        {"config": {"env_params": 5}},
        {"config": {"gamma": functools.reduce(lambda inner, _: [inner], range(300), 1)}},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_config_of_the_wrong_shape(tmp_path, change):
    refused(run(tmp_path / "r", {**CONFIG, **change}), f"{tmp_path}/r/config.json")


@pytest.mark.parametrize("content", ["", "5", "[]", "null", "{", '{"a": ' * 90_000])
def test_a_config_that_is_none(tmp_path, content):
    refused(run(tmp_path / "r", content), f"{tmp_path}/r/config.json")


@pytest.mark.parametrize(
    "row",
    [
        5,
        None,
        [ROWS[1]],
        "{",
        '{"a": ' * 90_000,
        {"iteration": 1, "eval/return_mean": 1.0},
        {**ROWS[1], "timesteps": "64"},
        {**ROWS[1], "timesteps": -64},
        {**ROWS[1], "timesteps": None},
        {**ROWS[1], "eval/return_mean": "high"},
        {**ROWS[1], "eval/return_mean": [7.0]},
        {**ROWS[1], "eval/num_episodes": "4"},
        {**ROWS[1], "eval/return_std": {}},
        {**ROWS[0], "diverged/seed": -1},
    ],
    ids=lambda row: str(row)[:60],
)
def test_a_row_of_the_wrong_shape(tmp_path, row):
    refused(run(tmp_path / "r", rows=[ROWS[0], row]), f"{tmp_path}/r/metrics.jsonl", "2")


def test_a_name_in_a_runs_config_is_text(tmp_path):
    live = "<script>\rx"
    place = run(tmp_path / "r", {**CONFIG, "agent": live, "env": live})
    page = report.write([place]).read_text()
    assert page.count("<script>") == 1
    assert "--env" in page
