"""One compiled `Contract` a row of the table, shared by all tests."""

import pytest
from contract_table import CASES, Contract

# Options of one agent that change no promise: with the slow tests.
SLOW = {"ppo-kl-shared", "ppo-normalized-stopping", "ppo-image"}
PARAMS = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]


@pytest.fixture(scope="session", params=PARAMS)
def contract(request):
    return Contract(request.param)
