"""Environments of one's own by name: what is made, and one line for whatever is wrong."""

import re
import sys

import pytest

from jaxrl_pg import config as configs
from jaxrl_pg import envs, ppo
from jaxrl_pg.envs import own
from jaxrl_pg.running import hints, run_folder

MAZE = """
from corridor import Corridor

class Maze(Corridor):
    def __init__(self, size=4, colour="red"):
        self.size, self.colour = size, colour

class Sized(Maze):
    def __init__(self, size):
        super().__init__(size)

class Nothing:
    pass

def make():
    return Maze(7)

maze = Maze(9)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return a working directory with a module of environments, where Python does not look."""
    (tmp_path / "our_maze.py").write_text(MAZE)
    (tmp_path / "broken_maze.py").write_text("1 / 0")
    (tmp_path / "wanting_maze.py").write_text("import no_such_library")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    own.make.cache_clear()
    yield tmp_path
    for name in ("our_maze", "broken_maze", "wanting_maze"):
        sys.modules.pop(name, None)
    own.make.cache_clear()


def test_a_class_or_an_object_is_an_environment(here):
    core = envs.make("python:our_maze:Maze").core
    assert (core.size, core.colour) == (4, "red")
    assert envs.make("python:our_maze:Maze").core is core  # static: one program
    assert envs.make("python:our_maze:Maze?size=5&colour=blue").core.colour == "blue"
    assert envs.make("python:our_maze:maze").core.size == 9


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("python:our_maze", r"give python:module:Class, such as python:maze:Maze"),
        ("python:our maze:Maze", r"give python:module:Class"),
        ("python:our_maz:Maze", r"there is no module our_maz in .*: did you mean 'our_maze'\?"),
        (
            "python:brx:ant",
            r"there is no module brx .*: did you mean 'brax'\? a suite's name",
        ),
        ("python:our_maze:Mazes", r"our_maze has no 'Mazes': did you mean 'Maze'\? allowed: "),
        ("python:our_maze.deep:Maze", r"there is no module our_maze.deep"),
        ("python:broken_maze:Maze", r"importing broken_maze failed \(ZeroDivisionError: division"),
        ("python:wanting_maze:Maze", r"wanting_maze needs no_such_library, which is not installed"),
        (
            "python:our_maze:Sized",
            r"Sized\(\) cannot be made \(TypeError: .*'size'\): give its",
        ),
        ("python:our_maze:Maze?siz=3", r"Maze\(siz\) cannot be made \(TypeError: .*'siz'"),
        ("python:our_maze:Maze?size", r"write arguments as name=value, joined by &"),
        ("python:our_maze:maze?size=3", r"maze is an object and takes no options"),
        ("python:our_maze:Nothing", r"Nothing has no reset_env and step_env: give an env"),
        # A folder's config.json may say so: nothing but an environment's class is called.
        ("python:our_maze:make", r"make has no reset_env and step_env: give an environment's"),
        ("python:os:system?command=echo", r"system has no reset_env and step_env: give an env"),
        ("our_maze:Maze", r"unknown suite 'our_maze' .*a class of your own is python:our_maze:"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_in_one_line(here, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        envs.make(name)
    assert "\n" not in str(caught.value)


def test_a_short_name_is_spelled_out_and_a_suites_stays():
    assert envs.spelled_out("maze:Maze?size=3") == "python:maze:Maze?size=3"
    for name in ("python:maze:Maze", "brax:ant", "gymnasium:reach:Reach-v0", "CartPole-v1"):
        assert envs.spelled_out(name) == name


def test_a_runs_folder_needs_no_object(here):
    """Its config.json names the class; where an object was given, the object is asked for."""
    config = ppo.Config(env="python:our_maze:Maze?size=5")
    saved = {
        "agent": "ppo",
        "seed": 0,
        "options": {},
        "config": configs.to_dict(config),
    }
    assert run_folder.config_of(here, saved) == config
    config = ppo.Config(env=envs.make("python:our_maze:Maze?size=5").core)
    saved["config"] = configs.to_dict(config)
    with pytest.raises(
        ValueError, match=r"was given an object of our_maze:Maze: in Python, pass env="
    ):
        run_folder.config_of(here, saved)


@pytest.mark.parametrize(
    ("field", "recorded", "also"),
    [
        (
            "env",
            "rail:Rail",
            r" \(given as env='python:rail:Rail' it is found again, from a shell too\)",
        ),
        ("env", "__main__:Rail", r" \(given as env='python:module:Class' it is found .*\)"),
        ("network", "rail:Net", ""),
    ],
)
def test_a_missing_object_is_told_how_to_be_given(field, recorded, also):
    line = hints.missing_object("runs/x", field, recorded)
    start = f"runs/x was given an object of {recorded}: in Python, pass {field}=..."
    assert re.fullmatch(re.escape(start) + also, line)


def test_a_run_that_holds_objects_goes_on_in_python():
    by_name = {"env": "python:rail:Rail", "network": None, "core": "gru"}
    assert hints.go_on("runs/x y", by_name) == "jaxrl-pg resume 'runs/x y'"
    objects = {"env": "rail:Rail", "network": "rail:Net"}
    assert hints.go_on("runs/x", objects) == "jaxrl_pg.resume('runs/x', env=..., network=...)"
