"""What an editor and a type checker know of a user's script."""

import subprocess
import sys

import pytest

SCRIPT = """
import jax
import jaxrl_pg
from jaxrl_pg import ppo

config = ppo.Config(env="CartPole-v1", num_envs=64, objective="clip", clip_eps=0.1)
reveal_type(config.replace(gamma=0.9))
reveal_type(config.clip_eps)
reveal_type(config.objective)
state, metrics = jaxrl_pg.train(config, jax.random.key(0))
reveal_type(state.iteration)
reveal_type(metrics)
reveal_type(ppo.AGENT.init(config, jax.random.key(0)).learner)
reveal_type(jaxrl_pg.run(config, "runs/demo").run_dir)
"""
REVEALED = [
    "jaxrl_pg.agents.ppo.Config",
    "float",
    "Literal['clip'] | Literal['kl']",
    "jax._src.basearray.Array",
    "dict[str, jax._src.basearray.Array]",
    "jaxrl_pg.agents.ppo.Learner",
    "pathlib",
]
MISTAKES = """
from jaxrl_pg import ppo
ppo.Config(clip_esp=0.1)
ppo.Config(objective="clap")
ppo.Config(num_envs="many")
ppo.Config().replace(1)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What mypy says of both scripts, by file."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "script.py").write_text(SCRIPT)
    (folder / "mistakes.py").write_text(MISTAKES)
    command = [sys.executable, "-m", "mypy", "--config-file", "", "--follow-imports", "silent"]
    command += ["--ignore-missing-imports", "--cache-dir", str(folder / "cache")]
    command += ["script.py", "mistakes.py"]
    text = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300).stdout
    by_file = {"script.py": [], "mistakes.py": []}
    for line in text.splitlines():
        by_file.get(line.partition(":")[0], []).append(line)
    return {name: "\n".join(lines) for name, lines in by_file.items()}


def test_a_script_type_checks_with_useful_types(said):
    text = said["script.py"]
    assert "error:" not in text, text
    notes = [line for line in text.splitlines() if "Revealed type" in line]
    assert len(notes) == len(REVEALED)
    for note, expected in zip(notes, REVEALED, strict=True):
        assert expected in note, note


def test_mistakes_in_a_config_are_found_before_anything_runs(said):
    text = said["mistakes.py"]
    errors = [line for line in text.splitlines() if ": error:" in line]
    assert len(errors) == 4, text
