"""Independent implementations to compare with."""

import warnings

import pytest


@pytest.fixture(scope="session")
def rlax():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import rlax

        return rlax
