"""The tidy table: what is written is read, and seeds find their setting."""

import numpy as np
import pytest

from jaxrl_pg.sweeps import results

START = {"id": "1e5", "study": "s", "agent": "ppo", "env": "CartPole-v1", "seed": 0}


def row(seed=0, timesteps=100, value=1.0, status="ok", **hyper):
    measured = dict.fromkeys(("return_mean", "return_std", "length_mean", "num_episodes"))
    if status == "ok":
        measured = {"return_mean": value, "return_std": 0.5, "length_mean": 9.0, "num_episodes": 4}
    names = {name: hyper.pop(name) for name in START if name in hyper}
    start = START | {"seed": seed} | names
    return {**start, **hyper, "timesteps": timesteps, **measured, "status": status}


def settings(*rows):
    return results.settings(results.of_rows(rows, "here"))


# --- files --------------------------------------------------------------------------------------


def test_the_file_is_as_designed(tmp_path):
    rows = [
        row(gamma=0.99, hidden_sizes=(64, 64), target_kl=None, anneal_lr=True),
        row(gamma=0.9, hidden_sizes=[8], **{"env_params.gravity": 5.0}, status="diverged"),
    ]
    results.write(tmp_path / "results.csv", rows)
    assert (tmp_path / "results.csv").read_text() == (
        "id,study,agent,env,seed,gamma,hidden_sizes,target_kl,anneal_lr,env_params.gravity,"
        "timesteps,return_mean,return_std,length_mean,num_episodes,status\n"
        "1e5,s,ppo,CartPole-v1,0,0.99,64x64,,True,,100,1.0,0.5,9.0,4,ok\n"
        "1e5,s,ppo,CartPole-v1,0,0.9,8,,,5.0,100,,,,,diverged\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_what_is_written_is_read_with_its_types(tmp_path):
    values = {
        "whole": (1, 2, None),
        "real": (1, 2.5, None),
        "tiny": (1e-300, 0.1 + 0.2, np.float64(3e-4)),
        "switch": (True, False, None),
        "sizes": ("64x64", 8, None),
        "words": ('a "quoted", one', "b\nc", "True"),
        "nothing": (None, None, None),
    }
    rows = [
        row(seed=i, value=v, **{k: x[i] for k, x in values.items()})
        for i, v in enumerate((0.1, np.nan, -3e20))
    ]
    results.write(tmp_path / "results.csv", rows)
    found = results.read(tmp_path / "results.csv")
    assert found.hyper == tuple(values)
    for name, expected in values.items():
        assert list(found.columns[name]) == list(expected)
        assert [type(x) is bool for x in found.columns[name]] == [type(x) is bool for x in expected]
    assert list(found.columns["id"]) == ["1e5"] * 3  # not the number
    np.testing.assert_array_equal(found.columns["return_mean"], [0.1, np.nan, -3e20])
    assert found.columns["seed"].dtype == found.columns["timesteps"].dtype == np.int64
    assert list(found.sources) == [str(tmp_path)] * 3


def test_an_empty_table_is_a_table(tmp_path):
    results.write(tmp_path / "results.csv", [])
    found = results.read(tmp_path / "results.csv")
    assert found.hyper == ()
    assert len(found.sources) == 0
    assert results.settings(found) == results.settings(results.merge([])) == []


def test_a_row_must_have_every_fixed_column(tmp_path):
    lacking = row()
    del lacking["status"], lacking["env"]
    with pytest.raises(ValueError, match="row 2 lacks env, status: give it"):
        results.write(tmp_path / "results.csv", [row(), lacking])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("status", "statu", r"has no column 'status' \(it has 'statu'\)"),
        ("CartPole-v1,0", "CartPole-v1,zero", r"line 3: seed 'zero': give a whole number"),
        (",1.0,", ",one,", r"line 3: return_mean 'one': give a number"),
        (",ok", ",fine", r"line 3: status 'fine': allowed: diverged, ok"),
        (",ok", "", r"line 3 has 10 cells, the header 11: fix that line"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path, old, new, message):
    path = tmp_path / "results.csv"
    results.write(path, [row(), row()])
    lines = path.read_text().splitlines()
    at = 0 if old == "status" else 2
    lines[at] = lines[at].replace(old, new, 1)
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        results.read(path)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none\.csv \(No such file or directory\): give a table"):
        results.read(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"bytes\.csv is not CSV"):
        results.read(tmp_path / "bytes.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="has no column 'id'"):
        results.read(tmp_path / "empty.csv")


# --- settings -----------------------------------------------------------------------------------


def test_seeds_of_one_setting_become_its_curves():
    one, two = settings(
        row(seed=4, timesteps=200, value=8.0, gamma=0.9),
        row(seed=1, timesteps=100, value=1.0, gamma=0.9),
        row(seed=1, timesteps=100, value=5.0, gamma=0.99),
        row(seed=4, timesteps=100, value=7.0, gamma=0.9),
        row(seed=1, timesteps=200, value=2.0, gamma=0.9),
    )
    assert (one.hyper, two.hyper) == ({"gamma": 0.9}, {"gamma": 0.99})
    assert (one.study, one.agent, one.env, one.source) == ("s", "ppo", "CartPole-v1", "here")
    np.testing.assert_array_equal(one.seeds, [1, 4])
    np.testing.assert_array_equal(one.timesteps, [100, 200])
    np.testing.assert_array_equal(one.returns, [[1, 2], [7, 8]])
    assert one.finished.all()
    assert not one.diverged.any()
    np.testing.assert_array_equal(two.returns, [[5]])


@pytest.mark.parametrize("name", ["study", "agent", "env"])
def test_names_tell_settings_apart(name):
    assert len(settings(row(), row(seed=1), row(seed=2, **{name: "other"}))) == 2


def test_diverged_and_unfinished_seeds_are_told_apart():
    (found,) = settings(
        *(row(seed=0, timesteps=t, value=t) for t in (100, 200, 300)),
        row(seed=1, timesteps=100, value=5.0),
        row(seed=1, timesteps=200, status="diverged"),
        row(seed=2, timesteps=100, value=6.0),
    )
    nan = np.nan
    np.testing.assert_array_equal(found.timesteps, [100, 200, 300])
    np.testing.assert_array_equal(found.returns, [[100, 200, 300], [5, nan, nan], [6, nan, nan]])
    np.testing.assert_array_equal(found.diverged, [False, True, False])
    np.testing.assert_array_equal(found.finished, [True, False, False])


def test_where_every_seed_diverged_the_curve_ends_there():
    (found,) = settings(
        row(seed=0, timesteps=100, value=3.0),
        row(seed=0, timesteps=200, status="diverged"),
        row(seed=1, timesteps=100, status="diverged"),
    )
    np.testing.assert_array_equal(found.timesteps, [100, 200])
    np.testing.assert_array_equal(found.returns, [[3, np.nan], [np.nan, np.nan]])
    assert found.diverged.all()
    (found,) = settings(row(timesteps=100, status="diverged"))
    np.testing.assert_array_equal(found.timesteps, [100])
    assert not found.finished.any()


@pytest.mark.parametrize(
    ("total", "end"),
    [
        (1000, [1000]),  # ended at 200
        (200, []),
        (150, []),  # steps round up, and a run may be resumed beyond its total
        (200.5, [201]),
        (None, []),
        (True, []),
        ("many", []),
        (float("nan"), []),
        (float("inf"), []),
    ],
)
def test_seeds_that_ended_before_the_total_are_unfinished(total, end):
    rows = [row(seed=s, timesteps=t, total_timesteps=total) for s in (0, 1) for t in (100, 200)]
    (found,) = settings(*rows)
    np.testing.assert_array_equal(found.timesteps, [100, 200, *end])
    np.testing.assert_array_equal(found.finished, [not end] * 2)
    assert np.isfinite(found.returns[:, :2]).all()


def test_a_total_is_nothing_to_seeds_that_all_diverged():
    lost = [row(seed=s, timesteps=100, status="diverged", total_timesteps=900) for s in (0, 1)]
    (found,) = settings(*lost)
    np.testing.assert_array_equal(found.timesteps, [100])
    (found,) = settings(*lost, row(seed=2, timesteps=300, total_timesteps=900))
    np.testing.assert_array_equal(found.timesteps, [300, 900])
    np.testing.assert_array_equal(found.diverged, [True, True, False])


def test_a_seed_that_diverged_at_an_evaluation_has_no_return_there():
    (found,) = settings(
        row(seed=0, timesteps=100, value=3.0),
        row(seed=0, timesteps=200, value=4.0),
        row(seed=0, timesteps=200, status="diverged"),
    )
    np.testing.assert_array_equal(found.returns, [[3, np.nan]])


def test_one_return_an_agent_and_timestep():
    with pytest.raises(ValueError, match="here has seed 0 of CartPole-v1 twice at timestep 100"):
        settings(row(value=1.0), row(value=2.0))


# --- several tables -----------------------------------------------------------------------------


def test_runs_of_different_seeds_are_one_setting():
    tables = [results.of_rows([row(seed=s, value=s, gamma=0.9)], f"run{s}") for s in (3, 1)]
    (found,) = results.settings(results.merge(tables))
    np.testing.assert_array_equal(found.seeds, [1, 3])
    np.testing.assert_array_equal(found.returns, [[1], [3]])
    assert found.source == ""


def test_the_same_seed_in_two_sources_makes_two_settings():
    tables = [results.of_rows([row(value=v), row(seed=v)], f"run{v}") for v in (7, 8)]
    first, second = results.settings(results.merge(tables))
    assert (first.source, second.source) == ("run7", "run8")
    assert (first.returns[0, 0], second.returns[0, 0]) == (7, 8)


def test_what_one_table_lacks_is_none_in_the_whole():
    tables = [results.of_rows([row(gamma=0.9)], "a"), results.of_rows([row(seed=1, tau=1)], "b")]
    found = results.merge(tables)
    assert found.hyper == ("gamma", "tau")
    assert list(found.columns["gamma"]) == [0.9, None]
    assert list(found.columns["tau"]) == [None, 1]
    assert len(results.settings(found)) == 2
