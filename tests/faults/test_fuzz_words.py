"""Words of the command line: one line and an exit code, or the command that they mean."""

import contextlib
import io
import tempfile
from pathlib import Path

import pytest
from fuzz_data import TEXTS, fuzzed
from fuzz_folders import digest, require_line, within
from hypothesis import given, note
from hypothesis import strategies as st

import jaxrl_pg
from jaxrl_pg import agents, cli, report
from jaxrl_pg.cli import preparing
from jaxrl_pg.config import BaseConfig, to_dict
from jaxrl_pg.sweeps import sweep

OPTIONS = [
    "--env",
    "--env-params",
    "--num-envs",
    "--num-steps",
    "--gamma",
    "--learning-rate",
    "--hidden-sizes",
    "--seed",
    "--total-timesteps",
    "--run-dir",
    "--num-evals",
    "--conv-layers",
    "--layer-norm",
    "--no-layer-norm",
    "--num-devices",
    "--coordinator",
    "--process-id",
    "--keep-last",
    "--quiet",
    "--checkpoint-seconds",
    "--out",
    "--jsonl",
    "--dry-run",
    "--max-agents",
    "--layout",
    "--step",
    "--num-episodes",
    "--help",
    "--nonsense",
    "-x",
    "--",
    "--num_envs=4",
    "--gamma=2",
    "--objective",
    "--factors",
    "--buffer-size",
    "--batch-size",
]
WORDS = [
    "0",
    "1",
    "2",
    "-1",
    "64",
    "1e6",
    "0.5",
    "-0.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1_000",
    "0x10",
    "99999999999999999999",
    "none",
    "None",
    "True",
    "False",
    "CartPole-v1",
    "Pendulum-v1",
    "gravity",
    "9.8",
    "auto",
    "x",
    "runs",
    "runs/a",
    ".",
    "..",
    "/",
    "10.0.0.1:5000",
    "clip",
]
COMMANDS = ["train", "resume", "evaluate", "sweep", "report", "help", "trian"]


class Called(BaseException):
    """The command was understood; its arguments."""


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_done():
    """Stop where a command would prepare devices or begin its work."""

    def called(*given, **named):
        raise Called(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "prepare", lambda *_: None)
        patch.setattr(jaxrl_pg, "run", called)
        patch.setattr(jaxrl_pg, "resume", called)
        patch.setattr(sweep, "sweep", called)
        patch.setattr(report, "write", called)
        yield


WORD = st.one_of(st.sampled_from(WORDS), st.sampled_from(OPTIONS), TEXTS)


@fuzzed(60)
@given(
    command=st.sampled_from(COMMANDS),
    agent=st.sampled_from([*agents.AGENTS, "", "pp0"]),
    words=st.lists(WORD, max_size=6),
)
def test_words(command, agent, words):
    words = [command, *([agent] if command == "train" and agent else []), *words]
    note(" ".join(words))
    said, complained = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as root, contextlib.chdir(root):
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            try:
                with within(20):
                    code = cli.main(words)
            except Called as understood:
                code = None
                if understood.args and isinstance(understood.args[0], BaseConfig):
                    to_dict(understood.args[0])
        assert digest(Path(root)) == {}
    if code is None or "--help" in words or command == "help":
        return
    assert code in (2, 3), f"exit code {code}"
    require_line(complained.getvalue().removesuffix("\n"))
