"""Options read from dataclasses: what words mean, what the help shows, what is refused."""

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from jaxrl_pg.cli import arguments


class Between(NamedTuple):
    """A marker like those of configs."""

    low: float
    high: float

    def describe(self, whole):
        return f"a {'whole ' if whole else ''}number from {self.low:g} to {self.high:g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """Inherited."""

    num_envs: Annotated[int, Between(1, 9)] = 4
    """environments"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fields(Base):
    """Show every kind of option.

    Of this, the help shows all.
    """

    gamma: Annotated[float, Between(0, 1)] = 0.5
    """discount"""
    max_norm: Annotated[float | None, Between(0, 9)] = None
    """largest norm, of 100%"""
    log_std: Annotated[float, Between(-9, 9)] = 0.0
    sizes: tuple[int, ...] = (64, 64)
    """widths"""
    params: dict[str, float] = dataclasses.field(default_factory=dict)
    """parameters"""
    env: Any = "CartPole-v1"
    """environment"""
    objective: Literal["clip", "kl"] = "clip"
    """objective"""
    folder: str | None = "x"
    """folder"""
    total: int = 1_000_000
    """steps"""
    online: bool = False
    """no replay"""
    quiet: bool | None = None
    """print nothing"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class More:
    """More of them.

    Only the first line is shown.
    """

    seed: int = 0
    """the seed"""


RUN = arguments.Positional("RUN", "the folder")
MANY = arguments.Positional("RUN", "folders", many=True)


def read(text, positional=None, sources=(Fields,)):
    return arguments.read("prog", text.split(), sources, positional)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("", {}),
        ("--num-envs 8", {"num_envs": 8}),
        ("--num_envs=8 --gamma=.25", {"num_envs": 8, "gamma": 0.25}),
        ("--num-envs 8 --num-envs 9", {"num_envs": 9}),
        ("--max-norm None", {"max_norm": None}),
        ("--max-norm 1e-3", {"max_norm": 0.001}),
        ("--log-std -1e-3", {"log_std": -0.001}),
        ("--log-std -.5", {"log_std": -0.5}),
        ("--sizes 8 4 --env x", {"sizes": (8, 4), "env": "x"}),
        ("--sizes", {"sizes": ()}),
        ("--params g 9.8 some_length -1", {"params": {"g": 9.8, "some_length": -1.0}}),
        ("--objective kl", {"objective": "kl"}),
        ("--online", {"online": True}),
        ("--online --no-online", {"online": False}),
        ("--quiet False", {"quiet": False}),
        ("--quiet=false", {"quiet": False}),
        ("--quiet None", {"quiet": None}),
        ("--quiet", {"quiet": True}),
        ("--quiet --online", {"quiet": True, "online": True}),
        ("--no-quiet", {"quiet": False}),
        ("--online True --no-quiet", {"online": True, "quiet": False}),
        ("--online=false", {"online": False}),
        ("--num-envs 1e0", {"num_envs": 1}),
        ("--total 1e6", {"total": 1_000_000}),
        ("--total 2_000_000", {"total": 2_000_000}),
        ("--total 2.5e6", {"total": 2_500_000}),
        ("--num-envs 20e-1", {"num_envs": 2}),
        ("--max-norm none", {"max_norm": None}),
        ("--folder None", {"folder": None}),
        ("--folder none", {"folder": "none"}),
        ("--sizes 8,4", {"sizes": (8, 4)}),
        ("--sizes 8,4 2", {"sizes": (8, 4, 2)}),
        ("--params g=9.8 some_length -1", {"params": {"g": 9.8, "some_length": -1.0}}),
        ("--params g=9.8 l=1e-3", {"params": {"g": 9.8, "l": 0.001}}),
    ],
)
def test_words_become_values_of_the_fields_types(text, changes):
    (fields,) = read(text)[1]
    assert fields == Fields(**changes)
    assert [type(x) for x in vars(fields).values()] == [
        type(x) for x in vars(Fields(**changes)).values()
    ]


def test_options_and_other_arguments_may_be_mixed():
    assert read("--online here", RUN) == (["here"], [Fields(online=True)])
    assert read("--quiet here", RUN) == (["here"], [Fields(quiet=True)])
    assert read("here --gamma 1", RUN) == (["here"], [Fields(gamma=1.0)])
    assert read("a b --gamma 1", MANY) == (["a", "b"], [Fields(gamma=1.0)])
    assert read("--gamma 1 a b", MANY) == (["a", "b"], [Fields(gamma=1.0)])
    assert read("a --gamma 1 b", MANY) == (["a", "b"], [Fields(gamma=1.0)])
    assert read("", MANY) == ([], [Fields()])
    given = read("--seed 3 --gamma 1", sources=(Fields, More))
    assert given == ([], [Fields(gamma=1.0), More(seed=3)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--gamma fast", "gamma='fast': give a number from 0 to 1"),
        ("--num-envs 1.5", "num_envs='1.5': give a whole number from 1 to 9"),
        ("--max-norm x", "max_norm='x': give a number from 0 to 9, or None"),
        ("--log-std x", "log_std='x': give a number from -9 to 9"),
        ("--sizes 8 x", "sizes='8 x': give whole numbers"),
        ("--params g", "params='g': give pairs of a name and a number"),
        ("--params g=1 g=2", "params='g=1 g=2': give pairs of a name and a number"),
        ("--params g=", "params='g=': give pairs of a name and a number"),
        ("--num-envs 1e999999999", "num_envs='1e999999999': give a whole number from 1 to 9"),
        ("--num-envs 15e-1", "num_envs='15e-1': give a whole number from 1 to 9"),
        ("--num-envs inf", "num_envs='inf': give a whole number from 1 to 9"),
        ("--num-envs nan", "num_envs='nan': give a whole number from 1 to 9"),
        ("--sizes 8,", "sizes='8,': give whole numbers"),
        ("--quiet yes", "unexpected 'yes': `prog --help` lists what can be given"),
        ("--quiet=yes", "quiet has no value: give True or False, or None"),
        ("--online None", "unexpected 'None': `prog --help` lists what can be given"),
        ("--objective", "objective has no value: give one of: clip, kl"),
        ("--online=3", "online has no value: give True or False"),
        ("--gama 3", "unknown option --gama: did you mean --gamma? `prog --help` lists all"),
        ("--gam 3", "unknown option --gam: did you mean --gamma? `prog --help` lists all"),
        ("--no-onlin", "unknown option --no-onlin: did you mean --no-online? `prog --help` lis"),
        ("--online yes", "unexpected 'yes': `prog --help` lists what can be given"),
    ],
)
def test_bad_words_are_refused_with_what_to_give(text, message):
    with pytest.raises(ValueError) as refusal:
        read(text)
    assert str(refusal.value).startswith(message)


def test_one_argument_is_one():
    with pytest.raises(ValueError, match=r"Missing from prog: RUN the folder\. \(required\)"):
        read("--gamma 1", RUN)
    with pytest.raises(ValueError, match="unexpected 'b': `prog --help` lists"):
        read("a b", RUN)


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_the_help_shows_bounds_choices_and_defaults(word, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(arguments.Help) as shown:
        read(f"--gamma 3 {word}", RUN, (Fields, More))
    text = " ".join(str(shown.value).split())
    for words in (
        "usage: prog [OPTIONS] RUN",
        "RUN the folder",
        "--num-envs INT environments (from 1 to 9; default: 4)",
        "--gamma FLOAT discount (from 0 to 1; default: 0.5)",
        "--max-norm FLOAT|None",
        "largest norm, of 100% (from 0 to 9; default: None)",
        "--sizes [INT ...] widths (default: 64 64)",
        "--params [NAME=FLOAT ...]",
        "--env NAME environment (default: CartPole-v1)",
        "--objective {clip,kl} objective (default: clip)",
        "--params [NAME=FLOAT ...] parameters (default: none)",
        "--total INT steps (>= 0; default: 1_000_000)",
        "--online, --no-online",
        "no replay (default: False)",
        "--quiet, --no-quiet",
        "-v, --verbose",
        "More of them:",
        "--seed INT the seed (>= 0; default: 0)",
    ):
        assert words in text, words
