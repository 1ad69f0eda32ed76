"""What there is: agents, commands, and the words that a shell completes."""

import shutil
import subprocess

import pytest

import jaxrl_pg
from jaxrl_pg import agents
from jaxrl_pg.cli import commands, completion

MODULES = {name: command.module for name, command in commands.COMMANDS.items()}


def test_the_table_of_agents_has_a_line_and_the_actions_of_each(capsys):
    assert commands.main(["agents"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    rows = dict(line.split()[:2] for line in shown.splitlines() if line[:1].islower())
    for name, agent in agents.AGENTS.items():
        assert rows[name] == agent.actions
    assert "Proximal policy optimisation\n" in shown  # without the paper
    assert "Schulman" not in shown


def test_the_version_is_said(capsys):
    assert commands.main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxrl-pg {jaxrl_pg.__version__}\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["completion"], "Missing from jaxrl-pg completion: SHELL the shell: bash or zsh"),
        (["completion", "powershell"], "shell='powershell': give one of: bash, zsh"),
        (["completion", "bsh"], "shell='bsh': did you mean bash? give one of: bash, zsh"),
        (["agnts"], "unknown command 'agnts': did you mean agents?"),
    ],
)
def test_a_wrong_word_is_refused_in_a_line(capsys, args, message):
    assert commands.main(args) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def script():
    return completion.script("bash", MODULES)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ev", ["evaluate"]),
        ("--v", ["--version"]),
        ("train off", ["off_policy_actor_critic"]),
        ("train ppo --clip-eps", ["--clip-eps", "--clip-eps-vf"]),
        ("train ppo --no-ann", ["--no-anneal-lr"]),
        ("train ppo --activation re", ["relu"]),
        ("train ppo --env CartP", ["CartPole-v1"]),
        ("train sac --clip", []),
        ("train sac --learn-al", ["--learn-alpha"]),
        ("train --num-en", ["--num-envs"]),  # the default agent's
        ("sweep x --launcher r", ["ray"]),
        ("evaluate run --stoch", ["--stochastic"]),
        ("evaluate ru", []),  # a folder: the shell's own completion
    ],
)
def test_bash_completes_commands_agents_options_and_choices(script, typed, offered):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    count = len(typed.split())
    lines = [
        script,
        f"COMP_WORDS=(jaxrl-pg {typed})",
        f"COMP_CWORD={count}",
        "_jaxrl_pg",
        'echo "${COMPREPLY[@]}"',
    ]
    done = subprocess.run(
        [bash, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == offered


def test_zsh_reads_the_same_script(script):
    ours = completion.script("zsh", MODULES)
    assert ours.endswith(script)
    assert "bashcompinit" in ours
