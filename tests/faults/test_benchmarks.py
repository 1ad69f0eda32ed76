"""The benchmark: its page is what its raw results give, and it goes on where something fails."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments" / "bench"
ROOMS = ("libraries", "process", "report", "session", "store", "summary", "venvs")
SLEEPS = "import time; time.sleep(60)"


@pytest.fixture(scope="module")
def bench():
    """The benchmark's modules, which are no package: their names are free again afterwards."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield SimpleNamespace(**{room: __import__(room) for room in (*ROOMS, "figure")})
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


def records(row, side, devices, seconds, **more):
    """A record of each round: so many seconds for 100 steps, after a first execution."""
    labels = {"row": row, "side": side, "devices": devices}
    return [
        {**labels, "round": i, "timesteps": 100, "run_s": [9.0, *some], **more}
        for i, some in enumerate(seconds)
    ]


def test_the_page_is_what_the_results_give(bench):
    printed = bench.report.PAGE.read_text(encoding="utf-8")
    measured = bench.report.render(bench.report.load())
    assert f"<!-- measured: begin -->\n{measured}\n<!-- measured: end -->" in printed


def test_what_the_page_says_that_differs_names_every_library(bench):
    printed = bench.report.PAGE.read_text(encoding="utf-8")
    (head,) = (line for line in printed.splitlines() if line.startswith("| | here |"))
    titles = [library.title for library in bench.libraries.LIBRARIES.values()][:-1]
    assert head == f"| | here | {' | '.join(titles)} |"


def test_the_figure_shows_every_ratio_of_the_page(bench, tmp_path):
    pairs = bench.summary.besides(bench.report.load())
    lines = bench.figure.drawn(pairs)
    page = bench.report.PAGE.read_text(encoding="utf-8")
    for _, _, ratios in lines:
        assert f" {bench.summary.spread(ratios, '.2f')} |" in page
    assert {pair.library for pair, _, _ in lines} <= bench.figure.COLOURS.keys()
    bench.figure.draw(pairs, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_ratios_are_taken_within_a_round(bench):
    """A round at half the speed halves both sides: 100/2 over 100/4, 100/4 over 100/8."""
    runs = records("cartpole-64", "rejax", 1, [[4.0], [8.0]])
    runs += records("cartpole-64", "ours", 1, [[2.0, 2.0, 1.0], [4.0]])
    (pair,) = bench.summary.besides({"rejax": {"runs": runs}})
    assert pair.ratios(1) == [2.0, 2.0]
    assert pair.ratios(2) == []
    assert bench.summary.speeds(pair.theirs) == [25.0, 12.5]


def test_unequal_networks_are_refused(bench):
    runs = records("cartpole-64", "rejax", 1, [[4.0]], num_params=10)
    runs += records("cartpole-64", "ours", 1, [[4.0]], num_params=11)
    with pytest.raises(ValueError, match=r"cartpole-64: unequal work, num_params is \{10, 11\}"):
        bench.summary.check_equal_work(runs)


def test_a_program_that_hangs_is_ended_and_named(bench):
    record = bench.process.run([sys.executable, "-c", SLEEPS], {}, time_limit=0.3)
    assert record == {"error": "ended after the limit of 0.3 s"}


def test_a_program_that_fails_is_named(bench, capsys):
    record = bench.process.run([sys.executable, "-c", "raise SystemExit('no such row')"], {})
    assert record == {"error": "exit status 1"}
    assert "no such row" in capsys.readouterr().err


def test_an_interrupted_session_measures_what_is_missing(bench, tmp_path):
    """Complete rounds are kept; one without its last program is measured again, as a failed one."""
    groups = list(bench.session.plan("rejax", ["cartpole-64"], 4))[:4]
    first, failed, half, untouched = groups
    path, setting = tmp_path / "rejax.jsonl", {"library": "rejax", "rounds": 4}
    found = bench.store.begin(path, setting, groups)
    for labels in (*first, *failed, *half[:1]):
        wrong = {"error": "exit status 1"} if labels == failed[1] else {}
        bench.store.add(path, found, {**labels, **wrong})
    found = bench.store.begin(path, setting, groups)
    assert found["runs"] == first == bench.store.read(path)["runs"]
    assert not any(bench.store.complete(found, group) for group in (failed, half, untouched))
    assert bench.store.begin(path, {**setting, "rounds": 5}, groups)["runs"] == []


def test_a_row_that_hung_is_not_waited_for_again(bench, tmp_path, monkeypatch):
    ran = []

    def run(_side, _task, labels, _cache, _limit):
        ran.append(labels)
        hangs = labels["row"] == "cartpole-64" and labels["side"] == "purejaxrl"
        return {**labels, **({"error": "ended after the limit of 180 s"} if hangs else {})}

    monkeypatch.setattr(bench.session, "run", run)
    setting = bench.session.setting("purejaxrl", ["cartpole-64", "cartpole-1024"], 3, 2)
    sides = {"purejaxrl": {}, "ours": {}}
    found = bench.session.measure(setting, sides, tmp_path / "purejaxrl.jsonl", 180.0)
    assert [labels["row"] for labels in ran] == (
        ["cartpole-64"] * 3 + ["cartpole-1024"] * 9 + ["start"] * 4
    )
    assert bench.store.hung({"runs": found}, "cartpole-64")
    text = bench.report._failures({"purejaxrl": {"runs": found}})
    assert text == (
        "- PureJaxRL, PPO, CartPole-v1; environments: 64, members: 1, devices: 1: "
        "ended after the limit of 180 s"
    )


def test_a_library_that_is_missing_is_named_and_its_results_are_kept(bench, tmp_path):
    with pytest.raises(bench.venvs.Missing) as missing:
        bench.venvs.python_of("3.99")
    assert str(missing.value) == "python3.99 is not installed: install it and measure again"
    with pytest.raises(bench.venvs.Missing, match=r"has no purejaxrl/ppo\.py: give a checkout"):
        bench.venvs.checkout(str(tmp_path))
    path = tmp_path / "ajax.jsonl"
    for kept in (None, {"setting": {"library": "ajax"}, "runs": [{"row": "start"}]}):
        bench.store.skip(path, str(missing.value), kept)
        found = bench.store.read(path)
        assert found["runs"] == (kept["runs"] if kept else [])
        said = bench.report._setting({"ajax": found}).splitlines()
        assert said[0] == f"- **Ajax** was skipped: {missing.value}."
        assert said[1] == "- not measured yet: rejax, PureJaxRL, SBX, this machine"


def test_what_is_installed_is_pinned(bench):
    for name in bench.libraries.LIBRARIES:
        path = FOLDER / f"requirements-{name}.txt"
        if name in ("purejaxrl", "rejax", "ajax", "sbx"):
            lines = [x for x in path.read_text().splitlines() if not x.startswith(("#", "setup"))]
            assert all("==" in line for line in lines), path
        else:
            assert not path.exists()
    repository, commit = bench.libraries.PUREJAXRL
    assert repository == "luchris429/purejaxrl"
    assert len(commit) == 40


def test_raw_results_say_what_they_were_measured_with(bench):
    for name, found in bench.report.load().items():
        assert found["setting"]["library"] == name
        assert '"/' not in json.dumps(found)  # no path of a machine
        sides = {run["side"] for run in found["runs"] if "error" not in run}
        assert sides == {run["side"] for run in found["runs"] if "versions" in run}
