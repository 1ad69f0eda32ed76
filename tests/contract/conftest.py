"""One compiled `Contract` a row of the table, shared by all tests."""

import pytest
from contract_table import CASES, Contract


@pytest.fixture(scope="session", params=CASES)
def contract(request):
    return Contract(request.param)
