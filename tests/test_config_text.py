"""Configs as text: a repr that makes an equal config, and help that lists every field."""

import dataclasses
import inspect
import pydoc
import re
from typing import Annotated, Literal

import jax
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import agents, config_text
from jaxrl_pg.config import Fraction, PytreeDataclass

CLASSES = {name: agent.Config for name, agent in agents.AGENTS.items()}


class Small(PytreeDataclass):
    """Two fields."""

    gamma: Annotated[float, Fraction] = 0.9
    """discount"""
    mode: Literal["a", "b"] | None = None
    """how"""


def named(name):
    return {name: getattr(jaxrl_pg, name)}


@pytest.mark.parametrize("name", CLASSES)
def test_the_repr_makes_an_equal_config(name):
    cls = CLASSES[name]
    assert repr(cls()) == f"{name}.Config()"
    changed = cls(gamma=0.51, num_envs=24, hidden_sizes=(8,), env_params={"length": 1.0})
    text = repr(changed)
    for word in ("gamma=0.51", "num_envs=24", "hidden_sizes=(8,)", "env_params={'length': 1.0}"):
        assert word in text
    assert text.count("=") == 4
    assert eval(text, named(name)) == changed


def test_named_settings_show_what_they_set():
    config = jaxrl_pg.analytical.awr("CartPole-v1")
    assert repr(config).startswith("analytical.Config(")
    assert "step_size='fixed'" in repr(config)
    assert eval(repr(config), named("analytical")) == config


def test_what_cannot_be_written_is_in_brackets():
    assert repr(Small(gamma=np.array([0.25, 0.5]))) == "Small(gamma=<float64[2], 0.25 to 0.5>)"
    assert repr(jax.vmap(lambda x: x)(Small(gamma=np.full(3, 0.5)))).startswith("Small(gamma=<f")
    seen = []
    jax.eval_shape(lambda config: seen.append(repr(config)), Small())
    assert seen == ["Small(gamma=<traced float32[]>)"]
    network = jaxrl_pg.ppo.Config(network=named)
    assert repr(network) == f"ppo.Config(network=<{named.__module__}:named>)"
    with pytest.raises(SyntaxError):
        compile(repr(network), "", "eval")


@pytest.mark.parametrize("name", CLASSES)
def test_help_has_the_text_of_every_field(name):
    cls = CLASSES[name]
    shown = pydoc.plain(pydoc.render_doc(cls))
    texts = config_text.field_texts(cls)
    words = re.sub(r"[\s|]", "", shown)
    for field in dataclasses.fields(cls):
        assert texts[field.name], f"{field.name} has no text below it"
        assert f"{field.name}: " in shown
        assert re.sub(r"[\s|]", "", texts[field.name]) in words


def test_help_says_type_range_and_default():
    assert inspect.getdoc(Small) == (
        "Two fields.\n\nFields:\n\n"
        "    gamma: a number from 0 to 1 = 0.9\n        discount\n"
        "    mode: 'a' | 'b', or None = None\n        how"
    )
    assert Small().__doc__ == Small.__doc__


def test_a_class_without_source_still_has_its_docstring():
    scope = {"PytreeDataclass": PytreeDataclass, "__name__": "nowhere"}
    exec("class Typed(PytreeDataclass):\n    'What it is.'\n    x: float = 0.5", scope)
    assert scope["Typed"].__doc__ == "What it is."
    assert repr(scope["Typed"](x=1.0)) == "Typed(x=1.0)"
