"""Every number in a recorded table is in the repository, and the page's table is made from it."""

import functools
import gzip
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxrl_pg.envs.adapters import suites
from jaxrl_pg.report.statistics import Interval
from jaxrl_pg.sweeps import experiment

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments"
FILES = {path.stem: path for path in FOLDER.rglob("*.toml")}
RECORDED = {path.name.removesuffix(".csv.gz") for path in FOLDER.glob("results/*.csv.gz")}
NO_RESULTS = "The raw results of this study were not kept"


@pytest.fixture(scope="module")
def tables():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        import tables

        yield tables
        del sys.modules["tables"]


@pytest.fixture(scope="module")
def text(tables):
    return "\n".join(page.read_text(encoding="utf-8") for page in tables.PAGES)


def test_every_study_is_recorded_or_said_not_to_be(tables, text):
    assert {*tables.NOT_KEPT, *tables.NOT_TRAINED} == FILES.keys() - RECORDED
    assert all(f"`{name}`" in text for name in tables.NOT_TRAINED)
    assert " ".join(text.split()).count(NO_RESULTS) == len(tables.NOT_KEPT)
    shown = {name for _, name, _, _ in tables.MARKED.findall(text)}
    assert shown == RECORDED | tables.others.NAMES
    blocks = {(name, key) for _, name, key, _ in tables.MARKED.findall(text)}
    assert {name for name, key in tables.BLOCKS.keys() - blocks if name} <= {*tables.NOT_KEPT}
    assert tables.others.BLOCKS.keys() <= blocks


def test_every_recorded_table_is_what_its_results_give(tables):
    for page in tables.PAGES:
        printed = page.read_text(encoding="utf-8")
        assert printed.splitlines() == tables.rebuilt(printed).splitlines(), page
        assert "-->\n<!-- end" not in printed


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_record_has_every_run_of_its_experiment_and_its_versions(tables, name):
    study = tables.recorded(name)
    facts = study.facts
    for suite in facts["versions"].keys() & set(suites.SUITES):
        pytest.importorskip(suite)
    points = experiment.load(FILES[name]).points
    assert facts["num_runs"] == len(points)
    found = {
        (one.setting.study, one.setting.agent, env, int(seed))
        for env, some in study.by_env.items()
        for one in some
        for seed in one.setting.seeds
    }
    wanted = {(point.study, point.agent, point.config.env, point.seed) for point in points}
    assert found == wanted
    settings = [one for some in study.by_env.values() for one in some]
    assert sum(len(one.setting.seeds) for one in settings) == len(points)
    assert not any(one.num_unfinished for one in settings)
    assert {"jax", "jaxlib", "gymnax", "numpy", "jaxrl-pg"} <= facts["versions"].keys()
    assert facts["seconds"] > 0
    assert facts["device"]
    assert "/" not in json.dumps(facts | {"command": ""})
    assert facts["command"].removeprefix("jaxrl-pg sweep ") in (
        name,
        str(FILES[name].relative_to(ROOT)),
    )


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_the_same_results_are_the_same_file(name):
    data = (FOLDER / "results" / f"{name}.csv.gz").read_bytes()
    assert data[4:8] == bytes(4)  # no time
    assert gzip.decompress(data).startswith(b"id,study,agent,env,seed,")


def test_the_ladders_text_counts_the_seeds_that_never_reach_the_goal(tables, text):
    study = tables.recorded("pg_ladder")
    lost = {
        switch: [
            int(np.sum(study.find("Acrobot-v1", study=rung, normalize_reward=switch).scores < -499))
            for rung in tables.RUNGS
        ]
        for switch in (False, True)
    }
    words = " ".join(text.split())
    assert (
        "(baseline, critic, actor-critic) {}, {} and {} of the 20 seeds end".format(
            *lost[False][3:6]
        )
        in words
    )
    assert "(raw, causality, discount) {}, {} and {} do".format(*lost[True][:3]) in words
    assert lost[True][3:] == [0, 0, 0, 0]


def test_the_text_of_the_kin_counts_seeds_and_edges(tables):
    words = " ".join((FOLDER / "kin" / "README.md").read_text(encoding="utf-8").split())
    tuning, study = tables.recorded("kin_replay_tuning"), tables.recorded("kin_replay")
    lost = dict.fromkeys((one.setting.study for one in tuning.in_order), 0)
    for one in tuning.by_env["Acrobot-v1"]:
        lost[one.setting.study] += int(np.sum(one.scores < -400))
    assert (
        "MPO {mpo}, the update {analytical_replay}, CRR with 1[A > 0] {crr}, CRR with exp(A / C) "
        "{crr_exp}, SAC {sac}.".format(**lost)
    ) in words
    stuck = {x.setting.study: int(np.sum(x.scores < -499)) for x in study.by_env["Acrobot-v1"]}
    assert stuck == {"sac": 8, "crr": 1, "crr_exp": 1, "analytical_replay": 0, "mpo": 0}
    assert "eight of its ten seeds end at -500" in words
    rows = [row for row in tables.kin_tables.settings(study).splitlines()[2:] if "Catch" not in row]
    cells = [cell for row in rows for cell in row.split(" | ")[1:]]
    rates = [cell.partition(",")[0] for cell in cells]
    assert [sum("edge" in x for x in some) for some in (cells, rates)] == [14, 10]
    assert "Of the fifteen other settings fourteen have a value at an edge, ten of them" in words


def summary_of(tables, *scores):
    mean = np.mean(scores)
    return tables.Summary(None, "", np.array(scores), Interval(mean, mean, mean), 0, 0)


def test_a_line_of_the_optimum_tells_edges_from_ties(tables):
    one = functools.partial(summary_of, tables)
    inner = {1.0: one(1, 2, 3), 2.0: one(8, 8.5, 9), 3.0: one(1, 2, 4)}
    upper = {1.0: one(1, 2, 3), 2.0: one(4, 5, 6), 3.0: one(5, 6, 9)}
    clear = {1.0: one(7, 8, 9), 2.0: one(4, 5, 6), 3.0: one(1, 2, 3)}
    tied = {1.0: one(9, 9, 9), 2.0: one(9, 9, 9), 3.0: one(1, 2, 3)}
    line = tables.edges({"inner": inner, "upper": upper, "clear": clear, "tied": tied})
    listed = re.search(r"beyond: (.*)\.$", line).group(1)
    assert listed == "upper (3, not distinguishable from 2); clear (1, better than 2)"
    assert tables.edges({"inner": inner}).endswith("beyond: none.")


def test_a_verdict_needs_an_interval_without_one_half_and_room_above(tables):
    one = functools.partial(summary_of, tables)
    low, high, wide = one(1, 2, 3, 4), one(11, 12, 13, 14), one(1, 2, 13, 14)
    assert tables.verdict("Pendulum-v1", low, high) == "PPO"
    assert tables.verdict("Pendulum-v1", high, low) == "analytical"
    assert tables.verdict("Pendulum-v1", wide, low) == "not distinguishable"
    full = one(500, 500, 500, 499.9)
    assert tables.verdict("CartPole-v1", full, one(500, 500, 500, 500)) == "both at the ceiling"
    assert tables.verdict("CartPole-v1", low, full) == "PPO"
