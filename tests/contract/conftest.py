"""One compiled `Contract` a row of the table, shared by all tests."""

import jax
import pytest
from contract_table import CASES, Contract

# With the slow tests: options of one agent that change no promise, and Box actions of agents that
# handle them by the code of another one here.
SLOW = {
    *("ppo-kl-shared", "ppo-normalized-stopping", "ppo-image"),
    *("analytical-replay-continuous", "natural-gradient-continuous"),
    *("reinforce-continuous", "reps-continuous"),
}


def row(name):
    """A case is one worker's, so that it is compiled once."""
    marks = [pytest.mark.xdist_group(name), *([pytest.mark.slow] if name in SLOW else [])]
    return pytest.param(name, marks=marks)


@pytest.fixture(scope="session", params=[row(name) for name in CASES])
def contract(request):
    yield Contract(request.param)
    jax.clear_caches()
