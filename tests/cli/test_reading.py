"""The help: what is read off the source is what the classes say, and it comes without JAX."""

import inspect
import os
import subprocess
import sys

import pytest

import jaxrl_pg
from jaxrl_pg.cli import arguments, commands, options, reading, topics
from jaxrl_pg.running.options import Options, Processes
from jaxrl_pg.sweeps.batch import SweepOptions

CLASSES = [getattr(jaxrl_pg, name).Config for name in jaxrl_pg.AGENT_NAMES]
PATHS = [f"{cls.__module__}:{cls.__qualname__}" for cls in (*CLASSES, Options, Processes)]


@pytest.mark.parametrize("cls", [*CLASSES, Options, Processes, SweepOptions], ids=str)
def test_what_is_read_off_the_source_is_what_the_class_says(cls):
    read = reading.dataclass(f"{cls.__module__}:{cls.__qualname__}")
    assert options.of(read) == options.of(cls)
    # A config's own lists its fields too.
    stated = inspect.cleandoc(cls.__doc__).partition("\n\nFields:\n")[0]
    assert inspect.cleandoc(read.__doc__) == stated
    assert read is not cls
    assert all(option.doc for option in options.of(cls))


def test_a_modules_docstring_is_read_off_too():
    assert reading.docstring("jaxrl_pg.agents.ppo") == jaxrl_pg.ppo.__doc__.strip()


@pytest.mark.parametrize(
    "command", [*commands.COMMANDS, *(f"train {a}" for a in jaxrl_pg.AGENT_NAMES)]
)
def test_every_help_fits_80_columns(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    assert commands.main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert f"usage: jaxrl-pg {command}" in shown


def test_the_top_fits_80_columns(capsys):
    assert commands.main([]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert all(f"\n  {name} " in shown for name in commands.COMMANDS)


def test_the_fields_of_a_config_are_shown_by_topic():
    shown = arguments.groups([Options, jaxrl_pg.sac.Config, Processes])
    titles = list(shown)
    assert titles[0] == ""
    assert titles[1:-1] == [*topics.FIELDS, "method"]
    assert titles[-1].startswith("The processes of one run")
    names = {title: [option.name for option in group] for title, group in shown.items()}
    assert names["environment"] == ["env", "env_params", "gamma", "frame_stack", "reward_scale"]
    assert "alpha" in names["method"]
    assert "num_evals" in names[""]


def test_the_table_of_topics_names_fields_that_there_are_and_each_once():
    listed = [name for names in topics.FIELDS.values() for name in names]
    known = {option.name for cls in CLASSES for option in options.of(cls)}
    assert sorted(listed) == sorted(set(listed) & known)


def test_the_help_of_an_agent_needs_no_jax():
    code = (
        "import sys; from jaxrl_pg.cli import main; main(['train', 'ppo', '--help'])\n"
        "slow = {'jax', 'flax', 'optax', 'orbax', 'rich', 'gymnax'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_the_help_of_an_agent_answers_within_a_second_of_work():
    """Measured in the process's own time, which other work on the machine does not lengthen."""
    code = (
        "import os; from jaxrl_pg.cli import main; main(['train', 'ppo', '--help'])\n"
        "import sys; spent = os.times(); print(spent.user + spent.system, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert float(result.stderr) < 1.0
