"""Asking for ONNX where it is not installed."""

import importlib.util

import pytest
from networks_of_all_kinds import TINY, filled

from jaxrl_pg import ppo


def test_the_extra_is_named_before_anything_is_written(tmp_path, monkeypatch):
    policy = filled(ppo.Config(**TINY, env="CartPole-v1"))
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "jaxrl_pg.export.onnx_file.find_spec", lambda name: None if name == "onnx" else real(name)
    )
    with pytest.raises(ValueError, match=r'needs onnx: .* pip install "jaxrl-pg\[onnx\]"'):
        policy.export(tmp_path / "exported", onnx=True)
    assert not list(tmp_path.iterdir())
