"""The zoo's entries: made from recorded results, found by name, used on the command line."""

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxrl_pg
from jaxrl_pg import zoo
from jaxrl_pg.cli import arguments, commands, tuning
from jaxrl_pg.config import to_dict
from jaxrl_pg.sweeps import cells
from jaxrl_pg.zoo import listing

ROOT = Path(__file__).parents[2]
ENTRIES = {entry.policy: entry for entry in zoo.entries()}
CLASSIC = {
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "Pendulum-v1",
    "MountainCarContinuous-v0",
}
HEAVY = ("jax", "numpy", "flax", "gymnax", "orbax")


@pytest.fixture(scope="module")
def writer():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "experiments")
        import zoo_entries

        yield zoo_entries
        for name in ("zoo_entries", "tables"):
            sys.modules.pop(name, None)


def refusal(call, *args):
    with pytest.raises(ValueError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- entries --------------------------------------------------------------------------------------


def test_every_entry_is_what_its_study_recorded(writer):
    assert {writer.path(row) for row in writer.ROWS} == {entry.path for entry in ENTRIES.values()}
    for row in writer.ROWS:
        assert writer.path(row).read_text(encoding="utf-8") == writer.text(row), row


def test_the_page_has_the_table_of_the_entries(writer):
    printed = writer.PAGE.read_text(encoding="utf-8")
    assert printed == writer.page(printed)
    assert all(f"| `{entry.env}`" in printed for entry in ENTRIES.values())


def test_a_changed_number_or_setting_is_seen(writer, monkeypatch):
    row = writer.ROWS[0]
    study = writer.tables.recorded(row.study)
    one = study.find(row.env, study=row.part, agent=row.agent)
    other = one._replace(iqm=one.iqm._replace(value=one.iqm.value - 1))
    lower = study._replace(by_env={row.env: [other]})
    monkeypatch.setattr(writer.tables, "recorded", lambda name: lower)
    assert writer.path(row).read_text(encoding="utf-8") != writer.text(row)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_gives_the_config_that_it_names(name):
    entry = ENTRIES[name]
    config = zoo.config(entry.env, entry.agent)
    default = type(config)()
    assert type(config).agent.name == entry.agent
    given = {f.name for f in dataclasses.fields(config)} & {"env", "total_timesteps"}
    differs = {
        field.name
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(default, field.name)
    }
    assert differs <= {*entry.settings, *given}
    steps = entry.recorded["timesteps"]
    assert steps == config.num_iterations * config.steps_per_iteration
    recorded = entry.recorded
    assert recorded["worst"] <= recorded["iqm"] <= recorded["best"]
    assert len(set(recorded["seeds"])) == len(recorded["seeds"]) >= 1
    assert {"jaxrl-pg", "jax", "gymnax"} <= recorded["versions"].keys()
    if ":" in entry.env:
        assert entry.suite == entry.env.partition(":")[0]
        assert entry.suite in recorded["versions"]


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_still_gives_the_config_that_was_measured(writer, name):
    """Defaults may change; then what was measured stays in the study's file as a setting."""
    (row,) = (row for row in writer.ROWS if f"zoo:{row.env}/{row.agent}" == name)
    one = writer.tables.recorded(row.study).find(row.env, study=row.part, agent=row.agent)
    config = zoo.config(row.env, row.agent)
    values, defaults = to_dict(config), to_dict(type(config)())
    params = values.pop("env_params")
    now = values | {f"env_params.{param}": value for param, value in params.items()}
    for field, then in one.setting.hyper.items():
        (value,) = cells.typed([cells.written(now.get(field))])
        is_younger = then is None and now.get(field) == defaults.get(field)
        assert value == then or is_younger, field


def test_every_classic_control_task_is_there_with_ppo_and_another():
    agents = {env: {e.agent for e in ENTRIES.values() if e.env == env} for env in CLASSIC}
    assert all("ppo" in some and len(some) >= 2 for some in agents.values()), agents


def test_the_games_of_minatar_have_ppo():
    games = {"Asterix", "Breakout", "Freeway", "SpaceInvaders"}
    assert {f"zoo:{game}-MinAtar/ppo" for game in games} <= ENTRIES.keys()


def test_toml_reads_back_what_was_written(writer):
    table = {"a": [1, 2.5], "b": {"c": True}, "d": "x", "e": [[16, 3], [32, 3]], "f": {}}
    assert tomllib.loads(writer.pairs(table)) == table


def test_a_wheel_has_every_file_of_the_zoo():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["jaxrl_pg"]
    source = Path(jaxrl_pg.__file__).parent
    packed = {path for pattern in patterns for path in source.glob(pattern)}
    there = {path for path in (source / "zoo").rglob("*") if path.is_file()}
    assert {path for path in there if path.suffix not in (".py", ".pyc")} <= packed


# --- finding --------------------------------------------------------------------------------------


def test_changes_take_precedence_over_the_entry():
    tuned = zoo.config("Acrobot-v1", "ppo")
    assert tuned.learning_rate == 0.003
    changed = zoo.config("Acrobot-v1", "ppo", learning_rate=0.01, num_envs=128)
    assert changed == tuned.replace(learning_rate=0.01, num_envs=128)
    assert "learning_rat" in refusal(lambda: zoo.config("Acrobot-v1", "ppo", learning_rat=1.0))


def test_what_is_not_there_names_what_is():
    message = refusal(zoo.find, "CartPole-v1", "td3")
    assert message.startswith("the zoo has no td3 on CartPole-v1: CartPole-v1 has analytical, ppo")
    message = refusal(zoo.find, "CartPol-v1", "ppo")
    assert "did you mean CartPole-v1? ppo has " in message
    assert message.endswith(" more; `jaxrl-pg zoo` lists all")
    assert "did you mean ppo?" in refusal(zoo.find, "CartPole-v1", "pppo")
    # Arguments make another task of an environment; the one that there is is named.
    message = refusal(zoo.find, "jumanji:Snake-v1", "ppo")
    assert "did you mean jumanji:Snake-v1?num_rows=6&num_cols=6?" in message


# --- the command line -----------------------------------------------------------------------------


def read(*args):
    _, (_, config) = arguments.read(
        "jaxrl-pg train ppo",
        args,
        ["jaxrl_pg.cli.training:TrainFlags", "jaxrl_pg.agents.ppo:Config"],
        fill=lambda given: tuning.filled("ppo", given),
    )
    return config


def test_tuned_takes_the_zoos_settings_and_what_is_given_still_wins():
    assert read("--tuned") == zoo.config("CartPole-v1", "ppo")
    assert read("--tuned", "--env", "Acrobot-v1") == zoo.config("Acrobot-v1", "ppo")
    # Also where what is given is the default, which is not what the entry has.
    config = read("--env=Acrobot-v1", "--tuned", "--clip-eps", "0.2", "--total-timesteps", "1e6")
    assert config == zoo.config("Acrobot-v1", "ppo", clip_eps=0.2, total_timesteps=1_000_000)
    assert read("--env", "Acrobot-v1") == jaxrl_pg.ppo.Config(env="Acrobot-v1")


def test_tuned_without_an_entry_is_refused_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert commands.main(["train", "td3", "--env", "Pendulum-v2", "--tuned"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "did you mean Pendulum-v1?" in error
    assert not list(tmp_path.iterdir())


def test_a_tuned_run_says_what_its_settings_reach():
    line = tuning.described("ppo", "Acrobot-v1")
    assert line.startswith("tuned settings of the zoo: recorded -82.9 [-83.5, -82.2] after 151,552")


def test_zoo_prints_a_table_that_fits_a_terminal(capsys):
    assert commands.main(["zoo"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.count("\n") > len(ENTRIES)
    assert commands.main(["zoo", "--env", "pole", "--agent", "ppo"]) == 0
    printed = capsys.readouterr().out
    assert "PositionOnlyCartPole-v1" in printed
    assert "CartPole-v1 " in printed
    assert "Acrobot" not in printed
    assert commands.main(["zoo", "--env", "acrobot", "--agent", "ppo"]) == 0
    assert "learning_rate = 0.003\n" in capsys.readouterr().out


def test_zoo_says_what_may_have_been_meant(capsys):
    assert commands.main(["zoo", "--env", "Cartpoole-v1"]) == 2
    assert "did you mean CartPole-v1?" in capsys.readouterr().err
    assert commands.main(["zoo", "--agent", "pppo"]) == 2
    assert "did you mean ppo?" in capsys.readouterr().err


def test_the_table_needs_no_jax_and_the_package_no_zoo():
    code = (
        "import sys, jaxrl_pg\n"
        "assert 'jaxrl_pg.zoo' not in sys.modules\n"
        "from jaxrl_pg.cli import commands\n"
        "assert commands.main(['zoo', '--env', 'CartPole']) == 0\n"
        f"assert not set({HEAVY!r}) & set(sys.modules), set({HEAVY!r}) & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_numbers_have_as_many_digits_as_suit():
    entry = ENTRIES["zoo:CartPole-v1/ppo"]
    small = entry._replace(recorded={"iqm": 0.5, "worst": 0.25, "best": 1.0})
    large = {"iqm": 4442.5, "interval": [3845.7, 4747.4], "worst": 3773.6, "best": 4801.0}
    assert listing.score(small) == "0.50"
    assert listing.score(entry._replace(recorded=large)) == "4,442 [3,846, 4,747]"
    assert [listing.count(x) for x in (12_000, 999_499, 999_500, 5_013_504)] == [
        "12k",
        "999k",
        "1.0M",
        "5.0M",
    ]
