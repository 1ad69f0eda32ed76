"""Learning takes long, so its programs are optimised."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _as_users_run_it(optimised):
    return optimised
