"""What is printed can be pasted and shown anywhere; what is typed is understood or answered."""

import io
import json
import shlex
import sys
from pathlib import Path

import pytest

from jaxrl_pg.cli import arguments, commands, policies, studies
from jaxrl_pg.running import hints
from jaxrl_pg.running.progress import Progress
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.sweeps import experiment, folder

ODD = ["two words", "it's", "-dash", "$HOME; ls", "gemüse", "a'\"b", "tilde~", "new\nline"]


def refusal(capsys, *command):
    assert commands.main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


# --- hints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD)
def test_a_printed_command_names_the_same_path_in_a_shell(name):
    words = shlex.split(hints.command("resume", Path(name)))
    assert words[:2] == ["jaxrl-pg", "resume"]
    assert Path(words[2]) == Path(name)
    run = arguments.read("p", words[2:], [policies.EvaluateFlags], arguments.RUN)[0]
    assert Path(run[0]) == Path(name)  # and is not taken for an option


@pytest.mark.parametrize("name", ["two words", "it's", "-dash"])
def test_the_command_of_a_sweep_finds_the_experiment_again(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    text = 'agent = "ppo"\nenv = "CartPole-v1"\nseeds = 1\n'
    (tmp_path / "other place").mkdir()
    (tmp_path / "experiments").mkdir()
    paths = [tmp_path / "other place" / f"{name}.toml", tmp_path / "experiments" / f"{name}.toml"]
    for path in paths:
        path.write_text(text)
    relative = Path("other place") / f"{name}.toml"
    for given in (name, relative, paths[0]):
        found = experiment.load(given)
        place = folder.folder_of(found, Path("runs") / name)
        words = shlex.split(found.command(place))
        assert words[:2] == ["jaxrl-pg", "sweep"]
        (source,), (flags,) = arguments.read(
            "p", words[2:], [studies.SweepFlags], arguments.Positional("E", "one")
        )
        assert experiment.load(source).name == name
        assert Path(flags.run_dir) == place
        with folder.opened(place, found):
            assert json.loads((place / "sweep.json").read_text())["command"] == shlex.join(words)


def test_a_table_without_a_file_is_named_by_its_name():
    found = experiment.parse("mine", {"agent": "ppo", "env": "CartPole-v1", "seeds": 1})
    assert found.command(Path("/runs/mine")) == "jaxrl-pg sweep mine --run-dir /runs/mine"


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["resum", "x"], "did you mean resume?"),
        (["evalute", "x"], "did you mean evaluate?"),
        (["train", "pppo"], "did you mean ppo?"),
        (["train", "PPO"], "did you mean ppo?"),
        (["train", "soft_q"], "did you mean soft_q_learning?"),
        (["train", "natural-gradient"], "did you mean natural_gradient?"),
        (["sweep", "x", "--dryrun"], "did you mean --dry-run?"),
        (["train", "ppo", "--lr", "1e-3"], "did you mean --learning-rate?"),
        (["train", "ppo", "--steps=1e6"], "did you mean --total-timesteps?"),
        (["train", "dqn", "--target_update_freq", "3"], "did you mean --target-period?"),
    ],
)
def test_the_nearest_command_agent_or_option_is_named(capsys, given, meant):
    assert meant in refusal(capsys, *given)


def test_nothing_is_guessed_where_nothing_is_near(capsys):
    assert "did you mean" not in refusal(capsys, "qqqq")
    assert "did you mean" not in refusal(capsys, "train", "qqqq")
    assert "did you mean" not in refusal(capsys, "train", "ppo", "--rl", "3")


@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_the_runs_in_a_folder_are_named(capsys, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a"):
        RunFolder.create(Path("all") / name, {"agent": "ppo", "env": "CartPole-v1"})
    assert "no run in all: expected all/config.json; runs in it are: all/a, all/b\n" in refusal(
        capsys, command, "all"
    )


# --- printing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_what_a_terminal_cannot_show_is_printed_with_escapes(capsys, monkeypatch, name):
    file = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(file, encoding="ascii", errors="strict"))
    assert commands.main(["evaluate", "gem\u00fcse \udcff \u2713"]) == 2
    print("everything is in gem\u00fcse", file=getattr(sys, name), flush=True)
    assert rb"gem\xfcse" in file.getvalue()


# --- the time that is left ------------------------------------------------------------------------


class Clock:
    """A clock that tests set."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("jaxrl_pg.running.progress.time", clock)
    return clock


def shown(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def test_compiling_is_not_taken_for_the_speed_of_training(capsys, clock):
    with Progress(1000, interval=0.0) as progress:
        clock.now = 60.0
        progress.leave_out(58.0)
        progress.update(100, {})  # in two seconds: 18 more for the rest
        assert "50 steps/s  1:00  eta 0:18" in shown(capsys)
        clock.now = 92.0
        progress.leave_out(30.0)  # the evaluation's
        progress.update(200, {})
        assert "50 steps/s  1:32  eta 0:16" in shown(capsys)


def test_where_nobody_says_how_long_it_compiled_the_first_steps_give_no_speed(capsys, clock):
    with Progress(1000, interval=0.0) as progress:
        clock.now = 60.0
        progress.update(100, {})
        assert "- steps/s  1:00  eta -  train" in shown(capsys)
        clock.now = 62.0
        progress.update(200, {})
        assert "50 steps/s  1:02  eta 0:16" in shown(capsys)


def test_at_the_end_nothing_is_left(capsys, clock):
    with Progress(100, interval=0.0) as progress:
        clock.now = 60.0
        progress.update(100, {})
        assert "- steps/s  1:00  eta 0:00" in shown(capsys)
