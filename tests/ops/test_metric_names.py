"""The rule by which a run has diverged."""

import pytest

from jaxrl_pg.ops.metric_names import is_watched


@pytest.mark.parametrize(
    ("metric", "watched"),
    [
        ("loss/policy", True),
        ("loss/value", True),
        ("grad_norm", True),
        ("policy/loss", False),  # a loss is named so in front
        ("policy/grad_norm", False),
        ("episode/return", False),
    ],
)
def test_losses_and_the_norm_of_the_gradient_are_watched(metric, watched):
    assert is_watched(metric) is watched
