"""One compiled `Contract` a row of the table, shared by all tests."""

import jax
import pytest
from contract_table import CASES, Contract

# With the slow tests: options of one agent that change no promise, and Box actions of agents that
# handle them by the code of another one here.
SLOW = {
    *("ppo-kl-shared", "ppo-normalized-stopping", "ppo-image"),
    *("analytical-replay-continuous", "natural-gradient-continuous"),
    *("reinforce-continuous", "reps-continuous", "actor-critic-memory"),
    "off-policy-actor-critic-continuous",
}
PARAMS = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]


@pytest.fixture(scope="session", params=PARAMS)
def contract(request):
    yield Contract(request.param)
    jax.clear_caches()
